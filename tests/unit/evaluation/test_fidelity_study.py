from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.fidelity_study import StudyProtocol
from tests.unit.evaluation.cohort import cohort, held_against, permuted


def measured(tables: Tables) -> Score:
    score = StudyProtocol().measure(tables)
    assert isinstance(score, Score), score
    return score


def test_of(score: Score, kind: str, what: str) -> dict[str, Any]:
    rows: Any = score.details["tests"]
    return next(row for row in rows if row["kind"] == kind and row["what"] == what)


test_of.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def second_sample() -> Score:
    return measured(held_against(cohort(500, 5)))


@pytest.fixture(scope="module")
def parts() -> tuple[pd.DataFrame, pd.DataFrame]:
    return cohort(700, 101), cohort(500, 5)


def test_means_are_compared_by_welchs_test(
    second_sample: Score, parts: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    real, made = (frame["marker"].dropna().to_numpy() for frame in parts)
    row = test_of(second_sample, "mean", "marker")
    assert row["p"] == pytest.approx(stats.ttest_ind(real, made, equal_var=False).pvalue, rel=1e-9)
    low, high = stats.t.interval(0.95, len(real) - 1, real.mean(), stats.sem(real))
    assert row["real"] == pytest.approx(real.mean(), rel=1e-4)
    assert row["real_interval"] == pytest.approx([low, high], rel=1e-4)


def test_proportions_are_compared_by_the_z_test(
    second_sample: Score, parts: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    row = test_of(second_sample, "proportion", "site: east")
    hits = [int((frame["site"] == "east").sum()) for frame in parts]
    table = [[hits[0], 700 - hits[0]], [hits[1], 500 - hits[1]]]
    # The square of the pooled z is χ² without correction.
    assert row["p"] == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)
    assert row["real_interval"][0] < hits[0] / 700 < row["real_interval"][1]


def test_distributions_are_compared_by_kolmogorov_and_smirnov(
    second_sample: Score, parts: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    row = test_of(second_sample, "distribution", "marker")
    theirs = stats.ks_2samp(*(frame["marker"].dropna() for frame in parts), method="exact")
    assert row["size"] == pytest.approx(theirs.statistic, rel=1e-4)
    # An asymptotic p-value against the exact one.
    assert row["p"] == pytest.approx(theirs.pvalue, abs=0.03)


def test_correlations_are_compared_on_fishers_scale(
    second_sample: Score, parts: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    row = test_of(second_sample, "correlation", "age × marker")
    found = []
    for frame in parts:
        both = frame[["age", "marker"]].dropna().astype(float)
        found.append((stats.pearsonr(both["age"], both["marker"])[0], len(both)))
    (r, n), (s, m) = found
    z = (np.arctanh(s) - np.arctanh(r)) / np.sqrt(1 / (n - 3) + 1 / (m - 3))
    assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-6)
    assert row["real"] == pytest.approx(r, rel=1e-4)


def test_the_headline_is_the_mean_over_kinds_of_the_share_without_difference(second_sample: Score) -> None:
    rows: Any = second_sample.details["table"]
    assert {row["kind"] for row in rows} == {"mean", "proportion", "distribution", "correlation"}
    assert second_sample.value == pytest.approx(np.mean([row["value"] for row in rows]))
    for row in rows:
        assert row["value"] == row["without_difference"] / row["comparisons"]


def test_a_perfect_generator_differs_in_one_test_of_twenty() -> None:
    values = []
    for seed in range(40):
        tables = replace(held_against(cohort(300, 2000 + seed)), train=cohort(300, 3000 + seed), holdout=None)
        values.append(measured(tables).value)
    # Three standard errors of the mean, and the slack of a discrete KS test.
    assert np.mean(values) == pytest.approx(0.95, abs=3 * np.std(values) / np.sqrt(40) + 0.01)


def test_a_shift_of_a_fifth_of_an_sd_is_named_beyond_chance() -> None:
    made = cohort(2000, 4)
    sd = made["age"].to_numpy(float).std()
    made["age"] = pd.array(np.round(made["age"].to_numpy(float) + 0.2 * sd).astype(int), dtype="Int64")
    score = measured(held_against(made, n=2000))
    assert "(Holm): age" in score.reading
    assert test_of(score, "mean", "age")["size"] == pytest.approx(0.2, abs=0.09)


def test_columns_in_orders_of_their_own_differ_in_correlations_alone() -> None:
    score = measured(held_against(permuted(cohort(700, 101), 3)))
    found = {row["kind"]: row["value"] for row in score.details["table"]}  # type: ignore[attr-defined]
    assert found["mean"] == found["proportion"] == found["distribution"] == 1
    assert found["correlation"] == 0


def test_levels_of_a_few_real_persons_are_not_named() -> None:
    tables = held_against(cohort(500, 5))
    assert tables.train is not None
    train = tables.train.copy()
    train.loc[train.index[np.flatnonzero(train["ward"] == "d")[4:]], "ward"] = "a"
    score = measured(replace(tables, train=train))
    named = [row["what"] for row in score.details["tests"] if row["what"].startswith("ward")]  # type: ignore[attr-defined]
    assert "ward: d" not in named and named


def test_replicates_stand_side_by_side_with_the_spread_of_independent_samples() -> None:
    made = [cohort(400, 50 + seed) for seed in range(6)]
    found: Any = measured(held_against(*made)).details["replicates"]
    assert found["count"] == 6 and found["rows"] == [400] * 6
    rows = {(row["kind"], row["what"]): row for row in found["statistics"]}
    age, east = rows["mean", "age"], rows["proportion", "site: east"]
    both = rows["correlation", "age × marker"]
    assert age["values"] == pytest.approx([frame["age"].mean() for frame in made], rel=1e-4)
    assert east["values"] == pytest.approx([(frame["site"] == "east").mean() for frame in made], rel=1e-4)
    assert both["values"] == pytest.approx(
        [frame[["age", "marker"]].dropna().astype(float).corr().iloc[0, 1] for frame in made], rel=1e-4
    )
    # χ with 5 degrees of freedom over √5: 0.2 and 2 are each missed less than once in 1,000.
    assert all(0.2 < row["ratio"] < 2 for row in (age, east, both))
    assert found["share_draws"] is False
    assert "no draws" in found["reading"]


@pytest.mark.parametrize("share", [0.05, 1.0])
@pytest.mark.parametrize("order", ["same", "mixed"])
def test_shared_draws_are_found_wherever_they_stand(share: float, order: str) -> None:
    first, second = cohort(600, 50), cohort(600, 51)
    common = round(share * 600)
    second = pd.concat([first.head(common), second.iloc[common:]], ignore_index=True)
    if order == "mixed":
        second = second.sample(frac=1, random_state=1).reset_index(drop=True)
    score = measured(held_against(first, second))
    found: Any = score.details["replicates"]
    assert found["share_draws"] is True
    assert "no independent samples" in score.reading


def test_one_shared_column_is_named() -> None:
    first, second = cohort(600, 50), cohort(600, 51)
    second["age"] = first["age"]
    (pair,) = measured(held_against(first, second)).details["replicates"]["pairs"]  # type: ignore[index]
    assert [row["column"] for row in pair["columns_equal_in_the_same_place"]] == ["age"]


def test_constant_and_coarse_columns_are_no_shared_draws() -> None:
    def coarse(seed: int) -> pd.DataFrame:
        frame = cohort(600, seed)
        return frame.assign(
            marker=1.0, age=pd.array([50] * 600, dtype="Int64"), seen=frame["seen"].iloc[0].floor("D")
        )

    made = [frame.assign(seen=np.datetime64("2020-01-01", "s")) for frame in (coarse(1), coarse(2))]
    found: Any = measured(held_against(*made)).details["replicates"]
    assert found["share_draws"] is False


def test_too_few_rows_are_a_reason() -> None:
    outcome = StudyProtocol().measure(replace(held_against(cohort(50, 1)), train=cohort(6, 2)))
    assert isinstance(outcome, NotMeasured)
