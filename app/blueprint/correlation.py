"""The latent correlation matrix: as near to the wanted entries as a correlation matrix can be.

Entries that nobody wants are those of greatest entropy (A. P. Dempster, Covariance selection, Biometrics 28,
1972): maximising the determinant leaves their partial correlations at zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.blueprint.rows import Floats

BARRIER = 2e-4
"""Weight of the log-determinant: keeps the matrix positive definite, and moves wanted entries little."""

MANY = 100
"""Columns from which on fewer steps are remembered: they cost more than they save."""


def nearest_correlation(
    size: int, pairs: NDArray[np.int64], wanted: Floats, weights: Floats, start: Floats | None = None
) -> Floats:
    """Return the Cholesky factor of the correlation matrix nearest to the wanted entries.

    Parameters
    ----------
    size : int
        Rows of the matrix.
    pairs : ndarray of int, shape (m, 2)
    wanted, weights : ndarray of float64, shape (m,)
    start : ndarray, shape (size, size), optional
        A factor to begin with.

    Returns
    -------
    ndarray of float64, shape (size, size)
        Lower triangular, rows of length 1.
    """
    if size == 0 or not len(pairs):
        return np.eye(size)
    wanted = np.clip(wanted, -0.9995, 0.9995)
    whole = _exact(size, pairs, wanted)
    if whole is not None:
        return whole
    return _least_squares(size, pairs, wanted, weights, start)


def _exact(size: int, pairs: NDArray[np.int64], wanted: Floats) -> Floats | None:
    """Return the factor where every entry is wanted and they agree."""
    if len(pairs) < size * (size - 1) // 2:
        return None
    matrix = np.eye(size)
    matrix[pairs[:, 0], pairs[:, 1]] = matrix[pairs[:, 1], pairs[:, 0]] = wanted
    if np.linalg.eigvalsh(matrix)[0] < 1e-4:
        return None
    return np.asarray(np.linalg.cholesky(matrix))


def _least_squares(
    size: int, pairs: NDArray[np.int64], wanted: Floats, weights: Floats, start: Floats | None
) -> Floats:
    from scipy.optimize import minimize

    lower = np.tril_indices(size)
    first = np.eye(size) if start is None else start

    def factor(flat: Floats) -> tuple[Floats, Floats]:
        raw = np.zeros((size, size))
        raw[lower] = flat
        lengths = np.sqrt((raw**2).sum(axis=1, keepdims=True))
        return raw / lengths, lengths

    def objective(flat: Floats) -> tuple[float, Floats]:
        unit, lengths = factor(flat)
        diagonal = np.abs(np.diag(unit)) + 1e-300
        found = np.einsum("ij,ij->i", unit[pairs[:, 0]], unit[pairs[:, 1]])
        miss = found - wanted
        value = float(weights @ miss**2) - 2 * BARRIER * float(np.log(diagonal).sum())
        slope = np.zeros((size, size))
        pull = 2 * weights * miss
        np.add.at(slope, (pairs[:, 0], pairs[:, 1]), pull)
        gradient = (slope + slope.T) @ unit
        gradient[np.diag_indices(size)] -= 2 * BARRIER / np.diag(unit)
        gradient -= (gradient * unit).sum(axis=1, keepdims=True) * unit  # rows stay of length 1
        return value, (gradient / lengths)[lower]

    with np.errstate(all="ignore"):
        found = minimize(
            objective,
            first[lower],
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 400 if start is None else 60, "maxcor": 20 if size <= MANY else 6},
        )
    unit = factor(found.x)[0]
    unit = unit * np.where(np.diag(unit) < 0, -1.0, 1.0)[None, :]  # the same products, a positive diagonal
    return np.asarray(unit)
