"""A real table's columns as arrays, and what may be said of each by itself."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import fenced, pool_levels, protected_share, stated_quantiles, told
from app.schema.table import Field, Value

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEW_VALUES = 10
"""Whole numbers of at most so many values are told as ordered categories: a score is no measurement."""
_HALF_SHARE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Persons:
    """Whose the rows are.

    Parameters
    ----------
    codes : ndarray of int64, shape (n,), or None
        A number for each person; None where every row is a person's only one.
    min_cell : int
        The smallest number of persons that anything is said of.
    """

    codes: Codes | None
    min_cell: int

    def count(self, rows: Mask) -> int:
        """Return how many persons these rows belong to."""
        return int(rows.sum()) if self.codes is None else len(np.unique(self.codes[rows]))

    def cell(self, rows: Mask) -> int:
        """Return how many of these rows certainly belong to `min_cell` persons, whichever they are."""
        if self.codes is None:
            return self.min_cell
        each = np.sort(np.unique(self.codes[rows], return_counts=True)[1])[::-1]
        most = each[: self.min_cell - 1]
        return int(most.sum()) + self.min_cell - len(most)

    def table(self, one: Codes, other: Codes, shape: tuple[int, int], rows: Mask) -> Floats:
        """Count persons in each cell of two categories, over `rows`."""
        cells = one[rows] * shape[1] + other[rows]
        if self.codes is not None:
            cells = np.unique(np.stack([cells, self.codes[rows]]), axis=1)[0]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Column:
    """One column that has a distribution to tell.

    Parameters
    ----------
    field : Field
        With the levels that are told of it.
    values : ndarray of float64, shape (n,)
        On the field's scale, or positions among the levels; NaN where missing. Numbers are fenced.
    drawn_in : bool
        Whether values were so far outside that they were drawn in.
    """

    field: Field
    values: Floats
    drawn_in: bool = False

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @property
    def present(self) -> Mask:
        """Where a value is there."""
        return ~np.isnan(self.values)

    @property
    def codes(self) -> Codes:
        """Positions among the levels, −1 where missing."""
        return np.where(np.isnan(self.values), -1, self.values).astype(np.int64)

    @property
    def ranked(self) -> bool:
        """Whether its values have an order: numbers, times, two levels, ordered levels."""
        levels = self.field.levels
        return levels is None or len(levels) == 2 or self.field.ordered


def read_column(field: Field, series: pd.Series[Any], persons: Persons) -> Column | None:
    """Read a column; None where nothing of it is ever told (text, ids) or nothing can be."""
    if field.kind in ("text", "id"):
        return None
    if field.levels is not None:
        values = _positions(field, series)
    else:
        values = _numbers(series)
    values[~np.isfinite(values)] = np.nan
    present = ~np.isnan(values)
    if persons.count(present) < persons.min_cell:
        return None
    if field.levels is None and field.kind == "numeric":
        scored = _scored(field, values, persons)
        if scored is not None:
            return scored
    if field.levels is not None:
        return Column(field, values)
    inside = fenced(values, persons.cell(present))
    return Column(field, inside, bool((inside[present] != values[present]).any()))


def _positions(field: Field, series: pd.Series[Any]) -> Floats:
    levels = list(field.levels or ())
    if isinstance(series.dtype, pd.CategoricalDtype) and list(series.cat.categories) == levels:
        found = series.cat.codes.to_numpy().astype(np.float64)
    else:
        found = pd.Index(levels, dtype=object).get_indexer(pd.Index(series.astype(object))).astype(np.float64)
        found[series.isna().to_numpy()] = -1
    found[found < 0] = np.nan
    return found


def _numbers(series: pd.Series[Any]) -> Floats:
    if series.dtype.kind in "Mm":
        unit = np.timedelta64(1, "D") if series.dtype.kind == "M" else np.timedelta64(1, "s")
        raw = series.to_numpy()
        since = raw - np.datetime64("1970-01-01", "us") if series.dtype.kind == "M" else raw
        numbers = np.asarray(since / unit, dtype=np.float64)
        numbers[np.isnat(raw)] = np.nan
        return numbers
    return np.array(series.to_numpy(dtype="float64", na_value=np.nan))


def _scored(field: Field, values: Floats, persons: Persons) -> Column | None:
    """Take whole numbers of few values for ordered levels; rare ones join the next nearer to the middle."""
    present = ~np.isnan(values)
    numbers = np.unique(values[present])
    if not 2 <= len(numbers) <= FEW_VALUES or (numbers != np.round(numbers)).any():
        return None
    if field.type == "number" and field.decimals:
        return None
    counts = {float(number): persons.count(values == number) for number in numbers}
    kept = [number for number, count in counts.items() if count >= persons.min_cell]
    if len(kept) < 2 or len(kept) < (len(numbers) + 1) // 2:
        return None
    middle = float(np.median(values[present]))
    place = {
        number: min(kept, key=lambda level: (abs(level - number), abs(level - middle))) for number in counts
    }
    positions = np.full(len(values), np.nan)
    for number, level in place.items():
        positions[values == number] = kept.index(level)
    levels: tuple[Value, ...] = tuple(int(level) for level in kept)
    return Column(replace(field, levels=levels, ordered=len(levels) > 2), positions, len(kept) < len(counts))


def describe_numbers(column: Column, rows: Mask, persons: Persons, *, most: int) -> dict[str, Any]:
    """State mean, sd and quantiles of a number or time over `rows`; empty where there are too few."""
    field, values = column.field, column.values[rows]
    present = column.present & rows
    if persons.count(present) < persons.min_cell:
        return {}
    cell = persons.cell(present)
    if not rows.all():
        values = fenced(values, cell)
    inside = values[~np.isnan(values)]
    mean, sd = float(inside.mean()), float(inside.std(ddof=1)) if len(inside) > 1 else 0.0
    found: dict[str, Any] = {"mean": show(field, told(mean, sd)), "sd": told(sd, sd)}
    quantiles = {
        f"{round(p, 4):.10g}": show(field, _on_grid(field, value, sd))
        for p, value in stated_quantiles(inside, cell, most=most)
    }
    if quantiles:
        found["quantiles"] = quantiles
    return found


def _on_grid(field: Field, value: float, sd: float) -> float:
    """Round a quantile to the field's own steps where these are no finer than what is told anyway."""
    if field.type in ("integer", "year", "date"):
        return float(round(value))
    if field.type in ("datetime", "time"):
        return value
    rounded = told(value, sd)
    places = field.places
    return rounded if places is None else round(rounded, places)


def describe_levels(column: Column, persons: Persons) -> tuple[dict[str, float], int] | None:
    """State the share of each level; rare ones share theirs evenly. Also how many are rare.

    None where this would say something of fewer than `min_cell` persons.
    """
    levels = column.field.levels or ()
    codes = column.codes
    counts = {index: persons.count(codes == index) for index in range(len(levels))}
    pooling = pool_levels(counts, persons.min_cell)
    absent = [index for index, count in counts.items() if count == 0]
    rows = np.bincount(codes[codes >= 0], minlength=len(levels)).astype(np.float64)
    pooled = [*pooling.pooled, *absent] if pooling.pooled else []
    if pooling.pooled and not pooling.kept:
        return None
    if pooled:
        rows[pooled] = rows[pooled].sum() / len(pooled)
    shares = rows / rows.sum()
    return {
        level_key(level): round(float(share), 4) for level, share in zip(levels, shares, strict=True)
    }, len(pooling.pooled)


def missing_share(column: Column, rows: Mask, persons: Persons) -> float:
    """State which share of `rows` lacks a value."""
    total = persons.count(rows)
    count = persons.count(rows & ~column.present)
    if persons.codes is not None and count >= persons.min_cell:
        return round(float((rows & ~column.present).sum() / rows.sum()), _HALF_SHARE_DIGITS)
    return round(protected_share(min(count, total), total, persons.min_cell), _HALF_SHARE_DIGITS)


def level_key(level: Value) -> str:
    """Write a level as a key of `proportions`."""
    if isinstance(level, bool):
        return "true" if level else "false"
    if isinstance(level, dt.date | dt.time):
        return level.isoformat()
    return str(level)


def level_value(level: Value) -> Any:
    """Write a level as JSON has it."""
    return level.isoformat() if isinstance(level, dt.date | dt.time) else level


def show(field: Field, value: float) -> Any:
    """Write a figure on a field's scale as the schema has it: a moment in ISO 8601, else a number."""
    if field.type == "date":
        return (dt.date(1970, 1, 1) + dt.timedelta(days=round(value))).isoformat()
    if field.type == "datetime":
        return (dt.datetime(1970, 1, 1) + dt.timedelta(minutes=round(value * 1440))).isoformat()
    if field.type == "time":
        seconds = min(max(round(value), 0), 86_399)
        return dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60).isoformat()
    return int(value) if value == int(value) and abs(value) < 1e15 else value
