"""Declared statistics as a sample shows them, and how far chance alone moves them.

Every function takes what was asked and returns an `Estimate`: the figure in the rows, the figure that a
perfect generator shows on average at that number of rows, the standard error around it, and the distance
between the two in standard errors. `FORMULAS` says where each standard error comes from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.evaluation.base import NotMeasured
from app.evaluation.columns import Codes, Floats

FORMULAS = {
    "mean": "sd/√n, with the declared sd where there is one, else the one in the rows",
    "sd": "sd·√((κ − (n−3)/(n−1))/n)/2, κ the kurtosis in the rows (Cramér 1946, §27.4)",
    "quantile": (
        "half the distance between the order statistics of ranks np ± √(np(1−p)); the distance is "
        "(p − F(asked))/√(p(1−p)/n), 0 where the asked value is a p-quantile of the rows "
        "(David & Nagaraja 2003, §7.1)"
    ),
    "proportion": "√(p(1−p)/n), p the asked proportion",
    "extreme": "none: the extreme of a sample has no standard error that holds in general",
    "pearson": (
        "sd of the influence function/√n (Devlin, Gnanadesikan & Kettenring 1975), compared on Fisher's z"
    ),
    "spearman": (
        "sd of the projection of the U-statistic on mid-ranks/√n (Hoeffding 1948), compared on Fisher's z"
    ),
    "odds_ratio": "√(1/a + 1/b + 1/c + 1/d) on the log scale (Woolf 1955)",
    "cramers_v": (
        "delta method on V² with the χ² term 2·df/(nk)², k the smaller number of levels less 1 (Bishop, "
        "Fienberg & Holland 1975, §11.3); expected is √(V² + (1−V²)·df/(nk) − se²), for V is biased upward"
    ),
    "correlation_ratio": (
        "delta method on η² = 1 − within/total variance with the F term 2·df/n², df the number of groups "
        "less 1; expected is √(η² + (1−η²)·df/(n−1) − se²), for η is biased upward"
    ),
}
"""How each standard error is computed, and the source; named by `Statement.formula`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An asked figure met by a sample.

    Parameters
    ----------
    achieved : float
        In the rows.
    expected : float
        What a generator that keeps the asked figure exactly shows on average in as many rows.
    standard_error : float or None
        Of `achieved` around `expected`, on the statistic's own scale; None where none can be stated.
    distance : float or None
        (achieved − expected) in standard errors, positive where too much was achieved, on the scale that
        FORMULAS names. None without a standard error, or where it is 0 and the two differ.
    """

    achieved: float
    expected: float
    standard_error: float | None
    distance: float | None


def _by_difference(achieved: float, asked: float, error: float) -> Estimate:
    difference = achieved - asked
    if error > 0:
        return Estimate(achieved, asked, error, difference / error)
    equal = math.isclose(achieved, asked, rel_tol=1e-9, abs_tol=1e-12)
    return Estimate(achieved, asked, 0.0, 0.0 if equal else None)


def mean(values: Floats, asked: float, sd: float | None) -> Estimate | NotMeasured:
    """Compare the mean of `values` (present ones, n ≥ 1) with the asked one; `sd` is the declared one."""
    if len(values) == 0:
        return NotMeasured("no value is present")
    if sd is None:
        if len(values) < 2:
            return Estimate(float(values[0]), asked, None, None)
        sd = float(values.std(ddof=1))
    return _by_difference(float(values.mean()), asked, sd / math.sqrt(len(values)))


def standard_deviation(values: Floats, asked: float) -> Estimate | NotMeasured:
    """Compare the standard deviation (n − 1) of `values` with the asked one."""
    n = len(values)
    if n < 2:
        return NotMeasured("a standard deviation needs 2 present values")
    centred = values - values.mean()
    variance = float((centred**2).mean())
    achieved = float(values.std(ddof=1))
    if variance == 0:
        return _by_difference(achieved, asked, 0.0)
    kurtosis = float((centred**4).mean()) / variance**2
    # κ ≥ 1 always, so what is under the root is positive.
    error = asked * math.sqrt((kurtosis - (n - 3) / (n - 1)) / n) / 2
    return _by_difference(achieved, asked, error)


def quantile(values: Floats, p: float, asked: float) -> Estimate | NotMeasured:
    """Compare the p-quantile of `values` (NumPy's default definition) with the asked one.

    For p = 0 and 1, the extremes that a sample once showed, there is neither a standard error nor a distance.
    """
    n = len(values)
    if n == 0:
        return NotMeasured("no value is present")
    ordered = np.sort(values)
    achieved = float(np.quantile(ordered, p))
    if not 0 < p < 1:
        return Estimate(achieved, asked, None, None)
    spread = math.sqrt(n * p * (1 - p))
    low, high = (float(ordered[min(max(round(n * p + step * spread), 1), n) - 1]) for step in (-1, 1))
    # Where values are tied (whole days, years) the distance in the value's own unit means little; in
    # probability it is exact, and 0 where the asked value is one of the p-quantiles of the rows.
    below = float(np.searchsorted(ordered, asked, side="left")) / n
    up_to = float(np.searchsorted(ordered, asked, side="right")) / n
    gap = p - up_to if up_to < p else min(p - below, 0.0)
    if math.isclose(achieved, asked, rel_tol=1e-9, abs_tol=1e-12):
        gap = 0.0
    return Estimate(achieved, asked, (high - low) / 2, gap * n / spread)


def proportion(hits: int, n: int, asked: float) -> Estimate | NotMeasured:
    """Compare the share `hits`/`n` with the asked one."""
    if n == 0:
        return NotMeasured("no row counts toward it")
    return _by_difference(hits / n, asked, math.sqrt(asked * (1 - asked) / n))


def pearson(x: Floats, y: Floats, asked: float) -> Estimate | NotMeasured:
    """Compare the product-moment correlation of `x` and `y` (both present, shape (n,)) with the asked one."""
    if (reason := _cannot_correlate(x, y)) is not None:
        return reason
    zx, zy = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    r = float(np.clip((zx * zy).mean(), -1, 1))
    return _correlation(r, zx * zy - r / 2 * (zx**2 + zy**2), asked)


def spearman(x: Floats, y: Floats, asked: float) -> Estimate | NotMeasured:
    """Compare the rank correlation (Pearson's on mid-ranks) of `x` and `y` with the asked one."""
    if (reason := _cannot_correlate(x, y)) is not None:
        return reason
    (place_x, u), (place_y, v) = _mid_ranks(x), _mid_ranks(y)
    var_u, var_v, uv = float(u.var()), float(v.var()), float((u * v).mean())
    scale = math.sqrt(var_u * var_v)
    r = float(np.clip((uv - 0.25) / scale, -1, 1))
    # A row moves a rank correlation by its own ranks and by shifting the ranks of all others.
    covariance = u * v + _mean_above(place_x, v) + _mean_above(place_y, u) - 3 * uv
    spread_u = u**2 + 2 * _mean_above(place_x, u) - 3 * float((u**2).mean())
    spread_v = v**2 + 2 * _mean_above(place_y, v) - 3 * float((v**2).mean())
    return _correlation(r, covariance / scale - r / 2 * (spread_u / var_u + spread_v / var_v), asked)


def _cannot_correlate(x: Floats, y: Floats) -> NotMeasured | None:
    if len(x) < 4:
        return NotMeasured("a correlation needs 4 rows where both are present")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return NotMeasured("one of the two is constant where both are present")
    return None


def _mid_ranks(values: Floats) -> tuple[Codes, Floats]:
    """Return each value's place among the distinct ones and its mid-rank, scaled to mean ½."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return place, ((np.cumsum(counts) - counts / 2) / len(values))[place]


def _mean_above(place: Codes, weights: Floats) -> Floats:
    """Return for each row the mean over rows of their weight, once where above it, half where tied."""
    sums = np.bincount(place, weights)
    above: Floats = (sums.sum() - np.cumsum(sums) + sums / 2) / len(place)
    return above[place]


def _correlation(r: float, influence: Floats, asked: float) -> Estimate:
    error = math.sqrt(float((influence**2).mean()) / len(influence))
    if error < 1e-9 or abs(asked) >= 1 or 1 - r * r < 1e-9:
        return _by_difference(r, asked, error if error >= 1e-9 else 0.0)
    error_z = error / (1 - r * r)
    distance = (math.atanh(r) - math.atanh(asked)) / error_z
    return Estimate(r, asked, error_z * (1 - asked * asked), distance)


def odds_ratio(x: Codes, y: Codes, asked: float) -> Estimate | NotMeasured:
    """Compare the odds ratio of two-level codes (0 the first level, 1 the second; none missing)."""
    (a, b), (c, d) = np.bincount(2 * x + y, minlength=4).reshape(2, 2).tolist()
    if min(a, b, c, d) == 0:
        return NotMeasured("a cell of the two-way table is empty, so the odds ratio has no value")
    achieved = a * d / (b * c)
    error = math.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    return Estimate(achieved, asked, asked * error, math.log(achieved / asked) / error)


def cramers_v(x: Codes, y: Codes, asked: float) -> Estimate | NotMeasured:
    """Compare Cramér's V (no correction; levels that occur) of two columns of codes, none missing."""
    width = int(y.max(initial=0)) + 1
    counts = np.bincount(x * width + y, minlength=(int(x.max(initial=0)) + 1) * width).reshape(-1, width)
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    if min(counts.shape) < 2:
        return NotMeasured("one of the two has fewer than 2 levels where both are present")
    n, smaller = int(counts.sum()), min(counts.shape) - 1
    degrees = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    p = counts / n
    rows, columns = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    ratio = p / (rows * columns)
    phi2 = max(float((p * ratio).sum()) - 1, 0.0)
    slope = (
        2 * ratio
        - (p * ratio).sum(axis=1, keepdims=True) / rows
        - (p * ratio).sum(axis=0, keepdims=True) / columns
    )
    variance = float((p * slope**2).sum()) - float((p * slope).sum()) ** 2
    bias = degrees / (n * smaller)
    return _root(
        phi2 / smaller, asked, n, bias, 2 * bias**2 / degrees, max(variance, 0.0) / smaller**2, 1 / smaller
    )


def correlation_ratio(groups: Codes, values: Floats, asked: float) -> Estimate | NotMeasured:
    """Compare η, the root of the share of the variance of `values` between `groups`; none missing."""
    _, groups = np.unique(groups, return_inverse=True)
    n, degrees = len(values), int(groups.max(initial=0))
    if degrees < 1:
        return NotMeasured("the category has fewer than 2 levels where both are present")
    total = (values - values.mean()) ** 2
    if total.sum() == 0 or n < degrees + 2:
        return NotMeasured("the number is constant, or has too few rows, where both are present")
    means = np.bincount(groups, values) / np.bincount(groups)
    within = (values - means[groups]) ** 2
    eta2 = max(1 - float(within.sum() / total.sum()), 0.0)
    influence = ((1 - eta2) * total - within) / float(total.mean())
    variance = float((influence**2).mean())
    return _root(eta2, asked, n, degrees / (n - 1), 2 * degrees / n**2, variance, 1.0)


def _root(
    square: float, asked: float, n: int, bias: float, floor: float, variance: float, slope: float
) -> Estimate:
    """Compare on the root's scale a measure whose square is estimated with an upward bias.

    `bias` and `floor` are the mean and variance of the square where the truth is 0. `variance`/n is its
    variance as the rows show it, where the truth is not near 0; near 0 it is 4 · slope · truth/n.
    """
    # What the rows show is of use for the shape of the variance only well away from 0, where it vanishes.
    if square > 9 * bias:
        slope = variance / (4 * square)
    expected = asked**2 + (1 - asked**2) * min(bias, 1.0)
    spread = math.sqrt(4 * slope * asked**2 / n + floor)
    error = spread / (2 * math.sqrt(expected)) if expected > 0 else 0.0
    mean_root = math.sqrt(max(expected - error**2, 0.0))
    return _by_difference(math.sqrt(square), mean_root, error)
