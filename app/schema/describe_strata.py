"""What may be said of columns in the rows of one level of another column: conditionals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from app.disclosure_stated import is_hidden, rounded_shares, share_step, stated_strata, stated_table
from app.schema.describe_columns import (
    Column,
    Floats,
    Mask,
    describe_numbers,
    keyed,
    level_value,
)
from app.schema.describe_pairs import Pair, pair_table, ranked_pairs

_DIFFERENT = 2.5  # standard errors by which a correlation differs between strata for both to be told
_FEW_GAPS = 0.02  # of a smaller missing share it is not told on whom it depends


def describe_strata(column: Column, by: Column, cell: int, *, quantiles: int) -> list[dict[str, Any]]:
    """State a column's statistics at each level of another, as `conditionals` of the schema."""
    figures = _of_levels(column, by, cell) if column.size else _of_numbers(column, by, cell, quantiles)
    gaps = _of_gaps(column, by, cell)
    return _as_conditionals(
        column, by, {place: figures.get(place, {}) | gaps.get(place, {}) for place in range(by.size)}
    )


def describe_gaps(column: Column, by: Column, cell: int) -> list[dict[str, Any]]:
    """State only the share of missing values at each level of another column."""
    return _as_conditionals(column, by, _of_gaps(column, by, cell))


def _as_conditionals(column: Column, by: Column, said: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"field": column.name, "given": {by.name: level_value(level)}, "statistics": said[place]}
        for place, level in enumerate(by.field.levels or ())
        if said.get(place)
    ]


def _of_numbers(column: Column, by: Column, cell: int, quantiles: int) -> dict[int, dict[str, Any]]:
    counts = by.counts(column.present)
    others = int((column.present & ~by.present).sum())
    stated = stated_strata(counts.tolist(), cell, others=others)
    if column.heaped:
        # A quantile beside a heap would bend who lies on it: mean and sd lean all values alike.
        quantiles = 0
    return {
        place: describe_numbers(column, by.codes == place, cell, most=quantiles)
        for place, said in enumerate(stated)
        if said
    }


def _of_levels(column: Column, by: Column, cell: int) -> dict[int, dict[str, Any]]:
    table = pair_table(by, column, np.ones(len(by.values), np.bool_), cell, keep_rows=by.size == 2)
    if table is None:
        return {}
    absent = by.counts(column.applies & ~column.present)
    return {
        place: {"proportions": keyed(column, _rounded(row, int(absent[place]), cell))}
        for place, row in enumerate(table)
        if row.sum() >= cell
    }


def _rounded(row: Floats, absent: int, cell: int) -> tuple[float, ...]:
    return rounded_shares(row, share_step(int(row.sum()), hidden=is_hidden(absent, cell)))


def _of_gaps(column: Column, by: Column, cell: int) -> dict[int, dict[str, Any]]:
    known = column.applies & by.present
    absent = known & ~column.present
    if absent.sum() < max(cell, _FEW_GAPS * known.sum()):
        return {}
    counts = np.stack([by.counts(known & column.present), by.counts(absent)], axis=1)
    table = stated_table(counts, cell, ordered=(by.field.ordered, False), keep_rows=by.size == 2)
    if table is None:
        return {}
    return {
        place: {"missing": _rounded(row, 0, cell)[1]} for place, row in enumerate(table) if row.sum() >= cell
    }


def is_unsigned(one: Column, other: Column) -> bool:
    """Whether a measure of the two says no direction, so that only strata say who has more."""
    return not (one.ranked and other.ranked)


def pairs_within(columns: Sequence[Column], by: Column, cell: int, *, most: int) -> list[Pair]:
    """State correlations at each level of a column where they differ more between levels than by chance."""
    within: list[tuple[int, Any, dict[tuple[str, str], Pair]]] = []
    chosen = [column for column in columns if column.name != by.name]
    for place, level in enumerate(by.field.levels or ()):
        rows: Mask = by.codes == place
        if rows.sum() < 3 * cell:
            return []
        found = {pair.fields: pair for pair in ranked_pairs(chosen, rows, cell) if pair.measure == "spearman"}
        within.append((int(rows.sum()), level, found))
    differing: list[tuple[float, tuple[str, str]]] = []
    for names in within[0][2] if within else ():
        if not all(names in found for _, _, found in within):
            continue
        far = max(_apart(one, other, names) for one, other in combinations(within, 2))
        if far > _DIFFERENT:
            differing.append((far, names))
    differing.sort(key=lambda item: -item[0])
    return [pair for _, names in differing[:most] for pair in _at_each_level(names, within, by)]


def _apart(one: Any, other: Any, names: tuple[str, str]) -> float:
    """How many standard errors two strata's correlations lie apart (Fisher's z)."""
    z = [math.atanh(found[names].value) for _, _, found in (one, other)]
    return abs(z[0] - z[1]) / math.sqrt(sum(1 / max(n - 3, 1) for n, _, _ in (one, other)))


def _at_each_level(names: tuple[str, str], within: Any, by: Column) -> Iterator[Pair]:
    for _, level, found in within:
        pair = found[names]
        yield Pair(names, pair.measure, pair.value, pair.strength, {by.name: level_value(level)})
