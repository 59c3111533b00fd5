"""Success rates of attacks, the advantage of one over another, and their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.evaluation.columns import Codes, Floats
from app.evaluation.privacy import wilson

Z = 1.959964
"""The normal quantile of 95 % intervals."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


def rate_with(value: float, variance: float, most: float, units: float) -> Rate:
    """Return a share with Wilson's interval at the number of independent trials that its variance implies.

    Parameters
    ----------
    value : float
        In [0, 1].
    variance : float
        Of `value`, estimated with regard to what depends on what.
    most : float
        There are no more independent trials than that.
    units : float
        Persons behind the trials: the upper end is never below that of no success in so many.
    """
    trials = min(most, units)
    if variance > 0 and 0 < value < 1:
        trials = min(max(value * (1 - value) / variance, 1.0), most)
    z2 = Z * Z
    centre = (value + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(value * (1 - value) / trials + z2 / (4 * trials * trials))
    least_high = z2 / (units + z2)
    low = 0.0 if value == 0 else max(centre - half, 0.0)
    return Rate(
        value, min(low, value), 1.0 if value == 1 else max(min(centre + half, 1.0), least_high, value)
    )


def rate(successes: Floats) -> Rate:
    """Return the mean of independent successes, each in [0, 1] (shape (n,), n ≥ 1)."""
    n = len(successes)
    value = min(max(float(successes.mean()), 0.0), 1.0)
    if np.isin(successes, (0.0, 1.0)).all():
        return Rate(value, *wilson(round(value * n), n))
    return rate_with(value, float(successes.var()) / n, math.inf if n > 1 else 1.0, n)


def advantage(on_train: Rate, on_holdout: Rate) -> Rate:
    """Return how much better an attack does on the train part than on the holdout.

    Parameters
    ----------
    on_train, on_holdout : Rate
        Success of the same attack.

    Returns
    -------
    Rate
        (t − h) / (1 − h), cut at −1, as Giomi et al. 2022 (arXiv 2211.10459) define the risk. Errors are
        propagated as there, yet from Wilson's unequal arms (Zou & Donner 2008), so that no success on
        either side still gives an upper end.
    """
    t, h = on_train.value, on_holdout.value
    if h >= 1:
        value = 0.0 if t >= 1 else -1.0
        return Rate(value, -1.0, max(value, on_train.high - on_holdout.low))
    by_train, by_holdout = 1 / (1 - h), (1 - t) / (1 - h) ** 2
    value = max((t - h) / (1 - h), -1.0)
    up = math.hypot(by_train * (on_train.high - t), by_holdout * (h - on_holdout.low))
    down = math.hypot(by_train * (t - on_train.low), by_holdout * (on_holdout.high - h))
    return Rate(value, max(value - down, -1.0), min(value + up, 1.0))


def gained(train: Floats, holdout: Floats) -> Rate:
    """Return the advantage of an attack from what it gained on each person, with its interval.

    Parameters
    ----------
    train, holdout : ndarray of float64, shape (n,), (m,)
        Successes, each in [0, 1].

    Notes
    -----
    Where each attack fails or succeeds, the two rates have Jeffreys' intervals (MOVER-J, Laud 2017). Of few
    successes the advantage is then held as often as by the score interval of the ratio of failures (Koopman
    1984) or from Wilson's intervals, in an interval that is narrower by up to a third.
    """
    if np.isin(np.concatenate([train, holdout]), (0.0, 1.0)).all():
        return advantage(jeffreys(train), jeffreys(holdout))
    return advantage(rate(train), rate(holdout))


def jeffreys(successes: Floats) -> Rate:
    """Return the share of successes, each 0 or 1 (shape (n,), n ≥ 1), with Jeffreys' interval."""
    from scipy.special import betaincinv

    n, hits = len(successes), float(successes.sum())
    low = 0.0 if hits == 0 else float(betaincinv(hits + 0.5, n - hits + 0.5, 0.025))
    high = 1.0 if hits == n else float(betaincinv(hits + 0.5, n - hits + 0.5, 0.975))
    return Rate(hits / n, low, high)


def in_two_ways(values: Floats, first: Codes, second: Codes) -> float:
    """Return the variance of a mean of values that hang together in two ways.

    Parameters
    ----------
    values : ndarray, shape (n,)
    first, second : ndarray of int64, shape (n,)
        Which values share a real row of the one kind, and of the other.

    Notes
    -----
    Cameron, Gelbach & Miller 2011: by the first, plus by the second, less by both; never below the greatest
    of what the two say alone.
    """
    left = values - values.mean()
    by_first = float((np.bincount(first, left) ** 2).sum())
    by_second = float((np.bincount(second, left) ** 2).sum())
    _, both = np.unique(first * (int(second.max(initial=0)) + 1) + second, return_inverse=True)
    by_both = float((np.bincount(both, left) ** 2).sum())
    return max(by_first + by_second - by_both, by_first, by_second) / len(values) ** 2


def one_in(of: int, counts: Codes, drawn: int) -> Floats:
    """Return the chance that exactly one of `counts` marked among `of` rows is among `drawn` of them.

    Parameters
    ----------
    of, drawn : int
        Rows in all, and how many are drawn without replacement, drawn ≤ of.
    counts : ndarray of int64

    Returns
    -------
    ndarray of float64, same shape
        Hypergeometric.
    """
    return _exactly(1, of, counts, drawn)


def none_in(of: int, counts: Codes, drawn: int) -> Floats:
    """Return the chance that none of `counts` marked among `of` rows is among `drawn` of them."""
    return _exactly(0, of, counts, drawn)


def _exactly(hits: int, of: int, counts: Codes, drawn: int) -> Floats:
    from scipy.stats import hypergeom

    # Each count once: SciPy takes 15 µs for one.
    found, places = np.unique(counts, return_inverse=True)
    return np.asarray(hypergeom.pmf(hits, of, found, drawn), dtype=np.float64)[places]
