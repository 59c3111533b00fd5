from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., Any]


def _schema(*fields: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"fields": list(fields), **rest}


@pytest.mark.parametrize(
    ("field", "cells", "values"),
    [
        ({"type": "string"}, ["007", "7"], ["007", "7"]),
        ({"type": "integer"}, ["007", "7", "8.0"], [7, 7, 8]),
        ({"type": "number"}, ["1,5", "2"], [1.5, 2.0]),
        ({"type": "date"}, ["20240131", "20240201"], [dt.date(2024, 1, 31), dt.date(2024, 2, 1)]),
        ({"type": "date", "format": "%d/%m/%Y"}, ["01/02/2024"], [dt.date(2024, 2, 1)]),
        ({"type": "date", "format": "%m/%d/%Y"}, ["01/02/2024"], [dt.date(2024, 1, 2)]),
        (
            {"type": "date", "format": "%d.%m.%y"},
            ["01.02.24", "01.02.71"],
            [dt.date(2024, 2, 1), dt.date(1971, 2, 1)],
        ),
        ({"type": "datetime"}, ["2024-01-31"], [dt.datetime(2024, 1, 31)]),
        ({"type": "time"}, ["07:30"], [dt.time(7, 30)]),
        ({"type": "year"}, ["2024"], [2024]),
        ({"type": "boolean"}, ["1", "0", "Yes", "false"], [True, False, True, False]),
        ({"type": "boolean", "trueValues": ["ja"], "falseValues": ["nein"]}, ["ja", "nein"], [True, False]),
        ({"type": "string", "categories": ["1", "2"]}, ["1", "2", "NA"], ["1", "2", None]),
        ({"type": "string", "categories": ["NA", "2"]}, ["NA", "2"], ["NA", "2"]),
        ({"type": "integer"}, ["1", "NA", ""], [1, None, None]),
    ],
)
def test_a_column_is_read_as_declared(
    read: Read, field: dict[str, Any], cells: list[str], values: list[Any]
) -> None:
    rows = "".join(f"{cell};x\n" for cell in cells)
    outcome = read("a;b\n" + rows, _schema({"name": "a", **field}, {"name": "b", "type": "string"}))
    assert outcome.column("a") == values


def test_the_schema_is_given_back_as_it_came(read: Read) -> None:
    schema = _schema(
        {"name": "a", "type": "integer", "constraints": {"maximum": 3}}, title="mine", wild={"x": 1}
    )
    assert read("a\n1\n", schema).answer["schema"] == schema


def test_declared_missing_values_are_the_only_ones(read: Read) -> None:
    schema = _schema({"name": "a", "type": "integer"}, missingValues=["", "-9"])
    assert read("a,\n1\n".replace(",", ""), schema).column("a") == [1]
    assert read("a\n1\n-9\n", schema).column("a") == [1, None]
    assert "line 3" in read("a\n1\nNA\n", schema).faults[0]


@pytest.mark.parametrize(
    ("type_", "cell"),
    [
        ("integer", "1.5"),
        ("integer", "99999999999999999999"),
        ("number", "1e999"),
        ("number", "x"),
        ("date", "2023-02-29"),
        ("boolean", "2"),
        ("time", "24:00"),
        ("datetime", "yesterday"),
    ],
)
def test_a_cell_that_does_not_fit_is_refused_with_its_line_column_and_count(
    read: Read, type_: str, cell: str
) -> None:
    good = {"boolean": "true", "date": "2024-01-31", "datetime": "2024-01-31", "time": "07:30"}.get(
        type_, "1"
    )
    content = f'b,a\n"two\nlines",{good}\nx,{cell}\ny,{cell}\n'
    outcome = read(content, _schema({"name": "a", "type": type_}, {"name": "b", "type": "string"}))
    assert outcome.answer["error"] == "UploadUnreadable"
    assert outcome.answer["faults"][0]["pointer"] == "/schema/fields/0"
    assert f"2 cells do not fit the type {type_}, the first in line 4, column 2" in outcome.faults[0]
    assert cell not in outcome.faults[0] or len(cell) == 1


def test_columns_and_fields_are_matched_by_name(read: Read) -> None:
    schema = _schema({"name": "a", "type": "integer"}, {"name": "gone", "type": "integer"})
    faults = read("extra,a\n1,2\n", schema).answer["faults"]
    assert [fault["pointer"] for fault in faults] == ["/schema/fields/1/name", "/file"]
    assert "column 1" in faults[1]["message"]
    assert "extra" not in faults[1]["message"]


def test_a_header_of_numbers_is_a_header_where_the_schema_says_so(read: Read) -> None:
    assert read("1,2\n3,4\n").answer["error"] == "UploadUnreadable"
    assert (
        read(
            "1,2\n3,4\n", _schema({"name": "1", "type": "integer"}, {"name": "2", "type": "integer"})
        ).answer["rows"]
        == 1
    )


def test_broken_constraints_are_warned_of_and_the_rows_kept(read: Read) -> None:
    rows = "".join(f"{i % 50},{'F' if i % 2 else 'M'}\n" for i in range(100))
    schema = _schema(
        {"name": "a", "type": "integer", "constraints": {"minimum": 20, "maximum": 48, "unique": True}},
        {"name": "b", "type": "string", "categories": ["F"]},
    )
    outcome = read("a,b\n" + rows, schema)
    said = {item["pointer"]: item["message"].split(" rows")[0] for item in outcome.answer["warnings"]}
    assert said == {
        "/schema/fields/0/constraints/minimum": "40",
        "/schema/fields/0/constraints/maximum": "fewer than 10",
        "/schema/fields/0/constraints/unique": "50",
        "/schema/fields/1/categories": "50",
    }
    assert outcome.answer["rows"] == 100


def test_a_computed_field_need_not_be_in_the_file(read: Read) -> None:
    schema = _schema(
        {"name": "a", "type": "number"}, {"name": "double", "type": "number", "formula": "a * 2"}
    )
    assert read("a\n1\n", schema).answer["columns"] == 1


def test_the_inferred_schema_can_be_posted_back_with_the_same_file(read: Read) -> None:
    rows = "".join(
        f"{i:05d},{i % 2},{'NA' if i % 7 == 0 else i / 8},{'ABC'[i % 3]},{2000 + i % 20}-01-31\n"
        for i in range(120)
    )
    first = read("id,event,x,group,day\n" + rows)
    again = read("id,event,x,group,day\n" + rows, first.answer["schema"])
    assert again.table.to_pydict() == first.table.to_pydict()
    assert again.answer["warnings"] == []


def test_a_pooled_level_takes_in_what_is_not_listed_without_a_warning(read: Read) -> None:
    rows = "".join(f"{'common' if i < 80 else 'usual' if i < 104 else f'rare {i}'}\n" for i in range(120))
    first = read("a\n" + rows)
    assert first.fields["a"]["categories"] == ["common", "usual", "(pooled)"]
    again = read("a\n" + rows, first.answer["schema"])
    assert again.answer["warnings"] == []
    assert again.column("a") == first.column("a")
