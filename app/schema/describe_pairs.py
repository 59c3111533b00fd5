"""What may be said of pairs of columns: signed measures, over all rows and within strata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from app.disclosure_stated import stated_table
from app.schema.describe_columns import Codes, Column, Floats, Mask

ENOUGH = 3
"""A measure of two columns rests on at least so many cells of rows."""
_APART = 0.05  # Cramér's V says something that Spearman's does not
_EXACT_PAIRS = 6000  # ranked anew over the rows where both are present; beyond, ranked once a column
_LARGEST_TABLE = 900


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


def describe_pairs(columns: Sequence[Column], rows: Mask, cell: int, *, apart: float = 0.05) -> list[Pair]:
    """Measure every pair of columns over `rows`.

    Ranked pairs (numbers, times, two-level and ordered fields) by Spearman's correlation, and by Pearson's
    as well where that is further than `apart` from it; pairs of two levels by the odds ratio; what has
    levels without an order by Cramér's V or the correlation ratio.
    """
    found = list(ranked_pairs(columns, rows, cell, apart=apart))
    for one, other in combinations(columns, 2):
        if one.size and other.size:
            found.extend(_of_levels(one, other, rows, cell))
        elif not (one.ranked and other.ranked):
            number, levels = (one, other) if not one.size else (other, one)
            eta = _correlation_ratio(number, levels, rows, cell)
            if eta is not None:
                found.append(Pair((one.name, other.name), "correlation_ratio", round(eta, 3), eta))
    return found


def ranked_pairs(columns: Sequence[Column], rows: Mask, cell: int, *, apart: float = 0.05) -> Iterator[Pair]:
    """Correlate all pairs with an order, but those of two categories: `_of_levels` guards their cells."""
    chosen = [column for column in columns if column.ranked]
    if len(chosen) < 2 or all(column.size for column in chosen):
        return
    values = np.stack([column.values[rows] for column in chosen], axis=1)
    present = ~np.isnan(values)
    ranks = np.full(values.shape, np.nan)
    for index in range(len(chosen)):
        ranks[present[:, index], index] = rankdata(values[present[:, index], index])
    spearman, together = _correlations(ranks)
    pearson, _ = _correlations(values)
    again = len(chosen) * (~present).any(axis=0).sum() <= _EXACT_PAIRS
    for i, j in combinations(range(len(chosen)), 2):
        one, other = chosen[i], chosen[j]
        if (one.size and other.size) or together[i, j] < ENOUGH * cell:
            continue
        both = present[:, i] & present[:, j]
        levels = [column.codes[rows][both] for column in (one, other) if column.size]
        if any(not _levels_told(codes, cell) for codes in levels):
            continue
        rho, r = float(spearman[i, j]), float(pearson[i, j])
        if again and not both.all():
            rho = float(np.corrcoef(rankdata(values[both, i]), rankdata(values[both, j]))[0, 1])
        if not math.isfinite(rho):
            continue
        names = (one.name, other.name)
        yield Pair(names, "spearman", _rounded(rho), abs(rho))
        if math.isfinite(r) and abs(r - rho) > apart and r * rho > 0 and not levels:
            yield Pair(names, "pearson", _rounded(r), abs(r))


def _levels_told(codes: Codes, cell: int) -> bool:
    """Whether the most frequent level, and the others together, are of enough rows."""
    largest = int(np.bincount(codes).max())
    return largest >= cell and len(codes) - largest >= cell


def _rounded(r: float) -> float:
    return min(max(round(r, 3), -0.999), 0.999)


def _correlations(values: Floats) -> tuple[Floats, Floats]:
    """Correlate columns over the rows where both are present; also how many rows these are."""
    present = ~np.isnan(values)
    with np.errstate(all="ignore"):
        count = np.maximum(present.sum(axis=0), 1)
        centre = np.where(present, values, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(present, values - centre, 0.0) ** 2).sum(axis=0) / count)
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


def _of_levels(one: Column, other: Column, rows: Mask, cell: int) -> Iterator[Pair]:
    table = pair_table(one, other, rows, cell)
    if table is None:
        return
    names = (one.name, other.name)
    if table.shape == (2, 2):
        odds = float(table[1, 1] * table[0, 0] / (table[0, 1] * table[1, 0]))
        yield Pair(names, "odds_ratio", float(f"{odds:.3g}"), abs(_phi(table)))
        return
    v = cramers_v(table)
    rho = _table_spearman(table) if one.ranked and other.ranked else None
    if rho is not None:
        yield Pair(names, "spearman", _rounded(rho), abs(rho))
        if v - abs(rho) <= _APART:
            return
    yield Pair(names, "cramers_v", round(v, 3), v)


def count_pairs(one: Column, other: Column, rows: Mask) -> Floats:
    """Count two categories over the rows where both are present."""
    both = rows & one.present & other.present
    cells = one.codes[both] * other.size + other.codes[both]
    counts = np.bincount(cells, minlength=one.size * other.size)
    return counts.reshape(one.size, other.size).astype(np.float64)


def pair_table(
    one: Column, other: Column, rows: Mask, cell: int, *, keep_rows: bool = False
) -> Floats | None:
    """Count two categories so that it may be published; None where too little is left to tell."""
    if one.size * other.size > _LARGEST_TABLE or min(one.size, other.size) < 2:
        return None
    counts = count_pairs(one, other, rows)
    if counts.sum() < ENOUGH * cell:
        return None
    table = stated_table(counts, cell, ordered=(one.field.ordered, other.field.ordered), keep_rows=keep_rows)
    return None if table is None or (table.sum(0) <= 0).any() or (table.sum(1) <= 0).any() else table


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


def _correlation_ratio(number: Column, levels: Column, rows: Mask, cell: int) -> float | None:
    """Return η of a number given a category; levels of too few rows are one."""
    both = rows & number.present & levels.present
    if both.sum() < ENOUGH * cell:
        return None
    codes, values = levels.codes[both], number.values[both]
    n = np.bincount(codes, minlength=levels.size)
    rare = n < cell
    if (~rare).sum() < 2 or 0 < n[rare].sum() < cell:
        return None
    codes = np.where(rare[codes], levels.size, codes)
    n = np.bincount(codes, minlength=levels.size + 1)
    means = np.bincount(codes, values, minlength=levels.size + 1) / np.maximum(n, 1)
    total = ((values - values.mean()) ** 2).sum()
    between = (n * (means - values.mean()) ** 2).sum()
    return float(math.sqrt(min(between / total, 1.0))) if total > 0 else None
