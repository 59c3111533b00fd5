from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from app.evaluation.base import NotMeasured, Score
from app.evaluation.fidelity_columns import Missingness, WassersteinInSd, wasserstein
from app.evaluation.fidelity_coverage import LevelCoverage
from tests.unit.evaluation.cohort import cohort, held_against, permuted


def measured(metric: Any, tables: Any) -> Score:
    score = metric.measure(tables)
    assert isinstance(score, Score), score
    return score


def row_of(score: Score, column: str) -> dict[str, Any]:
    rows: Any = score.details["table"]
    return next(row for row in rows if row["column"] == column)


def test_the_distance_is_scipys() -> None:
    rng = np.random.default_rng(2)
    real, other = rng.normal(size=300).round(1), rng.normal(0.3, 2, size=170).round(1)
    assert wasserstein(real, other) == pytest.approx(stats.wasserstein_distance(real, other), abs=1e-12)
    assert wasserstein(np.array([0.0, 1]), np.array([3.0])) == 2.5


def test_a_shift_of_a_fifth_of_an_sd_is_named_with_its_size() -> None:
    made = cohort(2000, 4)
    sd = cohort(700, 101)["age"].to_numpy(float).std()
    made["age"] = pd.array(np.round(made["age"].to_numpy(float) + 0.2 * sd).astype(int), dtype="Int64")
    score = measured(WassersteinInSd(), held_against(made, n=2000))
    assert "Furthest: age" in score.reading
    # Two samples of 2,000 differ by 1/√1000 = 0.03 sd by chance.
    assert row_of(score, "age")["value"] == pytest.approx(0.2, abs=0.09)
    assert row_of(score, "age")["shift"] == pytest.approx(0.2, abs=0.09)


def test_a_wild_value_counts_ten_sd_at_most() -> None:
    made = cohort(100, 4)
    made["marker"] = 1e200
    assert row_of(measured(WassersteinInSd(), held_against(made)), "marker")["value"] == 10


@pytest.mark.parametrize("metric", [WassersteinInSd(), Missingness(), LevelCoverage()], ids=lambda m: m.name)
def test_the_headline_and_its_yardstick_are_means_of_the_table(metric: Any) -> None:
    score = measured(metric, held_against(cohort(300, 5)))
    rows = score.details["table"]
    assert score.value == pytest.approx(fmean(row["value"] for row in rows))
    assert score.baseline == pytest.approx(fmean(row["baseline"] for row in rows))


@pytest.mark.parametrize("metric", [WassersteinInSd(), Missingness()], ids=lambda metric: metric.name)
def test_intervals_cover_the_mean_of_repeated_samples(metric: Any) -> None:
    found = []
    # The truth is the mean of the draws: of 40 it would itself be off by a sixth of their sd.
    for seed in range(200):
        tables = replace(held_against(cohort(250, 500 + seed)), train=cohort(400, 1000 + seed), holdout=None)
        score = measured(metric, tables)
        assert score.interval is not None
        found.append((score.value, *score.interval))
    values, lows, highs = np.array(found).T
    covered = ((lows <= values.mean()) & (values.mean() <= highs)).sum()
    assert covered >= stats.binom.ppf(0.001, len(values), 0.95)


def test_gaps_that_are_gone_are_found() -> None:
    made = cohort(700, 6)
    made["marker"] = made["marker"].fillna(1.0)
    score = measured(Missingness(), held_against(made))
    row = row_of(score, "marker")
    # 40 % of a third of the rows miss in the cohort.
    assert row["synthetic"] == 0
    assert score.value == row["value"] == pytest.approx(1 - 0.4 / 3, abs=0.05)
    assert "marker" in score.reading


def test_columns_that_miss_together_are_told_from_columns_that_do_not() -> None:
    def gappy(frame: pd.DataFrame, together: bool) -> pd.DataFrame:
        rng = np.random.default_rng(len(frame))
        first = rng.random(len(frame)) < 0.3
        second = first if together else rng.random(len(frame)) < 0.3
        return frame.assign(
            marker=frame["marker"].where(~first), sex=frame["sex"].where(~second)
        )  # fmt: skip

    tables = held_against(gappy(cohort(700, 6), False))
    assert tables.train is not None and tables.holdout is not None
    tables = replace(tables, train=gappy(tables.train, True), holdout=gappy(tables.holdout, True))
    score = measured(Missingness(), tables)
    assert score.value > 0.95
    assert score.details["row_patterns"] < 0.7 < 0.9 < score.details["row_patterns_holdout"]
    (picture,) = score.details["pictures"]
    i, j = (picture["labels"].index(name) for name in ("marker", "sex"))
    assert picture["real"][i][j] > picture["synthetic"][i][j] + 0.1


def test_the_share_of_a_few_missing_real_values_is_not_said() -> None:
    tables = held_against(cohort(300, 5))
    assert tables.train is not None
    train = tables.train.copy()
    train.loc[:2, "age"] = pd.NA
    row = row_of(measured(Missingness(), replace(tables, train=train)), "age")
    assert row["real"] is None and "fewer than 10" in row["note"]
    # As if half a cell were missing: 5 of 700, whether it is 3 or 7.
    assert row["value"] == pytest.approx(1 - 5 / 700)


def test_tables_without_gaps_agree() -> None:
    whole = cohort(300, 5).drop(columns="marker")
    tables = held_against(whole.assign(marker=1.0))
    assert tables.train is not None
    score = measured(Missingness(), replace(tables, train=tables.train.assign(marker=1.0)))
    assert score.value == 1 and "Neither" in score.reading


def test_levels_and_ranges_that_are_never_made_are_named() -> None:
    made = cohort(700, 6)
    made = made[(made["ward"] != "d") & (made["age"] < 60)].reset_index(drop=True)
    score = measured(LevelCoverage(), held_against(made))
    ward = row_of(score, "ward")
    assert ward["not_reached"] == ["d"] and ward["value"] == 0.75
    assert row_of(score, "age")["value"] < 0.7
    assert row_of(score, "age")["not_reached"] == []
    assert score.baseline is not None and score.value < score.baseline


def test_a_level_of_a_few_real_persons_is_neither_asked_for_nor_named() -> None:
    tables = held_against(cohort(300, 5))
    assert tables.train is not None
    train = tables.train.copy()
    rare = np.flatnonzero(train["ward"] == "d")[4:]
    train.loc[train.index[rare], "ward"] = "a"
    made = tables.synthetic[0][tables.synthetic[0]["ward"] != "d"].reset_index(drop=True)
    ward = row_of(measured(LevelCoverage(), replace(tables, train=train, synthetic=(made,))), "ward")
    assert "d" not in ward["not_reached"] and ward["value"] == 1


def test_marginals_alone_reach_everything() -> None:
    assert measured(LevelCoverage(), held_against(permuted(cohort(700, 101), 2))).value == 1


def test_too_few_rows_are_a_reason() -> None:
    tables = replace(held_against(cohort(50, 1)), train=cohort(5, 2))
    for metric in (WassersteinInSd(), Missingness(), LevelCoverage()):
        assert isinstance(metric.measure(tables), NotMeasured)
