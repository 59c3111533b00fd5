"""A named family cut into bins of ticks, its parameters solved for the mean and sd of what is delivered."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.blueprint.defaults import POSITIVE, Choice
from app.blueprint.families import distribution_function, log_scale

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_BINS = 4_096
TAIL = 1e-7  # of an unbounded family; a million rows rarely see further


def family_bins(
    choice: Choice, lower: float | None, upper: float | None, per_unit: int, landmarks: Floats
) -> tuple[Ints, Ints, Floats]:
    """Cut the support into bins of ticks and weigh them by the family, solved for mean and sd."""
    cdf = distribution_function(choice.family, lower, upper)
    low, high = _support(choice, cdf, lower, upper)
    # A bound between two ticks admits only what lies inside.
    lowest, highest = math.ceil(low * per_unit - 1e-6), math.floor(high * per_unit + 1e-6)
    highest = max(lowest, highest)
    if highest - lowest < MOST_BINS:
        starts = np.arange(lowest, highest + 1)
    else:
        z = np.linspace(-6, 6, MOST_BINS // 4)
        nodes = [np.linspace(low, high, MOST_BINS // 2), choice.mean + choice.sd * z]
        nodes += [landmarks, landmarks + 1 / per_unit]  # a value that many share is a bin of its own
        if low >= 0 and choice.mean > 0:
            mu, sigma = log_scale(choice.mean, choice.sd)
            nodes.append(np.exp(mu + sigma * z))
        ticks = np.round(np.concatenate(nodes) * per_unit)
        starts = np.unique(np.append(ticks[(ticks >= lowest) & (ticks <= highest)].astype("int64"), lowest))
    first, last = starts, np.append(starts[1:] - 1, highest)
    edges = np.append(first - 0.5, last[-1] + 0.5) / per_unit

    def weigh(mean: float, sd: float) -> Floats | None:
        mass = np.diff(cdf(edges, mean, sd))
        total = mass.sum()
        return mass / total if total > 1e-12 and np.isfinite(total) else None

    weights = _solve(weigh, choice.mean, choice.sd, first / per_unit, last / per_unit, per_unit)
    if weights is None:  # the family has no mass within the bounds
        weights = (last - first + 1) / float(highest - lowest + 1)
    return first, last, weights


def _support(
    choice: Choice, cdf: Callable[[Floats, float, float], Floats], lower: float | None, upper: float | None
) -> tuple[float, float]:
    def reach(sign: int) -> float:
        for doubling in range(1, 12):
            end = choice.mean + sign * choice.sd * 2.0**doubling
            share = float(cdf(np.array([end]), choice.mean, choice.sd)[0])
            if (share if sign < 0 else 1 - share) < TAIL:
                break
        return end

    low = lower if lower is not None else reach(-1)
    high = upper if upper is not None else reach(+1)
    if lower is None and choice.family in POSITIVE:
        low = max(low, 0.0)
    return low, max(low, high)


def _solve(
    weigh: Callable[[float, float], Floats | None],
    mean: float,
    sd: float,
    first: Floats,
    last: Floats,
    per_unit: int,
) -> Floats | None:
    """Find the parameters whose bounded, rounded distribution has that mean and sd: damped Newton steps.

    Where there is none (one-parameter families, an sd out of reach) the nearest that was met is returned.
    """
    centres = (first + last) / 2
    spreads = (((last - first) * per_unit + 1) ** 2 - 1) / 12 / per_unit**2

    def miss(at: Floats) -> tuple[Floats, Floats | None]:
        weights = weigh(float(at[0]), float(np.exp(at[1])))
        if weights is None:
            return np.array([np.inf, np.inf]), None
        got = weights @ centres
        spread = math.sqrt(max(float(weights @ ((centres - got) ** 2 + spreads)), 1e-300))
        return np.array([(got - mean) / sd, math.log(spread / sd)]), weights

    at = np.array([mean, math.log(sd)])
    with np.errstate(all="ignore"):
        error, best = miss(at)
        if best is None:
            return None
        for _ in range(25):
            if np.abs(error).max() < 1e-7:
                break
            nudge = np.array([1e-4 * math.exp(at[1]), 1e-4])
            jacobian = np.column_stack(
                [(miss(at + np.eye(2)[k] * nudge[k])[0] - error) / nudge[k] for k in (0, 1)]
            )
            if not np.isfinite(jacobian).all():
                break
            step = -np.linalg.lstsq(jacobian, error, rcond=1e-8)[0]
            limit = np.array([math.exp(at[1]), 0.7])
            step /= max(1.0, float(np.abs(step / limit).max()))
            for damping in (1.0, 0.5, 0.25, 0.1, 0.02):
                there, weights = miss(at + damping * step)
                if weights is not None and np.abs(there).sum() < np.abs(error).sum():
                    at, error, best = at + damping * step, there, weights
                    break
            else:
                break
    return best
