"""Resampling and intervals that the metrics share: bootstrap draws, intervals from them, and the AUROC's own.

Randomness comes in as a generator; nothing here makes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.columns import Codes, Floats

Z95 = NormalDist().inv_cdf(0.975)


def resample(rng: np.random.Generator, n: int, persons: Codes | None = None) -> Codes:
    """Draw rows with replacement.

    Parameters
    ----------
    rng : Generator
    n : int
        Rows of the table.
    persons : ndarray of int64, shape (n,), optional
        Codes 0 … k−1 of who a row belongs to (see `person_codes`): then persons are drawn, each with all
        rows, for the rows of one person are no independent evidence.

    Returns
    -------
    ndarray of int64
        Positions: n of them, or as many as the drawn persons have rows.
    """
    if persons is None:
        return rng.integers(0, n, n)
    order = np.argsort(persons, kind="stable")
    sizes = np.bincount(persons)
    starts = np.cumsum(sizes) - sizes
    drawn = rng.integers(0, len(sizes), len(sizes))
    lengths = sizes[drawn]
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows: Codes = order[np.repeat(starts[drawn], lengths) + within]
    return rows


def person_codes(column: pd.Series) -> Codes:
    """Return who a row belongs to as codes 0 … k−1; each missing name is a person of its own."""
    found, known = pd.factorize(column, use_na_sentinel=True)
    result = found.astype(np.int64)
    absent = result < 0
    result[absent] = len(known) + np.arange(int(absent.sum()))
    return result


def bootstrap(
    statistic: Callable[..., Any],
    sizes: Sequence[int],
    rng: np.random.Generator,
    *,
    times: int = 200,
    persons: Sequence[Codes | None] | None = None,
) -> Floats:
    """Recompute a statistic on resampled rows of one or more independent samples.

    Parameters
    ----------
    statistic : callable
        Takes one array of row positions for each sample and gives a number, or an array of one shape.
    sizes : sequence of int
        Rows of each sample, at least one each.
    times : int
        Number of draws.
    persons : sequence, optional
        For each sample None or person codes (see `resample`).

    Returns
    -------
    ndarray of float64, shape (times, …)
        NaN where the statistic had no value in a draw.
    """
    whose = persons or [None] * len(sizes)
    draws = [
        statistic(*(resample(rng, size, who) for size, who in zip(sizes, whose, strict=True)))
        for _ in range(times)
    ]
    return np.asarray(draws, dtype=np.float64)


def percentile_interval(draws: Floats) -> tuple[float, float] | None:
    """Return the central 95 % of finite `draws`, shape (times,); None where fewer than 20 are finite."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < 20:
        return None
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)


def normal_interval(
    value: float, draws: Floats, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float] | None:
    """Return value ± 1.96 standard deviations of `draws`, within `bounds`.

    For statistics that resampling shifts (a correlation ratio, a distance: ties make every draw look more
    strongly tied than the sample): the spread of the draws is right where their centre is not. None where
    fewer than 20 draws are finite.
    """
    finite = draws[np.isfinite(draws)]
    if len(finite) < 20:
        return None
    return around(value, float(finite.std(ddof=1)), bounds)


def around(
    value: float, error: float, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """Return value ± 1.96 standard errors, within `bounds`."""
    return max(value - Z95 * error, bounds[0]), min(value + Z95 * error, bounds[1])


def auroc(scores: Floats, positive: Any) -> float:
    """Return the area under the ROC curve: the share of pairs in the right order, ties half (Mann–Whitney).

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
    positive : ndarray of bool, shape (n,)
        Both kinds must occur; NaN is returned otherwise.
    """
    truth = np.asarray(positive, dtype=np.bool_)
    n, m = int(truth.sum()), int((~truth).sum())
    if n == 0 or m == 0:
        return math.nan
    ranks = mid_ranks(scores)
    return (float(ranks[truth].sum()) - n * (n + 1) / 2) / (n * m)


def auroc_error(scores: Floats, positive: Any) -> float:
    """Return the standard error of `auroc` (DeLong, DeLong & Clarke-Pearson 1988).

    NaN where there are fewer than 2 of a kind. It is 0 where the two are separated perfectly: there take
    `auroc_interval`, which does not believe it.
    """
    truth = np.asarray(positive, dtype=np.bool_)
    n, m = int(truth.sum()), int((~truth).sum())
    if n < 2 or m < 2:
        return math.nan
    ranks = mid_ranks(scores)
    above = (ranks[truth] - mid_ranks(scores[truth])) / m
    below = 1 - (ranks[~truth] - mid_ranks(scores[~truth])) / n
    return math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m)


def auroc_interval(value: float, error: float, n: int, m: int) -> tuple[float, float]:
    """Return a 95 % interval of an AUROC that stays within [0, 1].

    Wilson's interval of a share, with the number of rows that would give a share the same standard error
    (Korn & Graubard 1998 do so for shares of clustered samples). It does not believe an error of 0, which
    perfect separation gives: there the smaller of the two numbers of rows counts.

    Parameters
    ----------
    value, error : float
        From `auroc` and `auroc_error`.
    n, m : int
        Numbers of rows of either kind, at least 1.
    """
    spread = value * (1 - value)
    rows = float(min(n, m))
    if error > 0 and spread > 0:
        # Near perfect separation the estimated error may be far too small.
        rows = min(spread / error**2, float(n + m))
    z2 = Z95 * Z95
    centre = (value + z2 / (2 * rows)) / (1 + z2 / rows)
    half = Z95 / (1 + z2 / rows) * math.sqrt(spread / rows + z2 / (4 * rows * rows))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mid_ranks(values: Floats) -> Floats:
    """Return ranks 1 … n, ties sharing their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def random_groups(rng: np.random.Generator, n: int, groups: int, persons: Codes | None = None) -> Codes:
    """Deal rows (or persons, each with all rows) at random into groups of nearly equal size.

    Parameters
    ----------
    rng : Generator
    n : int
        Rows.
    groups : int
        At most so many: there is no empty one.
    persons : ndarray of int64, shape (n,), optional
        See `person_codes`.

    Returns
    -------
    ndarray of int64, shape (n,)
        Group 0 … of each row.
    """
    count = n if persons is None else int(persons.max(initial=-1)) + 1
    dealt = rng.permutation(count) % max(min(groups, count), 1)
    result: Codes = dealt if persons is None else dealt[persons]
    return result


def jackknife_error(left_out: Floats) -> Floats:
    """Return the standard error from values computed with one random group left out each.

    The delete-a-group jackknife (Kott 2001, Journal of Official Statistics 17): it keeps the dependence
    between columns and within persons, at the cost of as many recomputations as there are groups.

    Parameters
    ----------
    left_out : ndarray of float64, shape (groups, …)

    Returns
    -------
    ndarray of float64, shape (…)
        0 with fewer than 2 groups.
    """
    groups = len(left_out)
    if groups < 2:
        return np.zeros(left_out.shape[1:])
    error: Floats = np.sqrt((groups - 1) * left_out.var(axis=0))
    return error


def folding(differences: Floats, errors: Floats, weights: Floats) -> float:
    """Return by how much a mean of absolute differences varies less than a linear one would.

    Near 0 the absolute value of a difference varies less than the difference (a folded normal variable,
    Leone, Nelson & Nottingham 1961: 0.60 of its standard deviation at 0), which a jackknife does not see.

    Parameters
    ----------
    differences, errors, weights : ndarray of float64, shape (k,)
        The differences, their standard errors, and their weights in the mean.

    Returns
    -------
    float
        Factor for the standard error of the mean, in [0.60, 1]; 1 where nothing varies.
    """
    from scipy.stats import norm

    varying = errors > 0
    if not varying.any() or not (weights[varying] > 0).any():
        return 1.0
    # The square of a difference is its true square and that of its error.
    ratio = np.sqrt(np.maximum((differences[varying] / errors[varying]) ** 2 - 1, 0))
    mean = 2 * norm.pdf(ratio) + ratio * (1 - 2 * norm.cdf(-ratio))
    shares = weights[varying] * errors[varying]
    return float(shares @ np.sqrt(np.clip(ratio**2 + 1 - mean**2, 0, 1)) / shares.sum())


def t_interval(
    value: float, errors: Sequence[tuple[float, int]], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float] | None:
    """Return a 95 % interval from jackknife errors of independent samples.

    Parameters
    ----------
    value : float
    errors : sequence of (error, groups)
        One for each sample that was resampled; errors add in squares, and the degrees of freedom are
        Satterthwaite's (1946).
    bounds : (float, float)
        What the interval is cut to.

    Returns
    -------
    (float, float) or None
        None where a sample had fewer than 2 groups.
    """
    from scipy.stats import t

    if any(groups < 2 for _, groups in errors):
        return None
    variance = sum(error**2 for error, _ in errors)
    if variance == 0:
        return max(value, bounds[0]), min(value, bounds[1])
    freedom = variance**2 / sum(error**4 / (groups - 1) for error, groups in errors)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return max(value - half, bounds[0]), min(value + half, bounds[1])
