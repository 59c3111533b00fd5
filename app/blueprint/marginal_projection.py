"""The marginal nearest to another in which declared mean, sd and quantiles hold.

Nearest in relative entropy (I. Csiszár, Annals of Probability 3, 1975): an exponential tilt of the bins'
weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.blueprint.defaults import bounds, place, quantiles_of, spoken
from app.blueprint.marginal import Marginal, bin_moments
from app.schema.table import Statistics, TableSchema

Warn = Callable[[str, str], None]
Floats = NDArray[np.float64]

UNSEEN = 0.002
"""Distance from a declared mean or sd, in sd, that is not worth a word."""

ATOM = 50
"""One part of so many, at least, of what may lie on a bound beyond what is said to lie there."""


def project(schema: TableSchema, marginal: Marginal, statistics: Statistics, warn: Warn) -> Marginal:
    """Tilt the bins so that declared mean, sd and quantiles hold; drop what cannot hold, and say so."""
    quantiles = quantiles_of(statistics)
    wanted = {
        name: getattr(statistics, name) for name in ("mean", "sd") if getattr(statistics, name) is not None
    }
    field = marginal.field
    bounded = _within(marginal, *bounds(field))
    if _holds(bounded, wanted, quantiles):
        return bounded
    for kept in ({"mean", "sd"}, {"mean"}, set()):
        names = kept & set(wanted)
        tilted = _tilted(bounded, {name: wanted[name] for name in names}, quantiles)
        if tilted is not None:
            dropped = [name for name in sorted(set(wanted) - names) if not _near(tilted, name, wanted[name])]
            if dropped:
                figures = {"mean": spoken(field, tilted.mean), "sd": f"{tilted.sd:.4g}"}
                achieved = " and ".join(f"{name} {figures[name]}" for name in dropped)
                warn(
                    place(schema, field, "statistics"),
                    f"The declared {' and '.join(dropped)} of `{field.name}` cannot hold together with its "
                    f"bounds and other statistics: {achieved} instead. Correct one of them.",
                )
            return tilted
    warn(
        place(schema, field, "statistics"),
        f"The declared quantiles of `{field.name}` cannot hold together with its bounds and were not met.",
    )
    return bounded


def _holds(marginal: Marginal, wanted: dict[str, float], quantiles: list[tuple[float, float]]) -> bool:
    sd = max(marginal.sd, 1e-12)
    if any(abs(getattr(marginal, name) - value) > 1e-4 * sd for name, value in wanted.items()):
        return False
    # One tick off is off where ticks are coarse, and noise where they are fine.
    allowed = max(2e-3 * sd, 0.5 / marginal.per_unit if sd * marginal.per_unit > 250 else 0.0) + 1e-9
    return all(abs(marginal.quantile(p) - q) <= allowed for p, q in quantiles)


def _near(marginal: Marginal, name: str, asked: float) -> bool:
    """Whether a figure is off by less than anybody sees: of two values the mean alone decides the sd."""
    return abs(float(getattr(marginal, name)) - asked) <= UNSEEN * max(marginal.sd, 1e-12)


def _tilted(
    marginal: Marginal, wanted: dict[str, float], quantiles: list[tuple[float, float]]
) -> Marginal | None:
    """Return the nearest distribution in which the statements hold, None if none.

    How much lies on a bound is open where quantiles lie there: a guess is kept where it can hold with mean
    and sd, else these decide.
    """
    found = _tilt(marginal, wanted, quantiles)
    if found is not None or not wanted:
        return found
    found = _tilt(marginal, wanted, quantiles, guess=False)
    return found if found is not None and _holds(found, {}, quantiles) else None


def _tilt(
    marginal: Marginal,
    wanted: dict[str, float],
    quantiles: list[tuple[float, float]],
    guess: bool = True,
) -> Marginal | None:
    """Return the distribution nearest in relative entropy in which the statements hold, None if none.

    Quantiles on a bound are left out unless what lies there is to be guessed.
    """
    unit = marginal.per_unit
    centres, spreads = bin_moments(marginal.first, marginal.last, marginal.stride)
    if len(centres) < 2:
        return None
    mean = wanted.get("mean", marginal.mean) * unit
    sd = wanted.get("sd", marginal.sd) * unit
    if sd <= 0:
        return None
    rows: list[Floats] = []
    aims: list[float] = []
    if "mean" in wanted:
        rows.append((centres - mean) / sd)
        aims.append(0.0)
    if "sd" in wanted:
        about = mean if "mean" in wanted else marginal.mean * unit
        rows.append(((centres - about) ** 2 + spreads) / sd**2)
        aims.append(1.0)
    by_value: dict[float, list[float]] = {}
    for p, q in quantiles:
        by_value.setdefault(q * unit, []).append(p)
    ends = int(marginal.first[0]), int(marginal.last[-1])
    for q, shares in by_value.items():
        below = (marginal.last < q - 1e-6).astype("float64")
        upto = ((marginal.first <= q + 1e-6) & (marginal.last <= q + 1e-6)).astype("float64")
        lowest, highest = min(shares), max(shares)
        if (
            not below.any() or upto.all()
        ):  # the quantile is the end of the support: an atom beyond it is enough
            if not guess:
                continue
            if not below.any():
                above = [(p, other) for other, more in by_value.items() for p in more if other > q]
                p, other = min(above, default=(1.0, ends[1]))
                rows.append(upto)
                aims.append(highest + (p - highest) / min(max(other - q, 0) + 1, ATOM))
            else:
                under = [(p, other) for other, more in by_value.items() for p in more if other < q]
                p, other = max(under, default=(0.0, ends[0]))
                rows.append(below)
                aims.append(lowest - (lowest - p) / min(max(q - other, 0) + 1, ATOM))
        elif len(shares) == 1:
            rows.append((below + upto) / 2)
            aims.append(shares[0])
        else:
            inside = 0.02 * (highest - lowest)
            rows += [below, upto]
            aims += [lowest - inside, highest + inside]
    if not rows:
        return marginal
    features = np.array(rows) - np.array(aims)[:, None]
    size = marginal.last - marginal.first + marginal.stride
    base = np.log(marginal.weights + 1e-10 * size / size.sum())

    def weigh(at: Floats) -> tuple[float, Floats]:
        exponent = base + at @ features
        top = exponent.max()
        mass = np.exp(exponent - top)
        return float(top + math.log(mass.sum())), mass / mass.sum()

    at = np.zeros(len(rows))
    potential, weights = weigh(at)
    for _ in range(200):
        gradient = features @ weights
        if np.abs(gradient).max() < 1e-6:
            return replace(marginal, weights=weights)
        hessian = (features * weights) @ features.T - np.outer(gradient, gradient)
        step = -np.linalg.solve(hessian + 1e-9 * np.eye(len(rows)), gradient)
        slope, length = float(gradient @ step), 1.0
        while length > 1e-6:
            there, tilted = weigh(at + length * step)
            if there <= potential + 1e-4 * length * slope + 1e-15:
                break
            length /= 2
        else:
            return None
        at, potential, weights = at + length * step, there, tilted
        if np.abs(at).max() > 1e4:
            return None
    return None


def _within(marginal: Marginal, lower: float | None, upper: float | None) -> Marginal:
    """Cut bins at the bounds; their weights shrink with them."""
    unit, stride = marginal.per_unit, marginal.stride
    first, last = marginal.first.copy(), marginal.last.copy()
    counts = (last - first) // stride + 1
    if lower is not None:
        lowest = math.ceil(lower * unit - 1e-6)
        first += np.maximum(0, -((first - lowest) // stride)) * stride
    if upper is not None:
        highest = math.floor(upper * unit + 1e-6)
        last -= np.maximum(0, -((highest - last) // stride)) * stride
    left = np.maximum((last - first) // stride + 1, 0)
    keep = left > 0
    if keep.all() and (left == counts).all():
        return marginal
    if not keep.any():
        return marginal
    weights = (marginal.weights * left / counts)[keep]
    if not weights.sum() > 0:
        weights = left[keep].astype("float64")
    return replace(marginal, first=first[keep], last=last[keep], weights=weights / weights.sum())
