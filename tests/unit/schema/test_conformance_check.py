# ruff: noqa: E501  (a case a line reads better than a wrapped one)
"""Which rows conform, why the others do not, and that parts of a table add up to the whole."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.schema.check import Conformance, check_frame, check_unique, unique_columns
from app.schema.evaluate import formula_column
from app.schema.frames import dtype_of
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "id", "type": "string", "constraints": {"pattern": "P[0-9]{2}"}},
        {"name": "age", "type": "integer", "constraints": {"required": True, "minimum": 18, "maximum": 90}},
        {"name": "sex", "type": "string", "categories": ["F", "M"]},
        {"name": "births", "type": "integer", "relevant": "sex == 'F'", "constraints": {"required": True}},
        {"name": "stage", "type": "integer", "constraints": {"enum": [1, 2, 4]}},
        {"name": "height", "type": "number", "decimals": 2},
        {"name": "double", "type": "number", "decimals": 1, "formula": "height * 2"},
        {
            "name": "group",
            "type": "string",
            "categories": ["low", "high"],
            "formula": "'low' if age < 50 else 'high'",
        },
        {"name": "note", "type": "string", "constraints": {"minLength": 2, "maxLength": 4}},
        {"name": "day", "type": "date", "constraints": {"minimum": "2020-01-01", "maximum": "2020-12-31"}},
        {"name": "code", "type": "integer", "constraints": {"unique": True}},
        {"name": "wake", "type": "time", "constraints": {"minimum": "05:00"}},
        {"name": "old", "type": "boolean", "formula": "age > 65"},
    ],
    "primaryKey": "id",
    "rules": ["not (sex == 'M' and age > 80)", "height > 1"],
}
GOOD: dict[str, Any] = {
    "id": "P01", "age": 40, "sex": "F", "births": 2, "stage": 4, "height": 1.62, "double": 3.2, "group": "low",
    "note": "fine", "day": "2020-02-29", "code": 7, "wake": "06:30:00", "old": False,
}  # fmt: skip
SCHEMA, _ = parse_schema(DOCUMENT)


def table(*rows: dict[str, Any], schema: TableSchema = SCHEMA) -> pd.DataFrame:
    columns = {}
    for field in schema.fields:
        cells = [row[field.name] for row in rows]
        if field.type == "time":
            columns[field.name] = pd.Series(pd.to_timedelta(cells)).astype("timedelta64[s]")
        else:
            columns[field.name] = pd.Series(cells, dtype=object).astype(dtype_of(field))
    return pd.DataFrame(columns)


def broken(found: Conformance) -> dict[str, int]:
    return {check.pointer: check.broken for check in found.checks if check.broken}


def test_a_good_row_breaks_nothing():
    found = check_frame(SCHEMA, table(GOOD))
    assert broken(found) == {}
    assert (found.rows, found.conforming, found.good.tolist()) == (1, 1, [True])


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"id": "Q01"}, "/fields/0/constraints/pattern"),
        ({"id": "P012"}, "/fields/0/constraints/pattern"),
        ({"id": None}, "/primaryKey"),
        ({"age": 17}, "/fields/1/constraints/minimum"),
        ({"births": None}, "/fields/3/constraints/required"),
        ({"sex": "M"}, "/fields/3/relevant"),
        ({"sex": None}, "/fields/3/relevant"),
        ({"stage": 3}, "/fields/4/constraints/enum"),
        ({"double": 3.4}, "/fields/6/formula"),
        ({"double": None}, "/fields/6/formula"),
        ({"height": None}, "/fields/6/formula"),
        ({"group": "high"}, "/fields/7/formula"),
        ({"note": "x"}, "/fields/8/constraints/minLength"),
        ({"note": "wordy"}, "/fields/8/constraints/maxLength"),
        ({"day": "2019-12-31"}, "/fields/9/constraints/minimum"),
        ({"day": "2021-01-01"}, "/fields/9/constraints/maximum"),
        ({"wake": "04:59:59"}, "/fields/11/constraints/minimum"),
        ({"wake": "25:00:00"}, "/fields/11/type"),
        ({"old": True}, "/fields/12/formula"),
        ({"sex": "M", "births": None, "age": 81, "group": "high", "old": True}, "/rules/0"),
        ({"height": 0.5, "double": 1.0}, "/rules/1"),
        ({"height": float("inf"), "double": None}, "/fields/5/type"),
    ],
)
def test_a_row_that_breaks_one_statement_is_counted_there_and_nowhere_else(change, at):
    found = check_frame(SCHEMA, table(GOOD, GOOD | {"id": "P02", "code": 8} | change))
    assert broken(found) == {at: 1}
    assert found.good.tolist() == [True, False]


@pytest.mark.parametrize(
    "change",
    [
        {"sex": "M", "births": None},  # required only where it applies
        {"sex": None, "births": None},
        {"height": None, "double": None},  # a formula of something missing
        {"double": 3.24},  # within half of the last decimal
        {"note": None, "day": None, "code": None, "wake": None, "stage": None},
        {"height": None, "double": None},  # an unknown rule is not broken
    ],
)
def test_what_is_missing_or_within_rounding_breaks_nothing(change):
    assert broken(check_frame(SCHEMA, table(GOOD | change))) == {}


def test_every_statement_is_listed_with_the_rows_that_it_is_about():
    found = check_frame(SCHEMA, table(GOOD, GOOD | {"id": "P02", "code": 8, "sex": "M", "births": None, "age": None,
                                                     "group": None, "old": None}))  # fmt: skip
    checked = {check.pointer: check.checked for check in found.checks}
    assert checked["/fields/1/constraints/minimum"] == 1
    assert checked["/fields/1/constraints/required"] == 2
    assert checked["/fields/3/constraints/required"] == 1
    assert checked["/fields/3/relevant"] == 1
    assert checked["/rules/0"] == 2
    assert len({(check.pointer, check.statement) for check in found.checks}) == len(found.checks)


def test_repetitions_are_found_within_a_part_and_across_parts():
    one = check_frame(SCHEMA, table(GOOD, GOOD | {"id": "P02"}))
    assert broken(one) == {"/fields/10/constraints/unique": 1}
    other = check_frame(SCHEMA, table(GOOD | {"id": "P02", "code": None}, GOOD | {"id": "P03", "code": None}))
    assert broken(other) == {}
    both = one + other
    assert broken(both) == {"/fields/10/constraints/unique": 1, "/primaryKey": 1}
    assert both.good.tolist() == [True, False, False, True]
    assert (both.rows, both.conforming) == (4, 2)


def test_parts_add_up_to_the_whole_in_any_grouping():
    rows = [GOOD | {"id": f"P{i % 7:02d}", "code": i % 5, "age": 10 + 10 * i, "group": None, "old": None}
            for i in range(9)]  # fmt: skip
    whole = check_frame(SCHEMA, table(*rows))
    a, b, c = (check_frame(SCHEMA, table(*part)) for part in (rows[:2], rows[2:6], rows[6:]))
    for sum_ in ((a + b) + c, a + (b + c)):
        assert sum_.checks == whole.checks
        assert sum_.good.tolist() == whole.good.tolist()


def test_tallies_travel_as_json_and_uniqueness_is_put_in_from_whole_columns():
    parts = [table(GOOD), table(GOOD | {"code": 8})]
    sent = [json.loads(json.dumps(check_frame(SCHEMA, part).to_json())) for part in parts]
    total = Conformance.from_json(sent[0]) + Conformance.from_json(sent[1])
    assert (total.rows, broken(total)) == (2, {})
    columns = pd.concat(parts, ignore_index=True)[list(unique_columns(SCHEMA))]
    assert broken(total.with_unique(check_unique(SCHEMA, columns))) == {"/primaryKey": 1}


def test_a_key_of_several_fields_is_unique_in_their_combination():
    document = {
        "fields": [{"name": "a", "type": "integer"}, {"name": "b", "type": "string"}],
        "primaryKey": ["a", "b"],
    }
    schema, _ = parse_schema(document)
    rows = [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "x"}]
    assert check_frame(schema, table(*rows, schema=schema)).good.tolist() == [True, True, False]


def test_a_column_of_another_type_or_order_is_reported_and_the_rest_goes_on():
    frame = table(GOOD, GOOD | {"id": "P02", "code": 8, "stage": 3})
    found = check_frame(SCHEMA, frame.assign(age=[1.5, 2.5]).drop(columns="note"))
    assert broken(found) == {
        "/fields": 2,
        "/fields/1/type": 2,
        "/fields/8/type": 2,
        "/fields/4/constraints/enum": 1,
    }


def test_a_column_that_is_missing_throughout_is_of_its_type():
    nothing = dict.fromkeys(GOOD) | {"id": "P01", "age": 40, "group": "low", "old": False}
    assert broken(check_frame(SCHEMA, table(nothing))) == {}


def test_no_rows_break_nothing():
    found = check_frame(SCHEMA, table(GOOD).iloc[:0])
    assert (found.rows, found.conforming, broken(found)) == (0, 0, {})


def test_a_formula_as_it_is_computed_conforms_whatever_its_decimals():
    rng = np.random.default_rng(5)
    for decimals in (None, 0, 1, 6):
        field = {"name": "y", "type": "number", "formula": "x / 3 + exp(x)"}
        field |= {} if decimals is None else {"decimals": decimals}
        schema, _ = parse_schema({"fields": [{"name": "x", "type": "number"}, field]})
        frame = pd.DataFrame({"x": rng.normal(size=2000) * 10})
        frame["y"] = formula_column(schema["y"], frame)
        assert check_frame(schema, frame).conforming == 2000


def test_a_full_shard_is_checked_in_a_moment():
    rows = 131_072
    frame = table(GOOD).iloc[np.zeros(rows, dtype=int)].reset_index(drop=True)
    frame["code"] = pd.array(np.arange(rows), dtype="Int64")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = check_frame(SCHEMA, frame)
        times.append(time.perf_counter() - start)
    assert broken(found) == {"/primaryKey": rows - 1}
    assert min(times) < 0.6  # about 0.1 s on an idle core; a loop over rows takes seconds
