"""Families of distributions that a schema may name, by their mean and sd."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def distribution_function(
    family: str, lower: float | None, upper: float | None
) -> Callable[[Floats, float, float], Floats]:
    """Return the family's distribution function by mean and sd, before it is bounded.

    One-parameter families take the mean alone. Formulas: Johnson, Kotz, Balakrishnan, Continuous
    Univariate Distributions, 2nd ed. 1994; Univariate Discrete Distributions, 3rd ed. 2005.
    """
    from scipy import special

    def positive(x: Floats) -> Floats:
        return np.maximum(x, 0.0)

    def lognormal(x: Floats, mean: float, sd: float) -> Floats:
        mu, sigma = log_scale(mean, sd)
        with np.errstate(divide="ignore"):
            return np.asarray(special.ndtr((np.log(positive(x)) - mu) / sigma))

    def uniform(x: Floats, mean: float, sd: float) -> Floats:
        low = lower if lower is not None else mean - math.sqrt(3) * sd
        high = upper if upper is not None else mean + math.sqrt(3) * sd
        return np.clip((x - low) / max(high - low, 1e-12), 0, 1)

    def exponential(x: Floats, mean: float, sd: float) -> Floats:
        return -np.expm1(-positive(x) / max(mean, 1e-12))

    def gamma(x: Floats, mean: float, sd: float) -> Floats:
        return np.asarray(special.gammainc((mean / sd) ** 2, positive(x) * mean / sd**2))

    def beta(x: Floats, mean: float, sd: float) -> Floats:
        low, high = (lower or 0.0), (upper if upper is not None else 1.0)
        share = (mean - low) / (high - low)
        size = max(share * (1 - share) / (sd / (high - low)) ** 2 - 1, 1e-3)
        return np.asarray(
            special.betainc(share * size, (1 - share) * size, np.clip((x - low) / (high - low), 0, 1))
        )

    def weibull(x: Floats, mean: float, sd: float) -> Floats:
        shape = _weibull_shape(sd / mean)
        return -np.expm1(-((positive(x) / (mean / math.gamma(1 + 1 / shape))) ** shape))

    def logistic(x: Floats, mean: float, sd: float) -> Floats:
        return np.asarray(special.expit((x - mean) / (sd * math.sqrt(3) / math.pi)))

    def poisson(x: Floats, mean: float, sd: float) -> Floats:
        return np.where(x < 0, 0.0, special.pdtr(np.floor(positive(x)), max(mean, 1e-12)))

    def negative_binomial(x: Floats, mean: float, sd: float) -> Floats:
        size = mean**2 / max(sd**2 - mean, 1e-9 * mean)
        return np.where(x < 0, 0.0, special.betainc(size, np.floor(positive(x)) + 1, size / (size + mean)))

    def normal(x: Floats, mean: float, sd: float) -> Floats:
        return np.asarray(special.ndtr((x - mean) / sd))

    return {
        "normal": normal,
        "lognormal": lognormal,
        "uniform": uniform,
        "exponential": exponential,
        "gamma": gamma,
        "beta": beta,
        "weibull": weibull,
        "logistic": logistic,
        "poisson": poisson,
        "negative_binomial": negative_binomial,
    }[family]


def log_scale(mean: float, sd: float) -> tuple[float, float]:
    """Return the mean and sd of the logarithm of a lognormal variable; NaN where its mean is not positive."""
    sigma2 = math.log1p((sd / mean) ** 2) if mean > 0 else math.nan
    return (math.log(mean) - sigma2 / 2 if mean > 0 else math.nan), math.sqrt(sigma2)


def _weibull_shape(variation: float) -> float:
    low, high = 0.1, 100.0
    for _ in range(60):  # bisection: the coefficient of variation falls with the shape
        shape = math.sqrt(low * high)
        square = math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)) - 1
        low, high = (shape, high) if square > variation**2 else (low, shape)
    return shape
