"""The weights nearest to given ones under which statements hold: damped Newton steps on their influences.

With fixed features this is the dual of relative entropy (I. Csiszár, Annals of Probability 3, 1975), raking
in the survey statistician's words (J.-C. Deville, C.-E. Särndal, Journal of the American Statistical
Association 87, 1992). Statements that are no means of anything (a Cramér's V, a rank correlation) are
linearised anew at every step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.rows import Floats, Rows
from app.blueprint.statements import Measured, Statement, measure

SMALL = 0.05
"""A gap, in tolerances, that is not worth another step."""

RIDGE = 1.0
"""Variance, in squared tolerances, below which a direction counts as fixed: chance, or a contradiction."""

FARTHEST = 15.0
"""Tolerances that one step makes up of a statement, at most."""

PATIENCE = 10
"""Passes without a gain after which no more are made."""

LONGEST = 1.5
"""Standard deviation of one step of the log-weights: beyond, the linearisation says little."""

GROWN = 3.0
"""The furthest that one step moves any log-weight up: a rare row's hardly shows in that deviation."""

SHRUNK = 60.0


def reweigh(rows: Rows, statements: Sequence[Statement], *, passes: int = 40) -> Rows:
    """Return the rows with the weights nearest to theirs under which the statements hold.

    Parameters
    ----------
    rows : Rows
        Weights are positive where a row is possible.
    statements : sequence of Statement
        What contradicts itself is met as nearly as least squares in tolerances go.

    Returns
    -------
    Rows
        The best of the passes, by the sum of gaps beyond a tenth of a tolerance.
    """
    if not statements:
        return rows
    best, least, improved = rows, (np.inf, np.inf), 0
    for number in range(passes):
        measured = [measure(statement, rows) for statement in statements]
        excess, furthest = loss(measured), max(abs(item.gap) for item in measured)
        improved = number if excess < 0.99 * least[0] else improved
        if (excess, furthest) < least:
            best, least = rows, (excess, furthest)
        # Once nothing is missed one more step is made, which squares what is left.
        if furthest < SMALL or number - improved >= (PATIENCE if excess else 1):
            break
        influences = np.stack([item.influence for item in measured], dtype=np.float32, casting="same_kind")
        step = newton_step(measured, influences, influences, rows.weights)
        exponent = (step.astype(np.float32) @ influences).astype(np.float64)
        exponent -= float(rows.weights @ exponent)
        weights = rows.weights * np.exp(np.clip(exponent, -SHRUNK, GROWN))
        rows = rows.reweighted(weights / weights.sum())
    return best


def loss(measured: Sequence[Measured], free: float = 0.1) -> float:
    """Return the sum of gaps beyond what is free, in tolerances, each counted up to 20."""
    gaps = np.abs(np.array([item.gap for item in measured]))
    return float(np.clip(gaps - free, 0, 20).sum())


def newton_step(
    measured: Sequence[Measured],
    influences: NDArray[np.floating[Any]],
    features: NDArray[np.floating[Any]],
    weights: Floats,
) -> Floats:
    """Return the multipliers of `features` whose tilt moves every statement's influence to its shift.

    Parameters
    ----------
    influences, features : ndarray, shape (m, n)
        In tolerances; the features are what the weights are changed by.
    weights : ndarray of float64, shape (n,)
    """
    exact = features.dtype
    shares = weights.astype(exact)
    if features is influences:
        centred, weighted = features, features * shares
        middle = weighted.sum(axis=1)
        reach = (influences @ weighted.T - np.outer(middle, middle)).astype(np.float64)
    else:
        centred = features - (features @ shares)[:, None]
        weighted = centred * shares
        reach = (influences @ weighted.T).astype(np.float64)
    # What is far off and cannot be moved must not outweigh all that can.
    shift = np.clip(np.array([item.shift for item in measured]), -FARTHEST, FARTHEST)
    # Least squares with a ridge in the metric of the features themselves.
    size = reach if features is influences else (centred @ weighted.T).astype(np.float64)
    normal = reach.T @ reach + RIDGE * size
    normal += (1e-6 + 1e-7 * np.trace(normal) / len(shift)) * np.eye(len(shift))
    step = np.linalg.solve(normal, reach.T @ shift)
    length = math.sqrt(max(float(step @ size @ step), 0.0))
    return np.asarray(step * min(1.0, LONGEST / max(length, 1e-12)))
