"""Scales on which what is off is made up, and how far a range of a number carries a correlation."""

from __future__ import annotations

import math

import numpy as np

from app.blueprint.rows import Floats, Rows
from app.blueprint.structure import Structure
from app.schema.table import Condition

LEAST_SLOPE = 0.1
"""Mean normal score of a range below which a correlation is not what moves the mean within it."""

ENOUGH = 0.2
"""Gap, in tolerances, at which nothing is moved any more."""


def range_slope(structure: Structure, condition: Condition, rows: Rows | None = None) -> float:
    """Return the mean normal score of a number within a statement's range, 0 where it is near 0."""
    from scipy.special import ndtri

    item = structure.schema[condition.field]
    if item.levels is not None:
        return 0.0
    if rows is not None and condition.field in rows.numbers:
        inside = rows.selected((condition,))
        place, size = rows.place(condition.field)
        here = rows.present(condition.field)
        mass = np.bincount(place[here], rows.weights[here], size)
        shares = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1e-12)
        if not inside.any():
            return 0.0
        slope = float(ndtri(np.clip(shares[place[inside]], 1e-6, 1 - 1e-6)).mean())
    else:
        marginal = structure.marginals.get(condition.field)
        if marginal is None:
            return 0.0
        values = marginal._ticks((np.arange(2048) + 0.5) / 2048) / marginal.per_unit
        within = np.ones(len(values), np.bool_)
        if condition.minimum is not None:
            within &= values >= item.to_number(condition.minimum)
        if condition.maximum is not None:
            within &= values <= item.to_number(condition.maximum)
        if not within.any() or within.all():
            return 0.0
        slope = float(ndtri((np.arange(2048) + 0.5) / 2048)[within].mean())
    return slope if abs(slope) > LEAST_SLOPE else 0.0


def stretched(value: float) -> float:
    """Return a measure on Fisher's scale, bounded."""
    return math.atanh(max(-0.995, min(0.995, value)))


def squeezed(value: float) -> float:
    """Return the measure of a value on Fisher's scale, bounded."""
    return math.tanh(max(-3.3, min(3.3, value)))


def group_means(first: str, second: str, by: str, rows: Rows) -> Floats:
    """Return a column's mean at each level of the other of two, less the overall mean, in sd within levels.

    Parameters
    ----------
    by : str
        Which of the two has the levels; of the other, if it has levels too, their places are averaged.
    """
    size = len(rows.schema[by].levels or ())
    other = second if first == by else first
    both = np.flatnonzero(rows.present(by) & rows.present(other))
    groups, values, weights = rows.codes[by][both], rows.measurement(other)[both], rows.weights[both]
    mass = np.bincount(groups, weights, size)
    total = max(float(mass.sum()), 1e-12)
    means = np.bincount(groups, weights * values, size) / np.maximum(mass, 1e-12)
    within = float(weights @ (values - means[groups]) ** 2) / total
    if within <= 0:
        return np.zeros(size)
    return np.where(mass > 0, means - float(mass @ means) / total, 0.0) / math.sqrt(within)
