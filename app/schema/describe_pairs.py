"""What may be said of pairs of columns: signed measures, overall and within strata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from app.disclosure import protected_table
from app.schema.describe_columns import Codes, Column, Floats, Mask, Persons

ENOUGH = 3
"""A measure of two columns rests on at least so many times `min_cell` persons."""
_APART = 0.05  # Pearson's says something that Spearman's does not
_EXACT_PAIRS = 6000  # ranked anew over the rows where both are present; beyond, ranked once a column
_LARGEST_ODDS = 500.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A measure of two columns, and how strong it is on a scale of 0 to 1."""

    fields: tuple[str, str]
    measure: str
    value: float
    strength: float
    given: dict[str, Any] | None = field(default=None, compare=False)

    def document(self) -> dict[str, Any]:
        """Return the association as the schema has it."""
        said: dict[str, Any] = {"fields": list(self.fields), "measure": self.measure, "value": self.value}
        return said | ({"given": self.given} if self.given else {})


def describe_pairs(
    columns: Sequence[Column], persons: Persons, rows: Mask, *, given: dict[str, Any] | None = None
) -> list[Pair]:
    """Measure every pair of columns over `rows`.

    Ranked pairs (numbers, times, two-level and ordered fields) by Spearman's correlation, and by Pearson's
    as well where that differs; pairs of two levels by the odds ratio where every cell is large enough; what
    has levels without an order by Cramér's V or the correlation ratio.

    Parameters
    ----------
    columns : sequence of Column
    persons : Persons
    rows : ndarray of bool, shape (n,)
        The stratum.
    given : dict, optional
        How the schema names the stratum; within one, Pearson's is not told beside Spearman's.
    """
    found = list(_ranked(columns, persons, rows, given))
    for one, other in combinations(columns, 2):
        if one.field.levels is not None and other.field.levels is not None:
            found.extend(_of_levels(one, other, persons, rows, given))
        elif one.ranked and other.ranked:
            continue
        else:
            number, levels = (one, other) if one.field.levels is None else (other, one)
            eta = _correlation_ratio(number, levels, persons, rows)
            if eta is not None:
                found.append(Pair((one.name, other.name), "correlation_ratio", round(eta, 4), eta, given))
    return found


def _ranked(
    columns: Sequence[Column], persons: Persons, rows: Mask, given: dict[str, Any] | None
) -> Iterator[Pair]:
    """Correlate all pairs with an order, but those of two categories: `_of_levels` guards their cells."""
    chosen = [column for column in columns if column.ranked]
    if len(chosen) < 2:
        return
    values = np.stack([column.values[rows] for column in chosen], axis=1)
    present = ~np.isnan(values)
    ranks = np.full(values.shape, np.nan)
    for index in range(len(chosen)):
        ranks[present[:, index], index] = rankdata(values[present[:, index], index])
    spearman, together = _correlations(ranks)
    pearson, _ = _correlations(values)
    gaps = len(chosen) * (~present).any(axis=0).sum() <= _EXACT_PAIRS
    whose = None if persons.codes is None else persons.codes[rows]
    for i, j in combinations(range(len(chosen)), 2):
        one, other = chosen[i], chosen[j]
        if one.field.levels is not None and other.field.levels is not None:
            continue
        both = present[:, i] & present[:, j]
        enough = together[i, j] if whose is None else len(np.unique(whose[both]))
        if enough < ENOUGH * persons.min_cell or not np.isfinite(spearman[i, j]):
            continue
        if any(
            column.field.levels is not None
            and not _levels_told(column.codes[rows][both], len(column.field.levels), persons, whose, both)
            for column in (one, other)
        ):
            continue
        rho, r = float(spearman[i, j]), float(pearson[i, j])
        if gaps and not both.all():
            rho = float(np.corrcoef(rankdata(values[both, i]), rankdata(values[both, j]))[0, 1])
        if not math.isfinite(rho):
            continue
        names = (one.name, other.name)
        yield Pair(names, "spearman", _rounded(rho), abs(rho), given)
        if given is None and math.isfinite(r) and abs(r - rho) > _APART and r * rho > 0:
            yield Pair(names, "pearson", _rounded(r), abs(r), given)


def _levels_told(codes: Codes, levels: int, persons: Persons, whose: Codes | None, both: Mask) -> bool:
    """Whether the levels that occur are of enough persons, all but one together at the least."""
    if whose is None:
        counts = np.bincount(codes, minlength=levels)
    else:
        counts = np.bincount(np.unique(np.stack([codes, whose[both]]), axis=1)[0], minlength=levels)
    largest = int(counts.max())
    return largest >= persons.min_cell and int(counts.sum()) - largest >= persons.min_cell


def _rounded(r: float) -> float:
    return min(max(round(r, 4), -0.9999), 0.9999)


def _correlations(values: Floats) -> tuple[Floats, Floats]:
    """Correlate columns over the rows where both are present; also how many rows these are."""
    present = ~np.isnan(values)
    with np.errstate(all="ignore"):
        centre = np.nanmean(values, axis=0)
        spread = np.nanstd(values, axis=0)
        z = np.where(present, (values - centre) / np.where(spread > 0, spread, np.nan), 0.0)
        z = np.nan_to_num(z)
        there = present.astype(np.float64)
        n = there.T @ there
        s = z.T @ there  # sums of the one over rows where the other is there
        q = (z**2).T @ there
        covariance = z.T @ z - s * s.T / n
        variance = q - s**2 / n
        r = covariance / np.sqrt(variance * variance.T)
    return np.where(np.isfinite(r), np.clip(r, -1, 1), np.nan), n


def _of_levels(
    one: Column, other: Column, persons: Persons, rows: Mask, given: dict[str, Any] | None
) -> Iterator[Pair]:
    shape = (len(one.field.levels or ()), len(other.field.levels or ()))
    told = guarded_table(one.codes, other.codes, shape, persons, rows)
    if told is None:
        return
    table, exact = told
    names = (one.name, other.name)
    if shape == (2, 2) and table.shape == (2, 2):
        odds = table[1, 1] * table[0, 0] / max(table[0, 1] * table[1, 0], 1e-9)
        strength = abs(_phi(table))
        if exact or 1 / _LARGEST_ODDS <= odds <= _LARGEST_ODDS:
            yield Pair(names, "odds_ratio", float(f"{odds:.4g}"), strength, given)
        return
    v = cramers_v(table)
    rho = _table_spearman(table) if one.ranked and other.ranked else None
    if rho is not None:
        yield Pair(names, "spearman", _rounded(rho), abs(rho), given)
        if v - abs(rho) <= _APART:
            return
    yield Pair(names, "cramers_v", round(v, 4), v, given)


def guarded_table(
    one: Codes, other: Codes, shape: tuple[int, int], persons: Persons, rows: Mask
) -> tuple[Floats, bool] | None:
    """Count two categories over the rows where both are present, so that it may be published.

    Returns
    -------
    table : ndarray of float64
        Without levels of fewer than `min_cell` persons here.
    exact : bool
        Whether the counts are as they were.

    None where too few persons or levels are left.
    """
    both = rows & (one >= 0) & (other >= 0)
    if both.sum() < persons.min_cell:
        return None
    counts = np.bincount(one[both] * shape[1] + other[both], minlength=shape[0] * shape[1])
    table = counts.reshape(shape).astype(np.float64)
    people = table if persons.codes is None else persons.table(one, other, shape, both)
    keep, kept = people.sum(axis=1) >= persons.min_cell, people.sum(axis=0) >= persons.min_cell
    if keep.sum() < 2 or kept.sum() < 2:
        return None
    table, people = table[np.ix_(keep, kept)], people[np.ix_(keep, kept)]
    if (
        people.sum() < ENOUGH * persons.min_cell
        or (table.sum(axis=0) == 0).any()
        or (table.sum(axis=1) == 0).any()
    ):
        return None
    told = protected_table(table, persons.min_cell, persons=people)
    return told, bool((told == table).all())


def cramers_v(table: Floats) -> float:
    """Return Cramér's V of a table of counts, without correction."""
    total = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(min(math.sqrt(chi2 / total / (min(table.shape) - 1)), 1.0))


def _phi(table: Floats) -> float:
    margins = np.concatenate([table.sum(axis=0), table.sum(axis=1)])
    determinant = table[1, 1] * table[0, 0] - table[0, 1] * table[1, 0]
    return float(determinant / math.sqrt(max(float(np.prod(margins)), 1e-9)))


def _table_spearman(table: Floats) -> float | None:
    """Return Spearman's correlation of two ordered categories from their table of counts."""
    ranks = []
    for margin in (table.sum(axis=1), table.sum(axis=0)):
        middle = np.cumsum(margin) - margin / 2
        ranks.append(middle - (middle * margin).sum() / margin.sum())
    one, other = ranks
    scale = math.sqrt((one**2 * table.sum(axis=1)).sum() * (other**2 * table.sum(axis=0)).sum())
    return float((one[:, None] * other[None, :] * table).sum() / scale) if scale > 0 else None


def _correlation_ratio(number: Column, levels: Column, persons: Persons, rows: Mask) -> float | None:
    """Return η of a number given a category; levels of too few persons are one."""
    both = rows & number.present & levels.present
    if persons.count(both) < ENOUGH * persons.min_cell:
        return None
    codes, values = levels.codes[both], number.values[both]
    people = np.array(
        [persons.count(both & (levels.codes == index)) for index in range(len(levels.field.levels or ()))]
    )
    rare = people < persons.min_cell
    if (~rare).sum() < 2 or 0 < people[rare].sum() < persons.min_cell:
        return None
    codes = np.where(rare[codes], len(people), codes)
    n = np.bincount(codes, minlength=len(people) + 1)
    means = np.bincount(codes, values, minlength=len(people) + 1) / np.maximum(n, 1)
    total = ((values - values.mean()) ** 2).sum()
    between = (n * (means - values.mean()) ** 2).sum()
    return float(math.sqrt(min(between / total, 1.0))) if total > 0 else None
