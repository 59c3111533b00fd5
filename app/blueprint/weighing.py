"""The log-weights of a tilt, looked up for candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.chance import Floats32, Mask, log_chances, words
from app.blueprint.rows import Floats

MOST_TICKS = 2**17
"""Ticks up to which each has its class in a table."""


@dataclass(frozen=True, eq=False)
class Tilt:
    """Log-weights by which candidates are accepted, as tables over coarse classes of columns.

    Parameters
    ----------
    edges : mapping of axis to ndarray
        The upper edges of the classes of a number, on its numeric scale; fields with levels have none.
    sizes : mapping of axis to int
        Classes of each axis, the first for what is missing.
    tables : tuple of (axes, ndarray)
        Flat tables of log-weights over the classes of these axes.
    top : float
        The log-weight from which on every candidate is accepted.
    sources : mapping of axis to name
        The columns of axes that are not named for theirs.
    """

    edges: Mapping[str, Floats]
    sizes: Mapping[str, int]
    tables: tuple[tuple[tuple[str, ...], Floats32], ...]
    top: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict)


class Weighing:
    """A tilt made ready: what is told of a column alone goes into a table that reads it anyway."""

    def __init__(self, tilt: Tilt) -> None:
        self._top = tilt.top
        self._sizes = tilt.sizes
        self.tables = _joined(tilt)

    def log_weights(self, classes: Callable[[str], NDArray[np.int16]], n: int) -> Floats32:
        """Return the log-weights of `n` candidates.

        Parameters
        ----------
        classes : callable
            Returns each candidate's class of a column, 0 where missing.
        """
        total = np.zeros(n, np.float32)
        for names, table in self.tables:
            wide = np.dtype(np.int16 if len(table) <= np.iinfo(np.int16).max else np.int32)
            at: NDArray[Any] = classes(names[0]).astype(wide, copy=len(names) > 1)
            for name in names[1:]:
                at *= wide.type(self._sizes[name])
                at += classes(name)
            total += np.take(table, at)
        return total

    def chosen(self, log_weights: Floats32, rng: np.random.Generator) -> Mask:
        """Accept candidates by their weights."""
        chance = np.take(log_chances(), words(rng, len(log_weights), "<u2"))
        return np.asarray(log_weights - np.float32(self._top) >= chance)


@dataclass(frozen=True, eq=False)
class TickClasses:
    """The coarse classes of a column's ticks: its values up to each edge, and above the last."""

    edges: Floats
    per_unit: int
    first: int
    table: NDArray[np.int16] | None

    @classmethod
    def of(cls, edges: Floats, per_unit: int, low: int, high: int) -> TickClasses:
        """Make ready for ticks that mostly lie between `low` and `high`."""
        # Beyond the table all are in the class of its end: it reaches over every edge.
        low = min(low, int(np.floor(edges.min(initial=low / per_unit) * per_unit)) - 1)
        high = max(high, int(np.ceil(edges.max(initial=high / per_unit) * per_unit)) + 1)
        if high - low > MOST_TICKS:
            return cls(edges, per_unit, low, None)
        ticks = np.arange(low, high + 1)
        return cls(edges, per_unit, low, _classes(edges, ticks / np.float64(per_unit)))

    def __call__(self, ticks: NDArray[Any], absent: Mask | None) -> NDArray[np.int16]:
        """Return each tick's class from 1 on, 0 where absent."""
        if self.table is None:
            found = _classes(self.edges, ticks / np.float64(self.per_unit))
        else:
            found = np.take(self.table, ticks.astype(np.int64) - self.first, mode="clip")
        if absent is not None:
            found *= ~absent
        return found


def _classes(edges: Floats, values: Floats) -> NDArray[np.int16]:
    return (np.searchsorted(edges, values, side="left") + 1).astype(np.int16)


def _joined(tilt: Tilt) -> Sequence[tuple[tuple[str, ...], Floats32]]:
    """Add tables into others that read the same columns and more."""
    tables = {names: table.astype(np.float32) for names, table in tilt.tables}
    for names in sorted(tables, key=len):
        for other in tables:
            if len(names) < len(other) and tuple(name for name in other if name in names) == names:
                spread = [tilt.sizes[name] if name in names else 1 for name in other]
                more = np.broadcast_to(tables[names].reshape(spread), [tilt.sizes[name] for name in other])
                tables[other] = tables[other] + more.ravel()
                del tables[names]
                break
    return tuple(tables.items())
