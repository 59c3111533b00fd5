"""A number's distribution in each stratum of a category, consistent with what is stated of it altogether."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from app.blueprint.cells import cells_frame, level_scores
from app.blueprint.marginal import Marginal
from app.blueprint.marginal_declared import declared_marginal
from app.blueprint.reweighting import reweigh
from app.blueprint.rows import Floats, Mask, Rows
from app.blueprint.statements import Statement
from app.schema.evaluate import breaks
from app.schema.frames import column
from app.schema.rules import Expression
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
    rules: Sequence[Expression],
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
    rules : sequence of Expression
        What bounds the field at each level: values that break one get no weight.
    """
    if not whole.firm:
        return [
            _allowed(schema, marginal, key, level, rules)
            for marginal, level in zip(_separate(schema, item, whole, conditionals), levels, strict=True)
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
    mass = shares[:, None] * weights[None, :]
    coarse = replace(whole, first=first, last=last, weights=weights)
    possible = np.stack([_possible(schema, coarse, key, level, rules) for level in levels])
    mass = np.where(possible, np.maximum(mass, 1e-14), 0.0)
    mass = mass * (shares / np.maximum(mass.sum(axis=1), 1e-300))[:, None]
    mass = mass.ravel()
    values = np.tile(centres, strata)
    numbers = {} if item.levels is not None else {item.name: values}
    if item.levels is not None:
        codes[item.name] = np.tile(first, strata)
    rows = Rows(schema, numbers, codes, {}, mass / mass.sum())
    rows = _leaning(rows, item.name, statements)
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


def _leaning(rows: Rows, name: str, statements: Sequence[Statement]) -> Rows:
    """Lean strata apart where a measure asks for it: some have no slope where all strata are alike."""
    exponent = np.zeros(len(rows))
    place, size = rows.place(name)
    mass = np.bincount(place, rows.weights, size)
    ranks = ((np.cumsum(mass) - mass / 2) * 3.46 - 1.73)[place]
    for statement in statements:
        if len(statement.fields) == 2:
            (by,) = [one for one in statement.fields if one != name]
            strength = min(abs(statement.asked), 0.9) * (-1 if statement.asked < 0 else 1)
            exponent += strength / (1 - strength**2) * ranks * level_scores(rows, by)
    if not exponent.any():
        return rows
    weights = rows.weights * np.exp(np.clip(exponent - exponent.max(), -40, 0))
    return rows.reweighted(weights / weights.sum())


def _separate(
    schema: TableSchema, item: Field, whole: Marginal, conditionals: Sequence[Conditional | None]
) -> list[Marginal]:
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


def _allowed(
    schema: TableSchema,
    marginal: Marginal,
    key: Sequence[str],
    level: tuple[int, ...],
    rules: Sequence[Expression],
) -> Marginal:
    weights = marginal.weights * _possible(schema, marginal, key, level, rules)
    return replace(marginal, weights=weights / weights.sum()) if weights.sum() > 0 else marginal


def _possible(
    schema: TableSchema,
    marginal: Marginal,
    key: Sequence[str],
    level: tuple[int, ...],
    rules: Sequence[Expression],
) -> Mask:
    """Tell the bins all of whose values keep the rules: as far as their two ends tell."""
    good = np.ones(len(marginal.first), np.bool_)
    if not rules:
        return good
    states = np.repeat(np.array([level], np.int16), len(good), axis=0)
    frame = cells_frame(schema, key, states)
    for ends in (marginal.first, marginal.last):
        frame[marginal.field.name] = column(marginal.field, marginal.encode(ends))
        for rule in rules:
            good &= ~breaks(rule, frame)
    return good if good.any() else np.ones(len(good), np.bool_)


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
