import datetime as dt
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from app.schema.frames import conform, dtype_of, empty, from_arrow, to_arrow
from app.schema.parse import parse_schema

SCHEMA, _ = parse_schema(
    {
        "fields": [
            {"name": "i", "type": "integer"},
            {"name": "grade", "type": "integer", "categories": [1, 2, 3]},
            {"name": "x", "type": "number"},
            {"name": "b", "type": "boolean"},
            {"name": "c", "type": "string", "categories": ["low", "high"], "categoriesOrdered": True},
            {"name": "t", "type": "string"},
            {"name": "d", "type": "date"},
            {"name": "s", "type": "datetime"},
            {"name": "h", "type": "time"},
            {"name": "y", "type": "year"},
        ]
    }
)
ROWS: dict[str, list[Any]] = {
    "i": [2**62, None, -3],
    "grade": [1, None, 3],
    "x": [1.5, None, 0.1],
    "b": [True, None, False],
    "c": ["high", None, "low"],
    "t": ["007", None, ""],
    "d": ["2024-02-29", None, dt.date(9999, 12, 31)],
    "s": ["2024-01-31T12:00:00", None, "2024-01-31T12:00:00+02:00"],
    "h": [dt.time(1, 2, 3), None, "23:59:59"],
    "y": [1999, None, 2024],
}


def frame_of(rows: dict[str, list[Any]]) -> pd.DataFrame:
    return conform(
        pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in rows.items()}), SCHEMA
    )


def test_every_column_gets_its_dtype_and_keeps_what_is_missing() -> None:
    frame = frame_of(ROWS)
    for field in SCHEMA.fields:
        assert frame[field.name].dtype == dtype_of(field), field.name
        assert frame[field.name].isna().tolist() == [False, True, False], field.name
    assert frame["i"][0] == 2**62
    assert frame["t"].tolist()[0] == "007"
    assert frame["s"][2] == pd.Timestamp("2024-01-31T10:00:00")


@pytest.mark.parametrize("rows", [ROWS, {name: [None, None] for name in ROWS}, {name: [] for name in ROWS}])
def test_arrow_and_back_is_the_same_frame(rows: dict[str, list[Any]]) -> None:
    frame = frame_of(rows)
    pd.testing.assert_frame_equal(from_arrow(to_arrow(frame, SCHEMA), SCHEMA), frame)


def test_arrow_types_are_as_documented() -> None:
    kinds = [str(kind) for kind in to_arrow(empty(SCHEMA), SCHEMA).schema.types]
    assert kinds == [
        "int64", "int64", "double", "bool", "dictionary<values=string, indices=int32, ordered=1>", "string",
        "date32[day]", "timestamp[us]", "time32[s]", "int64",
    ]  # fmt: skip


def test_parts_with_other_dictionaries_read_as_the_schemas_levels() -> None:
    table = to_arrow(frame_of(ROWS), SCHEMA)
    place = SCHEMA.index("c")
    other = pa.array(["low", "high", None]).dictionary_encode()
    mixed = table.set_column(place, "c", pa.chunked_array([other]))
    assert from_arrow(mixed, SCHEMA)["c"].tolist()[:2] == ["low", "high"]
    assert from_arrow(mixed, SCHEMA)["c"].dtype == dtype_of(SCHEMA["c"])


def test_conforming_twice_copies_nothing() -> None:
    frame = frame_of(ROWS)
    assert conform(frame, SCHEMA)["i"].array is frame["i"].array


def test_a_value_that_is_no_level_becomes_missing() -> None:
    assert frame_of(ROWS | {"c": ["high", "middle", "low"]})["c"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["i", "y"])
def test_whole_numbers_held_as_floats_keep_their_gaps(name: str) -> None:
    frame = pd.DataFrame({key: pd.Series(cells, dtype=object) for key, cells in ROWS.items()})
    frame[name] = pd.Series([1999.0, float("nan"), 2024.0])
    assert conform(frame, SCHEMA)[name].tolist() == [1999, pd.NA, 2024]


@pytest.mark.parametrize("name", ["i", "y"])
def test_a_fraction_is_no_whole_number(name: str) -> None:
    frame = pd.DataFrame({key: pd.Series(cells, dtype=object) for key, cells in ROWS.items()})
    frame[name] = pd.Series([1999.5, float("nan"), 2024.0])
    with pytest.raises(TypeError):
        conform(frame, SCHEMA)
