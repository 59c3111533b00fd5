"""What is trained: a linear model, boosted trees, a random forest, and the yardsticks of one line.

Each learner is `learn(task, rows, seed) -> predict`, and `predict(rows)` gives class shares, shape (n, k), or
numbers, shape (n,). Rows are encoded once (`encoder_of`), for models are fitted many times. scikit-learn is
imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.columns import Codes, Floats
from app.evaluation.utility.target import Sample, Task

WIDE = 60
"""Columns from which on a split of the boosted trees looks at so many of them, drawn."""

BINS = 5
"""Groups of equal size into which the single-column rule cuts a number."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows.

    Parameters
    ----------
    linear, trees : ndarray of float64, shape (n, …)
        As `app.evaluation.models.Encoding` makes them.
    groups : ndarray of int64, shape (n, p)
        For each column the group of the row: a level, a fifth of the numbers; 0 is missing.
    y : ndarray, shape (n,)
    """

    linear: Floats
    trees: Floats
    groups: Codes
    y: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def take(self, chosen: Codes) -> Rows:
        """Return some of the rows."""
        return Rows(self.linear[chosen], self.trees[chosen], self.groups[chosen], self.y[chosen])


Predict = Callable[[Rows], Floats]
Learn = Callable[[Task, Rows, int], Predict]


def encoder_of(task: Task) -> Callable[[Sample], Rows]:
    """Return what encodes samples of the task; numbers are cut at the quintiles of the train part."""
    real = task.encoding.trees(task.train.frame)
    cuts = [
        None
        if level
        else np.unique(np.quantile(column[~np.isnan(column)], np.arange(1, BINS) / BINS))
        if not np.isnan(column).all()
        else np.empty(0)
        for column, level in zip(real.T, task.encoding.categorical, strict=True)
    ]

    def encode(sample: Sample) -> Rows:
        trees = task.encoding.trees(sample.frame)
        groups = np.zeros(trees.shape, dtype=np.int64)
        for place, edges in enumerate(cuts):
            column = trees[:, place]
            known = ~np.isnan(column)
            groups[known, place] = 1 + (
                column[known].astype(np.int64)
                if edges is None
                else np.searchsorted(edges, column[known], side="left")
            )
        return Rows(task.encoding.linear(sample.frame), trees, groups, sample.y)

    return encode


def linear(task: Task, rows: Rows, seed: int) -> Predict:
    """Fit a logistic or ridge regression on standardised columns (penalty 1)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    model = LogisticRegression(max_iter=300) if task.is_classification else Ridge(alpha=1.0)
    return _fitted(task, rows, model, lambda those: those.linear)


def boosted_trees(task: Task, rows: Rows, seed: int) -> Predict:
    """Fit scikit-learn's histogram gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if task.is_classification else HistGradientBoostingRegressor
    model = kind(
        # A tree for each class and round: with many classes fewer rounds, for the same time. As good as 100
        # rounds at 0.1 on 255 bins over the development tables (mean AUROC 0.816 and 0.816), in 0.6 the time.
        max_iter=max(60 // max(len(task.classes) - 1, 1), 20),
        learning_rate=0.15,
        max_bins=63,
        max_leaf_nodes=15,
        min_samples_leaf=max(min(20, len(rows) // 10), 2),
        # Of a wide table each split looks at some columns: for the time, and it does no harm.
        max_features=min(1.0, WIDE / len(task.encoding.names)),
        categorical_features=task.encoding.categorical,
        early_stopping=False,
        random_state=seed,
    )
    return _fitted(task, rows, model, lambda those: those.trees)


def random_forest(task: Task, rows: Rows, seed: int) -> Predict:
    """Fit a random forest of 100 trees."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if task.is_classification else RandomForestRegressor
    model = kind(n_estimators=100, min_samples_leaf=2, max_features="sqrt", random_state=seed, n_jobs=1)
    return _fitted(task, rows, model, lambda those: those.linear)


def most_frequent(task: Task, rows: Rows, seed: int) -> Predict:
    """Predict what is most frequent (its shares), or the mean, for everybody."""
    if task.is_classification:
        shares = np.bincount(rows.y, minlength=len(task.classes)) / len(rows)
        return lambda those: np.tile(shares, (len(those), 1))
    mean = float(rows.y.mean())
    return lambda those: np.full(len(those), mean)


def best_single_column(task: Task, rows: Rows, seed: int) -> Predict:
    """Predict from one column alone (see `SingleColumnRule`)."""
    return SingleColumnRule.learned(task, rows)


MODELS: Mapping[str, Learn] = {
    "linear": linear,
    "boosted trees": boosted_trees,
    "random forest": random_forest,
}
YARDSTICKS: Mapping[str, Learn] = {
    "most frequent": most_frequent,
    "best single column": best_single_column,
}


def _fitted(task: Task, sample: Rows, model: Any, encode: Callable[[Rows], Floats]) -> Predict:
    if len(np.unique(sample.y)) < 2:
        # Synthetic rows of one class teach that class and nothing else.
        return most_frequent(task, sample, 0)
    centre, spread = 0.0, 1.0
    if not task.is_classification:
        centre, spread = float(sample.y.mean()), float(sample.y.std()) or 1.0
    model.fit(encode(sample), sample.y if task.is_classification else (sample.y - centre) / spread)

    def predict(rows: Rows) -> Floats:
        if not task.is_classification:
            return np.asarray(model.predict(encode(rows)), dtype=np.float64) * spread + centre
        shares = np.zeros((len(rows), len(task.classes)))
        shares[:, model.classes_] = model.predict_proba(encode(rows))
        return shares

    return predict


@dataclass(frozen=True, slots=True)
class SingleColumnRule:
    """A rule of one line: group the rows by one column, predict each group's share of classes or mean.

    Numbers are cut at the quintiles of the train part; missing is a group of its own. The column is the one
    with the best Akaike criterion (Akaike 1974) in the rows that the rule is learned from.
    """

    place: int
    column: str
    predictions: NDArray[Any]

    @classmethod
    def learned(cls, task: Task, sample: Rows) -> SingleColumnRule:
        """Choose the column and learn its groups' predictions."""
        cells = sample.groups
        best, best_criterion = 0, np.inf
        for place in range(cells.shape[1]):
            criterion = _criterion(task, cells[:, place], sample.y)
            if criterion < best_criterion:
                best, best_criterion = place, criterion
        return cls(best, task.encoding.names[best], _group_means(task, cells[:, best], sample.y))

    def __call__(self, rows: Rows) -> Floats:
        """Predict; a group that the rule has not seen gets the overall prediction (the last one)."""
        cells = rows.groups[:, self.place]
        last = len(self.predictions) - 1
        return np.asarray(self.predictions[np.where(cells < last, cells, last)], dtype=np.float64)


def _group_means(task: Task, cells: Codes, y: NDArray[Any]) -> NDArray[Any]:
    """Return each group's shares or mean, drawn to the overall one by two rows' weight; overall last."""
    width = int(cells.max()) + 1
    rows = np.bincount(cells, minlength=width)
    if not task.is_classification:
        overall = y.mean()
        means = (np.bincount(cells, y, minlength=width) + 2 * overall) / (rows + 2)
        return np.append(means, overall)
    k = len(task.classes)
    counts = np.bincount(cells * k + y, minlength=width * k).reshape(width, k)
    overall = np.bincount(y, minlength=k) / len(y)
    return np.vstack([(counts + 2 * overall) / (rows + 2)[:, None], overall])


def _criterion(task: Task, cells: Codes, y: NDArray[Any]) -> float:
    """Return Akaike's criterion, halved."""
    predicted, groups = _group_means(task, cells, y)[cells], len(np.unique(cells))
    if not task.is_classification:
        mean_error = float(((y - predicted) ** 2).mean())
        return len(y) / 2 * float(np.log(max(mean_error, 1e-300))) + groups
    likelihood = float(np.log(np.maximum(predicted[np.arange(len(y)), y], 1e-12)).sum())
    return -likelihood + (groups - 1) * (len(task.classes) - 1)
