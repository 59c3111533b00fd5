"""What is left to correct after everything else: log-weights by which candidates are accepted or drawn anew.

The tables that `app.blueprint.sample.Tilt` holds are found on simulated rows that keep every rule, so what
rules and roundings bend is bent back too. A statement's feature is its influence averaged over coarse
classes of the columns that it reads: what the sampler can look up.
"""

from __future__ import annotations

from collections.abc import Sequence

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

HOPELESS = 40.0
"""Distance, in tolerances, beyond which no reweighting brings a statement: it is left as it is."""

LEAST_KEPT = 0.12
"""Share of candidates that the tilt keeps at least: it is for corrections, not for everything."""


def find_tilt(
    rows: Rows, statements: Sequence[Statement], cuts: dict[str, list[float]], passes: int = 14
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
    active: set[int] = set()
    exponent = np.zeros(len(rows))
    tables: dict[tuple[str, ...], Floats] = {}
    best: tuple[float, dict[tuple[str, ...], Floats], float, Rows] | None = None
    current, top = rows, 0.0
    for _ in range(passes):
        measured = [measure(statement, current) for statement in statements]
        excess = loss(measured)
        if best is None or excess < best[0] - 1e-9:
            best = (excess, {names: table.copy() for names, table in tables.items()}, top, current)
        new = {
            k for k, item in enumerate(measured) if ACTIVE < abs(item.gap) < HOPELESS and item.influence.any()
        }
        if not new - active and max((abs(measured[k].gap) for k in active), default=0.0) < ACTIVE / 2:
            break
        active |= new
        if not active:
            break
        chosen = sorted(active)
        keys = [classes.names_of(statements[k]) for k in chosen]
        averaged = [
            classes.averages(key, measured[k], current.weights) for key, k in zip(keys, chosen, strict=True)
        ]
        features = np.stack(
            [table[classes.of(key)] for key, table in zip(keys, averaged, strict=True)], axis=1
        )
        influences = np.stack([measured[k].influence for k in chosen], axis=1)
        step = newton_step([measured[k] for k in chosen], influences, features, current.weights)
        exponent = exponent + features @ step
        for key, table, size in zip(keys, averaged, step, strict=True):
            tables[key] = tables.get(key, np.zeros(len(table))) + size * table
        top = float(np.quantile(exponent, 1 - TOP_SHARE))
        weights = np.exp(np.minimum(exponent - top, 0.0))
        if weights.mean() < LEAST_KEPT:
            break
        current = rows.reweighted(weights / weights.sum())
    assert best is not None
    if not best[1]:
        return None, best[3]
    sizes = {name: classes.size(name) for names in best[1] for name in names}
    edges = {name: classes.edges[name] for name in sizes if name in classes.edges}
    packed = tuple((names, table.astype(np.float32)) for names, table in best[1].items())
    return Tilt(edges, sizes, packed, best[2]), best[3]


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
