from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from app.evaluation.base import NotMeasured, Score
from app.evaluation.fidelity import KSComplement, TVComplement
from app.evaluation.fidelity_associations import AssociationSimilarity
from app.evaluation.fidelity_pairs import ContingencySimilarity, CorrelationSimilarity, two_way_complement
from app.schema.parse import parse_schema
from tests.unit.evaluation.cohort import SCHEMA, cohort, held_against, permuted

METRICS = [AssociationSimilarity(), CorrelationSimilarity(), ContingencySimilarity()]


def measured(metric: Any, tables: Any) -> Score:
    score = metric.measure(tables)
    assert isinstance(score, Score), score
    return score


def pair(score: Score, first: str, second: str) -> dict[str, Any]:
    rows: Any = score.details["table"]
    return next(row for row in rows if {row["first"], row["second"]} == {first, second})


@pytest.fixture(scope="module")
def second_sample() -> Score:
    return measured(AssociationSimilarity(), held_against(cohort(300, 5)))


def test_ordered_pairs_have_spearmans_correlation(second_sample: Score) -> None:
    train = cohort(700, 101)
    for first, second in combinations(["age", "grade", "seen"], 2):
        numbers = [train[name].astype("int64").to_numpy(float) for name in (first, second)]
        row = pair(second_sample, first, second)
        assert row["measure"] == "spearman"
        assert row["real"] == pytest.approx(stats.spearmanr(*numbers)[0], abs=1e-4)


def test_categories_have_a_corrected_cramers_v(second_sample: Score) -> None:
    train = cohort(700, 101)
    counts = pd.crosstab(train["site"], train["ward"]).to_numpy()
    phi2 = stats.chi2_contingency(counts, correction=False)[0] / 700
    # Bergsma 2013, equations 8 to 11.
    phi2 = max(0, phi2 - 2 * 3 / 699)
    rows, columns = 3 - 2**2 / 699, 4 - 3**2 / 699
    row = pair(second_sample, "site", "ward")
    assert row["measure"] == "cramers_v"
    assert row["real"] == pytest.approx(np.sqrt(phi2 / (min(rows, columns) - 1)), abs=1e-4)


def test_mixed_pairs_have_a_corrected_correlation_ratio_of_ranks(second_sample: Score) -> None:
    train = cohort(700, 101)
    there = train["marker"].notna()
    groups = [train.loc[there & (train["site"] == level), "marker"] for level in ("north", "south", "east")]
    n = int(there.sum())
    # Kruskal and Wallis: H = (n − 1) η² of ranks; ε² = 1 − (1 − η²)(n − 1)/(n − k).
    eta2 = stats.kruskal(*groups)[0] / (n - 1)
    row = pair(second_sample, "marker", "site")
    assert row["measure"] == "correlation_ratio"
    assert row["real"] == pytest.approx(np.sqrt(1 - (1 - eta2) * (n - 1) / (n - 3)), abs=2e-3)


def test_the_headline_is_the_weighted_mean_of_its_table(second_sample: Score) -> None:
    rows: Any = second_sample.details["table"]
    assert len(rows) == 7 * 6 // 2
    weights = np.array([row["weight"] for row in rows])
    # The table is rounded to four digits.
    assert second_sample.value == pytest.approx(
        weights @ [row["value"] for row in rows] / weights.sum(), abs=2e-4
    )
    assert second_sample.baseline == pytest.approx(
        weights @ [row["baseline"] for row in rows] / weights.sum(), abs=2e-4
    )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_second_sample_scores_like_the_holdout(metric: Any) -> None:
    apart = []
    for seed in range(12):
        score = measured(metric, held_against(cohort(300, seed)))
        assert score.baseline is not None
        apart.append(score.value - score.baseline)
    # One holdout and twelve samples of its size: its own chance is √12 times that of their mean.
    assert abs(np.mean(apart)) < 4 * np.std(apart)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_intervals_cover_the_mean_of_repeated_samples(metric: Any) -> None:
    found = []
    for seed in range(40):
        tables = replace(held_against(cohort(250, 500 + seed)), train=cohort(400, 1000 + seed), holdout=None)
        score = measured(metric, tables)
        assert score.interval is not None
        found.append((score.value, *score.interval))
    values, lows, highs = np.array(found).T
    covered = ((lows <= values.mean()) & (values.mean() <= highs)).sum()
    # 40 draws at 95 %: below 33 comes up less than once in 1,000.
    assert covered >= 33
    assert (highs - lows).mean() < 1.5 * 3.92 * values.std(ddof=1) * (1 + 3 / np.sqrt(80))


def test_columns_in_orders_of_their_own_lose_their_ties_and_keep_their_shapes() -> None:
    train = cohort(700, 101)
    tables = held_against(permuted(train, 3))
    for shape in (KSComplement(), TVComplement()):
        assert measured(shape, tables).value == 1
    ties = measured(AssociationSimilarity(), tables)
    assert ties.interval is not None and ties.baseline is not None
    assert ties.interval[1] < ties.baseline - 0.1
    row = pair(ties, "site", "ward")
    assert row["real"] > 0.5 and row["synthetic"] < 0.1
    assert "site × ward" in ties.reading
    for metric in METRICS[1:]:
        score = measured(metric, tables)
        assert score.baseline is not None and score.value < score.baseline


def test_a_turned_sign_is_seen() -> None:
    made = cohort(700, 7)
    made["age"] = pd.array(120 - made["age"].to_numpy(int), dtype="Int64")
    score = measured(AssociationSimilarity(), held_against(made))
    assert pair(score, "age", "grade")["synthetic"] == pytest.approx(
        -pair(score, "age", "grade")["real"], abs=0.1
    )
    assert pair(score, "age", "grade")["value"] < 0.2


def test_a_synthetic_column_that_does_not_vary_keeps_no_association() -> None:
    made = cohort(700, 7)
    made["grade"] = pd.array([2] * 700, dtype="Int64")
    score = measured(AssociationSimilarity(), held_against(made))
    row = pair(score, "age", "grade")
    assert row["synthetic"] is None
    assert row["value"] == pytest.approx(1 - abs(row["real"]), abs=1e-4)


def test_unrelated_pairs_do_not_lift_the_score() -> None:
    made = permuted(cohort(700, 101), 3)
    narrow = measured(AssociationSimilarity(), held_against(made))
    noise = [f"noise {place}" for place in range(20)]
    fields = [{"name": field.name, "type": field.type} for field in SCHEMA.fields if field.levels is None]
    schema = parse_schema({"fields": fields + [{"name": name, "type": "number"} for name in noise]})[0]

    def widened(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        return frame.assign(**{name: rng.normal(size=len(frame)) for name in noise})

    tables = held_against(made)
    wide = replace(
        tables, schema=schema, synthetic=(widened(made, 1),), train=widened(tables.train, 2), holdout=None
    )  # type: ignore[arg-type]
    score = measured(AssociationSimilarity(), wide)
    assert score.details["unweighted"] > 0.95
    assert score.value < score.details["unweighted"] - 0.1
    assert narrow.value < 0.75


def test_the_picture_holds_the_matrices_and_their_difference(second_sample: Score) -> None:
    (picture,) = second_sample.details["pictures"]
    assert picture["kind"] == "matrix"
    k = len(picture["labels"])
    for part in ("real", "synthetic", "difference"):
        assert [len(line) for line in picture[part]] == [k] * k
    real, made, gap = (np.array(picture[part], dtype=float) for part in ("real", "synthetic", "difference"))
    assert np.nanmax(np.abs(made - real - gap)) < 2e-3
    assert np.allclose(real, real.T, equal_nan=True)


def test_two_way_complement_by_hand() -> None:
    real = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    made = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    # Shares ½ 0 0 ½ against ¼ ¼ ¼ ¼.
    assert two_way_complement(real, made, (2, 2)) == 0.5
    assert two_way_complement(real, made, (2000, 2000)) == 0.5


@pytest.mark.parametrize("metric", METRICS[1:], ids=lambda metric: metric.name)
def test_pair_scores_are_those_of_sdmetrics(metric: Any) -> None:
    peers = pytest.importorskip("sdmetrics.column_pairs")
    tables = held_against(permuted(cohort(500, 9), 4))
    assert tables.train is not None
    rows: Any = measured(metric, tables).details["table"]
    assert rows
    for row in rows:
        parts = [frame[[row["first"], row["second"]]].copy() for frame in (tables.train, tables.synthetic[0])]
        if isinstance(metric, CorrelationSimilarity):
            parts = [
                part.apply(lambda c: c if c.dtype.kind == "M" else c.astype("float64")) for part in parts
            ]
            theirs = peers.CorrelationSimilarity.compute(*parts)
        else:
            parts = [part.astype(object) for part in parts]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = peers.ContingencySimilarity.compute(*parts)
        assert row["value"] == pytest.approx(theirs, abs=1e-6)


def test_what_cannot_be_compared_is_said() -> None:
    one = parse_schema({"fields": [{"name": "age", "type": "integer"}]})[0]
    tables = replace(held_against(cohort(50, 1)), schema=one)
    for metric in METRICS:
        outcome = metric.measure(tables)
        assert isinstance(outcome, NotMeasured) and "fewer than 2" in outcome.reason
