from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from app.evaluation import bootstrap


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_rows_are_drawn_with_replacement(rng: np.random.Generator) -> None:
    drawn = bootstrap.resample(rng, 1000)
    assert len(drawn) == 1000 and drawn.min() >= 0 and drawn.max() < 1000
    # 1 − 1/e of the rows are drawn at least once; the tolerance is five standard deviations.
    assert len(np.unique(drawn)) / 1000 == pytest.approx(1 - 1 / math.e, abs=0.05)


def test_persons_are_drawn_with_all_their_rows(rng: np.random.Generator) -> None:
    persons = bootstrap.person_codes(pd.Series(["a", "b", "a", "c", "c", "c"]))
    for _ in range(20):
        drawn = np.bincount(bootstrap.resample(rng, 6, persons), minlength=6)
        for person in range(3):
            assert len(set(drawn[persons == person])) == 1


def test_a_row_without_a_name_is_a_person_of_its_own() -> None:
    codes = bootstrap.person_codes(pd.Series(["a", None, "a", None]))
    assert len(set(codes.tolist())) == 3 and codes[0] == codes[2]


def test_the_bootstrap_of_a_mean_has_its_standard_error(rng: np.random.Generator) -> None:
    values = rng.normal(size=400)
    draws = bootstrap.bootstrap(lambda rows: values[rows].mean(), [400], rng, times=400)
    # The sd of 400 draws is known to 1/√800 = 3.5 %; three times that.
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.11)
    low, high = bootstrap.percentile_interval(draws) or (0, 0)
    assert low < values.mean() < high


def test_the_jackknife_of_a_mean_has_its_standard_error(rng: np.random.Generator) -> None:
    values = rng.normal(size=2000)
    groups = bootstrap.random_groups(rng, 2000, 100)
    left = np.array([values[groups != one].mean() for one in range(100)])
    # An sd from 100 groups is known to 1/√200 = 7 %; three times that.
    assert float(bootstrap.jackknife_error(left)) == pytest.approx(values.std() / math.sqrt(2000), rel=0.21)


def test_groups_are_even_and_keep_persons_together(rng: np.random.Generator) -> None:
    assert set(np.bincount(bootstrap.random_groups(rng, 103, 20)).tolist()) == {5, 6}
    persons = np.repeat(np.arange(30), 3)
    groups = bootstrap.random_groups(rng, 90, 20, persons)
    assert all(len(set(groups[persons == one].tolist())) == 1 for one in range(30))
    assert len(bootstrap.random_groups(rng, 0, 20)) == 0


def test_intervals_stay_within_bounds_and_need_groups() -> None:
    assert bootstrap.t_interval(0.99, [(0.1, 20)], (0, 1)) == (pytest.approx(0.7807, abs=1e-3), 1)
    assert bootstrap.t_interval(0.5, [(0.1, 1)]) is None
    assert bootstrap.t_interval(0.5, [(0.0, 20)]) == (0.5, 0.5)


def test_few_finite_draws_give_no_interval() -> None:
    assert bootstrap.percentile_interval(np.full(100, np.nan)) is None
    assert bootstrap.normal_interval(0.5, np.arange(10.0)) is None


def test_auroc_counts_pairs_and_halves_ties() -> None:
    scores, positive = np.array([1.0, 2, 2, 3]), np.array([False, False, True, True])
    assert bootstrap.auroc(scores, positive) == (1 + 1 + 0.5 + 1) / 4
    assert math.isnan(bootstrap.auroc(scores, np.ones(4, bool)))


def test_the_error_of_an_auroc_is_that_of_repeated_samples(rng: np.random.Generator) -> None:
    truth = np.arange(200) < 60
    found = []
    for _ in range(300):
        scores = rng.normal(size=200) + truth
        found.append((bootstrap.auroc(scores, truth), bootstrap.auroc_error(scores, truth)))
    areas, errors = np.array(found).T
    # The sd of 300 areas is known to 1/√600 = 4 %; three times that.
    assert errors.mean() == pytest.approx(areas.std(), rel=0.13)
    covered = [
        low <= 0.7602 <= high  # Φ(1/√2)
        for area, error in found
        for low, high in (bootstrap.auroc_interval(area, error, 60, 140),)
    ]
    assert 0.91 <= np.mean(covered) <= 0.985


def test_perfect_separation_of_few_rows_is_not_believed() -> None:
    low, high = bootstrap.auroc_interval(1.0, 0.0, 20, 20)
    assert low < 0.85 and high == 1


@pytest.mark.parametrize("truth", [0.0, 1.0, 5.0])
def test_a_mean_of_absolute_differences_varies_as_much_as_folding_says(
    rng: np.random.Generator, truth: float
) -> None:
    noise = np.ones(400)
    factors = [bootstrap.folding(truth + rng.normal(size=400), noise, noise) for _ in range(20)]
    means = np.abs(truth + rng.normal(size=(2000, 400))).mean(axis=1)
    # What is truth and what is noise in a single difference cannot be told: that blurs the factor by 0.08.
    assert np.mean(factors) == pytest.approx(means.std() * 20, abs=0.12)


def test_nothing_that_varies_is_not_folded() -> None:
    assert bootstrap.folding(np.zeros(3), np.zeros(3), np.ones(3)) == 1
