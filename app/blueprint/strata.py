"""A number's distribution in each stratum of a category, consistent with what is stated of it altogether."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from app.blueprint.marginal import Marginal, declared_marginal
from app.blueprint.reweighting import reweigh
from app.blueprint.rows import Floats, Rows
from app.blueprint.statements import Statement
from app.schema.table import Conditional, Field, Statistics, TableSchema

MOST_POINTS = 24_000
ROUNDS = 6


def merged(own: Statistics, stratum: Statistics) -> Statistics:
    """Return the stratum's statistics with the field's own bounds and family where it has none."""
    return replace(
        stratum,
        minimum=stratum.minimum if stratum.minimum is not None else own.minimum,
        maximum=stratum.maximum if stratum.maximum is not None else own.maximum,
        distribution=stratum.distribution or own.distribution,
    )


def stratum_marginals(
    schema: TableSchema,
    item: Field,
    whole: Marginal,
    key: Sequence[str],
    levels: Sequence[tuple[int, ...]],
    shares: Floats,
    conditionals: Sequence[Conditional | None],
    statements: Sequence[Statement],
    warn: Callable[[str, str], None],
) -> list[Marginal]:
    """Find the distribution of a field at each level of its key.

    Parameters
    ----------
    whole : Marginal
        Of the field over all rows.
    key : sequence of str
        The fields with levels that make the strata.
    levels : sequence of tuple of int
        Codes of the key's fields in each stratum.
    shares : ndarray, shape (strata,)
        Of the rows in which the field is present.
    conditionals : sequence of Conditional or None
        What is stated of each stratum.
    statements : sequence of Statement
        What is stated of the field alone and by this key.
    """
    if not whole.firm:
        return [
            whole
            if conditional is None
            else declared_marginal(
                schema,
                replace(item, statistics=merged(item.statistics, conditional.statistics)),
                lambda *_: None,
            )
            for conditional in conditionals
        ]
    first, last, weights = whole.first, whole.last, whole.weights
    most = max(MOST_POINTS // len(levels), 64)
    if len(first) > most:
        first, last, weights = _coarser(first, last, weights, most)
    bins, strata = len(first), len(levels)
    centres = (first + last) / 2 / whole.per_unit
    codes = {
        name: np.repeat(np.array([level[place] for level in levels]), bins) for place, name in enumerate(key)
    }
    mass = (shares[:, None] * weights[None, :]).ravel()
    rows = Rows(
        schema, {item.name: np.tile(centres, strata)}, codes, {}, np.maximum(mass, 1e-14) / mass.sum()
    )
    for _ in range(ROUNDS):
        rows = reweigh(rows, statements, passes=20)
        # A stratum keeps its share of the rows, whatever it would rather be.
        by_stratum = rows.weights.reshape(strata, bins)
        held = by_stratum * (shares / np.maximum(by_stratum.sum(axis=1), 1e-300))[:, None]
        rows = rows.reweighted(held.ravel() / held.sum())
        if np.abs(by_stratum.sum(axis=1) - shares).max() < 1e-4:
            break
    by_stratum = rows.weights.reshape(strata, bins)
    return [
        replace(whole, first=first, last=last, weights=row / row.sum()) if row.sum() > 0 else whole
        for row in by_stratum
    ]


def _coarser(
    first: np.ndarray, last: np.ndarray, weights: Floats, most: int
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Join neighbouring bins of little mass, so that few points carry the shape; atoms stay."""
    upper = np.cumsum(weights)
    group = np.minimum((upper - weights / 2) * most * 0.7, most).astype(np.int64)
    span = np.arange(len(first)) * most // (len(first) * 3)  # the tails keep some bins of their own
    label = group + span
    starts = np.flatnonzero(np.diff(label, prepend=-1))
    ends = np.append(starts[1:], len(first)) - 1
    return first[starts], last[ends], np.add.reduceat(weights, starts)
