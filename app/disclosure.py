"""The one place that decides what may be said of real data.

Whatever leaves the service about a real table (an inferred schema, a report's table, curve or bin, a fitted
blueprint, a prompt) takes its numbers from here (what a description states: from `app.disclosure_stated` and
`app.disclosure_heaps`):
nothing about fewer than `min_cell` persons, no real minimum or maximum, no single value. Pure functions;
NumPy is imported inside them, for the HTTP side may import this.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Level = TypeVar("Level", str, int, float, bool)

POOLED_LEVEL = "(pooled)"
"""The level that stands for all levels of too few persons."""

WHOLE_STEP = 5.0
"""The finest step for bounds of whole numbers: a step of 1 would print the real extremes of a short scale."""

_LONGEST_YEARS = 10


def coarse_step(low: float, high: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that is at least a quarter of the range.

    A constant takes its own size for its range (1 where it is 0), so that even then the bounds lie apart.

    Parameters
    ----------
    low, high : float
        Finite extremes, `low <= high`.

    Returns
    -------
    float
        A positive step.

    Raises
    ------
    ValueError
        Where a bound is not finite or `low > high`.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise ValueError("bounds must be finite and in order")
    span = high - low or max(abs(low), abs(high)) or 1.0
    if not math.isfinite(span):
        raise ValueError("the range is too wide for a floating-point number")
    quarter = span / 4
    power = 10.0 ** math.floor(math.log10(quarter))
    # The tolerance keeps 0.2 (stored as 0.2000…01 after a division) from becoming 0.5.
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= quarter * (1 - 1e-9))


MOST = 1e15
"""A bound that a schema may state at most."""


def outward(low: float, high: float, *, step: float | None = None) -> tuple[float, float]:
    """Round a range outward to multiples of a coarse step, so that neither real extreme can be read off.

    A published bound says only between which two grid points the extreme lies. Rounding outward never
    crosses 0, so a table without negative values gets no negative bound.

    Parameters
    ----------
    low, high : float
        The real extremes, finite.
    step : float, optional
        A coarser step than `coarse_step`; a finer one is not taken.

    Returns
    -------
    (float, float)
        The bounds; they differ, also where `low == high`.
    """
    grid = max(coarse_step(low, high), step or 0.0)
    first, last = math.floor(low / grid), math.ceil(high / grid)
    if first == last:
        last += 1
    # Through the decimal text: 3 * 0.1 is 0.30000000000000004, and a bound is read by people.
    digits = max(0, -math.floor(math.log10(grid)))
    bounds = round(first * grid, digits), round(last * grid, digits)
    if max(abs(low), abs(high)) > MOST:  # to cut at an extreme would tell it
        return bounds
    return max(bounds[0], -MOST), min(bounds[1], MOST)


def outward_whole(low: int, high: int) -> tuple[int, int]:
    """Round the range of whole numbers outward; the step is at least `WHOLE_STEP`."""
    first, last = outward(float(low), float(high), step=WHOLE_STEP)
    return max(int(first), 1 - 2**53), min(int(last), 2**53 - 1)  # what a schema may say, to one unit


def outward_years(low: dt.date, high: dt.date) -> tuple[dt.date, dt.date]:
    """Round a range of dates outward to 1 January of one year and 31 December of another.

    The years lie on the grid of `coarse_step`, from whole years for a short range up to decades for a long
    one: the very year in which the oldest of a cohort was born would point at that person.
    """
    step = int(min(max(coarse_step(0, high.year - low.year + 1), 1), _LONGEST_YEARS))
    first = max(low.year // step * step, dt.MINYEAR)
    last = min(high.year // step * step + step - 1, dt.MAXYEAR)
    return dt.date(first, 1, 1), dt.date(last, 12, 31)


@dataclass(frozen=True, slots=True)
class Pooling(Generic[Level]):
    """Which levels may be named.

    Parameters
    ----------
    kept : tuple
        Levels of at least `min_cell` persons, in the given order.
    pooled : tuple
        Levels that go into one; never to be named. How many there are may be said.
    """

    kept: tuple[Level, ...]
    pooled: tuple[Level, ...]


def pool_levels(counts: Mapping[Level, int], min_cell: int) -> Pooling[Level]:
    """Decide which levels of a column may be named.

    Levels of fewer than `min_cell` persons are pooled. Where all of these together are still fewer than
    `min_cell`, the next smallest levels join them, for the pooled level is a cell as well.

    Parameters
    ----------
    counts : mapping of level to int
        Persons (not rows, where a person has several) with each level.
    min_cell : int
        The smallest cell that may be spoken of.

    Returns
    -------
    Pooling
        Both parts keep the order of `counts`; `kept` is empty where nothing may be named.
    """
    present = {level: count for level, count in counts.items() if count > 0}
    rare = {level for level, count in present.items() if count < min_cell}
    if rare:
        total = sum(present[level] for level in rare)
        # Sorted by count alone: ties fall in the given order, which makes the outcome repeatable.
        for level in sorted((item for item in present if item not in rare), key=present.__getitem__):
            if total >= min_cell:
                break
            rare.add(level)
            total += present[level]
    return Pooling(
        kept=tuple(level for level in present if level not in rare),
        pooled=tuple(level for level in present if level in rare),
    )


def say_count(count: int, min_cell: int) -> str:
    """Say a count of real rows or persons in words: the number, or "fewer than `min_cell`" for 1 and up."""
    return str(count) if count == 0 or count >= min_cell else f"fewer than {min_cell}"


def rounded_count(count: int, min_cell: int, base: int = 5) -> int | None:
    """Round a count to the nearest multiple of `base`, the custom of official statistics.

    Returns
    -------
    int or None
        None (not said) where `count < min_cell`, 0 included: that nobody is in a cell is a statement on
        everybody outside it.
    """
    if count < min_cell:
        return None
    return max(base * round(count / base), min_cell)


def suppress_cells(counts: ArrayLike, min_cell: int) -> NDArray[np.float64]:
    """Hide the cells of a table of counts that are too small, and those that would give them away.

    A cell below `min_cell` (0 too) is hidden. Where the hidden cells of a row or column together are fewer
    than `min_cell` persons, or there is but one of them, the total would give them away: the smallest
    shown cell of that line is hidden as well, until nothing more follows (complementary suppression;
    Hundepool et al., Statistical Disclosure Control, 2012, section 4.3). A line without a second cell hides
    alone.

    Parameters
    ----------
    counts : array_like of int, shape (k,) or (r, c)
        Persons in each cell.
    min_cell : int
        The smallest cell that may be shown.

    Returns
    -------
    ndarray of float64, same shape
        The counts, NaN where hidden.
    """
    import numpy as np

    table = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    shown = table >= min_cell
    lines = [(index, slice(None)) for index in range(table.shape[0]) if table.shape[1] > 1]
    if table.shape[0] > 1:
        lines += [(slice(None), index) for index in range(table.shape[1])]  # type: ignore[misc]
    changed = True
    while changed:
        changed = False
        for line in lines:
            hidden = ~shown[line]
            leaks = hidden.any() and (hidden.sum() == 1 or table[line][hidden].sum() < min_cell)
            if leaks and shown[line].any():
                smallest = int(np.where(shown[line], table[line], np.inf).argmin())
                shown[line][smallest] = False  # a view: slicing with (int, slice) does not copy
                changed = True
    result = np.where(shown, table, np.nan)
    return result if np.ndim(counts) > 1 else result[0]


def quantile_knots_allowed(n: int, min_cell: int) -> tuple[float, ...]:
    """Return the probabilities at which quantiles of `n` values may be stated.

    At least `min_cell` persons lie below the first, between any two, and above the last, so no knot is
    an extreme and no interval a cell of too few. At most 20 intervals: finer is the shape of the sample.

    Returns
    -------
    tuple of float
        Ascending, without 0 and 1; empty where `n < 2 * min_cell`.
    """
    intervals = min(n // min_cell, 20)
    return tuple(index / intervals for index in range(1, intervals))


def safe_quantiles(values: ArrayLike, probabilities: tuple[float, ...], min_cell: int) -> tuple[float, ...]:
    """State quantiles that are nobody's value: each is the mean of the `min_cell` order statistics around it.

    Parameters
    ----------
    values : array_like of float
        One value a person; NaN is left out.
    probabilities : tuple of float
        In (0, 1).
    min_cell : int
        How many order statistics are averaged.

    Returns
    -------
    tuple of float
        Ascending; empty where there are fewer than `min_cell` values.
    """
    import numpy as np

    present = np.sort(np.asarray(values, dtype=np.float64).ravel())
    present = present[~np.isnan(present)]
    if len(present) < min_cell:
        return ()
    sums = np.concatenate([[0.0], np.cumsum(present)])
    starts = np.clip(
        np.round(np.asarray(probabilities) * (len(present) - 1) - (min_cell - 1) / 2).astype(int),
        0,
        len(present) - min_cell,
    )
    return tuple(((sums[starts + min_cell] - sums[starts]) / min_cell).tolist())


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bins that may be shown: `len(edges) == len(counts) + 1`, empty where nothing may be."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def safe_histogram(values: ArrayLike, min_cell: int, *, bins: int = 20) -> Histogram:
    """Count values in bins on a coarse grid, merged until each holds at least `min_cell` values.

    The outer edges are `outward` of the extremes; the others lie on an even grid between these, so no
    edge is a real value but by chance.

    Parameters
    ----------
    values : array_like of float
        One value a person; NaN and infinities are left out.
    min_cell : int
        The smallest bin that may be shown.
    bins : int
        How many bins there are before any are merged.
    """
    import numpy as np

    present = np.asarray(values, dtype=np.float64).ravel()
    present = present[np.isfinite(present)]
    if len(present) < min_cell:
        return Histogram((), ())
    low, high = outward(float(present.min()), float(present.max()))
    raw, grid = np.histogram(present, bins=bins, range=(low, high))
    edges: list[float] = [float(grid[0])]
    counts: list[int] = []
    waiting = 0
    for count, edge in zip(raw.tolist(), grid[1:].tolist(), strict=True):
        waiting += count
        if waiting >= min_cell:
            edges.append(edge)
            counts.append(waiting)
            waiting = 0
    # What is left at the top is too small to stand alone: the last bin takes it in.
    counts[-1] += waiting
    edges[-1] = float(grid[-1])
    return Histogram(tuple(edges), tuple(counts))
