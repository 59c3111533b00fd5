"""Rules that put two numbers in order, and how to draw one below the other without throwing rows away.

Where x <= y is to hold, x is drawn from a distribution G cut at y. With G found from the top down,

    P(x < t) = P(y < t) + G(t) · E[1{y >= t} / G(y)],

both columns keep their own distributions: the reverse hazard of a right-truncated variable (D. Lynden-Bell,
Monthly Notices of the Royal Astronomical Society 155, 1971). Equality on a condition is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from app.blueprint.cells import Block, cells_frame
from app.blueprint.marginal import Marginal
from app.blueprint.rows import Floats, Ints, Mask
from app.schema.evaluate import breaks
from app.schema.frames import column
from app.schema.rules import Expression
from app.schema.table import TableSchema

LESS, EQUAL, GREATER = 0, 1, 2
MOST_STATES = 2_000
MOST_BINS = 1_024
TINY = 1e-250
SELDOM = 0.002
"""Share above which the other variable hardly ever lies."""

LEAST_GAP = 0.004
"""How far apart two distributions that a rule orders are taken to be, at least, in their middle."""


@dataclass(frozen=True, eq=False)
class Ordered:
    """What rules allow between two numbers, in each cell of a block.

    Parameters
    ----------
    first, second : str
    block : int or None
        The block whose cells matter.
    allowed : ndarray of bool, shape (cells or 1, 3)
        Whether first < second, first == second, first > second may be.
    rules : tuple of Expression
        The rules that say so, and nothing else.
    """

    first: str
    second: str
    block: int | None
    allowed: Mask
    rules: tuple[Expression, ...]


def orders_in(
    schema: TableSchema,
    rules: Sequence[Expression],
    numbers: Mapping[str, Marginal],
    blocks: Sequence[Block],
) -> list[Ordered]:
    """Find the pairs of numbers whose order rules decide, by trying the rules out."""
    found: dict[tuple[str, str], list[tuple[Expression, int | None, Mask]]] = {}
    home = {name: place for place, block in enumerate(blocks) for name in block.names}
    for rule in rules:
        pair = [name for name in rule.fields if name in numbers]
        rest = [name for name in rule.fields if name not in numbers]
        if len(pair) != 2 or any(name not in home for name in rest):
            continue
        places = {home[name] for name in rest}
        if len(places) > 1 or _scale(schema, pair[0]) != _scale(schema, pair[1]):
            continue
        place = next(iter(places), None)
        allowed = _tried(schema, rule, pair, rest, numbers, None if place is None else blocks[place])
        if allowed is None:
            continue
        key = (min(pair), max(pair))
        if key != tuple(pair):
            allowed = allowed[:, ::-1]
        found.setdefault(key, []).append((rule, place, allowed))
    return [
        joined
        for (first, second), parts in found.items()
        if (joined := _joined(first, second, parts, blocks))
    ]


def _joined(
    first: str, second: str, parts: list[tuple[Expression, int | None, Mask]], blocks: Sequence[Block]
) -> Ordered | None:
    places = {place for _, place, _ in parts if place is not None}
    if len(places) > 1:
        parts = [part for part in parts if part[1] is None]
        places = set()
    if not parts:
        return None
    place = next(iter(places), None)
    allowed = np.ones((1 if place is None else len(blocks[place].weights), 3), np.bool_)
    for _, _, mask in parts:
        allowed = allowed & mask
    if not allowed.any(axis=1).all():
        return None
    return Ordered(first, second, place, allowed, tuple(rule for rule, _, _ in parts))


def _scale(schema: TableSchema, name: str) -> str:
    kind = schema[name].type
    return "number" if kind in ("integer", "number", "year") else kind


def _tried(
    schema: TableSchema,
    rule: Expression,
    pair: Sequence[str],
    rest: Sequence[str],
    numbers: Mapping[str, Marginal],
    block: Block | None,
) -> Mask | None:
    """Return what a rule allows in each cell, None where it looks at more than the order of two numbers."""
    if block is not None:
        states, inverse = np.unique(
            np.stack([block.codes(name) for name in rest], axis=1), axis=0, return_inverse=True
        )
        inverse = inverse.ravel()
    else:
        states, inverse = np.zeros((1, 0), np.int16), np.zeros(1, np.int64)
    if len(states) > MOST_STATES:
        return None
    low, high = _probes(schema, pair, numbers)
    # Each relation several times, with values near and far: all must agree.
    x = np.concatenate([low, low, high, high])
    y = np.concatenate([high, low, high, low])
    relation = np.repeat([LESS, EQUAL, EQUAL, GREATER], len(low))
    frame = (
        cells_frame(schema, rest, np.repeat(states, len(x), axis=0))
        if rest
        else pd.DataFrame(index=range(len(x)))
    )
    for name, values in zip(pair, (x, y), strict=True):
        per_unit = numbers[name].per_unit
        ticks = np.round(np.tile(values, len(states)) * per_unit).astype(np.int64)
        frame[name] = column(schema[name], numbers[name].encode(ticks))
    broken = breaks(rule, frame).reshape(len(states), len(x))
    allowed = np.zeros((len(states), 3), np.bool_)
    for each in (LESS, EQUAL, GREATER):
        part = broken[:, relation == each]
        if (part.any(axis=1) != part.all(axis=1)).any():
            return None
        allowed[:, each] = ~part.any(axis=1)
    if allowed.all():
        return None
    return allowed[inverse]


def _probes(
    schema: TableSchema, pair: Sequence[str], numbers: Mapping[str, Marginal]
) -> tuple[Floats, Floats]:
    shares = np.array([0.02, 0.2, 0.4, 0.6, 0.8, 0.98])
    values = []
    for name in pair:
        marginal = numbers[name]
        values.append(marginal._ticks(shares) / marginal.per_unit)
    step = 1.0 / min(numbers[name].per_unit for name in pair)
    every = np.unique(np.round(np.concatenate(values) / step) * step)
    low, high = np.meshgrid(every, every)
    keep = low < high
    near = np.stack([every, every + step])
    return np.append(low[keep], near[0]), np.append(high[keep], near[1])


def grid_of(marginals: Sequence[Marginal]) -> Ints:
    """Return edges of bins of ticks over the whole support, shape (bins + 1,)."""
    starts = np.unique(np.concatenate([m.first for m in marginals]))
    last = max(int(m.last[-1]) for m in marginals)
    if len(starts) > MOST_BINS:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, MOST_BINS).astype(np.int64))]
    return np.append(starts, last + 1)


def share_below(marginal: Marginal, edges: Ints) -> Floats:
    """Return the share of the distribution below each edge."""
    upper = np.concatenate([[0.0], np.cumsum(marginal.weights)])
    ends = np.append(marginal.first, marginal.last[-1] + 1)
    return np.asarray(np.interp(edges, ends, upper / upper[-1]))


def cut_distribution(wanted: Floats, other: Floats, widths: Ints) -> Floats:
    """Find the distribution that, cut from above at another variable, has the wanted one.

    Parameters
    ----------
    wanted : ndarray of float64, shape (bins + 1,)
        The distribution function wanted at the edges of the bins, 0 … 1.
    other : ndarray of float64, shape (bins,)
        The other variable's share in each bin, what lies above in the last.
    widths : ndarray of int64, shape (bins,)
        Ticks in each bin.

    Returns
    -------
    ndarray of float64, shape (bins + 1,)
        The distribution function at the edges; as near as possible where the other is too often too small.
    """
    bins = len(other)
    below = np.concatenate([[0.0], np.cumsum(other)])
    # Two distributions of which a few figures are known need not be in order everywhere: there, barely.
    wanted = np.maximum(wanted, np.minimum(below + LEAST_GAP * below * (1 - below) * 4, 1.0))
    # Plain numbers: each bin needs the one above it, and NumPy's scalars cost ten times as much.
    masses, under, rest = other.tolist(), below.tolist(), (wanted - below).tolist()
    halves = (0.5 * (1 - 1 / widths)).tolist()
    found = [1.0] * (bins + 1)
    found[0] = 0.0
    tail = 0.0
    for j in range(bins - 1, 0, -1):
        here = found[j + 1] if found[j + 1] > TINY else TINY
        guess, mass, within, need = here, masses[j], halves[j], rest[j] if rest[j] > 0 else 0.0
        for _ in range(3):  # the other lies within the bin: cut there on average between its edges
            reach = here - (here - guess) * within
            total = tail + mass / (reach if reach > TINY else TINY)
            guess = need / (total if total > TINY else TINY)
            guess = guess if guess < here else here
        if under[j] > 1 - SELDOM:  # the other hardly ever lies this far up, and says nothing of the shape
            guess = max(guess, here * (1.0 if under[j] > 1 - SELDOM / 100 else 0.7))
        found[j] = guess
        reach = here - (here - guess) * within
        tail += mass / (reach if reach > TINY else TINY)
    return np.array(found)
