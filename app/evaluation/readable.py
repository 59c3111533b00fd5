"""Columns that cannot be read: each is taken for empty and told, so that it costs no figure of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from app.evaluation.base import Tables
from app.evaluation.columns import codes, numbers
from app.schema.frames import dtype_of
from app.schema.table import Field, TableSchema


def readable(tables: Tables) -> tuple[Tables, dict[str, str]]:
    """Return the tables with unreadable columns emptied, and the kind of error of each.

    Rows of which a column is empty on all sides are the more alike: figures of copies err towards copies.
    """
    frames = [*tables.synthetic, *(part for part in (tables.train, tables.holdout) if part is not None)]
    broken: dict[str, str] = {}
    for field in tables.schema.fields:
        for frame in frames:
            try:
                _read(field, frame[field.name])
            except Exception as error:  # noqa: BLE001  the kind alone: a message may quote a cell
                broken[field.name] = type(error).__name__
                break
    if not broken:
        return tables, {}

    def emptied(frame: pd.DataFrame) -> pd.DataFrame:
        fields = [field for field in tables.schema.fields if field.name in broken]
        nothing = {
            field.name: pd.Series([None] * len(frame), index=frame.index).astype(dtype_of(field))
            for field in fields
        }
        result: pd.DataFrame = frame.assign(**nothing)
        return result

    return (
        replace(
            tables,
            synthetic=tuple(map(emptied, tables.synthetic)),
            train=None if tables.train is None else emptied(tables.train),
            holdout=None if tables.holdout is None else emptied(tables.holdout),
        ),
        broken,
    )


def told_of(schema: TableSchema, broken: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a warning for each column that was emptied."""
    return [
        {
            "pointer": f"/schema/fields/{place}",
            "message": f"{field.name} could not be read as its type ({broken[field.name]}); it is taken for "
            "empty in every figure.",
        }
        for place, field in enumerate(schema.fields)
        if field.name in broken
    ]


def _read(field: Field, column: pd.Series) -> None:
    if field.levels is not None:
        codes(field, column)
    elif field.kind in ("numeric", "temporal", "categorical"):
        numbers(field, column)
