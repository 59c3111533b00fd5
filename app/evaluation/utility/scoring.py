"""How well predictions fit real rows, for many weightings of the rows at once, as a bootstrap needs it.

Every function takes `weights` of shape (b, n), one line a draw (a line of ones is the figure itself), and
gives shape (b,); NaN where a draw has no value, as an AUROC without one of the classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.columns import Codes, Floats

LEAST_R_SQUARED = -1.0
"""R² has no lower end; what is worse than this is shown as this."""


def draw_weights(rng: np.random.Generator, n: int, times: int, persons: Codes | None) -> Floats:
    """Return how often each row is drawn in a bootstrap of rows (or persons): shape (1 + times, n).

    The first line is the sample itself.
    """
    groups = n if persons is None else int(persons.max()) + 1
    draws = np.ones((times + 1, groups), dtype=np.float32)
    for line in range(1, times + 1):
        draws[line] = np.bincount(rng.integers(0, groups, groups), minlength=groups)
    return draws if persons is None else draws[:, persons]  # type: ignore[return-value]


def auroc(truth: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve, ties counting half."""
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], truth[order]
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    drawn = weights[:, order]
    hits = np.add.reduceat(drawn * positive, starts, axis=1, dtype=np.float64)
    misses = np.add.reduceat(drawn * ~positive, starts, axis=1, dtype=np.float64)
    below = np.cumsum(misses, axis=1) - misses / 2
    pairs = hits.sum(axis=1) * misses.sum(axis=1)
    with np.errstate(invalid="ignore"):
        result: Floats = np.where(pairs > 0, (hits * below).sum(axis=1) / pairs, np.nan)
    return result


def macro_auroc(y: Codes, shares: Floats, weights: Floats) -> Floats:
    """Return the AUROC; of three and more classes the mean of each against the rest."""
    if shares.shape[1] == 2:
        return auroc(y == 1, shares[:, 1], weights)
    found = [auroc(y == place, shares[:, place], weights) for place in range(shares.shape[1])]
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def f1(y: Codes, shares: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return macro and weighted F1 of the likeliest class; a class that never occurs counts 0 (macro)."""
    k = shares.shape[1]
    cell = y * k + shares.argmax(axis=1)
    table = (weights @ np.eye(k * k, dtype=np.float32)[cell]).reshape(-1, k, k).astype(np.float64)
    right = table[:, range(k), range(k)]
    actual, predicted = table.sum(axis=2), table.sum(axis=1)
    each = 2 * right / np.maximum(actual + predicted, 1e-12)
    return each.mean(axis=1), (each * actual).sum(axis=1) / actual.sum(axis=1)


def brier(y: Codes, shares: Floats, weights: Floats) -> Floats:
    """Return the Brier score (Brier 1950), halved, so that of two classes it is the mean of (p − y)²."""
    loss = ((shares - np.eye(shares.shape[1])[y]) ** 2).sum(axis=1) / 2
    return np.asarray(weights @ loss / weights.sum(axis=1), dtype=np.float64)


def r_squared(y: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return 1 − SSE/SST around the draw's mean, no less than `LEAST_R_SQUARED`."""
    total = weights.sum(axis=1)
    centred = y - y.mean()
    spread = weights @ centred**2 / total - (weights @ centred / total) ** 2
    error = weights @ (y - predicted) ** 2 / total
    with np.errstate(invalid="ignore", divide="ignore"):
        raw = np.where(spread > 0, 1 - error / spread, np.nan)
    return np.maximum(raw, LEAST_R_SQUARED)


def rmse(y: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return the root of the mean squared error, in the target's unit."""
    return np.asarray(np.sqrt(weights @ (y - predicted) ** 2 / weights.sum(axis=1)), dtype=np.float64)


def measures(y: NDArray[Any], predicted: Floats, weights: Floats) -> dict[str, Floats]:
    """Return all measures; `predicted` holds class shares, shape (n, k), or numbers, shape (n,).

    The first is the one that the headline is made of.
    """
    if predicted.ndim == 1:
        return {"R²": r_squared(y, predicted, weights), "RMSE": rmse(y, predicted, weights)}
    macro, weighted = f1(y, predicted, weights)
    return {
        "AUROC": macro_auroc(y, predicted, weights),
        "F1 (macro)": macro,
        "F1 (weighted)": weighted,
        "Brier": brier(y, predicted, weights),
    }


BOUNDS: dict[str, tuple[float, float]] = {
    "AUROC": (0.0, 1.0),
    "F1 (macro)": (0.0, 1.0),
    "F1 (weighted)": (0.0, 1.0),
    "Brier": (0.0, 1.0),
    "R²": (LEAST_R_SQUARED, 1.0),
    "RMSE": (0.0, np.inf),
}
"""The range of each measure."""
