"""Intervals where no symmetric one fits: distances, rare events, what is never below 0."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from app.evaluation.bootstrap import Z95
from app.evaluation.columns import Floats

LEVEL = 0.95
_STEPS = 41
_FARTHEST = 4.5


def inverted(
    value: float,
    simulate: Callable[[float], Floats],
    reach: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    slack: float = 0.0,
) -> tuple[float, float]:
    """Return a 95 % interval of the mean of a figure whose distribution moves with one unknown distance.

    A mean of absolute differences is never 0, however alike two tables are: it varies by less, and to one
    side, the nearer the true difference is to 0. So a distance is asked for instead: all those that do not
    make the observed value an improbable one, each judged by the shortest range that holds 95 % of its draws
    (after Feldman & Cousins 1998). The interval holds the means of their draws, and the value.

    Parameters
    ----------
    value : float
        What was observed.
    simulate : callable
        Gives draws of the figure, shape (k,), for a true distance; the same random numbers each time.
    reach : float
        The largest distance to try.
    bounds : (float, float)
        What the interval is cut to.
    slack : float
        Standard deviations of a draw by which the means of draws may be off, where draws are not exact.
    """
    low = high = value
    nearest = (math.inf, value)
    for distance in np.linspace(0.0, reach, _STEPS):
        draws = np.sort(simulate(float(distance)))
        inside = math.ceil(LEVEL * len(draws))
        widths = draws[inside - 1 :] - draws[: len(draws) - inside + 1]
        first = int(widths.argmin())
        mean = float(draws.mean())
        if draws[first] <= value <= draws[first + inside - 1]:
            # The mean of draws is known to within its own error, which decides where the truth is 0.
            error = (2 / math.sqrt(len(draws)) + slack) * float(draws.std())
            low, high = min(low, mean - error), max(high, mean + error)
        off = max(float(draws[first]) - value, value - float(draws[first + inside - 1]), 0.0)
        nearest = min(nearest, (off, mean))
    # Where no distance fits (a value closer to 0 than chance brings), the one that fits best.
    low, high = min(low, nearest[1]), max(high, nearest[1])
    return max(low, bounds[0]), min(high, bounds[1])


def mean_distance(
    differences: Floats, covariance: Floats, weights: Floats, rng: np.random.Generator
) -> tuple[float, float]:
    """Return a 95 % interval of the expected weighted sum of absolute differences.

    Parameters
    ----------
    differences : ndarray of float64, shape (k,)
        About normal, k ≥ 1.
    covariance : ndarray of float64, shape (k, k)
        Of the differences.
    weights : ndarray of float64, shape (k,)
        Not negative.
    rng : Generator
    """
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    value = float(weights @ np.abs(differences))
    if not (weights * errors).sum() > 0:
        return value, value
    roots, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    # The more differences there are the less is left of the fold, and the fewer draws are needed.
    draws = int(np.clip(200_000 // len(differences), 400, 2000))
    noise = rng.normal(size=(draws, len(roots))) @ (vectors * np.sqrt(np.maximum(roots, 0.0))).T
    # In the direction that was observed; a difference that is 0 may be one by chance.
    towards = differences + np.where(differences < 0, -0.01, 0.01) * errors
    towards = towards / float(weights @ np.abs(towards))
    reach = value + _FARTHEST * float((weights * errors).sum())
    return inverted(value, lambda distance: np.abs(distance * towards + noise) @ weights, reach)


def never_below_zero(value: float, error: float) -> tuple[float, float]:
    """Return the unified 95 % interval of a quantity that is 0 or more (Feldman & Cousins 1998).

    Parameters
    ----------
    value : float
        A normal estimate, which may be negative by chance.
    error : float
        Its standard error.

    Notes
    -----
    Far from 0 it is value ± 1.96 errors. An interval that is cut at 0 would cover 0 in 97.5 % instead.
    """
    if not error > 0:
        return max(value, 0.0), max(value, 0.0)
    truths, lows, highs = _unified()
    x = value / error
    if x > lows[-1] - 0.5:
        return value - Z95 * error, value + Z95 * error
    # A truth is accepted where lows ≤ x ≤ highs, and both rise with it.
    low = float(np.interp(x, highs, truths)) if x > highs[0] else 0.0
    high = float(np.interp(x, lows[1:], truths[1:]))
    return low * error, high * error


@functools.cache
def _unified() -> tuple[Floats, Floats, Floats]:
    """Return truths, and between what an estimate of standard error 1 lies in 95 %, likeliest ones first."""
    from scipy.special import ndtr

    truths = np.linspace(0.0, 6.0, 601)
    lows, highs = np.full(len(truths), -math.inf), np.empty(len(truths))
    for place, truth in enumerate(truths):
        least, most = truth, truth + 4.0
        for _ in range(60):
            high = (least + most) / 2
            low = _as_likely(high, truth)
            if ndtr(high - truth) - ndtr(low - truth) < LEVEL:
                least = high
            else:
                most = high
        highs[place] = most
        lows[place] = _as_likely(most, truth)
    return truths, np.maximum.accumulate(lows), np.maximum.accumulate(highs)


def _as_likely(high: float, truth: float) -> float:
    """Return the lower estimate that fits a truth as well, beside the best one that is 0 or more."""
    if truth == 0:
        return -math.inf
    return 2 * truth - high if high <= 2 * truth else high - high * high / (2 * truth)


def mid_p(hits: int, n: int) -> tuple[float, float]:
    """Return the mid-P interval of a share at 95 % (Lancaster 1961; Agresti & Gottard 2005).

    Parameters
    ----------
    hits, n : int
        n ≥ 1.

    Notes
    -----
    Of rare events it is narrower than Wilson's where none was seen, and holds the truth more often where
    one was: its lower end falls to a twentieth of what a single one suggests, Wilson's to a sixth.
    """
    from scipy.optimize import brentq
    from scipy.special import bdtr

    def below(share: float) -> float:
        return (float(bdtr(hits, n, share)) + (float(bdtr(hits - 1, n, share)) if hits else 0.0)) / 2

    share = hits / n
    low = 0.0 if hits == 0 else float(brentq(lambda p: below(p) - 0.975, 0.0, share))
    high = 1.0 if hits == n else float(brentq(lambda p: below(p) - 0.025, share, 1.0))
    return low, high


def rare(count: float, unit: float) -> tuple[float, float]:
    """Return a 95 % interval of a sum of rare events of unequal weight.

    Parameters
    ----------
    count : float
        The number of events, Poisson.
    unit : float
        Mean weight of an event.

    Notes
    -----
    Mid-P ends of the Poisson mean (Cohen & Yang 1994), carried over to the sum (Dobson, Kuulasmaa, Eberle &
    Scherer 1991).
    """
    from scipy.optimize import brentq
    from scipy.special import pdtr

    def below(mean: float) -> float:
        at_most = float(pdtr(count, mean))
        return at_most - (at_most - (float(pdtr(count - 1, mean)) if count else 0.0)) / 2

    most = count + 12 + 8 * math.sqrt(count)
    high = float(brentq(lambda mean: below(mean) - 0.025, 0.0, most))
    low = 0.0 if count == 0 else float(brentq(lambda mean: below(mean) - 0.975, 0.0, most))
    return low * unit, high * unit
