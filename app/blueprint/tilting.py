"""What is left to correct after everything else: log-weights by which candidates are accepted or drawn anew.

The tables that `app.blueprint.sample.Tilt` holds are found on simulated rows that keep every rule, so what
rules and roundings bend is bent back too. A statement's feature is its influence averaged over coarse
classes of the columns that it reads: what the sampler can look up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.blueprint.reweighting import loss, newton_step
from app.blueprint.rows import Floats, Rows
from app.blueprint.sample import Tilt
from app.blueprint.statements import Measured, Statement, measure

CLASSES = 24
MOST_CELLS = 6_000
ACTIVE = 0.3
"""A statement is corrected where it is further off than this, in tolerances."""

TOP_SHARE = 0.002
"""Share of candidates whose weight may lie above what is accepted with certainty."""

HOPELESS = (60.0, 12.0, 4.0)
"""Distances, in tolerances, beyond which a statement is left as it is: tried one after the other."""

GOOD = 3.0
"""Sum of gaps at which nothing more is tried."""

PASSES = 16

LEAST_KEPT = 0.03
"""Share of candidates that the tilt keeps at least: it is for corrections, not for everything."""


def find_tilt(
    rows: Rows, statements: Sequence[Statement], cuts: dict[str, list[float]]
) -> tuple[Tilt | None, Rows]:
    """Find the log-weights under which statements hold.

    Parameters
    ----------
    rows : Rows
        Candidates that keep every rule, equally weighted.
    statements : sequence of Statement
    cuts : mapping of name to list of float
        Values at which a number's classes must end, on its numeric scale.

    Returns
    -------
    Tilt or None
        None where nothing is far enough off.
    Rows
        The rows as the tilt weighs them.
    """
    classes = _Classes(rows, cuts)
    first = [measure(statement, rows) for statement in statements]
    if max((abs(item.gap) for item in first), default=0.0) <= ACTIVE:
        return None, rows
    best = _Found(loss(first), {}, 0.0, rows)
    for hopeless in HOPELESS:
        # What no reweighting brings pulls everything else along: with less of it, more may hold.
        reachable = [
            statement
            for statement, item in zip(statements, first, strict=True)
            if abs(item.gap) < hopeless and item.influence.any()
        ]
        found = _tilted(rows, statements, reachable, classes)
        if found.loss < best.loss:
            best = found
        if best.loss < GOOD:
            break
        if not any(hopeless <= abs(item.gap) or abs(item.gap) > HOPELESS[-1] for item in first):
            break
    if not best.tables:
        return None, rows
    sizes = {name: classes.size(name) for names in best.tables for name in names}
    edges = {name: classes.edges[name] for name in sizes if name in classes.edges}
    packed = tuple((names, table.astype(np.float32)) for names, table in best.tables.items())
    return Tilt(edges, sizes, packed, best.top), best.rows


@dataclass(frozen=True, eq=False)
class _Found:
    loss: float
    tables: dict[tuple[str, ...], Floats]
    top: float
    rows: Rows


def _tilted(
    rows: Rows, statements: Sequence[Statement], reachable: Sequence[Statement], classes: _Classes
) -> _Found:
    exponent = np.zeros(len(rows))
    tables: dict[tuple[str, ...], Floats] = {}
    best = _Found(np.inf, {}, 0.0, rows)
    current, top = rows, 0.0
    keys = [classes.names_of(statement) for statement in reachable]
    for _ in range(PASSES):
        excess = loss([measure(statement, current) for statement in statements])
        if excess < best.loss:
            best = _Found(excess, {names: table.copy() for names, table in tables.items()}, top, current)
        measured = [measure(statement, current) for statement in reachable]
        if not reachable or max(abs(item.gap) for item in measured) < ACTIVE / 2:
            break
        averaged = [
            classes.averages(key, item, current.weights) for key, item in zip(keys, measured, strict=True)
        ]
        features = np.stack(
            [table[classes.of(key)] for key, table in zip(keys, averaged, strict=True)], axis=1
        )
        influences = np.stack([item.influence for item in measured], axis=1)
        step = newton_step(measured, influences, features, current.weights)
        change = features @ step
        for key, table, size in zip(keys, averaged, step, strict=True):
            tables[key] = tables.get(key, np.zeros(len(table))) + size * table
        exponent = exponent + change
        top = float(np.quantile(exponent, 1 - TOP_SHARE))
        weights = np.exp(np.minimum(exponent - top, 0.0))
        if weights.mean() < LEAST_KEPT:
            break
        current = rows.reweighted(weights / weights.sum())
    return best


class _Classes:
    """Coarse classes of simulated columns."""

    def __init__(self, rows: Rows, cuts: dict[str, list[float]]) -> None:
        self._rows = rows
        self._cuts = cuts
        self.edges: dict[str, Floats] = {}
        self._columns: dict[str, NDArray[np.int32]] = {}
        self._joint: dict[tuple[str, ...], NDArray[np.int64]] = {}

    def size(self, name: str) -> int:
        """Return the number of classes, the first for what is missing."""
        self._column(name)
        if name in self.edges:
            return len(self.edges[name]) + 2
        return len(self._rows.schema[name].levels or ()) + 1

    def names_of(self, statement: Statement) -> tuple[str, ...]:
        """Return the columns that a statement's feature looks at, as many as a table has room for."""
        kept: list[str] = []
        cells = 1
        for name in statement.reads:
            if cells * self.size(name) > MOST_CELLS and kept:
                continue
            kept.append(name)
            cells *= self.size(name)
        return tuple(sorted(kept))

    def of(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """Return each row's cell over some columns."""
        found = self._joint.get(names)
        if found is None:
            found = np.zeros(len(self._rows), np.int64)
            for name in names:
                found = found * self.size(name) + self._column(name)
            self._joint[names] = found
        return found

    def averages(self, names: tuple[str, ...], measured: Measured, weights: Floats) -> Floats:
        """Return the mean influence in each cell, shrunk where few rows tell it."""
        cell = self.of(names)
        size = int(np.prod([self.size(name) for name in names]))
        mass = np.bincount(cell, weights, size)
        sums = np.bincount(cell, weights * measured.influence, size)
        return np.asarray(sums / (mass + 3 / len(weights)))

    def _column(self, name: str) -> NDArray[np.int32]:
        found = self._columns.get(name)
        if found is not None:
            return found
        rows = self._rows
        if name in rows.codes:
            found = (rows.codes[name] + 1).astype(np.int32)
        else:
            values = rows.numbers[name]
            here = rows.present(name)
            shares = np.concatenate([[0.003, 0.015], np.arange(1, CLASSES) / CLASSES, [0.985, 0.997]])
            edges = np.quantile(values[here], shares) if here.any() else np.zeros(0)
            self.edges[name] = np.unique(np.append(edges, self._cuts.get(name, [])))
            with np.errstate(invalid="ignore"):
                found = (np.searchsorted(self.edges[name], values, side="left") + 1).astype(np.int32)
            found[~here] = 0
        self._columns[name] = found
        return found
