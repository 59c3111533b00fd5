"""What is stated of a table, one number at a time: how it is measured on weighted rows, and what moves it.

Each statement is measured together with its influence function (F. R. Hampel, Journal of the American
Statistical Association 69, 1974): the amount by which one more row of each kind would move the figure. Rows
that are reweighted by w move it by the mean of the influences under w, so one linear system says how to
reweight for any mix of statements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.blueprint.rows import Floats, Mask, Rows
from app.errors import pointer
from app.schema.table import Association, Condition, Field, Measure, Statistics, TableSchema, Value

Kind = Literal["mean", "sd", "quantile", "proportion", "missing"] | Measure

MEAN, SD, QUANTILE, SHARE, CORRELATION, LOG_ODDS = 0.01, 0.02, 0.02, 0.005, 0.02, 0.1
"""Tolerances: means and quantiles in sd, sd on the log scale, shares, measures between 0 and 1, log odds."""

CONDITIONAL = 3.0
"""How much wider the tolerances of a stratum's means and quantiles are."""

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
    """

    pointer: str
    kind: Kind
    fields: tuple[str, ...]
    asked: float
    given: tuple[Condition, ...] = ()
    p: float = 0.5
    level: int = -1
    sign: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the fields whose values move the figure, each once."""
        return tuple(dict.fromkeys((*self.fields, *(condition.field for condition in self.given))))


@dataclass(frozen=True, slots=True)
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
    influence : ndarray of float64, shape (n,)
        In tolerances; 0 for rows that do not count.
    """

    achieved: float
    gap: float
    shift: float
    influence: Floats


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
    counted = rows.selected(statement.given) if statement.given else np.ones(len(rows), np.bool_)
    if statement.kind == "missing":
        counted = counted & rows.where_applies(statement.fields[0])
    else:
        for name in statement.fields:
            counted = counted & rows.present(name)
    total = float(rows.weights @ counted)
    if total < 1e-9:
        return Measured(math.nan, 0.0, 0.0, np.zeros(len(rows)))
    chosen = None if counted.all() else np.flatnonzero(counted)
    w = rows.weights / total if chosen is None else rows.weights[chosen] / total
    found = _MEASURES[statement.kind](statement, rows, chosen, w)
    if found is None:
        return Measured(math.nan, 0.0, 0.0, np.zeros(len(rows)))
    influence = found.influence / total
    if chosen is not None:
        full = np.zeros(len(rows))
        full[chosen] = influence
        influence = full
    return replace(found, influence=influence)


Chosen = NDArray[np.int64] | None


def _taken(values: NDArray[Any], chosen: Chosen) -> Any:
    return values if chosen is None else values[chosen]


def _wider(statement: Statement) -> float:
    return CONDITIONAL if statement.given else 1.0


def _mean(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    x = _taken(rows.value(statement.fields[0]), chosen)
    mean = float(w @ x)
    sd = math.sqrt(max(float(w @ (x - mean) ** 2), 0.0))
    unit = MEAN * _wider(statement) * sd
    if unit <= 0:
        return _constant(statement, mean, len(w))
    gap = (statement.asked - mean) / unit
    return Measured(mean, gap, gap, (x - mean) / unit)


def _constant(statement: Statement, achieved: float, n: int) -> Measured:
    """What does not vary: met, or far off, and no reweighting changes it."""
    met = math.isclose(achieved, statement.asked, rel_tol=1e-6, abs_tol=1e-9)
    return Measured(achieved, 0.0 if met else FAR, 0.0, np.zeros(n))


def _sd(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    x = _taken(rows.value(statement.fields[0]), chosen)
    mean = float(w @ x)
    square = (x - mean) ** 2
    variance = float(w @ square)
    if variance <= 0 or statement.asked <= 0:
        return _constant(statement, math.sqrt(max(variance, 0.0)), len(w))
    unit = SD * _wider(statement)
    gap = math.log(statement.asked / math.sqrt(variance)) / unit
    # Far off, a step on the variance's own scale would leave what a reweighting can do.
    return Measured(math.sqrt(variance), gap, gap, (square / variance - 1) / 2 / unit)


def _quantile(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    name = statement.fields[0]
    item = rows.schema[name]
    x = _taken(rows.value(name), chosen)
    place, size = rows.place(name)
    values = rows.distinct(name)
    if name in rows.codes:  # levels need not ascend
        order = np.argsort(values, kind="stable")
        mass = np.bincount(_taken(place, chosen), w, size)[order]
        values = values[order]
    else:
        mass = np.bincount(_taken(place, chosen), w, size)
    below = np.cumsum(mass)
    achieved = float(values[min(int(np.searchsorted(below, statement.p * below[-1])), size - 1)])
    mean = float(w @ x)
    sd = math.sqrt(max(float(w @ (x - mean) ** 2), 0.0))
    unit = max(QUANTILE * _wider(statement) * sd, step_of(item), 1e-12)
    gap = (statement.asked - achieved) / unit
    # On the scale of shares: the mass up to the asked value is to be p, as far as ties allow.
    tiny = 1e-9 * max(1.0, abs(statement.asked))
    under, upto = x < statement.asked - tiny, x <= statement.asked + tiny
    low, high = float(w @ under), float(w @ upto)
    band = 0.1 * (high - low)
    if high - low < 1e-3:
        feature, at, aim = upto, high, statement.p
    elif statement.p < low + band:
        feature, at, aim = under, low, statement.p - band
    elif statement.p > high - band:
        feature, at, aim = upto, high, statement.p + band
    else:
        feature, at, aim = upto, high, high
    aim = min(max(aim, 0.0005), 0.9995)
    share = SHARE * _wider(statement)
    return Measured(achieved, gap, (aim - at) / share, np.asarray((feature.astype(np.float64) - at) / share))


def step_of(item: Field) -> float:
    """Return the rounding step of a field on its numeric scale, 0 where it has none."""
    if item.type in ("integer", "year", "date", "time"):
        return 1.0
    if item.type == "datetime":
        return 1 / 86_400
    return 10.0**-item.places if item.places is not None else 0.0


def _proportion(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    hit = _taken(rows.codes[statement.fields[0]], chosen) == statement.level
    return _share(statement, hit, w)


def _missing(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    return _share(statement, _taken(~rows.present(statement.fields[0]), chosen).astype(np.bool_), w)


def _share(statement: Statement, hit: Mask, w: Floats) -> Measured:
    share = float(w @ hit)
    unit = SHARE * _wider(statement)
    gap = (statement.asked - share) / unit
    return Measured(share, gap, gap, (hit.astype(np.float64) - share) / unit)


def _pearson(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    zx, zy = (_standard(_taken(rows.measurement(name), chosen), w) for name in statement.fields)
    if zx is None or zy is None:
        return None
    r = float(w @ (zx * zy))
    influence = (zx * zy - r / 2 * (zx**2 + zy**2)) / CORRELATION
    gap = (statement.asked - r) / CORRELATION
    return Measured(r, gap, gap, np.asarray(influence, np.float64))


def _standard(x: Floats, w: Floats) -> Any:
    centred = x - w @ x
    variance = float(w @ centred**2)
    return centred / math.sqrt(variance) if variance > 1e-24 else None


def _spearman(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    places = []
    for name in statement.fields:
        place, size = rows.place(name)
        places.append((_taken(place, chosen), size))
    (x, many), (y, much) = places
    u, v = _mid_ranks(x, many, w), _mid_ranks(y, much, w)
    uv = float(w @ (u * v)) - 0.25
    var_u, var_v = float(w @ u**2) - 0.25, float(w @ v**2) - 0.25
    if min(var_u, var_v) < 1e-9:
        return None
    scale = math.sqrt(var_u * var_v)
    r = uv / scale
    # A row moves a rank correlation by its own ranks and by shifting the ranks of all others.
    covariance = u * v + _mean_above(x, many, w * v)[x] + _mean_above(y, much, w * u)[y] - 3 * (uv + 0.25)
    spread_u = u**2 + 2 * _mean_above(x, many, w * u)[x] - 3 * (var_u + 0.25)
    spread_v = v**2 + 2 * _mean_above(y, much, w * v)[y] - 3 * (var_v + 0.25)
    influence = covariance / scale - r / 2 * (spread_u / var_u + spread_v / var_v)
    gap = (statement.asked - r) / CORRELATION
    return Measured(r, gap, gap, influence / CORRELATION)


def _mid_ranks(place: NDArray[np.int64], size: int, w: Floats) -> Floats:
    mass = np.bincount(place, w, size)
    ranks: Floats = (np.cumsum(mass) - mass / 2)[place]
    return ranks


def _mean_above(place: NDArray[np.int64], size: int, weighted: Floats) -> Floats:
    sums = np.bincount(place, weighted, size)
    above: Floats = sums.sum() - np.cumsum(sums) + sums / 2
    return above


def _table(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> tuple[Floats, NDArray[np.int64]]:
    first, second = statement.fields
    width = len(rows.schema[second].levels or ())
    height = len(rows.schema[first].levels or ())
    cell = _taken(rows.codes[first], chosen).astype(np.int64) * width + _taken(rows.codes[second], chosen)
    table = np.asarray(np.bincount(cell, w, height * width), np.float64).reshape(height, width)
    return table, cell


def _odds_ratio(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    table, cell = _table(statement, rows, chosen, w)
    p = np.maximum(table, 1e-9)
    log_ratio = math.log(p[0, 0] * p[1, 1] / (p[0, 1] * p[1, 0]))
    slopes = (np.array([[1.0, -1.0], [-1.0, 1.0]]) / p).ravel()
    gap = (math.log(max(statement.asked, 1e-9)) - log_ratio) / LOG_ODDS
    return Measured(math.exp(log_ratio), gap, gap, slopes[cell] / LOG_ODDS)


def _cramers_v(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    table, cell = _table(statement, rows, chosen, w)
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
    return Measured(v, gap, gap, influence[cell] / CORRELATION)


def _correlation_ratio(statement: Statement, rows: Rows, chosen: Chosen, w: Floats) -> Measured | None:
    number, category = statement.fields
    if rows.schema[number].levels is not None:  # exactly one of the two has levels
        number, category = category, number
    groups = _taken(rows.codes[category], chosen)
    y = _taken(rows.measurement(number), chosen)
    size = len(rows.schema[category].levels or ())
    mass = np.bincount(groups, w, size)
    means = np.bincount(groups, w * y, size) / np.maximum(mass, 1e-12)
    centre = float(w @ y)
    variance = float(w @ (y - centre) ** 2)
    if variance <= 0:
        return None
    within = y - means[groups]
    eta2 = max(1 - float(w @ within**2) / variance, 1e-12)
    eta = math.sqrt(eta2)
    influence = ((1 - eta2) * (y - centre) ** 2 - within**2) / variance / (2 * eta)
    gap = (statement.asked - eta) / CORRELATION
    return Measured(eta, gap, gap, influence / CORRELATION)


_MEASURES: dict[str, Callable[[Statement, Rows, Chosen, Floats], Measured | None]] = {
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
