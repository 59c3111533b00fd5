"""What rows have of numbers that nobody declared: a default gives way to all that is declared."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.blueprint.matching import rows_of
from app.blueprint.model import Blueprint
from app.blueprint.outcomes import Settled
from app.blueprint.statements import Statement, measure
from app.errors import pointer
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd

ROWS = 16_384
NOTED = 5.0
"""Tolerances from which on it is told: well beyond what chance does to that many rows."""


def defaults_met(blueprint: Blueprint, schema: TableSchema, frame: pd.DataFrame) -> tuple[Settled, ...]:
    """Hold defaults against rows; those that the rows have are left out.

    Parameters
    ----------
    blueprint : Blueprint
        As `declare` made it of `schema`.
    frame : DataFrame
        Some ROWS rows of the population, with the dtypes of `app.schema.frames`.
    """
    rows = rows_of(schema, frame)
    found = []
    for statement in _defaults(blueprint, schema):
        if statement.fields[0] not in rows:
            continue
        measured = measure(statement, rows)
        if math.isfinite(measured.achieved) and abs(measured.gap) > NOTED:
            achieved = float(f"{measured.achieved:.4g}")  # more digits would be chance
            found.append(Settled(statement.pointer, statement.asked, achieved, abs(measured.gap)))
    return tuple(found)


def _number(item: Field, value: int | float | str) -> float:
    if not isinstance(value, str):
        return float(value)
    if item.type == "time":
        return item.to_number(dt.time.fromisoformat(value))
    return item.to_number(dt.datetime.fromisoformat(value))


def _defaults(blueprint: Blueprint, schema: TableSchema) -> Iterator[Statement]:
    for place, (column, item) in enumerate(zip(blueprint.columns, schema.fields, strict=True)):
        marginal = column.marginal
        if marginal is None:
            continue
        at = pointer("fields", place, "statistics")
        if marginal.mean is not None and marginal.mean.source == "default":
            asked = _number(item, marginal.mean.value)
            yield Statement(f"{at}/mean", "mean", (item.name,), asked)
        if marginal.sd is not None and marginal.sd.source == "default":
            yield Statement(f"{at}/sd", "sd", (item.name,), float(marginal.sd.value))
        proportions = marginal.proportions
        if proportions is not None and proportions.source == "default" and item.levels is not None:
            for level, (name, share) in enumerate(proportions.value.items()):
                where = at + pointer("proportions", name)
                yield Statement(where, "proportion", (item.name,), float(share), level=level)
