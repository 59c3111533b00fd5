"""What a description may state of a real table: the part of `app.disclosure` that shares and strata need.

Everything counts rows; `cell` is so many rows that they are certainly of `min_cell` persons. No figure tells
a count below `cell`, neither by itself nor as the difference of others, and none is finer than what a count
of one row more would change. Pure functions; NumPy is imported inside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.disclosure import safe_quantiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


def share_step(n: int, *, hidden: bool) -> float:
    """Return the step that shares of `n` rows are rounded to.

    Where `n` itself must not be told (`hidden`: a few rows have no value), that is 1, 2 or 5 times a power of
    ten and at least 1 / n: a finer share would tell its denominator. 0.5204 is 102 of 196 and of nothing near
    it, and how many of 200 have no value would be read off the proportions of those who have one.
    """
    if not hidden:
        return 0.001 if n < 1000 else 0.0001
    power = 10.0 ** math.floor(math.log10(1 / max(n, 1)))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power * max(n, 1) >= 1 - 1e-9)


def is_hidden(absent: int, cell: int) -> bool:
    """Whether so few have no value that their number must not be told."""
    return 0 < absent < cell


def stated_shares(counts: ArrayLike, cell: int, *, hidden: bool) -> tuple[float, ...] | None:
    """State what share of the rows has each level.

    Levels of fewer than `cell` rows, those of none too, share theirs evenly; where these are fewer than
    `cell` together, they count as half of `cell`, however many they are.

    Parameters
    ----------
    counts : array_like of int, shape (levels,)
        Rows with each level.
    cell : int
        Rows that are certainly of `min_cell` persons.
    hidden : bool
        Whether the number of rows must not be told.

    Returns
    -------
    tuple of float or None
        On the grid of `share_step`, summing to 1; None where no level has `cell` rows.
    """
    import numpy as np

    table = np.array(counts, dtype=np.float64)
    total = table.sum()
    if (table < cell).all():
        return None
    rare = table < cell
    if not rare.any() or table[rare].sum() >= cell:
        table[rare] = table[rare].sum() / max(rare.sum(), 1)
        return rounded_shares(table, share_step(int(total), hidden=hidden))
    # As of a hidden number: the others' exact shares would tell what is left.
    step = share_step(int(total), hidden=True)
    each = max(round(min(cell / 2, total / 2) / rare.sum() / total / step), 1)
    left = round(1 / step) - each * int(rare.sum())
    shares = np.full(len(table), each * step)
    shares[~rare] = np.array(rounded_shares(table[~rare], 1 / left)) * left * step
    return tuple(float(f"{share:.10g}") for share in shares.tolist())


def rounded_shares(counts: NDArray[np.float64], step: float) -> tuple[float, ...]:
    """Round shares to a step so that they sum to 1 and none that is above 0 becomes 0.

    The largest remainders are rounded up (Hamilton's method).
    """
    import numpy as np

    whole = round(1 / step)
    exact = counts / counts.sum() * whole
    units = np.floor(exact + 1e-9)
    left = int(whole - units.sum())
    units[np.argsort(units - exact, kind="stable")[:left]] += 1
    while ((units == 0) & (exact > 0)).any() and units.max() > 1:
        units[int(units.argmax())] -= 1
        units[int(np.flatnonzero((units == 0) & (exact > 0))[0])] += 1
    return tuple(float(f"{unit * step:.10g}") for unit in units.tolist())


def stated_share(count: int, total: int, cell: int) -> float:
    """State which share of `total` rows is in a part; 0 and 1 as they are, a small part as half of `cell`."""
    if count in (0, total):
        return 0.0 if count == 0 else 1.0
    if total < 2 * cell:
        return 0.5
    step = share_step(total, hidden=is_hidden(count, cell) or is_hidden(total - count, cell))
    near = count if cell <= count <= total - cell else (cell / 2 if count < cell else total - cell / 2)
    return float(f"{round(near / total / step) * step:.10g}")


def stated_figure(value: float, sd: float, n: int, tick: float = 0.0) -> float:
    """Round a mean or an sd to a thousandth of the sd, or to what one tick of one of `n` rows changes.

    Finer, a mean of whole numbers would tell the number of rows that it is of.
    """
    step = max(sd / 1000, tick / max(n, 1))
    if not (math.isfinite(value) and step > 0):
        return float(f"{value:.4g}")
    digits = min(-math.ceil(math.log10(step) - 1e-9), 15)
    return round(value, digits)


def stated_strata(rows: Sequence[int], cell: int, *, others: int = 0) -> tuple[bool, ...]:
    """Decide of which strata figures may be stated beside the figure of all.

    A stratum needs `cell` rows. Where those left out are fewer than `cell` in all, the difference to the
    whole would be a figure of theirs, so the smallest stated stratum is left out as well.

    Parameters
    ----------
    rows : sequence of int
        Rows with a value in each stratum.
    cell : int
        Rows that are certainly of `min_cell` persons.
    others : int
        Rows with a value that are in no stratum.
    """
    stated = [count >= cell for count in rows]
    hidden = others + sum(count for count, said in zip(rows, stated, strict=True) if not said)
    while 0 < hidden < cell and any(stated):
        smallest = min((count, index) for index, count in enumerate(rows) if stated[index])[1]
        stated[smallest] = False
        hidden += rows[smallest]
    return tuple(stated)


_FENCE = 4.5  # sd of a normal distribution; of a million values seven lie beyond
_WIDEST_FENCE = 12.0


def fenced(values: ArrayLike, cell: int) -> NDArray[np.float64]:
    """Draw in values so far outside that a mean or an sd would give them away.

    On each side the fence is laid out from the order statistics inside the outermost `cell` values: as far
    from the median as 4.5 sd would be, were that side normal. A normal or a moderately skewed sample keeps
    its values, a lone giant ends at the fence.

    Parameters
    ----------
    values : array_like of float
        Finite or NaN; NaN stays.
    cell : int
        Rows that are certainly of `min_cell` persons.

    Returns
    -------
    ndarray of float64
        A copy.
    """
    from statistics import NormalDist

    import numpy as np

    result = np.array(values, dtype=np.float64)
    present = np.sort(result[~np.isnan(result)])
    n = len(present)
    if n < 4:
        return result
    inside = min(cell, n // 4)
    width = max(min(cell, n // 4), 1)
    reach = min(-_FENCE / NormalDist().inv_cdf((inside + width / 2) / n), _WIDEST_FENCE)
    middle = float(np.median(present))
    low = float(present[inside : inside + width].mean())
    high = float(present[n - inside - width : n - inside].mean())
    return np.clip(result, middle - reach * (middle - low), middle + reach * (high - middle))


QUANTILES = (
    0.5, 0.25, 0.75, 0.1, 0.9, 0.05, 0.95, 0.4, 0.6, 0.15, 0.85, 0.3, 0.7, 0.35, 0.65, 0.2, 0.8, 0.45, 0.55,
)  # fmt: skip
"""Probabilities of the quantiles that are stated, those that matter most first."""


def stated_quantiles(values: ArrayLike, cell: int, *, most: int) -> tuple[tuple[float, float], ...]:
    """State up to `most` quantiles, each the mean of `cell` order statistics around it.

    At least `cell` values lie between neighbours, and below the first and above the last half as many more:
    no order statistic that enters is among the outermost `cell`.

    Parameters
    ----------
    values : array_like of float
        NaN is left out.

    Returns
    -------
    tuple of (probability, value)
        Ascending in both.
    """
    import numpy as np

    present = np.asarray(values, dtype=np.float64).ravel()
    present = present[~np.isnan(present)]
    n, chosen = len(present), list[float]()
    for p in QUANTILES[:most]:
        room = min((abs(p - q) * n for q in chosen), default=math.inf)
        if min(p, 1 - p) * n >= 1.5 * cell and room >= cell:
            chosen.append(p)
    chosen.sort()
    heights = np.maximum.accumulate(safe_quantiles(present, tuple(chosen), cell) or [0.0])
    return tuple(zip(chosen, heights.tolist(), strict=False))


def stated_table(
    counts: ArrayLike, cell: int, *, ordered: tuple[bool, bool] = (False, False), keep_rows: bool = False
) -> NDArray[np.float64] | None:
    """Return a table of two categories that says nothing about cells of fewer than `cell` rows.

    While a cell is too small (an empty one too), two rows or two columns are told as one: those whose
    merging loses least of what the table says, neighbours where there is an order. Merged lines share their
    cells in the proportion of their margins. The last two by two, which cannot be merged, says of a cell that
    is too small no more than that it is (`_told_two_by_two`).

    Parameters
    ----------
    counts : array_like of int, shape (r, c)
        Rows of the table with each combination.
    cell : int
        Rows that are certainly of `min_cell` persons.
    ordered : (bool, bool)
        Whether lines of the first and of the second category have an order.
    keep_rows : bool
        Whether only columns may be merged.

    Returns
    -------
    ndarray of float64, shape (r, c), or None
        None where nothing of the two together may be told.
    """
    import numpy as np

    table = np.asarray(counts, dtype=np.float64)
    groups = [[[index] for index in range(size)] for size in table.shape]
    merged = table
    while (merged < cell).any():
        if merged.shape == (2, 2):
            told = _told_two_by_two(merged, cell)
            if told is None:
                return None
            merged = told
            break
        step = _least_loss(merged, cell, ordered, keep_rows)
        if step is None:
            return None
        axis, one, other = step
        merged = _merged(merged, axis, one, other)
        groups[axis][one] += groups[axis].pop(other)
    if min(merged.shape) < 2:
        return None
    # Within a group the lines differ by no more than their own size, small ones not even by that.
    rows, columns = (_margins(table.sum(axis=1 - axis), groups[axis], cell) for axis in (0, 1))
    spread = np.zeros_like(table)
    for i, group in enumerate(groups[0]):
        for j, others in enumerate(groups[1]):
            part = rows[group][:, None] * columns[others][None, :]
            spread[np.ix_(group, others)] = merged[i, j] * part
    return spread


def _margins(totals: NDArray[np.float64], groups: list[list[int]], cell: int) -> NDArray[np.float64]:
    """Return each line's share of its group; lines of fewer than `cell` share theirs evenly.

    Where these are fewer than `cell` together, they count as half of it, as in `stated_shares`.
    """
    import numpy as np

    shares = np.zeros(len(totals))
    for group in groups:
        own = totals[group]
        small = own < cell
        together = own[small].sum() if own[small].sum() >= cell else cell / 2
        own = np.where(small, together / max(small.sum(), 1), own)
        shares[group] = own / own.sum()
    return shares


def _merged(table: NDArray[np.float64], axis: int, one: int, other: int) -> NDArray[np.float64]:
    """Return the table with a line added to an earlier one."""
    lines = table if axis == 0 else table.T
    kept = [place for place in range(len(lines)) if place != other]
    merged = lines[kept]
    merged[one] += lines[other]
    return merged if axis == 0 else merged.T


def _least_loss(
    table: NDArray[np.float64], cell: int, ordered: tuple[bool, bool], keep_rows: bool
) -> tuple[int, int, int] | None:
    """Find the two lines, one of them with a small cell, whose merging loses least information."""
    import numpy as np

    best: tuple[float, int, int, int] | None = None
    for axis in (1,) if keep_rows else (0, 1):
        lines = table if axis == 0 else table.T
        if len(lines) <= 2 and not (keep_rows and len(lines) == 2 and len(table) > 2):
            continue
        short = np.atleast_1d((lines < cell).any(axis=1))
        if ordered[axis]:
            one = np.arange(len(lines) - 1)
            other = one + 1
        else:
            one, other = np.triu_indices(len(lines), 1)
        eligible = short[one] | short[other]
        one, other = one[eligible], other[eligible]
        if not len(one):
            continue
        own = _information(lines)
        loss = own[one] + own[other] - _information(lines[one] + lines[other])
        place = int(np.argmin(loss))  # of equal ones the first
        if best is None or loss[place] < best[0]:
            best = (float(loss[place]), axis, int(one[place]), int(other[place]))
    return None if best is None else best[1:]


def _information(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each line says of where its rows lie: the sum of n log(n / N)."""
    import numpy as np

    def weighed(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(counts * np.log(np.where(counts > 0, counts, 1.0)))

    return np.asarray(weighed(lines).sum(axis=1) - weighed(lines.sum(axis=1)))


def _told_two_by_two(table: NDArray[np.float64], cell: int) -> NDArray[np.float64] | None:
    """Tell a two by two table with a small cell by its margins and by which way it leans.

    Given the margins one cell says all. Its possible values fall into those that leave every cell at least
    `cell` rows and those below and above; of the latter, `cell` or more in number, only the side is told: as
    if independent where that lies on the same side, else by the middle.
    """
    import numpy as np

    (a, b), (c, _) = table
    row, column, total = a + b, a + c, table.sum()
    lowest, highest = max(0.0, row + column - total), min(row, column)
    first, last = lowest + cell, highest - cell  # with every cell large enough
    if first > last:
        return None
    independent = row * column / total
    if a < first:
        a = independent if independent < first else (lowest + first - 1) / 2
    elif a > last:
        a = independent if independent > last else (last + 1 + highest) / 2
    return np.array([[a, row - a], [column - a, total - row - column + a]])
