"""Declared statistics against hand-computed values, and standard errors against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from app.evaluation import estimates
from app.evaluation.base import NotMeasured
from app.evaluation.estimates import Estimate

REPETITIONS = 400
ROWS = 300


def measured(found: Estimate | NotMeasured) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def test_a_mean_uses_the_declared_sd_for_its_standard_error() -> None:
    found = measured(estimates.mean(np.array([1.0, 2.0, 3.0, 6.0]), asked=2.0, sd=4.0))
    assert (found.achieved, found.standard_error, found.distance) == (3.0, 2.0, 0.5)


def test_a_mean_without_a_declared_sd_uses_that_of_the_rows() -> None:
    found = measured(estimates.mean(np.array([1.0, 2.0, 3.0]), asked=2.0, sd=None))
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))


def test_the_sd_has_n_minus_1_and_the_fourth_moment_error() -> None:
    # 1, 2, 3, 4: variance 5/3; kurtosis 41/25 = 1.64; (1.64 − 1/3)/4 under the root.
    found = measured(estimates.standard_deviation(np.array([1.0, 2.0, 3.0, 4.0]), asked=2.0))
    assert found.achieved == pytest.approx(math.sqrt(5 / 3))
    assert found.standard_error == pytest.approx(2.0 * math.sqrt((1.64 - 1 / 3) / 4) / 2)


def test_a_proportion_uses_the_asked_share_for_its_standard_error() -> None:
    found = measured(estimates.proportion(30, 100, asked=0.2))
    assert found.standard_error == pytest.approx(0.04)
    assert found.distance == pytest.approx(2.5)


def test_where_chance_allows_no_difference_there_is_a_distance_only_without_one() -> None:
    assert measured(estimates.proportion(0, 50, asked=0.0)).distance == 0.0
    off = measured(estimates.proportion(1, 50, asked=0.0))
    assert (off.standard_error, off.distance) == (0.0, None)


def test_a_quantile_that_ties_hold_is_not_far_off() -> None:
    # 5 is a median of these: half of the values are at most 5 and half at least.
    values = np.array([4.0] * 40 + [5.0] * 20 + [6.0] * 40)
    assert measured(estimates.quantile(values, 0.5, 5.0)).distance == 0.0
    # At most 4 are 40 %: 10 points short of the half, and √(0.25/100) is 5 points.
    assert measured(estimates.quantile(values, 0.5, 4.0)).distance == pytest.approx(2.0)
    # Below 6 are 60 %.
    assert measured(estimates.quantile(values, 0.5, 6.0)).distance == pytest.approx(-2.0)


def test_an_extreme_has_no_standard_error() -> None:
    found = measured(estimates.quantile(np.array([1.0, 5.0, 9.0]), 1.0, 8.0))
    assert (found.achieved, found.standard_error, found.distance) == (9.0, None, None)


def test_spearman_is_pearson_on_mid_ranks() -> None:
    x, y = np.array([1.0, 2.0, 2.0, 4.0, 5.0]), np.array([1.0, 3.0, 2.0, 2.0, 9.0])
    ranks_x, ranks_y = np.array([1, 2.5, 2.5, 4, 5]), np.array([1, 4, 2.5, 2.5, 5])
    found = measured(estimates.spearman(x, y, 0.5))
    assert found.achieved == pytest.approx(np.corrcoef(ranks_x, ranks_y)[0, 1])


def test_pearson_is_numpys() -> None:
    x, y = np.array([1.0, 2.0, 4.0, 8.0, 9.0]), np.array([2.0, 1.0, 5.0, 3.0, 9.0])
    assert measured(estimates.pearson(x, y, 0.5)).achieved == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_an_odds_ratio_is_of_the_second_level_against_the_first() -> None:
    # first-first 30, first-second 10, second-first 20, second-second 40
    x = np.repeat([0, 0, 1, 1], [30, 10, 20, 40])
    y = np.repeat([0, 1, 0, 1], [30, 10, 20, 40])
    found = measured(estimates.odds_ratio(x, y, asked=6.0))
    assert (found.achieved, found.distance) == (6.0, 0.0)
    assert found.standard_error == pytest.approx(6 * math.sqrt(1 / 30 + 1 / 10 + 1 / 20 + 1 / 40))


def test_an_odds_ratio_with_an_empty_cell_is_not_measured() -> None:
    codes = np.array([0, 0, 1, 1])
    assert isinstance(estimates.odds_ratio(codes, codes, 2.0), NotMeasured)


def test_cramers_v_is_without_correction_over_levels_that_occur() -> None:
    # χ² of [[10, 20], [30, 40]] is 100·(10·40 − 20·30)²/(30·70·40·60) = 0.79365; V = √(χ²/100).
    x = np.repeat([0, 0, 2, 2], [10, 20, 30, 40])  # level 1 does not occur
    y = np.repeat([0, 1, 0, 1], [10, 20, 30, 40])
    assert measured(estimates.cramers_v(x, y, 0.1)).achieved == pytest.approx(math.sqrt(0.0079365), rel=1e-4)


def test_a_map_between_two_categories_has_a_v_of_1() -> None:
    x = np.repeat([0, 1, 2], 20)
    found = measured(estimates.cramers_v(x, 2 - x, asked=1.0))
    assert found.achieved == pytest.approx(1.0)
    assert found.distance == pytest.approx(0.0, abs=0.2)  # only the χ² term is left of the error


def test_the_correlation_ratio_is_the_root() -> None:
    # Means 2 and 6, total sum of squares 20, between 16: η² = 0.8.
    groups, values = np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 5.0, 7.0])
    assert measured(estimates.correlation_ratio(groups, values, 0.9)).achieved == pytest.approx(
        math.sqrt(0.8)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda none: estimates.mean(none, 1.0, 1.0),
        lambda none: estimates.standard_deviation(none, 1.0),
        lambda none: estimates.quantile(none, 0.5, 1.0),
        lambda none: estimates.proportion(0, 0, 0.5),
        lambda none: estimates.pearson(none, none, 0.5),
        lambda none: estimates.spearman(none, none, 0.5),
        lambda none: estimates.odds_ratio(none.astype(int), none.astype(int), 2.0),
        lambda none: estimates.cramers_v(none.astype(int), none.astype(int), 0.5),
        lambda none: estimates.correlation_ratio(none.astype(int), none, 0.5),
    ],
)
def test_nothing_is_computed_from_no_rows(call: Callable[[np.ndarray], Estimate | NotMeasured]) -> None:
    assert isinstance(call(np.array([])), NotMeasured)


def test_a_constant_has_no_correlation() -> None:
    constant, other = np.ones(20), np.arange(20.0)
    assert isinstance(estimates.pearson(constant, other, 0.5), NotMeasured)
    assert isinstance(estimates.spearman(other, constant, 0.5), NotMeasured)
    assert isinstance(estimates.correlation_ratio(np.arange(20) % 2, constant, 0.5), NotMeasured)


def normal_pair(rng: np.random.Generator, rho: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


def lognormal_pair(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = normal_pair(rng, 0.6, n)
    return np.exp(0.4 * x), np.exp(0.4 * y)


def tied_pair(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = normal_pair(rng, 0.6, n)
    return (x > 1).astype(float), np.round(2 * np.exp(y))


def categories(rng: np.random.Generator, rho: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = normal_pair(rng, rho, n)
    return np.digitize(x, [-1.0, 0.2, 1.0]), np.digitize(y, [-0.5, 0.7])


def groups(rng: np.random.Generator, rho: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = normal_pair(rng, rho, n)
    return np.digitize(x, [-1.0, 0.2, 1.0]), np.exp(0.5 * y)


def two_levels(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = normal_pair(rng, 0.4, n)
    return (x > 0.5).astype(int), (y > 0.8).astype(int)


LOGNORMAL_06 = (math.exp(0.16 * 0.6) - 1) / (math.exp(0.16) - 1)  # Pearson of two lognormals, sd 0.4, ρ 0.6


CASES: dict[str, tuple[Callable[..., object], float | None, Callable[..., Estimate | NotMeasured]]] = {
    "mean": (lambda rng, n: (rng.gamma(4, size=n),), 4.0, lambda v, asked: estimates.mean(v, asked, None)),
    "sd": (lambda rng, n: (rng.gamma(4, size=n),), 2.0, estimates.standard_deviation),
    "median": (lambda rng, n: (rng.normal(size=n),), 0.0, lambda v, asked: estimates.quantile(v, 0.5, asked)),
    "quantile": (
        lambda rng, n: (rng.exponential(size=n),),
        math.log(10),
        lambda v, asked: estimates.quantile(v, 0.9, asked),
    ),
    "pearson": (lambda rng, n: normal_pair(rng, 0.5, n), 0.5, estimates.pearson),
    "pearson of skewed columns": (lognormal_pair, LOGNORMAL_06, estimates.pearson),
    "spearman": (lambda rng, n: normal_pair(rng, 0.5, n), 6 / math.pi * math.asin(0.25), estimates.spearman),
    "spearman with ties": (tied_pair, None, estimates.spearman),
    "odds ratio": (two_levels, None, estimates.odds_ratio),
    "V of nothing": (lambda rng, n: categories(rng, 0.0, n), 0.0, estimates.cramers_v),
    "V": (lambda rng, n: categories(rng, 0.5, n), None, estimates.cramers_v),
    "η of nothing": (lambda rng, n: groups(rng, 0.0, n), 0.0, estimates.correlation_ratio),
    "η": (lambda rng, n: groups(rng, 0.5, n), None, estimates.correlation_ratio),
}


@pytest.mark.parametrize("case", CASES)
def test_the_standard_error_is_the_spread_over_repeated_samples(case: str) -> None:
    draw, truth, estimate = CASES[case]
    rng = np.random.default_rng(20)
    if truth is None:  # no closed form: a sample so large that its own error does not matter
        truth = measured(estimate(*draw(rng, 400_000), 0.5)).achieved  # type: ignore[misc]
    found = [measured(estimate(*draw(rng, ROWS), truth)) for _ in range(REPETITIONS)]  # type: ignore[misc]
    distances = np.array([one.distance for one in found], dtype=float)
    spread = np.std([one.achieved for one in found])
    stated = np.median([one.standard_error for one in found])  # type: ignore[type-var]
    # 400 repetitions estimate a spread to 3.5 %; formulas are asymptotic and n is 300. The stated error may
    # be 20 % off, and the share within 1.96 (sampling sd 1.1 points) lies within 4 sd of 95 %.
    assert stated == pytest.approx(spread, rel=0.2)
    assert 0.905 <= np.mean(np.abs(distances) <= 1.96) <= 0.995
    assert abs(distances.mean()) < 0.25
    assert (
        abs(np.mean([one.expected for one in found]) - np.mean([one.achieved for one in found]))
        < 0.25 * spread
    )
