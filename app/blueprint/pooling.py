"""Bins of a real column that tell of no single person: pooled, with rounded edges and averaged tails."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pool(
    ticks: Ints, counts: Ints, least: int, lowest: int, highest: int, stride: int
) -> tuple[Ints, Ints, Floats]:
    """Cut [lowest, highest] into bins of at least `least` persons; a value that so many share is its own."""
    groups: list[tuple[int, int, int]] = []  # first and last place among the ticks, persons
    start, held = 0, 0
    for place, count in enumerate(counts.tolist()):
        if count >= least and held:
            groups.append((start, place - 1, held))
            start, held = place, 0
        held += count
        if held >= least:
            groups.append((start, place, held))
            start, held = place + 1, 0
    if held:
        groups.append((start, len(ticks) - 1, held))
    groups = _merge_small(groups, least)
    origin = int(ticks[0]) % stride
    bins: list[tuple[int, int]] = []
    for k, (i, j, persons) in enumerate(groups):
        if i == j and persons >= least:
            bins.append((int(ticks[i]), int(ticks[i])))
            continue
        # Inner edges are rounded too, to the roundest number before the next value: none is one person's own.
        step = max(stride, round_step(int(ticks[j] - ticks[i]) / 4))
        low, high = lowest, highest
        if k > 0:
            low = bins[-1][1] + stride
            if bins[-1][0] == bins[-1][1]:  # a spike stands apart from what follows
                low = max(low, outward(int(ticks[i]), step, origin, stride, -1))
        if k < len(groups) - 1:
            beyond, high = int(ticks[j + 1]), outward(int(ticks[j]), step, origin, stride, +1)
            while high >= beyond and step > stride:
                step = max(stride, round_step(step / 2))
                high = outward(int(ticks[j]), step, origin, stride, +1)
        bins.append((low, max(low, high)))
    first, last = (np.array(ends, "int64") for ends in zip(*bins, strict=True))
    weights = np.array([persons for _, _, persons in groups], "float64")
    for k, sign in ((len(groups) - 1, +1), (0, -1)):
        i, j, _ = groups[k]
        mean = float(np.average(ticks[i : j + 1], weights=counts[i : j + 1]))
        first, last, weights = _taper(first, last, weights, k, mean, origin, stride, sign)
    return first, last, weights


def _taper(
    first: Ints, last: Ints, weights: Floats, k: int, mean: float, origin: int, stride: int, sign: int
) -> tuple[Ints, Ints, Floats]:
    """Split an outermost bin at the mean of its persons, so that it keeps this mean though its end is far.

    One far outlier does not stretch it beyond six times the mean's distance from the inner edge. A bin of
    few values is not split: there the mean would tell how many persons have which.
    """
    inner, outer = (int(first[k]), int(last[k])) if sign > 0 else (int(last[k]), int(first[k]))
    reach = sign * (mean - inner)
    if reach <= 0:
        return first, last, weights
    if sign * (outer - inner) < 8 * stride:
        if sign * (outer - inner) > 3 * reach:
            outer = onto(round(inner + sign * 2 * reach), origin, stride, sign)
            first, last = first.copy(), last.copy()
            first[k], last[k] = sorted((inner, outer))
        return first, last, weights
    if sign * (outer - inner) > 6 * reach:
        outer = onto(round(inner + sign * 6 * reach), origin, stride, sign)
    middle = onto(round(mean), origin, stride, -sign)
    beyond = middle + sign * stride
    share = min(1.0, reach / abs(outer - inner))
    near, far = sorted((inner, middle)), sorted((beyond, outer))
    if sign * (outer - beyond) < 0 or sign * (middle - inner) < 0:
        return first, last, weights
    parts = [(near, 1 - share), (far, share)][::sign]
    first = np.concatenate([first[:k], [part[0][0] for part in parts], first[k + 1 :]]).astype("int64")
    last = np.concatenate([last[:k], [part[0][1] for part in parts], last[k + 1 :]]).astype("int64")
    split = [float(weights[k]) * part[1] for part in parts]
    return first, last, np.concatenate([weights[:k], split, weights[k + 1 :]])


def _merge_small(groups: list[tuple[int, int, int]], least: int) -> list[tuple[int, int, int]]:
    """Join a group of too few persons to a neighbour, rather to one that is a range than to a spike."""
    while len(groups) > 1:
        small = next((k for k, group in enumerate(groups) if group[2] < least), None)
        if small is None:
            break
        beside = [k for k in (small - 1, small + 1) if 0 <= k < len(groups)]
        other = min(beside, key=lambda k: (groups[k][0] == groups[k][1], groups[k][2]))
        a, b = sorted((small, other))
        groups[a : b + 1] = [(groups[a][0], groups[b][1], groups[a][2] + groups[b][2])]
    return groups


def outward(tick: int, coarse: int, origin: int, stride: int, sign: int) -> int:
    """Round a tick outward to a multiple of `coarse`, onto the grid of origin and stride."""
    rounded = tick // coarse * coarse if sign < 0 else -(-tick // coarse) * coarse
    # Not past zero: what was never negative stays so.
    if sign < 0 <= tick and rounded < 0:
        rounded = 0
    return onto(rounded, origin, stride, -sign)


def onto(tick: int, origin: int, stride: int, sign: int) -> int:
    """Return the nearest value of the grid, at or above `tick` for sign +1, at or below for −1."""
    steps = (tick - origin) // stride if sign < 0 else -(-(tick - origin) // stride)
    return origin + steps * stride


def round_step(width: float) -> int:
    """Return the largest of 1, 2, 5, 10, 20 … that is at most `width`."""
    if width <= 1:
        return 1
    power = 10 ** math.floor(math.log10(width))
    return int(power * max(step for step in (1, 2, 5) if step * power <= width))
