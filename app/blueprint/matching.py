"""Rows chosen so that a small table's own statistics are the declared ones, not only its population's.

A pool of rows is drawn from the program; chosen rows are swapped for others of the pool for as long as that
brings the table nearer to what is stated. Such rows are not independent: no interval that assumes it holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from app.blueprint.rows import Floats, Mask, Rows
from app.blueprint.sample import codes_of, numbers_of, stream
from app.blueprint.statements import Measured, Statement, measure
from app.errors import RowShortfall
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

POOL_TIMES = 8
LEAST_POOL = 4096
"""Rows to choose from: so many for each chosen one, and at least so many."""

ROUNDS = 8
"""How often the statistics are linearised anew at the rows chosen so far."""

SWAPS = 4000
IDLE = 40
"""A round ends after so many swaps, or so many looks in a row that found none."""

GOOD = 0.05
"""Root mean square of the distances, in tolerances, from which on nothing is sought any more."""

CHOSEN_AT_ONCE, OTHERS_AT_ONCE = 48, 768
"""Pairs that one look compares."""

MOST_FELT = 100.0
"""Tolerances beyond which a statement does not weigh more: it cannot be met, and the others can."""


class Source(Protocol):
    """Draws whole rows: `BlueprintRows` is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""

    def rows(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        """Return the first `n_rows` rows of a shard."""


@dataclass(frozen=True, eq=False)
class MatchedRows:
    """Chooses each shard's rows out of a pool (see `app.generators.machinery.RowSource`).

    Parameters
    ----------
    source : Source
        Draws the pool.
    schema : TableSchema
    statements : tuple of Statement
        What the rows of a shard are to have; those that read other columns are left out.
    """

    source: Source
    schema: TableSchema
    statements: tuple[Statement, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return self.source.names

    def rows(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        """Return `n_rows` rows that are as near to what is stated as rows of the pool can be.

        Raises
        ------
        RowShortfall
            Where the source cannot even draw `n_rows`.
        """
        pool = self._pool(shard, n_rows, seed)
        rows = rows_of(self.schema, pool)
        inside = [s for s in self.statements if all(name in rows for name in s.reads)]
        rng = stream(seed, shard, 0, 0, 2)  # no block of a source has this one
        chosen = nearest(rows, inside, n_rows, rng)
        return pool.iloc[chosen].reset_index(drop=True)

    def _pool(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        """Draw the pool; a smaller one where ids or unique values do not suffice for more."""
        size = max(POOL_TIMES * n_rows, LEAST_POOL)
        while True:
            try:
                return self.source.rows(shard, size, seed)
            except RowShortfall:
                if size == n_rows:
                    raise
                size = max(size // 4, n_rows)


def rows_of(schema: TableSchema, frame: pd.DataFrame) -> Rows:
    """Return a frame's columns as equally weighted rows to measure on.

    Parameters
    ----------
    frame : DataFrame
        Some columns of the schema, with the dtypes of `app.schema.frames`.
    """
    from app.schema.evaluate import holds_relevant

    numbers, codes, applies = {}, {}, {}
    for item in schema.fields:
        if item.name not in frame:
            continue
        if item.levels is not None:
            codes[item.name] = codes_of(item, frame[item.name])
        elif item.type != "string":
            numbers[item.name] = numbers_of(item, frame[item.name])
        if item.relevant is not None and set(item.relevant.fields) <= set(frame.columns):
            applies[item.name] = holds_relevant(item.relevant, frame)
    return Rows(schema, numbers, codes, applies, np.full(len(frame), 1 / len(frame)), len(frame))


def nearest(
    rows: Rows, statements: Sequence[Statement], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose `n` of the rows whose statistics are nearest to what is stated.

    Parameters
    ----------
    rows : Rows
        The pool.
    statements : sequence of Statement
        Distances are in their tolerances; the sum of squares is made small.
    n : int
        At most `len(rows)`.

    Returns
    -------
    ndarray of int64, shape (n,)
        Places in the pool, ascending.

    Notes
    -----
    Each statistic is linearised at the rows chosen so far by its influence function (F. R. Hampel, 1974),
    so that a swap's effect on all of them is one vector, and many swaps are compared by one product of
    matrices; then it is linearised anew. Exact for means and shares, and soon for the rest.
    """
    chosen = np.zeros(len(rows), np.bool_)
    chosen[:n] = True
    best, least = chosen.copy(), math.inf
    if not statements or n >= len(rows):
        return np.flatnonzero(chosen)
    for _ in range(ROUNDS + 1):
        found = _measured(rows, statements, chosen, n)
        missed = sum(min(abs(item.gap), MOST_FELT) ** 2 for item in found)
        if missed >= least:
            break
        best, least = chosen.copy(), missed
        if missed <= GOOD**2 * len(statements):
            break
        features = np.stack([item.influence for item in found], axis=1)
        aim = n * np.clip([item.shift for item in found], -MOST_FELT, MOST_FELT)
        _swap(features, aim, chosen, rng, good=(GOOD / 2 * n) ** 2 * len(statements))
    return np.flatnonzero(best)


def _measured(rows: Rows, statements: Sequence[Statement], chosen: Mask, n: int) -> list[Measured]:
    here = rows.reweighted(chosen / n)
    found = []
    for statement in statements:
        asked = statement.asked
        if statement.kind == "sd":  # of a sample, with n − 1; weights know no n
            count = _count(rows, statement, chosen)
            asked = asked * math.sqrt((count - 1) / count) if count > 1 else asked
        found.append(measure(replace(statement, asked=asked), here))
    return found


def _count(rows: Rows, statement: Statement, chosen: Mask) -> int:
    counted = chosen & rows.present(statement.fields[0])
    return int((counted & rows.selected(statement.given)).sum() if statement.given else counted.sum())


def _swap(features: Floats, aim: Floats, chosen: Mask, rng: np.random.Generator, *, good: float) -> None:
    """Swap rows, in place, until the sum of their features has gained `aim`.

    Parameters
    ----------
    features : ndarray, shape (pool, statements)
    aim : ndarray, shape (statements,)
        What the sum over the chosen rows is to gain.
    good : float
        Sum of squares of what is left of `aim` at which to end.
    """
    inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    squares = np.einsum("ij,ij->i", features, features)
    distance = float(aim @ aim)
    idle = 0
    for _ in range(SWAPS):
        if distance <= good:
            break
        leaving = rng.integers(len(inside), size=min(len(inside), CHOSEN_AT_ONCE))
        coming = rng.integers(len(outside), size=min(len(outside), OTHERS_AT_ONCE))
        left = aim + features[inside[leaving]]
        others = outside[coming]
        after = np.einsum("ij,ij->i", left, left)[:, None] + squares[others] - 2 * left @ features[others].T
        place = int(after.argmin())
        if after.flat[place] >= distance - 1e-9:
            idle += 1
            if idle == IDLE:
                break
            continue
        idle = 0
        i, j = divmod(place, len(others))
        aim = left[i] - features[others[j]]
        distance = float(aim @ aim)
        gone, come = inside[leaving[i]], others[j]
        inside[leaving[i]], outside[coming[j]] = come, gone
        chosen[gone], chosen[come] = False, True
