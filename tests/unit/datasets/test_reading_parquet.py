from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Read = Callable[..., Any]


def _file(tmp_path: Path, table: pa.Table) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("array", "type_", "values"),
    [
        (pa.array([1, None], pa.int8()), "integer", [1, None]),
        (pa.array([1.0, None, 3.0]), "integer", [1, None, 3]),
        (pa.array([1.0, 2.0]), "number", [1.0, 2.0]),
        (pa.array([1.5, float("nan")]), "number", [1.5, None]),
        (pa.array([1.5, float("inf")], pa.float32()), "number", [1.5, None]),
        (pa.array([2**63], pa.uint64()), "string", ["9223372036854775808"]),
        (pa.array([999000011000000103, None]), "string", ["999000011000000103", None]),
        (pa.array([2**53 - 1, 1 - 2**53]), "integer", [2**53 - 1, 1 - 2**53]),
        (pa.array([decimal.Decimal("999000011000000103")]), "string", ["999000011000000103"]),
        (pa.array([decimal.Decimal("12"), None]), "integer", [12, None]),
        (pa.array([1.5, 8.9e307]), "number", [1.5, None]),
        (pa.array([decimal.Decimal("1.50"), None]), "number", [1.5, None]),
        (pa.array([True, None]), "boolean", [True, None]),
        (pa.array(["007", None]), "string", ["007", None]),
        (pa.array(["007", "8"]).dictionary_encode(), "string", ["007", "8"]),
        (pa.array(["007"], pa.large_string()), "string", ["007"]),
        (pa.array([dt.date(2024, 1, 31), None]), "date", [dt.date(2024, 1, 31), None]),
        (
            pa.array([dt.datetime(2024, 1, 31, 10)], pa.timestamp("ns")),
            "datetime",
            [dt.datetime(2024, 1, 31, 10)],
        ),
        (
            pa.array([dt.datetime(2024, 1, 31, 10, tzinfo=dt.UTC)], pa.timestamp("ms", "Europe/Prague")),
            "datetime",
            [dt.datetime(2024, 1, 31, 10)],
        ),
        (pa.array([dt.time(7, 30)], pa.time64("us")), "time", [dt.time(7, 30)]),
        (pa.nulls(2), "string", [None, None]),
    ],
)
def test_plain_columns_are_read(
    read: Read, tmp_path: Path, array: pa.Array, type_: str, values: list[Any]
) -> None:
    outcome = read(_file(tmp_path, pa.table({"a": array, "b": pa.nulls(len(array), pa.int64())})))
    assert (outcome.fields["a"]["type"], outcome.column("a")) == (type_, values)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1], [2]]),
        pa.array([{"x": 1}, {"x": 2}]),
        pa.array([b"x", b"y"]),
        pa.array([dt.timedelta(1)] * 2),
    ],
)
def test_columns_that_are_not_flat_are_refused_by_name(read: Read, tmp_path: Path, array: pa.Array) -> None:
    outcome = read(_file(tmp_path, pa.table({"fine": [1, 2], "nested": array})))
    assert outcome.answer["error"] == "UploadUnreadable"
    assert "Column 2 ('nested')" in outcome.faults[0]


def test_repeated_and_empty_names_and_no_rows_are_refused(read: Read, tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert "twice" in read(_file(tmp_path, twice)).faults[0]
    assert "Column 1" in read(_file(tmp_path, pa.table({"": [1]}))).faults[0]
    assert "no rows" in read(_file(tmp_path, pa.table({"a": pa.array([], pa.int64())}))).faults[0]


def test_a_cut_file_is_refused(read: Read, tmp_path: Path) -> None:
    path = _file(tmp_path, pa.table({"a": list(range(1000))}))
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut off" in read(path).faults[0]


def test_limits_hold(read: Read, tmp_path: Path) -> None:
    path = _file(tmp_path, pa.table({"a": [1, 2], "b": [1, 2]}))
    assert read(path, max_rows=1).answer["error"] == "UploadTooLarge"
    assert read(path, max_columns=1).answer["error"] == "UploadTooLarge"


def test_what_is_too_large_is_told_where_a_schema_is_given_too(read: Read, tmp_path: Path) -> None:
    path = _file(tmp_path, pa.table({"a": [1.5, 1e20], "b": [1, 2]}))
    outcome = read(path, {"fields": [{"name": "a", "type": "number"}, {"name": "b", "type": "integer"}]})
    assert outcome.column("a") == [1.5, None]
    assert "beyond 1e15" in str(outcome.answer["warnings"])


def test_columns_are_read_as_declared_or_refused_with_row_and_column(read: Read, tmp_path: Path) -> None:
    path = _file(tmp_path, pa.table({"a": [20240131, 20240230], "b": ["1", "2"]}))
    schema = {"fields": [{"name": "a", "type": "date"}, {"name": "b", "type": "integer"}]}
    assert "the first in row 2, column 1" in read(path, schema).faults[0]
    schema["fields"][0]["type"] = "string"
    assert read(path, schema).table.to_pydict() == {"a": ["20240131", "20240230"], "b": [1, 2]}


@pytest.mark.parametrize(("content", "says"), [(b"\xff\xfe", "not UTF-8"), (b"a\0b", "NUL")])
def test_strings_that_are_no_text_are_refused(read: Read, tmp_path: Path, content: bytes, says: str) -> None:
    buffers = pa.array([content] * 3).buffers()
    strings = pa.Array.from_buffers(pa.string(), 3, buffers)
    outcome = read(_file(tmp_path, pa.table({"fine": [1, 2, 3], "text": strings})))
    assert outcome.answer["error"] == "UploadUnreadable", outcome.answer
    assert says in outcome.faults[0]
    assert "Column 2 ('text')" in outcome.faults[0]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 2**31 - 1] * 20, pa.date32()),
        pa.array([0, 2**62] * 20, pa.timestamp("us")),
        pa.array([0, -(2**40) * 1000] * 20, pa.timestamp("ms", "UTC")),
        pa.array([0, 2**62] * 20, pa.timestamp("ms")),
    ],
)
def test_dates_that_no_calendar_has_are_refused_by_row(tmp_path: Path, read: Read, column: pa.Array) -> None:
    outcome = read(_file(tmp_path, pa.table({"n": [1] * 40, "day": column})))
    assert outcome.answer["error"] == "UploadUnreadable", outcome.answer
    assert "Column 2 ('day')" in outcome.faults[0] and "row 2" in outcome.faults[0]


def test_the_last_moment_of_the_calendar_is_read(tmp_path: Path, read: Read) -> None:
    last = dt.datetime(9999, 12, 31, 23, 59, 59)
    table = pa.table({"at": pa.array([last], pa.timestamp("us")), "on": pa.array([dt.date.max])})
    assert read(_file(tmp_path, table)).table.to_pylist() == [{"at": last, "on": dt.date.max}]
