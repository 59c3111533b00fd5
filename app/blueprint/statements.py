"""What is stated of a table, one number at a time: how it is measured on weighted rows, and what moves it.

Each statement is measured together with its influence function (F. R. Hampel, Journal of the American
Statistical Association 69, 1974): the amount by which one more row of each kind would move the figure. Rows
that are reweighted by w move it by the mean of the influences under w, so one linear system says how to
reweight for any mix of statements.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.blueprint.rows import Floats, Mask, Rows
from app.errors import pointer
from app.schema.table import Association, Condition, Field, Measure, Statistics, TableSchema, Value

Kind = Literal["mean", "sd", "quantile", "proportion", "missing"] | Measure

MEAN, SD, QUANTILE, SHARE, CORRELATION, LOG_ODDS = 0.01, 0.02, 0.02, 0.005, 0.02, 0.1
"""Tolerances: means and quantiles in sd, sd on the log scale, shares, measures between 0 and 1, log odds."""

CONDITIONAL_MEAN = 3.0
"""How much wider the tolerance of a stratum's mean is."""

NOISE = 1e-18
"""Variance, as a share of the squared mean, below which it is the mean's own rounding: a constant."""

FAR = 1000.0
"""The gap, in tolerances, of what cannot be moved."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One number that is stated.

    Parameters
    ----------
    pointer : str
        JSON pointer into the schema's document.
    kind : str
        What is stated: `mean sd quantile proportion missing`, or an association's measure.
    fields : tuple of str
        The field, or the two of an association.
    asked : float
        On the field's numeric scale.
    given : tuple of Condition
        The stratum.
    p : float
        Of a quantile.
    level : int
        Position of the level, of a proportion.
    sign : {-1, 1} or None
        Declared direction of a measure that has none.
    vague : bool
        Whether it is known to no more than a few tolerances, so that only little is done to meet it.
    """

    pointer: str
    kind: Kind
    fields: tuple[str, ...]
    asked: float
    given: tuple[Condition, ...] = ()
    p: float = 0.5
    level: int = -1
    sign: int | None = None
    vague: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the fields whose values move the figure, each once."""
        return tuple(dict.fromkeys((*self.fields, *(condition.field for condition in self.given))))


@dataclass(frozen=True, eq=False)
class Measured:
    """A statement on weighted rows.

    Parameters
    ----------
    achieved : float
        On the scale of `Statement.asked`; NaN where it has no value.
    gap : float
        Asked less achieved, in tolerances.
    shift : float
        What the mean influence has to become, in tolerances.
    find : callable
        Finds `influence`: figures alone cost a fraction of it.
    """

    achieved: float
    gap: float
    shift: float
    find: Callable[[], Floats]

    @property
    def distance(self) -> float:
        """Return how far it is from what was asked, in tolerances; `FAR` at most, and without a value."""
        return FAR if math.isnan(self.achieved) else min(abs(self.gap), FAR)

    @functools.cached_property
    def influence(self) -> Floats:
        """Return the influence of each row in tolerances, shape (n,); 0 for rows that do not count."""
        return self.find()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a statement: `moved` is the distance from what was asked, in tolerances."""

    statement: Statement
    achieved: float
    moved: float


def statements_of(schema: TableSchema) -> tuple[Statement, ...]:
    """Return every number that a schema states, in document order; certain ones (bounds, minima) apart."""
    found: list[Statement] = []
    for index, item in enumerate(schema.fields):
        found.extend(_of_field(item, item.statistics, pointer("fields", index, "statistics"), ()))
    for index, association in enumerate(schema.associations):
        found.append(_of_association(association, pointer("associations", index, "value")))
    for index, conditional in enumerate(schema.conditionals):
        where = pointer("conditionals", index, "statistics")
        found.extend(_of_field(schema[conditional.field], conditional.statistics, where, conditional.given))
    return tuple(found)


def _of_field(
    item: Field, statistics: Statistics, where: str, given: tuple[Condition, ...]
) -> Iterator[Statement]:
    name = (item.name,)
    if statistics.mean is not None:
        yield Statement(where + "/mean", "mean", name, statistics.mean, given)
    if statistics.sd is not None:
        yield Statement(where + "/sd", "sd", name, statistics.sd, given)
    if statistics.median is not None:
        yield Statement(where + "/median", "quantile", name, statistics.median, given, p=0.5)
    for p, value in statistics.quantiles:
        if 0 < p < 1:
            at = where + pointer("quantiles", f"{p:g}")
            yield Statement(at, "quantile", name, value, given, p=p)
    if statistics.proportions is not None and item.levels is not None:
        total = sum(share for _, share in statistics.proportions)
        for level, share in statistics.proportions:
            at = where + pointer("proportions", _text(level))
            yield Statement(
                at, "proportion", name, share / total if total > 0 else share, given,
                level=item.levels.index(level),
            )  # fmt: skip
    if statistics.missing is not None:
        yield Statement(where + "/missing", "missing", name, statistics.missing, given)


def _of_association(association: Association, where: str) -> Statement:
    return Statement(
        where, association.measure, association.fields, association.value,
        getattr(association, "given", ()), sign=association.sign,
    )  # fmt: skip


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def measure(statement: Statement, rows: Rows) -> Measured:
    """Measure a statement on weighted rows, with the influence of each row.

    Where nothing can be measured (an empty stratum, a constant) the influence is 0 and `achieved` NaN.
    """
    found: Measured = rows.once_weighted(statement, lambda: _measured(statement, rows))
    return found


def _measured(statement: Statement, rows: Rows) -> Measured:
    sample = _sample_of(statement, rows)
    found = None if sample is None else _MEASURES[statement.kind](statement, sample)
    if sample is None or found is None:
        return Measured(math.nan, 0.0, 0.0, lambda: np.zeros(len(rows)))
    measured, chosen, total = found, sample.chosen, sample.total

    def whole() -> Floats:
        influence = measured.influence / total
        if chosen is None:
            return np.asarray(influence)
        full = np.zeros(len(rows))
        full[chosen] = influence
        return full

    return replace(measured, find=whole)


def _sample_of(statement: Statement, rows: Rows) -> _Sample | None:
    if statement.kind == "missing":
        counted = rows.where_applies(statement.fields[0])
        return _sample(rows, counted & rows.selected(statement.given) if statement.given else counted, None)
    absent = tuple(name for name in statement.fields if not rows.complete(name))
    if statement.given or len(absent) > 1:

        def find_stratum() -> tuple[_Sample | None]:
            counted = rows.selected(statement.given)
            for name in absent:
                counted = counted & rows.present(name)
            return (_sample(rows, counted, None),)

        # What is stated of one stratum stands together; all strata at once would fill the memory.
        stratum: tuple[_Sample | None] = rows.last_weighted((absent, statement.given), find_stratum)
        return stratum[0]

    def find() -> tuple[_Sample | None]:
        counted = rows.present(absent[0]) if absent else np.ones(len(rows), np.bool_)
        return (_sample(rows, counted, absent),)

    found: tuple[_Sample | None] = rows.once_weighted(absent, find)
    return found[0]


def _sample(rows: Rows, counted: Mask, key: tuple[str, ...] | None) -> _Sample | None:
    total = float(rows.weights @ counted)
    if total < 1e-9:
        return None
    chosen = None if counted.all() else np.flatnonzero(counted)
    weights = rows.weights / total if chosen is None else rows.weights[chosen] / total
    return _Sample(rows, chosen, weights, total, key)


@dataclass(frozen=True, eq=False)
class _Sample:
    """The rows that count for a statement: all, or `chosen`; weights sum to 1 and were `total`.

    With a `key`, which names the columns whose gaps were left out, what is found once is kept with the rows;
    without one, here, where it is small.
    """

    rows: Rows
    chosen: NDArray[np.int64] | None
    w: Floats
    total: float
    key: tuple[str, ...] | None
    small: dict[tuple[str, str], Any] = field(default_factory=dict)

    def taken(self, values: NDArray[Any]) -> Any:
        return values if self.chosen is None else values[self.chosen]

    def _once(self, what: str, name: str, find: Callable[[], Any]) -> Any:
        if self.key is not None:
            return self.rows.once_weighted((what, name, self.key), find)
        if what not in ("moments", "mass"):
            return find()
        if (what, name) not in self.small:
            self.small[what, name] = find()
        return self.small[what, name]

    def moments(self, name: str) -> tuple[float, float]:
        """Return mean and variance."""

        def find() -> tuple[float, float]:
            x = self.taken(self.rows.measurement(name))
            mean = float(self.w @ x)
            variance = float(self.w @ (x - mean) ** 2)
            return mean, variance if variance > NOISE * mean * mean else 0.0

        found: tuple[float, float] = self._once("moments", name, find)
        return found

    def mass(self, name: str) -> Floats:
        """Return the share of each distinct value, levels in their own order."""

        def find() -> Floats:
            place, size = self.rows.place(name)
            return np.asarray(np.bincount(self.taken(place), self.w, size), np.float64)

        found: Floats = self._once("mass", name, find)
        return found

    def ranks(self, name: str) -> tuple[Floats, float]:
        """Return mid-ranks less 1/2, shape (n,), and their variance."""

        def find() -> tuple[Floats, float]:
            place, _ = self.rows.place(name)
            mass = self.mass(name)
            middle = np.cumsum(mass) - mass / 2 - 0.5
            return middle[self.taken(place)], float(mass @ middle**2)

        found: tuple[Floats, float] = self._once("ranks", name, find)
        return found

    def standard(self, name: str) -> Floats | None:
        """Return the values less their mean, in sd; None for a constant."""

        def find() -> Floats | None:
            mean, variance = self.moments(name)
            if variance <= 1e-24:
                return None
            return np.asarray((self.taken(self.rows.measurement(name)) - mean) / math.sqrt(variance))

        found: Floats | None = self._once("standard", name, find)
        return found


def _mean(statement: Statement, sample: _Sample) -> Measured | None:
    name = statement.fields[0]
    mean, variance = sample.moments(name)
    unit = MEAN * (CONDITIONAL_MEAN if statement.given else 1.0) * math.sqrt(variance)
    if unit <= 0:
        return _constant(statement, mean, len(sample.w))
    gap = (statement.asked - mean) / unit
    return Measured(mean, gap, gap, lambda: (sample.taken(sample.rows.value(name)) - mean) / unit)


def _constant(statement: Statement, achieved: float, n: int) -> Measured:
    """What does not vary: met, or far off, and no reweighting changes it."""
    met = math.isclose(achieved, statement.asked, rel_tol=1e-6, abs_tol=1e-9)
    return Measured(achieved, 0.0 if met else FAR, 0.0, lambda: np.zeros(n))


def _sd(statement: Statement, sample: _Sample) -> Measured | None:
    name = statement.fields[0]
    mean, variance = sample.moments(name)
    if variance <= 0 or statement.asked <= 0:
        return _constant(statement, math.sqrt(variance), len(sample.w))
    gap = math.log(statement.asked / math.sqrt(variance)) / SD

    def influence() -> Floats:
        square = (sample.taken(sample.rows.value(name)) - mean) ** 2
        return np.asarray((square / variance - 1) / 2 / SD)

    # Far off, a step on the variance's own scale would leave what a reweighting can do.
    return Measured(math.sqrt(variance), gap, gap, influence)


def _quantile(statement: Statement, sample: _Sample) -> Measured | None:
    name, rows = statement.fields[0], sample.rows
    item = rows.schema[name]
    values, mass = rows.distinct(name), sample.mass(name)
    if name in rows.codes:  # levels need not ascend
        order = np.argsort(values, kind="stable")
        values, mass = values[order], mass[order]
    below = np.cumsum(mass)
    achieved = float(values[min(int(np.searchsorted(below, statement.p * below[-1])), len(values) - 1)])
    unit = max(QUANTILE * math.sqrt(sample.moments(name)[1]), step_of(item), 1e-12)
    gap = (statement.asked - achieved) / unit
    # On the scale of shares: the mass up to the asked value is to be p, as far as ties allow.
    tiny = 1e-9 * max(1.0, abs(statement.asked))
    ends = statement.asked - tiny, statement.asked + tiny
    low, high = (
        float(below[place - 1]) if place else 0.0
        for place in (
            np.searchsorted(values, ends[0], side="left"), np.searchsorted(values, ends[1], side="right"),
        )
    )  # fmt: skip
    band = 0.1 * (high - low)
    if high - low < 1e-3:
        edge, at, aim = 1, high, statement.p
    elif statement.p < low + band:
        edge, at, aim = 0, low, statement.p - band
    elif statement.p > high - band:
        edge, at, aim = 1, high, statement.p + band
    else:
        edge, at, aim = 1, high, high
    aim = min(max(aim, 0.0005), 0.9995)

    def influence() -> Floats:
        x = sample.taken(rows.value(name))
        hit = x <= ends[1] if edge else x < ends[0]
        return np.asarray((hit.astype(np.float64) - at) / SHARE)

    return Measured(achieved, gap, (aim - at) / SHARE, influence)


def step_of(item: Field) -> float:
    """Return the rounding step of a field on its numeric scale, 0 where it has none."""
    if item.type in ("integer", "year", "date", "time"):
        return 1.0
    if item.type == "datetime":
        return 1 / 86_400
    return 10.0**-item.places if item.places is not None else 0.0


def _proportion(statement: Statement, sample: _Sample) -> Measured | None:
    name = statement.fields[0]
    share = float(sample.mass(name)[statement.level])
    return _share(statement, share, lambda: sample.taken(sample.rows.codes[name]) == statement.level)


def _missing(statement: Statement, sample: _Sample) -> Measured | None:
    absent: Mask = ~sample.taken(sample.rows.present(statement.fields[0]))
    return _share(statement, float(sample.w @ absent), lambda: absent)


def _share(statement: Statement, share: float, hit: Callable[[], Mask]) -> Measured:
    gap = (statement.asked - share) / SHARE
    return Measured(share, gap, gap, lambda: np.asarray((hit().astype(np.float64) - share) / SHARE))


def _pearson(statement: Statement, sample: _Sample) -> Measured | None:
    zx, zy = (sample.standard(name) for name in statement.fields)
    if zx is None or zy is None:
        return None
    product = zx * zy
    r = float(sample.w @ product)
    gap = (statement.asked - r) / CORRELATION
    return Measured(r, gap, gap, lambda: np.asarray((product - r / 2 * (zx**2 + zy**2)) / CORRELATION))


def _spearman(statement: Statement, sample: _Sample) -> Measured | None:
    first, second = statement.fields
    (u, var_u), (v, var_v) = sample.ranks(first), sample.ranks(second)
    if min(var_u, var_v) < 1e-9:
        return None
    w = sample.w
    uv = float(w @ (u * v))
    scale = math.sqrt(var_u * var_v)
    r = uv / scale
    gap = (statement.asked - r) / CORRELATION

    def influence() -> Floats:
        x, many = sample.rows.place(first)
        y, much = sample.rows.place(second)
        x, y = sample.taken(x), sample.taken(y)
        a, b = u + 0.5, v + 0.5
        # A row moves a rank correlation by its own ranks and by shifting the ranks of all others.
        covariance = a * b + _mean_above(x, many, w * b)[x] + _mean_above(y, much, w * a)[y] - 3 * (uv + 0.25)
        spread_a = a**2 + 2 * _mean_above(x, many, w * a)[x] - 3 * (var_u + 0.25)
        spread_b = b**2 + 2 * _mean_above(y, much, w * b)[y] - 3 * (var_v + 0.25)
        found = covariance / scale - r / 2 * (spread_a / var_u + spread_b / var_v)
        return np.asarray(found / CORRELATION)

    return Measured(r, gap, gap, influence)


def _mean_above(place: NDArray[np.int64], size: int, weighted: Floats) -> Floats:
    sums = np.bincount(place, weighted, size)
    above: Floats = sums.sum() - np.cumsum(sums) + sums / 2
    return above


def _table(statement: Statement, sample: _Sample) -> tuple[Floats, NDArray[np.int64]]:
    first, second = statement.fields
    rows = sample.rows
    width = len(rows.schema[second].levels or ())
    height = len(rows.schema[first].levels or ())
    cell = sample.taken(rows.codes[first]).astype(np.int64) * width + sample.taken(rows.codes[second])
    table = np.asarray(np.bincount(cell, sample.w, height * width), np.float64).reshape(height, width)
    return table, cell


def _odds_ratio(statement: Statement, sample: _Sample) -> Measured | None:
    table, cell = _table(statement, sample)
    p = np.maximum(table, 1e-9)
    log_ratio = math.log(p[0, 0] * p[1, 1] / (p[0, 1] * p[1, 0]))
    slopes = (np.array([[1.0, -1.0], [-1.0, 1.0]]) / p).ravel()
    gap = (math.log(max(statement.asked, 1e-9)) - log_ratio) / LOG_ODDS
    return Measured(math.exp(log_ratio), gap, gap, lambda: slopes[cell] / LOG_ODDS)


def _cramers_v(statement: Statement, sample: _Sample) -> Measured | None:
    table, cell = _table(statement, sample)
    kept = np.ix_(table.sum(axis=1) > 1e-9, table.sum(axis=0) > 1e-9)
    smaller = min(table[kept].shape) - 1
    if smaller < 1:
        return None
    down = np.maximum(table.sum(axis=1, keepdims=True), 1e-12)
    across = np.maximum(table.sum(axis=0, keepdims=True), 1e-12)
    ratio = table / (down * across)
    square = max(float((table * ratio).sum()) - 1, 1e-12) / smaller
    slopes = 2 * ratio - (table * ratio).sum(axis=1, keepdims=True) / down
    slopes = slopes - (table * ratio).sum(axis=0, keepdims=True) / across
    v = math.sqrt(square)
    influence = (slopes / smaller / (2 * v)).ravel()
    influence = influence - float((table.ravel() * influence).sum())
    gap = (statement.asked - v) / CORRELATION
    return Measured(v, gap, gap, lambda: np.asarray(influence[cell] / CORRELATION))


def _correlation_ratio(statement: Statement, sample: _Sample) -> Measured | None:
    number, category = statement.fields
    rows, w = sample.rows, sample.w
    if rows.schema[number].levels is not None:  # exactly one of the two has levels
        number, category = category, number
    groups = sample.taken(rows.codes[category])
    y = sample.taken(rows.measurement(number))
    size = len(rows.schema[category].levels or ())
    mass = sample.mass(category)
    means = np.bincount(groups, w * y, size) / np.maximum(mass, 1e-12)
    centre, variance = sample.moments(number)
    if variance <= 0:
        return None
    eta2 = max(float(mass @ (means - centre) ** 2) / variance, 1e-12)
    eta = math.sqrt(eta2)
    gap = (statement.asked - eta) / CORRELATION

    def influence() -> Floats:
        within = y - means[groups]
        found = ((1 - eta2) * (y - centre) ** 2 - within**2) / variance / (2 * eta)
        return np.asarray(found / CORRELATION)

    return Measured(eta, gap, gap, influence)


_MEASURES: dict[str, Callable[[Statement, _Sample], Measured | None]] = {
    "mean": _mean,
    "sd": _sd,
    "quantile": _quantile,
    "proportion": _proportion,
    "missing": _missing,
    "pearson": _pearson,
    "spearman": _spearman,
    "odds_ratio": _odds_ratio,
    "cramers_v": _cramers_v,
    "correlation_ratio": _correlation_ratio,
}
