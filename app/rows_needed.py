"""How many rows a release limit needs: a table that is too small for it is refused at submission.

Knows no statistics library, for the HTTP side imports it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

MOST_ATTACKS = 5_000
"""So many singling-out attacks are tried at most; it bounds what can be shown on the greatest of tables."""


def persons_needed(limit: float) -> int | None:
    """Return in how many holdout persons an attack must fail for a limit to be shown.

    Parameters
    ----------
    limit : float
        On the upper end of the 95 % interval of an attack's advantage, 0 … 1.

    Returns
    -------
    int or None
        The least n with z² / (n + z²) ≤ limit: the upper end of Wilson's interval of 0 out of n
        (Wilson 1927). None where no number of persons is enough.
    """
    if limit <= 0:
        return None
    z2 = NormalDist().inv_cdf(0.975) ** 2
    # What rounding adds to a whole number must not ask for one more.
    needed = max(math.ceil(z2 * (1 / limit - 1) - 1e-9), 10)
    return needed if needed <= MOST_ATTACKS else None


def least_limit() -> float:
    """Return the least limit that the largest of tables can show, rounded up to two digits."""
    z2 = NormalDist().inv_cdf(0.975) ** 2
    least = z2 / (MOST_ATTACKS + z2)
    step = 10.0 ** (math.floor(math.log10(least)) - 1)
    return math.ceil(least / step) * step


def rows_needed(limit: float, holdout: float) -> int | None:
    """Return how many rows a reference must have for `max_singling_out_advantage` to be met at all.

    Parameters
    ----------
    limit : float
        The limit, 0 … 1.
    holdout : float
        Share of the holdout, between 0 and 1.

    Returns
    -------
    int or None
        Rows (persons, where one has several rows); both parts then have `persons_needed`. It is what the best
        of generators needs; one that gives attacks some success needs more. None where no table is
        large enough.

    Examples
    --------
    >>> rows_needed(0.05, 0.3)
    244
    """
    persons = persons_needed(limit)
    if persons is None:
        return None
    # The split rounds the holdout down or up by less than a row.
    return math.ceil(round(max(persons / holdout, (persons + 1) / (1 - holdout)), 6))
