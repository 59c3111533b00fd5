from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.fidelity_detection import FEWEST_ROWS, DetectionAUC
from tests.unit.evaluation.cohort import cohort, held_against, permuted


def measured(tables: Tables) -> Score:
    score = DetectionAUC().measure(tables)
    assert isinstance(score, Score), score
    return score


def test_a_second_sample_is_a_coin_toss() -> None:
    found = []
    for seed in range(10):
        tables = replace(held_against(cohort(150, 600 + seed)), holdout=cohort(150, 700 + seed))
        score = measured(tables)
        assert score.interval is not None
        found.append((score.details["auroc"], *score.interval))
    raw, lows, highs = np.array(found, dtype=float).T
    # Mean of 10, three standard errors.
    assert abs(raw.mean() - 0.5) < 3 * raw.std(ddof=1) / np.sqrt(10)
    # 10 draws at 95 %: below 7 comes up twice in 1,000.
    assert ((lows <= 0.5) & (highs >= 0.5)).sum() >= 7


def test_columns_that_hang_together_no_more_are_given_away_together() -> None:
    score = measured(held_against(permuted(cohort(700, 101), 3), held=500))
    assert score.interval is not None and score.baseline is not None
    assert score.interval[0] > 0.55 and score.value > score.baseline + 0.1
    assert "together by" in score.reading
    lost = {row["column"]: row["lost_when_shuffled"] for row in score.details["table"]}  # type: ignore[attr-defined]
    assert lost["site"] + lost["ward"] > 0.1 and lost["seen"] < 0.05


def test_a_shift_of_a_fifth_of_an_sd_is_named() -> None:
    made = cohort(2000, 4)
    sd = made["age"].to_numpy(float).std()
    made["age"] = pd.array(np.round(made["age"].to_numpy(float) + 0.2 * sd).astype(int), dtype="Int64")
    score = measured(held_against(made, n=2000, held=2000))
    assert "alone by age" in score.reading
    first: Any = score.details["table"][0]  # type: ignore[index]
    assert first["column"] == "age" and first["p"] < 1e-3


def test_no_column_is_named_where_there_is_nothing() -> None:
    named = sum(
        "alone by"
        in measured(replace(held_against(cohort(100, 40 + seed)), holdout=cohort(100, seed))).reading
        for seed in range(8)
    )
    # One false alarm in twenty: four or more of eight come up less than once in 1,000.
    assert named <= 3


def test_a_copy_of_the_train_part_is_no_better_than_the_train_part_itself() -> None:
    tables = held_against(cohort(10, 1))
    assert tables.train is not None
    score = measured(replace(tables, synthetic=(tables.train,)))
    assert score.value == score.baseline


def test_an_interaction_of_few_cells_is_learned() -> None:
    # Every column alone is right, and so is every row: only which cells are filled is not.
    def crossed(n: int, seed: int, turned: bool) -> pd.DataFrame:
        frame = cohort(n, seed)
        heads = np.arange(n) % 2 == 0
        frame["sex"] = pd.Categorical(np.where(heads, "F", "M"), categories=["F", "M"])
        levels = ["north", "south", "east"]
        frame["site"] = pd.Categorical(np.where(heads ^ turned, "north", "south"), categories=levels)
        return frame[["sex", "site"]].assign(
            age=pd.array([50] * n, dtype="Int64"), marker=1.0, grade=pd.array([1] * n, dtype="Int64"),
            ward=pd.Categorical(["a"] * n, categories=["a", "b", "c", "d"]),
            seen=np.datetime64("2020-01-01", "s"),
        )  # fmt: skip

    tables = replace(
        held_against(crossed(200, 1, True)), train=crossed(200, 2, False), holdout=crossed(200, 3, False)
    )
    score = measured(tables)
    assert score.value == 1 and score.baseline == 0.5


def test_the_same_seed_gives_the_same_figures() -> None:
    tables = held_against(cohort(400, 5), seed=3)
    assert measured(tables) == measured(tables)
    assert measured(tables).details["auroc"] != measured(replace(tables, seed=4)).details["auroc"]


def test_few_rows_are_a_reason() -> None:
    outcome = DetectionAUC().measure(held_against(cohort(FEWEST_ROWS - 1, 5)))
    assert isinstance(outcome, NotMeasured) and str(FEWEST_ROWS) in outcome.reason
