"""How near a synthetic table is to a real one: the five measures of the zero-shot comparison, and duplicates.

Computed with pandas, SciPy and scikit-learn alone, not with `app.evaluation`: a generator of ours is not
judged by our own figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.zero_shot_tables import Described

if TYPE_CHECKING:
    from app.schema.table import Field, TableSchema

CERTAIN = 2.58
"""An association is taken for real where its rank correlation is beyond so many standard errors (1 %)."""


@dataclass(frozen=True)
class Measured:
    """One table's figures beside a real one. None: not measured, or (sign) nothing to have a sign.

    Parameters
    ----------
    marginals : float
        Mean over columns of the largest difference of the distribution functions (numbers), or of half the
        summed differences of the shares (levels); 0 is best.
    sign : float
        Share of the real table's certain associations that have the same direction; 1 is best.
    size : float
        Mean over pairs of the absolute difference of the association; 0 is best.
    tstr : float
        AUROC on real rows of models that learned from these rows.
    impossible : float
        Share of rows that break a rule of `Described.impossible`; 0 is best.
    repeated, copied : float
        Share of rows that stand in the table before, and that stand in the real table.
    """

    marginals: float
    sign: float | None
    size: float
    tstr: float | None
    impossible: float
    repeated: float
    copied: float


# Marginals -------------------------------------------------------------------------------------------


def column_error(field: Field, real: pd.Series[Any], other: pd.Series[Any]) -> float:
    """Return how far two columns' distributions are apart, 0 to 1; other shares of gaps count, too."""
    gap = abs(float(real.isna().mean()) - float(other.isna().mean()))
    one, two = real.dropna(), other.dropna()
    if not len(one) or not len(two):
        return 0.0 if len(one) == len(two) else 1.0
    if field.levels is not None:
        shares = [column.value_counts(normalize=True) for column in (one, two)]
        found = sum(abs(shares[0].get(level, 0.0) - shares[1].get(level, 0.0)) for level in field.levels) / 2
    else:
        from scipy.stats import ks_2samp

        found = ks_2samp(one.to_numpy("float64"), two.to_numpy("float64")).statistic
    return max(float(found), gap)


def marginal_error(
    schema: TableSchema, real: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str] | None = None
) -> float:
    """Return the mean of `column_error` over columns."""
    chosen = [item for item in schema.fields if columns is None or item.name in columns]
    return float(np.mean([column_error(item, real[item.name], other[item.name]) for item in chosen]))


# Associations ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """How two columns go together, and whether that has a direction."""

    columns: tuple[str, str]
    value: float
    signed: bool
    rows: int

    @property
    def certain(self) -> bool:
        """Whether it is beyond chance at 1 %."""
        return self.signed and abs(self.value) > CERTAIN / max(self.rows - 1, 1) ** 0.5


def associations(
    schema: TableSchema, frame: pd.DataFrame, pairs: Sequence[frozenset[str]] | None = None
) -> list[Pair]:
    """Return all pairs of columns.

    Spearman's correlation where both have an order (numbers, ordered and two-level columns); else, without
    a direction, the correlation ratio of ranks or Cramér's V, both corrected for what chance gives to
    many levels (Wherry; Bergsma 2013), so that short and long tables can be compared.
    """
    return list(_associations(schema, frame, pairs))


def _associations(
    schema: TableSchema, frame: pd.DataFrame, pairs: Sequence[frozenset[str]] | None
) -> Iterator[Pair]:
    for one, other in combinations(schema.fields, 2):
        if pairs is not None and frozenset((one.name, other.name)) not in pairs:
            continue
        both = frame[[one.name, other.name]].dropna()
        names = (one.name, other.name)
        if len(both) < 4:
            yield Pair(names, 0.0, False, len(both))
        elif _ranks(one) and _ranks(other):
            x, y = (_in_order(item, both[item.name]) for item in (one, other))
            constant = x.nunique() < 2 or y.nunique() < 2
            rho = 0.0 if constant else float(np.corrcoef(x.rank(), y.rank())[0, 1])
            yield Pair(names, rho, True, len(both))
        elif _ranks(one) or _ranks(other):
            number, group = (one, other) if _ranks(one) else (other, one)
            ranks = _in_order(number, both[number.name]).rank()
            yield Pair(names, _correlation_ratio(ranks, both[group.name].astype(str)), False, len(both))
        else:
            yield Pair(names, _cramers_v(*(both[name].astype(str) for name in names)), False, len(both))


def _ranks(field: Field) -> bool:
    return field.levels is None or field.ordered or len(field.levels) == 2


def _in_order(field: Field, column: pd.Series[Any]) -> pd.Series[Any]:
    if field.levels is None:
        return column.astype("float64")
    places = {level: place for place, level in enumerate(field.levels)}
    return column.astype(object).map(places).astype("float64")


def _correlation_ratio(ranks: pd.Series[Any], groups: pd.Series[Any]) -> float:
    n, k = len(ranks), groups.nunique()
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if total == 0 or k < 2 or n <= k:
        return 0.0
    within = float(((ranks - ranks.groupby(groups).transform("mean")) ** 2).sum())
    return max(0.0, 1 - (within / (n - k)) / (total / (n - 1))) ** 0.5


def _cramers_v(one: pd.Series[Any], other: pd.Series[Any]) -> float:
    counts = pd.crosstab(one, other).to_numpy("float64")
    n, (r, c) = counts.sum(), counts.shape
    if min(r, c) < 2:
        return 0.0
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi = max(0.0, ((counts - expected) ** 2 / expected).sum() / n - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    return float((phi / max(min(rows, columns) - 1, 1e-9)) ** 0.5)


def sign_and_size(real: Sequence[Pair], other: Sequence[Pair]) -> tuple[float | None, float]:
    """Return the share of certain associations whose direction is right, and the mean difference in size."""
    found = {pair.columns: pair for pair in other}
    both = [(pair, found[pair.columns]) for pair in real]
    certain = [one.value * two.value > 0 for one, two in both if one.certain]
    size = float(np.mean([abs(one.value - two.value) for one, two in both]))
    return (float(np.mean(certain)) if certain else None), size


# Utility ---------------------------------------------------------------------------------------------


def auroc(table: Described, rows: pd.DataFrame, holdout: pd.DataFrame, train: pd.DataFrame) -> float:
    """Return the mean AUROC on the holdout of a logistic regression and a random forest trained on `rows`.

    `train` gives the medians for missing numbers; rows of one outcome teach nothing (0.5).
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    outcome, truth = (
        frame[table.target].astype("boolean").fillna(False).astype(bool) for frame in (rows, holdout)
    )
    if outcome.all() or not outcome.any() or truth.all() or not truth.any():
        return 0.5
    x, held = (_design(table, frame, train) for frame in (rows, holdout))
    models = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
        RandomForestClassifier(300, min_samples_leaf=3, random_state=0, n_jobs=1),
    )
    return float(
        np.mean([roc_auc_score(truth, model.fit(x, outcome).predict_proba(held)[:, 1]) for model in models])
    )


def _design(table: Described, rows: pd.DataFrame, train: pd.DataFrame) -> np.ndarray[Any, Any]:
    columns = []
    for item in table.schema.fields:
        if item.name == table.target:
            continue
        if item.levels is not None:
            texts = rows[item.name].astype(object)
            columns += [texts.eq(level).fillna(False).to_numpy("float64") for level in item.levels]
        else:
            middle = float(train[item.name].dropna().astype("float64").median())
            columns.append(np.nan_to_num(rows[item.name].to_numpy("float64", na_value=np.nan), nan=middle))
    return np.column_stack(columns)


# What cannot be, and what is there twice -----------------------------------------------------------------


def impossible(table: Described, rows: pd.DataFrame) -> dict[str, float]:
    """Return by rule the share of rows that break it, and under "" the share that breaks any."""
    from app.schema.evaluate import breaks
    from app.schema.rules import parse_expression

    known = {item.name: item for item in table.schema.fields}
    broken = {
        what: np.asarray(breaks(parse_expression(rule, known, expects="boolean"), rows))
        for what, rule in table.impossible.items()
    }
    shares = {what: float(found.mean()) for what, found in broken.items()}
    return shares | {"": float(np.any(list(broken.values()), axis=0).mean())}


def repeated(rows: pd.DataFrame) -> float:
    """Return the share of rows that are equal to one before them."""
    return float(rows.astype(str).duplicated().mean())


def copied(rows: pd.DataFrame, real: pd.DataFrame) -> float:
    """Return the share of rows that are equal to a row of the real table."""
    known = set(map(tuple, real.astype(str).to_numpy()))
    return float(np.mean([tuple(row) in known for row in rows.astype(str).to_numpy()]))
