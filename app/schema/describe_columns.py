"""A real table's columns as arrays, and what may be said of each by itself."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure_heaps import heaps_of, stated_knots
from app.disclosure_stated import (
    fenced,
    is_hidden,
    stated_figure,
    stated_share,
    stated_shares,
)
from app.schema.table import Field, Value

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

HEAPS = 12
"""Values that many rows share that are told of a number at most."""

FEW_VALUES = 10
"""Whole numbers of at most so many values are told as ordered categories: a score is no measurement."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column that has a distribution to tell.

    Parameters
    ----------
    field : Field
        With the levels that are told of it.
    values : ndarray of float64, shape (n,)
        On the field's scale, or positions among the levels; NaN where missing. Numbers are fenced.
    applies : ndarray of bool, shape (n,)
        Where the field's `relevant` holds.
    step : float
        What one value is at least apart from another; 0 where not known.
    drawn_in : bool
        Whether values were so far outside that they were drawn in.
    heaped : bool
        Whether values that many rows share are told of it.
    """

    field: Field
    values: Floats
    applies: Mask
    step: float = 0.0
    drawn_in: bool = False
    heaped: bool = False

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
    def size(self) -> int:
        """How many levels there are; 0 of a number."""
        return len(self.field.levels or ())

    @property
    def ranked(self) -> bool:
        """Whether its values have an order: numbers, times, two levels, ordered levels."""
        return self.field.levels is None or self.size == 2 or self.field.ordered

    def counts(self, rows: Mask) -> Codes:
        """Count the rows with each level."""
        codes = self.codes[rows]
        return np.bincount(codes[codes >= 0], minlength=self.size).astype(np.int64)


def rows_of_enough_persons(persons: Codes | None, min_cell: int) -> int:
    """Return how many rows are of `min_cell` persons, whichever rows they are.

    One more than the `min_cell` − 1 persons with the most rows have together; a code below 0 names nobody,
    and its row is a person's only one.
    """
    if persons is None:
        return min_cell
    most = np.sort(np.bincount(persons[persons >= 0], minlength=1))[::-1][: min_cell - 1]
    return int(most.sum()) + min_cell - int((most > 0).sum())


def read_column(
    field: Field, series: pd.Series[Any], applies: Mask, cell: int, *, may_score: bool = True
) -> Column | None:
    """Read a column; None where nothing of it is ever told (text, ids) or nothing can be.

    `may_score` says whether whole numbers of few values may be told as ordered levels.
    """
    if field.kind in ("text", "id"):
        return None
    values = _positions(field, series) if field.levels is not None else numbers_of(series)
    values[~np.isfinite(values)] = np.nan
    values[~applies] = np.nan
    if (~np.isnan(values)).sum() < cell:
        return None
    if field.levels is not None:
        return Column(field, values, applies)
    scored = _scored(field, values, applies, cell) if may_score and field.type == "integer" else None
    if scored is not None:
        return scored
    present = ~np.isnan(values)
    step = _step(field, values[present])
    inside = fenced(values, cell)
    heaped = len(heaps_of(inside, cell, HEAPS, step)) > 0
    return Column(field, inside, applies, step, bool((inside[present] != values[present]).any()), heaped)


def _positions(field: Field, series: pd.Series[Any]) -> Floats:
    levels = list(field.levels or ())
    if isinstance(series.dtype, pd.CategoricalDtype) and list(series.cat.categories) == levels:
        found = series.cat.codes.to_numpy().astype(np.float64)
    else:
        found = pd.Index(levels, dtype=object).get_indexer(pd.Index(series.astype(object))).astype(np.float64)
        found[series.isna().to_numpy()] = -1
    found[found < 0] = np.nan
    return found


def numbers_of(series: pd.Series[Any]) -> Floats:
    """Return a column on its field's numeric scale, NaN where missing."""
    if series.dtype.kind in "Mm":
        unit = np.timedelta64(1, "D") if series.dtype.kind == "M" else np.timedelta64(1, "s")
        raw = series.to_numpy()
        since = raw - np.datetime64("1970-01-01", "us") if series.dtype.kind == "M" else raw
        numbers = np.asarray(since / unit, dtype=np.float64)
        numbers[np.isnat(raw)] = np.nan
        return numbers
    return np.array(series.to_numpy(dtype="float64", na_value=np.nan))


def _step(field: Field, present: Floats) -> float:
    if field.type in ("integer", "year", "date", "time"):
        return 1.0
    if field.type != "number":
        return 0.0
    places = field.decimals if field.decimals is not None else decimals_of(present)
    return 10.0**-places if places is not None else 0.0


def decimals_of(values: Floats) -> int | None:
    """Return how many decimals values have; None where these are more than six."""
    return next((p for p in range(7) if np.array_equal(np.round(values, p), values)), None)


def _scored(field: Field, values: Floats, applies: Mask, cell: int) -> Column | None:
    """Take whole numbers of few values for ordered levels; rare ones join the next nearer to the middle."""
    present = values[~np.isnan(values)]
    numbers, counts = np.unique(present, return_counts=True)
    if not 2 <= len(numbers) <= FEW_VALUES or (numbers != np.round(numbers)).any():
        return None
    kept = numbers[counts >= cell].tolist()
    if len(kept) < 2 or len(kept) < (len(numbers) + 1) // 2:
        return None
    middle = float(np.median(present))
    positions = np.full(len(values), np.nan)
    for number in numbers.tolist():
        nearness = [(abs(one - number), abs(one - middle)) for one in kept]
        level = kept[nearness.index(min(nearness))]
        positions[values == number] = kept.index(level)
    levels: tuple[Value, ...] = tuple(int(level) for level in kept)
    return Column(
        replace(field, levels=levels, ordered=len(levels) > 2),
        positions,
        applies,
        drawn_in=len(kept) < len(numbers),
    )


def describe_numbers(
    column: Column, rows: Mask, cell: int, *, most: int, heaps: int = 0, low: float | None = None
) -> dict[str, Any]:
    """State mean, sd, up to `most` quantiles and `heaps` of a number or time; empty for too few rows.

    `low` is the lower bound that is told.
    """
    field = column.field
    inside = column.values[rows & column.present]
    n = len(inside)
    if n < cell:
        return {}
    mean, sd = float(inside.mean()), float(inside.std(ddof=1)) if n > 1 else 0.0
    found: dict[str, Any] = {
        "mean": show(field, stated_figure(mean, sd, n, column.step)),
        "sd": stated_figure(sd, sd, n, column.step),
    }
    hidden = is_hidden(int((rows & column.applies & ~column.present).sum()), cell)
    knots = stated_knots(inside, cell, most=most, heaps=heaps, step=column.step, hidden=hidden)
    knots = tuple((p, _on_grid(column, value, sd, n)) for p, value in knots)
    quantiles = {f"{p:g}": show(field, value) for p, value in _from_bound(knots, low, column.step)}
    return found | ({"quantiles": quantiles} if quantiles else {})


def _from_bound(
    knots: tuple[tuple[float, float], ...], low: float | None, step: float
) -> tuple[tuple[float, float], ...]:
    """Tell the share of what lies on the lower bound by one quantile instead of two.

    A reader takes a part of what lies between it and the next quantile to lie on the bound as well, evenly by
    steps: so much less is told.
    """
    if len(knots) < 3 or not step or knots[0][1] != low or knots[1][1] != low or knots[2][1] == low:
        return knots
    share = knots[0][0] + knots[1][0]
    steps = min(round((knots[2][1] - knots[1][1]) / step) + 1, _READ_STEPS)
    p = round((share - knots[2][0] / steps) / (1 - 1 / steps), 4)
    return ((p, knots[1][1]), *knots[2:]) if 0 < p < knots[2][0] else knots


_READ_STEPS = 50


def _on_grid(column: Column, value: float, sd: float, n: int) -> float:
    """Round a quantile to the field's own steps where these are no finer than what is told anyway."""
    if column.step:
        value = round(value / column.step) * column.step
    return stated_figure(value, sd, n) if column.step < sd / 100 else float(f"{value:.12g}")


def describe_levels(column: Column, rows: Mask, cell: int) -> dict[str, float] | None:
    """State the share of each level in some rows; None where nothing may be said."""
    hidden = is_hidden(int((rows & column.applies & ~column.present).sum()), cell)
    shares = stated_shares(column.counts(rows), cell, hidden=hidden)
    return None if shares is None else keyed(column, shares)


def keyed(column: Column, shares: Any) -> dict[str, float]:
    """Write shares as `proportions`."""
    return {
        level_key(level): float(share) for level, share in zip(column.field.levels or (), shares, strict=True)
    }


def missing_share(column: Column, cell: int) -> float:
    """State which share of the rows where the field applies has no value."""
    absent = int((column.applies & ~column.present).sum())
    return stated_share(absent, int(column.applies.sum()), cell)


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
    return int(value) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else value
