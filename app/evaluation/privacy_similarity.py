"""Similarity of synthetic rows to training rows: near copies, distance shares, and membership inference.

The two shares (DCR, NNDR) are proxies: rows that pass them can still leak (arXiv 2505.01524). Each figure
stands beside the same one for the holdout, whose rows no generator saw.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from app.evaluation.base import Score, Tables
from app.evaluation.columns import Codes, Floats
from app.evaluation.intervals import mid_p
from app.evaluation.privacy import wilson
from app.evaluation.privacy_distance import (
    MOST_ROWS,
    Space,
    bits,
    closeness_of,
    scrambled,
)
from app.evaluation.privacy_persons import OnPersons
from app.evaluation.privacy_rates import Rate, Z, in_two_ways, none_in, rate_with

TOLERANCE = 0.1
"""Numbers count as equal on a grid of so many interquartile ranges of the train part."""


class NearMatchShare(OnPersons):
    """Share of synthetic rows that equal a training row in all columns but one, numbers on a coarse grid."""

    name: ClassVar[str] = "near_match_share"
    title: ClassVar[str] = "Rows nearly identical to a training row"

    def measure_on(self, tables: Tables, space: Space) -> Score:
        """Measure on all rows that are given."""
        train = _one_left_out(space, space.train.raw)
        made = _matched(_one_left_out(space, space.synthetic.raw), train)
        held = _matched(_one_left_out(space, space.holdout.raw), train)
        share, baseline = float(made.mean()), float(held.mean())
        return Score(
            value=share,
            interval=mid_p(int(made.sum()), len(made)),
            baseline=baseline,
            reading=(
                f"{share:.2%} of the synthetic rows agree with a training row in all columns but at most "
                f"one; of the real holdout rows {baseline:.2%} do, by chance."
            ),
            details={
                "aggregate": "near matches / rows",
                "near_matches": int(made.sum()),
                "rows": len(made),
                "holdout_interval": list(mid_p(int(held.sum()), len(held))),
                "grid": f"numbers are rounded to {TOLERANCE:g} interquartile ranges of the train part",
                "interval": "mid-P, 95 %",
                "compared_columns": [field.name for field in space.fields],
            },
        )


def _one_left_out(space: Space, raw: Floats) -> NDArray[np.uint64]:
    """Hash every row without each of its columns in turn: shape (p, n); the whole row where p is 1."""
    width = raw.shape[1]
    terms = np.empty((width, len(raw)), dtype=np.uint64)
    for place in range(width):
        scale = space.scales[place]
        column = raw[:, place] if scale == 0 else np.rint(raw[:, place] / (TOLERANCE * scale))
        terms[place] = scrambled(bits(column) ^ scrambled(np.array([place + 1], dtype=np.uint64)))
    whole: NDArray[np.uint64] = terms.sum(axis=0, dtype=np.uint64, keepdims=True)
    return whole if width == 1 else whole - terms


def _matched(rows: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    found = np.zeros(rows.shape[1], dtype=np.bool_)
    for some, others in zip(rows, known, strict=True):
        found |= np.isin(some, others)
    return found


class DcrShare(OnPersons):
    """Share of synthetic rows whose closest real record (DCR) is a training row rather than a holdout row."""

    name: ClassVar[str] = "dcr_share"
    title: ClassVar[str] = "Similarity: rows closer to training than to holdout rows (DCR)"

    def measure_on(self, tables: Tables, space: Space) -> Score:
        """Measure; the train part counts with all equally large samples of it, their mean being exact."""
        near = closeness_of(space, tables.seed)
        n, m = len(near.from_train), len(near.from_holdout)
        # Over all samples of m train rows: the chance of a nearer one, and half that of one as near.
        values = 1 - (none_in(n, near.closer, m) + none_in(n, near.as_close, m)) / 2
        share, interval = _share(values, near.near_train, near.near_holdout, min(n, m))
        return Score(
            value=share,
            interval=interval,
            baseline=0.5,
            reading=(
                f"{share:.1%} of the synthetic rows lie closer to a training row than to one of as many "
                "holdout rows; 50 % is what rows of no memory give. It is a proxy of similarity."
            ),
            details=_sizes(space, len(values), n, m)
            | {"aggregate": "mean over synthetic rows, a tie counting one half", "proxy": True},
        )


class NndrShare(OnPersons):
    """Share of synthetic rows that fit a training row more distinctly (NNDR) than a holdout row."""

    name: ClassVar[str] = "nndr_share"
    title: ClassVar[str] = "Similarity: rows with the lower distance ratio to training rows (NNDR)"

    def measure_on(self, tables: Tables, space: Space) -> Score:
        """Measure against one drawn sample of the train part, as large as the holdout."""
        near = closeness_of(space, tables.seed)
        n, m = len(near.from_train), len(near.from_holdout)
        to_train, to_holdout = _ratio(near.to_train), _ratio(near.to_holdout)
        values = np.where(np.abs(to_train - to_holdout) < 1e-7, 0.5, to_train < to_holdout).astype(np.float64)
        share, interval = _share(values, near.near_train, near.near_holdout, min(n, m))
        return Score(
            value=share,
            interval=interval,
            baseline=0.5,
            reading=(
                f"For {share:.1%} of the synthetic rows one training row stands out as near more than any of "
                "as many holdout rows does; 50 % is what rows of no memory give. It is a proxy of similarity."
            ),
            details=_sizes(space, len(values), min(n, m), m)
            | {
                "aggregate": "mean over synthetic rows of: nearest / second nearest is lower in train; "
                "a tie counts one half",
                "proxy": True,
                "median_ratio_train": float(np.median(to_train)),
                "median_ratio_holdout": float(np.median(to_holdout)),
            },
        )


def _ratio(squares: Floats) -> Floats:
    """Return nearest / second nearest; two at distance 0 are as near as each other."""
    first, second = np.round(squares[:, 0], 9), np.round(squares[:, 1], 9)
    return np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))


def _share(
    values: Floats, near_train: Codes, near_holdout: Codes, units: int
) -> tuple[float, tuple[float, float]]:
    from scipy.stats import t

    share = min(max(float(values.mean()), 0.0), 1.0)
    variance = in_two_ways(values, near_train, near_holdout)
    # A variance that few neighbours tell is itself uncertain: Student's quantile, with as many degrees of
    # freedom as equally large clusters would have (Carter, Schnepel & Steigerwald 2017).
    clusters = min(_even(near_train), _even(near_holdout))
    variance *= (float(t.ppf(0.975, max(clusters - 1, 2.0))) / Z) ** 2
    # Means over samples vary less than coins: they are worth more trials than there are rows.
    found = rate_with(share, variance, math.inf, units)
    return share, (found.low, found.high)


def _even(neighbours: Codes) -> float:
    """Return how many clusters of one size would be as uneven evidence as those with a common neighbour."""
    sizes = np.bincount(neighbours)
    return float(sizes.sum()) ** 2 / float((sizes.astype(np.float64) ** 2).sum())


def _sizes(space: Space, synthetic: int, train: int, holdout: int) -> dict[str, object]:
    known: dict[str, object] = {
        "synthetic_rows": synthetic,
        "train_persons": train,
        "holdout_persons": holdout,
        "interval": "Wilson, 95 %, at the number of independent rows that their common neighbours leave "
        "(two-way clustered variance, Cameron, Gelbach & Miller 2011, with Student's quantile)",
    }
    if max(len(space.synthetic), len(space.train), len(space.holdout)) > MOST_ROWS:
        known["sample"] = (
            f"at most {MOST_ROWS} rows of each kind, drawn; the interval includes what that adds, a standard "
            f"error of at most {0.5 / math.sqrt(MOST_ROWS):.3f}; who was not drawn is not seen"
        )
    return known


class MembershipInference(OnPersons):
    """AUROC of telling training from holdout persons by their distance to the nearest synthetic row."""

    name: ClassVar[str] = "membership_inference"
    title: ClassVar[str] = "Membership inference by distance (AUROC)"

    def measure_on(self, tables: Tables, space: Space) -> Score:
        """Measure; details hold the true-positive rate at 1 % false positives."""
        near = closeness_of(space, tables.seed)
        # Nearer is more of a member.
        member, other = -near.from_train, -near.from_holdout
        found = auroc(member, other)
        strict = strictest(member, other, 0.01)
        return Score(
            value=found.value,
            interval=(found.low, found.high),
            baseline=0.5,
            reading=(
                "By their distance to the nearest synthetic row, training persons are told from holdout "
                f"persons with an AUROC of {found.value:.3f}; 0.5 is guessing."
            ),
            details=_sizes(space, min(len(space.synthetic), MOST_ROWS), len(member), len(other))
            | {
                "aggregate": "AUROC, a tie counting one half",
                "interval": "DeLong 1988, 95 %",
                "table": [
                    {"figure": "AUROC", "value": found.value, "low": found.low, "high": found.high,
                     "baseline": 0.5},
                    {"figure": "true-positive rate at 1 % false positives", **strict},
                ],
                "pictures": [
                    {"kind": "curve", "title": "Membership inference", "x_label": "false-positive rate",
                     "y_label": "true-positive rate",
                     "lines": [_roc(member, other, tables.min_cell),
                               {"name": "guessing", "x": [0.0, 1.0], "y": [0.0, 1.0]}]},
                ],
            },
        )  # fmt: skip


def auroc(positive: Floats, negative: Floats) -> Rate:
    """Return the area under the ROC curve with its interval (DeLong, DeLong & Clarke-Pearson 1988).

    Parameters
    ----------
    positive : ndarray, shape (n,)
        Scores of those that should score high.
    negative : ndarray, shape (m,)

    Returns
    -------
    Rate
        Where the two are wholly apart, the variance is 0, and Wilson's arm of min(n, m) trials is taken.
    """
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:n] - rankdata(positive)) / m
    below = 1 - (ranks[n:] - rankdata(negative)) / n
    area = float(above.mean())
    error = Z * math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m)
    if error < 1e-12 and area in (0.0, 1.0):
        return Rate(area, *wilson(int(area) * min(n, m), min(n, m)))
    return Rate(area, max(area - error, 0.0), min(area + error, 1.0))


def strictest(positive: Floats, negative: Floats, false_positives: float) -> dict[str, object]:
    """Return the true-positive rate where at most a share of the negatives lies above the threshold.

    Parameters
    ----------
    positive, negative : ndarray
        Scores, shapes (n,) and (m,).
    false_positives : float
        The share allowed; with m < 1 / share none is.

    Returns
    -------
    dict
        `value`, its interval given the threshold (Wilson), `baseline`: what exchangeable persons give in the
        mean, exactly (k + 1) / (m + 1) with k allowed false positives; and `p_value`: the chance of so many
        or more true positives among exchangeable persons, exact (hypergeometric).
    """
    from scipy.stats import hypergeom

    n, m = len(positive), len(negative)
    allowed = math.floor(false_positives * m + 1e-9)
    threshold = np.sort(negative)[m - 1 - allowed]
    hits = int((positive > threshold).sum())
    low, high = wilson(hits, n)
    # So many hits come exactly where, of the highest hits + k, at most k are negatives.
    p_value = 1.0 if hits == 0 else float(hypergeom.cdf(allowed, n + m, m, hits + allowed))
    return {
        "value": hits / n,
        "low": low,
        "high": high,
        "baseline": (allowed + 1) / (m + 1),
        "allowed_false_positives": allowed,
        "p_value": min(max(p_value, 0.0), 1.0),
    }


def _roc(positive: Floats, negative: Floats, min_cell: int) -> dict[str, object]:
    """Draw the curve in steps of at least `min_cell` persons of either kind."""
    steps = max(min(20, min(len(positive), len(negative)) // max(min_cell, 1)), 1)
    shares = np.arange(1, steps) / steps
    thresholds = np.quantile(negative, 1 - shares) if steps > 1 else np.empty(0)
    caught = [float((positive > t).mean() + (positive == t).mean() / 2) for t in thresholds]
    missed = [float((negative > t).mean() + (negative == t).mean() / 2) for t in thresholds]
    return {"name": "attack", "x": [0.0, *missed, 1.0], "y": [0.0, *caught, 1.0]}
