"""Fidelity of whole rows: can a classifier tell synthetic rows from real ones that no generator saw.

A classifier two-sample test (C2ST, Lopez-Paz & Oquab 2017) by boosted trees, against the holdout: against
the train part a generator that copies would look perfect.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import auroc, auroc_error, auroc_interval
from app.evaluation.columns import Codes, Floats, pooled
from app.evaluation.intervals import never_below_zero
from app.evaluation.models import Encoding, encoding_of

MOST_ROWS = 5_000
"""Rows of either side that are compared (error of the AUROC at most 0.006); of more a random sample."""

FEWEST_ROWS = 20

SHUFFLED_COLUMNS = 20
"""Columns whose shuffling is tried; in a wider table those that give most away alone."""

BINS = 20

_STREAM = 4201


class DetectionAUC:
    """AUROC of boosted trees that tell synthetic rows from holdout rows; 0.5 where they cannot.

    Notes
    -----
    As many synthetic as holdout rows; predictions are for rows that the trees have not seen (cross-fitted);
    the AUROC is taken within folds and averaged. Below 0.5 lies chance alone: such a value is given as 0.5,
    and as it is in `details["auroc"]`. The baseline tells train rows from holdout rows in the same way.
    """

    name: ClassVar[str] = "c2st"
    title: ClassVar[str] = "Telling synthetic rows from real ones (C2ST, boosted trees)"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.5, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {
        "train": FEWEST_ROWS,
        "holdout": FEWEST_ROWS,
        "synthetic": FEWEST_ROWS,
    }

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` names the columns by what each gives away alone and in the trees."""
        assert tables.train is not None and tables.holdout is not None  # `needs` says so
        synthetic = pooled(tables)
        rows = min(len(synthetic), len(tables.holdout), MOST_ROWS)
        if min(rows, len(tables.train)) < FEWEST_ROWS:
            return NotMeasured(
                f"it needs {FEWEST_ROWS} rows each of the holdout, the train part and the synthetic rows"
            )
        encoding = encoding_of(tables)
        if not encoding.names:
            return NotMeasured("every column is an id or free text, which are left out of the comparison")
        side = _Side(encoding, tables.seed)
        holdout = side.sample(tables.holdout, rows)
        made = side.sample(synthetic, rows)
        found = side.detect(made, holdout)
        train = side.sample(tables.train, min(rows, len(tables.train)))
        chance = side.detect(train, holdout)
        return self._score(side, found, chance, side.chances(made, holdout), rows, tables.seed)

    def _score(
        self, side: _Side, found: _Detection, chance: _Detection, chances: list[float], rows: int, seed: int
    ) -> Score:
        low, high = _interval(found, rows)
        table = [
            {
                "column": name,
                "value": round(max(found.alone[place], 0.5), 4),
                "baseline": round(max(chance.alone[place], 0.5), 4),
                "p": chances[place],
                "lost_when_shuffled": found.lost.get(place),
            }
            for place, name in enumerate(side.names)
        ]
        table.sort(key=lambda row: (-row["value"], row["column"]))
        telling = [row["column"] for row in table if row["p"] * len(table) < 0.05][:5]
        joint = sorted(
            (place for place, lost in found.lost.items() if lost > 0.01), key=lambda p: -found.lost[p]
        )
        reading = (
            f"Boosted trees tell a synthetic row from a real one with an AUROC of {found.auroc:.3f} "
            f"(0.5 is a coin toss; train against holdout: {chance.auroc:.3f})"
        )
        if low <= 0.5 and not telling:
            reading += "; no column gives it away beyond chance."
        elif telling:
            reading += f". Given away alone by {', '.join(telling)}."
        elif joint:
            reading += f". Given away together by {', '.join(side.names[place] for place in joint[:5])}."
        else:
            reading += "; no single column gives it away."
        return Score(
            value=max(found.auroc, 0.5),
            interval=(low, high),
            baseline=max(chance.auroc, 0.5),
            reading=reading,
            details={
                "aggregate": "mean of auroc over folds, at least 0.5; the table says what each column gives "
                "away alone (value) and in the trees (AUROC lost when its values are shuffled)",
                "table": table,
                "folds": [round(value, 6) for value in found.folds],
                "auroc": round(found.auroc, 6),
                "auroc_train_against_holdout": round(chance.auroc, 6),
                "interval": "Wilson's with DeLong's standard error, widened for folds that share training "
                "rows (Nadeau & Bengio 2003), near 0.5 unified (Feldman & Cousins 1998), 95 %",
                "p": "of a test of the column alone (rank sum, and chi-squared over bins); named in the "
                "reading where it holds over all columns (Bonferroni)",
                "rows_of_each": rows,
                "rows_at_most": MOST_ROWS,
                "seed": seed,
                "pictures": [
                    {
                        "kind": "bars",
                        "title": "What each column gives away alone (AUROC, 0.5 is nothing)",
                        "origin": 0.5,
                        "rows": [
                            {"name": row["column"], "value": row["value"], "baseline": row["baseline"]}
                            for row in table[:20]
                        ],
                    }
                ],
            },
        )


@dataclass(frozen=True, slots=True)
class _Detection:
    auroc: float
    error: float
    folds: tuple[float, ...]
    alone: tuple[float, ...]
    lost: Mapping[int, float]


def _interval(found: _Detection, rows: int) -> tuple[float, float]:
    """Return the interval of an AUROC that is 0.5 or more in truth."""
    low, high = auroc_interval(found.auroc, found.error, rows, rows)
    if found.auroc < 0.5 + 3 * found.error:
        low, high = (0.5 + end for end in never_below_zero(found.auroc - 0.5, found.error))
    return max(low, 0.5), min(max(high, 0.5), 1.0)


@dataclass(frozen=True, slots=True)
class _Sample:
    values: Floats
    keys: NDArray[np.uint64]


class _Side:
    """Encodes and samples either side, and runs the test.

    What row goes where hangs on its content, not on its place: a sample and its folds are the same in
    whatever order rows and columns come, and of two equal rows one on each side share a fold, so that
    none is recognised by its twin.
    """

    def __init__(self, encoding: Encoding, seed: int) -> None:
        self._encoding = encoding
        self._order = np.argsort(np.array(encoding.names), kind="stable")
        self._seed = seed
        self.names = tuple(encoding.names[place] for place in self._order)

    def sample(self, frame: pd.DataFrame, rows: int) -> _Sample:
        values = self._encoding.trees(frame)[:, self._order]
        keys = _keys(values, self.names, self._seed)
        chosen = np.argsort(keys, kind="stable")[:rows]
        return _Sample(values[chosen], keys[chosen])

    def detect(self, made: _Sample, real: _Sample) -> _Detection:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        values = np.concatenate([made.values, real.values])
        keys = np.concatenate([made.keys, real.keys])
        truth = np.repeat([True, False], [len(made.keys), len(real.keys)])
        order = np.lexsort((truth, keys))
        values, truth = values[order], truth[order]
        folds = np.unique(keys[order], return_inverse=True)[1] % (5 if len(real.keys) < 1000 else 3)
        alone = [_alone(column, truth, folds) for column in values.T]
        tried = np.argsort(-np.array(alone), kind="stable")[:SHUFFLED_COLUMNS]
        rng = np.random.default_rng([self._seed, _STREAM])
        parts: list[tuple[float, float, int]] = []
        lost = dict.fromkeys(tried.tolist(), 0.0)
        for fold in range(int(folds.max()) + 1):
            test = folds == fold
            if len(np.unique(truth[test])) < 2 or len(np.unique(truth[~test])) < 2:
                continue
            model = HistGradientBoostingClassifier(
                max_iter=40,
                learning_rate=0.15,
                max_bins=63,
                max_leaf_nodes=15,
                min_samples_leaf=10,
                l2_regularization=1.0,
                max_features=min(1.0, 60 / values.shape[1]),
                early_stopping=False,
                # Codes go as numbers: of the same use to boosted trees, without an encoder's time.
                categorical_features=None,
                random_state=self._seed % 2**32,
            )
            # The trees refuse a column without any value; of it they could learn nothing.
            known = np.where(np.isnan(values[~test]).all(axis=0), 0.0, values)
            with threadpool_limits(1):
                model.fit(known[~test], truth[~test])
                scores = model.decision_function(known[test])
                value, seen = auroc(scores, truth[test]), int(test.sum())
                parts.append((value, float(np.nan_to_num(auroc_error(scores, truth[test]))), seen))
                # One call for all columns: a call costs more than its rows.
                shuffled = np.tile(known[test], (len(lost), 1))
                for block, place in enumerate(lost):
                    part = slice(block * seen, (block + 1) * seen)
                    shuffled[part, place] = rng.permutation(shuffled[part, place])
                found = model.decision_function(shuffled).reshape(-1, seen)
            for place, scores_left in zip(lost, found, strict=True):
                lost[place] += (value - auroc(scores_left, truth[test])) * seen / len(truth)
        weights = np.array([part[2] for part in parts], dtype=np.float64)
        weights /= weights.sum()
        # Folds share training rows, so their figures are no independent ones: the variance of the mean is
        # the mean variance times (1/k + test rows/training rows), not 1/k (Nadeau & Bengio 2003).
        variance = float(weights @ [part[1] ** 2 for part in parts])
        return _Detection(
            auroc=float(weights @ [part[0] for part in parts]),
            error=math.sqrt(variance * (1 / len(parts) + 1 / max(len(parts) - 1, 1))),
            folds=tuple(part[0] for part in parts),
            alone=tuple(alone),
            lost={place: round(value, 4) + 0.0 for place, value in lost.items()},
        )

    def chances(self, made: _Sample, real: _Sample) -> list[float]:
        """Return for each column how probable so great a difference is by chance."""
        values = np.concatenate([made.values, real.values])
        truth = np.repeat([True, False], [len(made.keys), len(real.keys)])
        categorical = self._encoding.categorical[self._order]
        return [
            _chance_of(column, truth, bool(nominal))
            for column, nominal in zip(values.T, categorical, strict=True)
        ]


def _keys(values: Floats, names: tuple[str, ...], seed: int) -> NDArray[np.uint64]:
    """Return a random number for each row that hangs on its content and on how many equals come before it."""
    total = np.full(len(values), seed % 2**64, dtype=np.uint64)
    for name, column in zip(names, values.T, strict=True):
        salt = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], dtype=np.uint64)
        # One bit pattern for 0 and −0, and one for NaN.
        plain = np.where(np.isnan(column), np.nan, column + 0.0)
        total += _mixed(pd.util.hash_array(plain) ^ salt)
    total = _mixed(total)
    order = np.argsort(total, kind="stable")
    ordered = total[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    before = np.empty(len(values), dtype=np.uint64)
    before[order] = np.arange(len(values), dtype=np.uint64) - starts.astype(np.uint64)
    return _mixed(total + before * np.uint64(0x9E3779B97F4A7C15))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread bits evenly (the finaliser of SplitMix64, Steele, Lea & Flood 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = numbers ^ (numbers >> np.uint64(31))
    return result


def _binned(values: Floats) -> Codes:
    """Return bins of about equal size, missing being one, fewer where there are few rows."""
    there = values[~np.isnan(values)]
    bins = min(max(len(values) // 25, 2), BINS)
    edges = np.unique(np.quantile(there, np.linspace(0, 1, bins + 1)[1:-1])) if len(there) else np.empty(0)
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))


def _alone(values: Floats, truth: NDArray[np.bool_], folds: Codes) -> float:
    """Return the AUROC of one column: a row's score is the share of synthetic rows in its bin elsewhere."""
    bins = _binned(values)
    width, k = int(bins.max()) + 1, int(folds.max()) + 1
    made, real = (
        np.bincount((folds * width + bins)[side], minlength=k * width).reshape(k, width)
        for side in (truth, ~truth)
    )
    elsewhere = made.sum(axis=0) - made, real.sum(axis=0) - real
    shares = (elsewhere[0] + 1.0) / (elsewhere[0] + elsewhere[1] + 2.0)
    parts = [
        (value, int(test.sum()))
        for fold in range(k)
        for test in (folds == fold,)
        if math.isfinite(value := auroc(shares[fold][bins[test]], truth[test]))
    ]
    total = sum(size for _, size in parts)
    return sum(value * size for value, size in parts) / total if total else 0.5


def _chance_of(values: Floats, truth: NDArray[np.bool_], categorical: bool) -> float:
    """Return the p-value of one column being the same on either side, of two tests together (Bonferroni)."""
    from scipy.stats import chi2, mannwhitneyu

    bins = _binned(values) if not categorical else np.where(np.isnan(values), -1, values).astype(np.int64) + 1
    counts = np.array([np.bincount(bins[side], minlength=int(bins.max()) + 1) for side in (truth, ~truth)])
    counts = counts[:, counts.any(axis=0)]
    if counts.shape[1] < 2:
        return 1.0
    expected = counts.sum(axis=0) * counts.sum(axis=1, keepdims=True) / counts.sum()
    found = [float(chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.shape[1] - 1))]
    there = ~np.isnan(values)
    if not categorical and len(np.unique(values[there])) > 1 and len(np.unique(truth[there])) == 2:
        found.append(
            float(mannwhitneyu(values[there & truth], values[there & ~truth], method="asymptotic").pvalue)
        )
    return float(f"{min(1.0, len(found) * min(found)):.3g}")
