"""The interval of the overlap of coefficients' confidence intervals, drawn from what each row weighs.

The overlap is all but a mean of absolute differences of estimates: it is never 1, however alike two
populations are. So it is asked how far apart the coefficients may be (`app.evaluation.intervals.inverted`).
An interval around the value, from the errors of the estimates, covered the mean over samples in 65 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.evaluation.bootstrap import Z95
from app.evaluation.columns import Codes, Floats
from app.evaluation.intervals import inverted

DRAWS = 400

_SLACK = 0.3
"""Standard deviations by which the mean of draws may be off: which coefficients there are varies, too."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """Coefficients of all regressions together, as far as one table tells them.

    Parameters
    ----------
    estimates, errors : ndarray of float64, shape (p,)
    influences : ndarray of float64, shape (n, p)
        What each row weighs: the errors of the estimates are about those of their sum.
    persons : ndarray of int64, shape (n,), or None
        Who a row belongs to; None where each row is a person.
    """

    estimates: Floats
    errors: Floats
    influences: Floats
    persons: Codes | None = None

    def covariance(self) -> Floats:
        """Return the sandwich covariance of the estimates (Huber 1967; HC1), by persons where named."""
        weighed = self.influences
        if self.persons is not None:
            weighed = np.zeros((int(self.persons.max(initial=-1)) + 1, weighed.shape[1]))
            np.add.at(weighed, self.persons, self.influences)
        n, p = weighed.shape
        result: Floats = weighed.T @ weighed * (n / max(n - p - 1, 1))
        return result


def overlaps(apart: Floats, one: Floats, other: Floats) -> Floats:
    """Return the overlap of 95 % intervals as a mean share of both lengths, in [0, 1].

    Parameters
    ----------
    apart : ndarray
        Differences of the estimates.
    one, other : ndarray
        Their standard errors; shapes that broadcast.
    """
    high = np.minimum(Z95 * one, apart + Z95 * other)
    low = np.maximum(-Z95 * one, apart - Z95 * other)
    common = np.maximum(high - low, 0) / (2 * Z95)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (common / one + common / other) / 2
    return np.asarray(np.nan_to_num(np.minimum(shares, 1.0)), dtype=np.float64)


def interval_of_overlap(
    real: Estimated,
    made: Estimated,
    blocks: Sequence[tuple[Floats, Floats]],
    share: float,
    seed: Sequence[int],
) -> tuple[float, float]:
    """Return a 95 % interval of the mean overlap of real and synthetic coefficients over blocks.

    Parameters
    ----------
    real, made : Estimated
        From the train part, and from all synthetic rows together.
    blocks : sequence of (estimates, errors)
        Of equally large blocks of the synthetic rows, at least one.
    share : float
        A block's part of all synthetic rows.
    seed : sequence of int
    """
    rng = np.random.default_rng(seed)
    errors = np.array([each for _, each in blocks])
    apart = np.array([estimates for estimates, _ in blocks]) - real.estimates
    value = 1 - float(overlaps(apart, real.errors, errors).mean())
    common = _normal(rng, real.covariance(), (DRAWS, 1))
    noise = common + _normal(rng, made.covariance() / share, (DRAWS, len(blocks)))
    if not noise.any():
        return 1 - value, 1 - value
    towards = apart.mean(axis=0)
    towards = towards + np.where(towards < 0, -0.01, 0.01) * noise.std(axis=(0, 1))

    def simulate(times: float) -> Floats:
        found: Floats = 1 - overlaps(times * towards + noise, real.errors, errors).mean(axis=(1, 2))
        return found

    # From no true difference to well beyond the observed ones, which chance may have made small.
    reach = 1.0 + 4.0 * float(simulate(0.0).mean()) / max(value, 1e-9)
    low, high = inverted(value, simulate, reach, (0.0, 1.0), _SLACK)
    return 1 - high, 1 - low


def _normal(rng: np.random.Generator, covariance: Floats, shape: tuple[int, int]) -> Floats:
    roots, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    drawn: Floats = rng.normal(size=(*shape, len(roots))) @ (vectors * np.sqrt(np.maximum(roots, 0.0))).T
    return drawn
