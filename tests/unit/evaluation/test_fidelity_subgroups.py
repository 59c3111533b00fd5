from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.fidelity import ks_complement, tv_complement
from app.evaluation.fidelity_subgroups import SubgroupSimilarity, dividing_fields
from app.schema.parse import parse_schema
from tests.unit.evaluation.cohort import SCHEMA, cohort, held_against


def measured(tables: Tables) -> Score:
    score = SubgroupSimilarity().measure(tables)
    assert isinstance(score, Score), score
    return score


def test_a_subgroup_that_is_wrong_is_named_though_the_whole_is_right() -> None:
    made = cohort(2000, 5)
    rng = np.random.default_rng(1)
    south = np.flatnonzero(made["site"] == "south")
    # The south gets the ages of others: the column as a whole keeps its shape.
    ages = made["age"].to_numpy(int).copy()
    old, young = south[ages[south] < 60], np.flatnonzero((made["site"] != "south") & (ages >= 60))
    swap = rng.permutation(young)[: len(old)]
    ages[old], ages[swap] = ages[swap], ages[old]
    made["age"] = pd.array(ages, dtype="Int64")
    score = measured(held_against(made, n=1400, held=600, quasi_identifiers=("site", "sex")))
    assert score.baseline is not None and score.value < score.baseline
    assert "site: south" in score.reading


def test_the_score_of_a_subgroup_is_the_mean_of_the_shape_scores_within_it() -> None:
    made = cohort(500, 5)
    tables = held_against(made, target="sex")
    assert tables.train is not None
    rows: Any = measured(tables).details["table"]
    row = next(row for row in rows if row["subgroup"] == "F")
    real, other = (frame[frame["sex"] == "F"] for frame in (tables.train, made))
    expected = []
    for name in ("age", "marker", "seen"):
        numbers = [
            part[name].dropna().astype("int64" if name != "marker" else float) for part in (real, other)
        ]
        expected.append(ks_complement(*(one.to_numpy(float) for one in numbers)))
    for name in ("site", "ward"):
        expected.append(tv_complement(*(part[name].cat.codes.to_numpy(np.int64) for part in (real, other))))
    expected.append(tv_complement(*(part["grade"].to_numpy(np.int64) - 1 for part in (real, other))))
    assert row["value"] == pytest.approx(np.mean(expected))


def test_a_subgroup_that_is_never_made_scores_nothing() -> None:
    made = cohort(700, 5)
    made = made[made["site"] != "east"].reset_index(drop=True)
    score = measured(held_against(made, quasi_identifiers=("site",)))
    assert score.value == 0 and "site: east" in score.reading


def test_named_columns_make_the_subgroups_and_numbers_are_cut_in_thirds() -> None:
    tables = held_against(cohort(700, 5), quasi_identifiers=("age",), target="sex")
    rows: Any = measured(tables).details["table"]
    assert {row["column"] for row in rows} == {"age", "sex"}
    thirds = [row["train_rows"] for row in rows if row["column"] == "age"]
    assert len(thirds) == 3 and max(thirds) - min(thirds) < 80
    assert [field.name for field in dividing_fields(held_against(cohort(9, 1)))] == [
        "sex",
        "grade",
        "site",
        "ward",
    ]


def test_small_subgroups_are_not_judged() -> None:
    tables = held_against(cohort(700, 5), quasi_identifiers=("ward",))
    assert tables.train is not None
    few = tables.train["ward"] == "d"
    train = tables.train[~few | (few.cumsum() <= 15)].reset_index(drop=True)
    rows: Any = measured(replace(tables, train=train)).details["table"]
    assert {row["subgroup"] for row in rows} <= {"a", "b", "c"}
    assert all(row["train_rows"] >= 20 for row in rows)


def test_a_table_of_numbers_alone_needs_named_columns() -> None:
    schema = parse_schema(
        {"fields": [{"name": "age", "type": "integer"}, {"name": "marker", "type": "number"}]}
    )[0]
    tables = replace(held_against(cohort(300, 5)), schema=schema)
    outcome = SubgroupSimilarity().measure(tables)
    assert isinstance(outcome, NotMeasured) and "quasi_identifiers" in outcome.reason
    assert isinstance(SubgroupSimilarity().measure(replace(tables, target="age")), Score)
    assert SCHEMA is not schema
