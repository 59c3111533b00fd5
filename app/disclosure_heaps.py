"""What a description may state of where a number's values heap up: round numbers, and counts.

A heap is told as two quantiles with one value, or, beside another, as the quantile in its middle. What the
rows of a heap and those between two heaps are is told of `cell` rows or more, as in `app.disclosure_stated`.
Pure functions; NumPy is imported inside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.disclosure import safe_quantiles
from app.disclosure_stated import QUANTILES, rounded_shares, share_step, stated_quantiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

HEAPED = 2.0
"""How many times more rows a value has than its neighbourhood would give it, to be told as a heap."""

COARSE = 8.0
"""sd in steps below which every value with enough rows is told: such a number is a count."""

CERTAIN = 3.0
"""How many times more than chance would move that number."""


def stated_knots(
    values: ArrayLike, cell: int, *, most: int, heaps: int, step: float, hidden: bool
) -> tuple[tuple[float, float], ...]:
    """State up to `most` quantiles, and the values that heaps of at least `cell` rows lie on.

    A heap is a value that many share (a round number): two quantiles with the same value tell its share. The
    fewer than `cell` rows that lie between two heaps, or beyond the last, count to the nearer one, so that
    every share that is told is of at least `cell` rows.

    Parameters
    ----------
    values : array_like of float
        NaN is left out.
    heaps : int
        How many heaps are told at most, the largest first.
    step : float
        What one value is at least apart from another; where it is 0 no heaps are looked for.
    hidden : bool
        Whether the number of rows must not be told.

    Returns
    -------
    tuple of (probability, value)
        Ascending in both.
    """
    import numpy as np

    present = np.sort(np.asarray(values, dtype=np.float64).ravel())
    present = present[~np.isnan(present)]
    n = len(present)
    chosen = heaps_of(present, cell, heaps, step) if n else np.zeros(0)
    if not len(chosen):
        return stated_quantiles(present, cell, most=most)
    numbers, starts, counts = _cells(present, cell, chosen)
    shares = np.array(rounded_shares(counts, share_step(n, hidden=hidden)))
    ends = np.concatenate([[0.0], np.cumsum(shares)])
    knots: list[tuple[float, float]] = []
    for place, number in enumerate(numbers):
        if number is None:
            part = present[starts[place] : starts[place] + int(counts[place])]
            knots += _between(part, cell, ends[place], ends[place + 1], most)
        elif shares[place] > 0:
            before = numbers[place - 1] if place else None
            if before is not None and number - before <= 1.5 * step and knots:
                # Where the value before ends is told: the middle says where this one does.
                knots.append(((ends[place] + ends[place + 1]) / 2, number))
                continue
            # A reader makes the heap a fiftieth larger on either side, so that both quantiles are inside it.
            rim = _RIM * shares[place] / (1 + 2 * _RIM)
            knots += [(ends[place] + 3 * _SLACK + rim, number), (ends[place + 1] - _SLACK - rim, number)]
    heights = np.maximum.accumulate([value for _, value in knots])
    return tuple((round(p, 4), float(value)) for (p, _), value in zip(knots, heights, strict=True))


_RIM = 0.02
_SLACK = 0.0003  # between two heaps something is left: probabilities are rounded


def heaps_of(values: ArrayLike, cell: int, most: int, step: float) -> NDArray[np.float64]:
    """Return the values with `cell` rows and far more than a smooth distribution would give them.

    Of a count (sd below `COARSE` steps) those are all values with `cell` rows; at most `most`, the largest.
    """
    import numpy as np

    present = np.sort(np.asarray(values, dtype=np.float64).ravel())
    present = present[~np.isnan(present)]
    numbers, counts = np.unique(present, return_counts=True)
    if step <= 0 or len(numbers) < 2:
        return np.zeros(0)
    # So many rows on either side that one other heap does not make all of it; the denser side counts, for
    # where a distribution ends everything would stand out from the thinner one.
    reach = max(3 * cell, len(present) // 10)
    low, high = np.searchsorted(present, numbers), np.searchsorted(present, numbers, side="right")
    first, last = np.maximum(low - reach, 0), np.minimum(high + reach, len(present)) - 1
    below = (low - first) * step / np.maximum(numbers - present[first], step)
    above = (last + 1 - high) * step / np.maximum(present[last] - numbers, step)
    usual = np.maximum(below, above)
    certain = counts >= usual + CERTAIN * np.sqrt(usual)
    heaped = np.flatnonzero((counts >= cell) & (counts >= HEAPED * usual) & certain)
    if present.std() < COARSE * step:
        heaped = np.flatnonzero(counts >= cell)
    largest = heaped[np.argsort(-counts[heaped], kind="stable")][:most]
    return numbers[np.sort(largest)]


def _cells(
    present: NDArray[np.float64], cell: int, heaps: NDArray[np.float64]
) -> tuple[list[float | None], list[int], NDArray[np.float64]]:
    """Cut rows into heaps and what lies between: each one's value (None between), first row and size."""
    import numpy as np

    n = len(present)
    low, high = np.searchsorted(present, heaps), np.searchsorted(present, heaps, side="right")
    numbers: list[float | None] = []
    bounds: list[int] = [0]
    for place in range(len(heaps) + 1):
        first, last = (int(high[place - 1]) if place else 0), (int(low[place]) if place < len(heaps) else n)
        if last - first >= cell:
            if place:
                bounds.append(first)
            numbers.append(None)
            if place < len(heaps):
                bounds.append(last)
        elif 0 < place < len(heaps):
            middle = (heaps[place - 1] + heaps[place]) / 2
            bounds.append(first + int(np.searchsorted(present[first:last], middle)))
        if place < len(heaps):
            numbers.append(float(heaps[place]))
    bounds.append(n)
    return numbers, bounds[:-1], np.diff(bounds).astype(np.float64)


def _between(
    part: NDArray[np.float64], cell: int, low: float, high: float, most: int
) -> list[tuple[float, float]]:
    """State quantiles of all rows that fall into a part between heaps, well inside it."""
    if high <= low:
        return []
    found = []
    inside = [(p - low) / (high - low) for p in sorted(QUANTILES[:most]) if low < p < high]
    last = 0.0
    for p in inside:
        if min(p - last, 1 - p) * len(part) >= 1.5 * cell:
            found.append(p)
            last = p
    heights = safe_quantiles(part, tuple(found), cell)
    return [(low + p * (high - low), value) for p, value in zip(found, heights, strict=True)]
