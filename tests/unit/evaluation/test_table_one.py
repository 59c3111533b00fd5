from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import Tables
from app.evaluation.document import TableOneRow
from app.evaluation.table_one import categorical_difference, standardised_difference, table_one
from app.schema.parse import parse_schema
from app.schema.table import TableSchema


def line(rows: tuple[TableOneRow, ...], column: str, statistic: str, level: str = "") -> TableOneRow:
    (found,) = [row for row in rows if (row.column, row.statistic, row.level) == (column, statistic, level)]
    return found


@pytest.fixture(scope="module")
def rows(
    schema: TableSchema, synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame
) -> tuple[TableOneRow, ...]:
    return table_one(Tables(schema, (synthetic,), train, holdout))


def test_numbers_have_mean_and_sd_of_both_sides(rows: tuple[TableOneRow, ...], train: pd.DataFrame) -> None:
    age = line(rows, "age", "mean (sd)")
    assert age.real == pytest.approx((train["age"].mean(), train["age"].std()))
    assert age.synthetic is not None and age.synthetic[0] == pytest.approx(60, abs=0.7)  # 4 standard errors
    assert age.smd is not None and age.smd_holdout is not None and age.smd < 0.2


def test_no_quartile_of_a_real_column_is_a_value_of_one_person() -> None:
    schema, _ = parse_schema({"fields": [{"name": "x", "type": "number", "decimals": 6}]})
    values = np.random.default_rng(1).normal(size=60).round(6)
    frame = pd.DataFrame({"x": values})
    median = line(table_one(Tables(schema, (frame,), frame, frame)), "x", "median [Q1, Q3]")
    assert median.real is not None and not set(np.round(median.real, 6)) & set(values)


def test_ids_and_free_text_are_not_in_it(rows: tuple[TableOneRow, ...]) -> None:
    assert not {row.column for row in rows} & {"id", "Bemerkung"}


def test_levels_sum_to_what_is_present(rows: tuple[TableOneRow, ...], train: pd.DataFrame) -> None:
    sex = [line(rows, "sex", "n (%)", level).real for level in ("F", "M")]
    assert [cell[0] for cell in sex if cell] == [(train["sex"] == level).sum() for level in ("F", "M")]


def test_the_number_of_a_few_missing_cannot_be_had_by_subtraction() -> None:
    levels = ["a", "b"]
    schema, _ = parse_schema({"fields": [{"name": "x", "type": "string", "categories": levels}]})
    column = ["a"] * 37 + ["b"] * 22 + [None] * 3
    frame = pd.DataFrame({"x": pd.Categorical(column, categories=levels)})
    found = table_one(Tables(schema, (frame,), frame, frame))
    real = [line(found, "x", "n (%)", level).real for level in levels]
    assert real == [(35.0, 0.63), (20.0, 0.37)]
    missing = line(found, "x", "missing")
    assert missing.real is None and missing.real_note == "fewer than 10"


def test_rare_levels_stand_together() -> None:
    levels = ["common", "rare", "canary"]
    schema, _ = parse_schema({"fields": [{"name": "x", "type": "string", "categories": levels}]})
    frame = pd.DataFrame(
        {"x": pd.Categorical(["common"] * 90 + ["rare"] * 9 + ["canary"], categories=levels)}
    )
    found = table_one(Tables(schema, (frame,), frame, frame))
    assert {row.level for row in found} == {"common", "(other levels)"}


@pytest.mark.parametrize("missing", [0, 100])
def test_empty_and_constant_columns_are_no_trouble(missing: int) -> None:
    schema, _ = parse_schema({"fields": [{"name": "x", "type": "number"}, {"name": "b", "type": "boolean"}]})
    frame = pd.DataFrame(
        {
            "x": [3.0] * (100 - missing) + [math.nan] * missing,
            "b": pd.array([True] * (100 - missing) + [None] * missing, dtype="boolean"),
        }
    )
    found = table_one(Tables(schema, (frame,), frame, frame))
    if missing:
        assert line(found, "x", "mean (sd)").real is None
    else:
        assert line(found, "x", "mean (sd)").smd == 0.0


def test_the_standardised_difference_is_that_of_the_books() -> None:
    one, other = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 3, 4, 5, 6])
    assert standardised_difference(one, other) == pytest.approx(1 / math.sqrt(2.5))
    # Two levels: Yang & Dalton's distance is |p1 − p2| / √(mean of p(1 − p)).
    shares: Any = np.array([0.6, 0.4]), np.array([0.5, 0.5])
    assert categorical_difference(*shares) == pytest.approx(0.1 / math.sqrt((0.24 + 0.25) / 2))
    assert categorical_difference(shares[0], shares[0]) == 0.0
