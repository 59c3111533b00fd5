"""What is left to correct after everything else: log-weights by which candidates are accepted or drawn anew.

The tables that `app.blueprint.sample.Tilt` holds are found on simulated rows that keep every rule, so what
rules and roundings bend is bent back too. A statement's feature is its influence averaged over coarse
classes of the columns that it reads: what the sampler can look up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.blueprint.reweighting import loss, newton_step
from app.blueprint.rows import Floats, Rows
from app.blueprint.sample import Tilt
from app.blueprint.statements import Statement, measure, step_of
from app.schema.table import Condition, Field, TableSchema

CLASSES = 24
MOST_CELLS = 6_000
SLOPES_ON = 32_768
"""Rows that tell how statements move one another; how far off they are is taken of all."""

ACTIVE = 0.5
"""A statement is corrected where it is further off than this, in tolerances."""

TOP_SHARE = 0.002
"""Share of candidates whose weight may lie above what is accepted with certainty."""

HOPELESS = (60.0, 12.0, 4.0)
"""Distances, in tolerances, beyond which a statement is left as it is: tried one after the other."""

GOOD = 3.0
"""Sum of gaps at which nothing more is tried."""

FURTHEST = 2.0
"""Change of the log-weights of nearly all rows in one step, at most: a heavy tail goes further by itself."""

PASSES = 20
REFINING = 5
PATIENCE = 4
GAIN = 0.98
"""What passes must bring together, as a share of the loss, before patience ends."""

LENGTHS = (1.0, 0.5, 0.25)
LEAST_KEPT = 0.03
"""Share of candidates that the tilt keeps at least: it is for corrections, not for everything."""


def find_tilt(rows: Rows, statements: Sequence[Statement]) -> Tilt | None:
    """Find the log-weights under which statements hold.

    Parameters
    ----------
    rows : Rows
        Candidates that keep every rule, equally weighted.
    statements : sequence of Statement

    Returns
    -------
    Tilt or None
        None where nothing is far enough off.
    """
    classes = _Classes(rows, statements)
    first = [measure(statement, rows) for statement in statements]
    if max((abs(item.gap) for item in first), default=0.0) <= ACTIVE:
        return None
    best = _Found(loss(first), {}, 0.0)
    tried: list[bool] = []
    for hopeless in HOPELESS:
        # What no reweighting brings pulls everything else along: with less of it, more may hold.
        reachable = [
            not math.isnan(item.achieved) and abs(item.gap) < hopeless and item.shift != 0 for item in first
        ]
        if reachable == tried:
            continue
        tried = reachable
        found = _tilted(rows, statements, reachable, classes, {}, PASSES)
        if found.loss < best.loss:
            best = found
        if best.loss < GOOD:
            break
        if not any(hopeless <= abs(item.gap) or abs(item.gap) > HOPELESS[-1] for item in first):
            break
    return _packed(best, classes) if best.tables else None


def refined(rows: Rows, statements: Sequence[Statement], tilt: Tilt) -> Tilt:
    """Move a tilt on other, more rows than it was found on: what was chance in those is put right.

    Parameters
    ----------
    rows : Rows
        Candidates that keep every rule, equally weighted.
    """
    classes = _Classes(rows, statements, tilt.edges)
    start = {axes: table.astype(np.float64) for axes, table in tilt.tables}
    found = _tilted(rows, statements, [True] * len(statements), classes, start, REFINING, tilt.top)
    return _packed(found, classes)


def _packed(found: _Found, classes: _Classes) -> Tilt:
    sizes = {axis: classes.size(axis) for axes in found.tables for axis in axes}
    edges = {axis: classes.edges[axis] for axis in sizes if axis in classes.edges}
    packed = tuple((axes, table.astype(np.float32)) for axes, table in found.tables.items())
    sources = {axis: classes.sources[axis] for axis in sizes if axis in classes.sources}
    return Tilt(edges, sizes, packed, found.top, sources)


@dataclass(frozen=True, eq=False)
class _Found:
    loss: float
    tables: dict[tuple[str, ...], Floats]
    top: float


def _tilted(
    rows: Rows,
    statements: Sequence[Statement],
    reachable: Sequence[bool],
    classes: _Classes,
    start: Mapping[tuple[str, ...], Floats],
    passes: int,
    top: float = 0.0,
) -> _Found:
    exponent = np.zeros(len(rows))
    tables = dict(start)
    for axes, table in tables.items():
        exponent += table[classes.of(axes)]
    part: slice | NDArray[np.int64] = slice(None)
    if len(rows) > SLOPES_ON:
        # At random: even draws have patterns that every second row would bring out.
        part = np.random.Generator(np.random.SFC64(len(rows))).choice(len(rows), SLOPES_ON, replace=False)
    current = rows
    if tables:
        weights = np.exp(np.minimum(exponent - top, 0.0))
        current = rows.reweighted(weights / weights.sum())
    best = _Found(np.inf, {}, 0.0)
    moved: set[str] = set()
    improved, marked = 0, np.inf
    for number in range(passes):
        measured = [measure(statement, current) for statement in statements]
        excess = loss(measured)
        if excess < GAIN * marked:
            improved, marked = number, excess
        if number - improved >= PATIENCE:
            break
        if excess < best.loss:
            best = _Found(excess, {axes: table.copy() for axes, table in tables.items()}, top)
        off = [
            statement
            for statement, item, can in zip(statements, measured, reachable, strict=True)
            if can and abs(item.gap) > ACTIVE / 2
        ]
        if not off:
            break
        # What reads none of the columns that are weighed stays as it is.
        moved.update(name for statement in off for name in statement.reads)
        chosen = [
            (classes.axes_of(statement), item)
            for statement, item, can in zip(statements, measured, reachable, strict=True)
            if can and len(moved.intersection(statement.reads)) >= min(2, len(statement.reads))
        ]
        weights = current.weights[part]
        features = np.empty((len(chosen), len(weights)), np.float32)
        influences = np.empty_like(features)
        averaged: list[Floats] = []
        masses: dict[tuple[str, ...], Floats] = {}
        for place, (axes, item) in enumerate(chosen):
            influence = item.find()  # one at a time: of all rows and statements they fill the memory
            averaged.append(classes.average(axes, influence, current.weights, masses))
            influences[place] = influence[part]
            features[place] = averaged[-1][classes.of(axes)[part]]
        step = newton_step([item for _, item in chosen], influences, features, weights / weights.sum())
        change = np.zeros(len(rows))
        for (axes, _), table, size in zip(chosen, averaged, step, strict=True):
            change += (size * table)[classes.of(axes)]
        reach = float(np.quantile(np.abs(change), 1 - TOP_SHARE))
        step, change = (whole * min(1.0, FURTHEST / max(reach, 1e-12)) for whole in (step, change))
        for length in LENGTHS:  # a step that leaves next to nothing goes less far
            moved_to = exponent + length * change
            top = float(np.quantile(moved_to, 1 - TOP_SHARE))
            weights = np.exp(np.minimum(moved_to - top, 0.0))
            if weights.mean() >= LEAST_KEPT:
                break
        else:
            break
        exponent = moved_to
        for (axes, _), table, size in zip(chosen, averaged, length * step, strict=True):
            tables[axes] = tables.get(axes, np.zeros(len(table))) + size * table
        current.forget_weighted()
        current = rows.reweighted(weights / weights.sum())
    return best


class _Classes:
    """Coarse classes of simulated columns.

    An axis is a column in fine classes, or one range of it: inside and outside are all that a stratum asks.
    """

    def __init__(
        self, rows: Rows, statements: Sequence[Statement], edges: Mapping[str, Floats] | None = None
    ) -> None:
        self._rows = rows
        self._cuts = cuts_of(rows.schema, statements)
        self._known = edges or {}
        self.edges: dict[str, Floats] = {}
        self.sources: dict[str, str] = {}
        self._ranges: dict[Condition, str] = {}
        self._columns: dict[str, NDArray[np.int32]] = {}
        self._joint: dict[tuple[str, ...], NDArray[np.int32]] = {}
        for statement in statements:
            self.axes_of(statement)  # axes are named in the order of the statements

    def size(self, axis: str) -> int:
        """Return the number of classes, the first for what is missing."""
        self._column(axis)
        if axis in self.edges:
            return len(self.edges[axis]) + 2
        return len(self._rows.schema[axis].levels or ()) + 1

    def axes_of(self, statement: Statement) -> tuple[str, ...]:
        """Return the axes that a statement's feature looks at, as many as a table has room for."""
        wanted = [*statement.fields]
        for condition in statement.given:
            if condition.field in wanted:
                continue
            whole = self._rows.schema[condition.field].levels is not None
            wanted.append(condition.field if whole else self._range(condition))
        kept: list[str] = []
        cells = 1
        for axis in dict.fromkeys(wanted):
            if cells * self.size(axis) > MOST_CELLS and kept:
                continue
            kept.append(axis)
            cells *= self.size(axis)
        return tuple(sorted(kept))

    def _range(self, condition: Condition) -> str:
        axis = self._ranges.get(condition)
        if axis is not None:
            return axis
        axis = self._ranges[condition] = f"{condition.field} #{len(self._ranges)}"
        item = self._rows.schema[condition.field]
        ends = [(condition.minimum, True), (condition.maximum, False)]
        ends += [(value, below) for value in condition.values or () for below in (True, False)]
        edges = [edge_at(item, item.to_number(end), below) for end, below in ends if end is not None]
        self.sources[axis] = condition.field
        self.edges[axis] = np.unique(edges)
        return axis

    def of(self, axes: tuple[str, ...]) -> NDArray[np.int32]:
        """Return each row's cell over some axes."""
        found = self._joint.get(axes)
        if found is None:
            found = np.zeros(len(self._rows), np.int32)
            for axis in axes:
                found = found * self.size(axis) + self._column(axis)
            self._joint[axes] = found
        return found

    def average(
        self, axes: tuple[str, ...], influence: Floats, weights: Floats, masses: dict[tuple[str, ...], Floats]
    ) -> Floats:
        """Return the mean influence in each cell of some axes, shrunk where few rows tell it."""
        cell = self.of(axes)
        size = math.prod(self.size(axis) for axis in axes)
        mass = masses.get(axes)
        if mass is None:
            mass = np.asarray(np.bincount(cell, weights, size) + 3 / len(weights), np.float64)
            masses[axes] = mass
        return np.asarray(np.bincount(cell, weights * influence, size) / mass)

    def _column(self, axis: str) -> NDArray[np.int32]:
        found = self._columns.get(axis)
        if found is not None:
            return found
        rows = self._rows
        name = self.sources.get(axis, axis)
        if name in rows.codes:
            found = (rows.codes[name] + 1).astype(np.int32)
        else:
            values = rows.numbers[name]
            here = rows.present(name)
            if axis == name:
                shares = np.concatenate([[0.003, 0.015], np.arange(1, CLASSES) / CLASSES, [0.985, 0.997]])
                edges = np.quantile(values[here], shares) if here.any() else np.zeros(0)
                known = self._known.get(name)
                cuts = self._cuts.get(name, [])
                self.edges[name] = np.unique(np.append(edges, cuts)) if known is None else known
            with np.errstate(invalid="ignore"):
                found = (np.searchsorted(self.edges[axis], values, side="left") + 1).astype(np.int32)
            found[~here] = 0
        self._columns[axis] = found
        return found


def cuts_of(schema: TableSchema, statements: Sequence[Statement]) -> dict[str, list[float]]:
    """Return the values at which a number's classes must end, so that its quantiles can be looked up."""
    found: dict[str, list[float]] = {}
    for statement in statements:
        item = schema[statement.fields[0]]
        if statement.kind == "quantile" and item.levels is None:
            edges = (edge_at(item, statement.asked, below) for below in (True, False))
            found.setdefault(item.name, []).extend(edges)
    return found


def edge_at(item: Field, value: float, below: bool) -> float:
    """Return the upper edge of the class that ends just below a value, or with it."""
    step = step_of(item)
    if below:
        return value - (step or 1e-9 * max(1.0, abs(value))) / 2
    return value + step / 2
