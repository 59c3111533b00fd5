"""Replicates side by side: the spread of their statistics, and a check that they share no draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.columns import Floats, codes, numbers
from app.evaluation.conformance import level_text
from app.evaluation.fidelity_associations import correlations, gram_of
from app.evaluation.fidelity_pairs import products
from app.schema.table import Field

MOST_PAIRS_OF_REPLICATES = 10
SHIFTS = 8
SHOWN = 200
"""Statistics of each kind that are set side by side; of more, those whose spread is least expected."""


def compare_replicates(
    fields: Sequence[Field], replicates: Sequence[pd.DataFrame], few: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Set replicates side by side, and look for draws that they share.

    Parameters
    ----------
    fields : sequence of Field
        The columns to look at: no ids, no free text.
    replicates : sequence of DataFrame
        At least two.
    few : int
        A share that rests on fewer rows is not shown.

    Returns
    -------
    dict
        As `app.evaluation.study.Replicates`: means, proportions and correlations of each replicate, their
        spread and the spread that independent samples have; and for pairs of replicates cells that are equal
        in the same place more often than in other places, and rows of one that stand in the other more often
        than in the rest of their own (a false alarm of one in a thousand over all pairs).
    """
    statistics: list[dict[str, Any]] = []
    for kind in (_means, _proportions, _correlations):
        rows = list(kind(fields, replicates, few))
        rows.sort(key=lambda row: -(row["ratio"] or 0.0))
        statistics += rows[:SHOWN]
    pairs = list(combinations(range(len(replicates)), 2))[:MOST_PAIRS_OF_REPLICATES]
    shared = [
        _shared(fields, replicates[a], replicates[b], len(pairs), rng) | {"replicates": [a + 1, b + 1]}
        for a, b in pairs
    ]
    worst = max(shared, key=lambda row: row["rows_beyond_chance"])
    found = any(row["beyond_chance"] for row in shared)
    count = f"The {len(replicates)} replicates"
    columns = dict.fromkeys(
        item["column"] for row in shared for item in row["columns_equal_in_the_same_place"]
    )
    told = [
        f"up to {worst['rows_beyond_chance']:.1%} of whole rows beyond chance"
        if worst["rows_beyond_chance"] >= 0.0005
        else "",
        f"equal in the same places: {', '.join(list(columns)[:6])}" if columns else "",
    ]
    reading = (
        f"{count} share draws ({'; '.join(filter(None, told))}), so they are no independent samples."
        if found
        else f"{count} share no draws beyond chance."
    )
    return {
        "count": len(replicates),
        "rows": [len(frame) for frame in replicates],
        "statistics": statistics,
        "share_draws": found,
        "pairs": shared,
        "reading": reading,
    }


def _means(fields: Sequence[Field], replicates: Sequence[pd.DataFrame], few: int) -> Iterator[dict[str, Any]]:
    for field in fields:
        if field.kind != "numeric" or field.levels is not None:
            continue
        found = [numbers(field, frame[field.name]) for frame in replicates]
        found = [values[np.isfinite(values)] for values in found]
        if min(len(values) for values in found) >= max(few, 2):
            yield from _side_by_side(
                "mean",
                field.name,
                [values.mean() for values in found],
                [values.var(ddof=1) / len(values) for values in found],
            )


def _proportions(
    fields: Sequence[Field], replicates: Sequence[pd.DataFrame], few: int
) -> Iterator[dict[str, Any]]:
    for field in fields:
        levels = field.levels
        if levels is None:
            continue
        found = [codes(field, frame[field.name]) for frame in replicates]
        counts = np.array([np.bincount(one[one >= 0], minlength=len(levels)) for one in found])
        rows = counts.sum(axis=1)
        if not rows.min():
            continue
        shown = [place for place in range(len(levels)) if counts[:, place].sum() >= few]
        if field.type == "boolean":
            shown = shown[-1:]  # the other share follows from it
        for place in shown:
            shares = counts[:, place] / rows
            yield from _side_by_side(
                "proportion",
                f"{field.name}: {level_text(levels[place])}",
                shares,
                shares.mean() * (1 - shares.mean()) / rows,
            )


def _correlations(
    fields: Sequence[Field], replicates: Sequence[pd.DataFrame], few: int
) -> Iterator[dict[str, Any]]:
    numeric = [field for field in fields if field.kind == "numeric" and field.levels is None]
    if len(numeric) < 2:
        return
    found = [correlated(numeric, frame) for frame in replicates]
    values, rows = (np.array([one[place] for one in found]) for place in (0, 1))
    for a, b in combinations(range(len(numeric)), 2):
        if rows[:, a, b].min() >= max(few, 4) and np.isfinite(values[:, a, b]).all():
            mean = values[:, a, b].mean()
            yield from _side_by_side(
                "correlation",
                f"{numeric[a].name} × {numeric[b].name}",
                values[:, a, b],
                (1 - mean**2) ** 2 / (rows[:, a, b] - 1),
            )


def _side_by_side(kind: str, what: str, values: Any, variances: Any) -> Iterator[dict[str, Any]]:
    spread, expected = float(np.std(values, ddof=1)), math.sqrt(float(np.mean(variances)))
    if np.isfinite([spread, expected, *values]).all():
        yield {
            "kind": kind,
            "what": what,
            "values": [short(value) for value in values],
            "spread": short(spread),
            "expected_spread": short(expected),
            "ratio": short(spread / expected) if expected > 0 else None,
        }


def _shared(
    fields: Sequence[Field], one: pd.DataFrame, other: pd.DataFrame, pairs: int, rng: np.random.Generator
) -> dict[str, Any]:
    from scipy.stats import norm

    rows = min(len(one), len(other))
    if rows < 2 or not fields:
        return {"beyond_chance": False, "rows_beyond_chance": 0.0, "columns_equal_in_the_same_place": []}
    first, second = (
        np.column_stack([_cells(field, frame[field.name].iloc[:rows]) for field in fields])
        for frame in (one, other)
    )
    equal = _equal(first, second)
    shifts = rng.integers(1, rows, SHIFTS).tolist()
    chance = np.mean([_equal(first, np.roll(second, shift, axis=0)).mean(axis=0) for shift in shifts], axis=0)
    limit = float(norm.isf(0.001 / ((len(fields) + 1) * pairs)))

    def beyond(share: float, expected: float) -> bool:
        # Rare equality is Poisson: a handful may be chance, so three rows are always allowed.
        error = math.sqrt(max(expected * (1 - expected), 1 / rows) / rows)
        return share - expected > limit * error + 3 / rows

    shares = equal.mean(axis=0)
    told = [
        {"column": field.name, "equal": short(shares[place]), "by_chance": short(chance[place])}
        for place, field in enumerate(fields)
        if beyond(float(shares[place]), float(chance[place]))
    ]
    # Whole rows wherever they stand: half of one among half of the other, and among its own other half.
    dealt = rng.permutation(rows)
    half = rows // 2
    own, rest = first[dealt[:half]], first[dealt[half : 2 * half]]
    common, within = _found(own, second[dealt[:half]]), _found(own, rest)
    error = math.sqrt(2 * max(within * (1 - within), 1 / half) / half)
    in_common = common - within > limit * error + 3 / half
    return {
        "beyond_chance": bool(told) or in_common,
        "rows_in_common": short(common),
        "rows_in_common_by_chance": short(within),
        "rows_beyond_chance": short(max(common - within, 0.0)),
        "columns_equal_in_the_same_place": told,
    }


def _equal(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Return which cells are equal; two missing values are."""
    result: NDArray[np.bool_] = (first == second) | (np.isnan(first) & np.isnan(second))
    return result


def _found(rows: Floats, among: Floats) -> float:
    """Return the share of `rows` that stand among the others."""
    keys = [pd.util.hash_pandas_object(pd.DataFrame(part + 0.0), index=False) for part in (rows, among)]
    return float(np.isin(keys[0].to_numpy(), keys[1].to_numpy()).mean())


def _cells(field: Field, column: pd.Series) -> Floats:
    if field.levels is None:
        return numbers(field, column)
    found = codes(field, column).astype(np.float64)
    found[found < 0] = np.nan
    return found


def correlated(fields: Sequence[Field], frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return correlations of all pairs and the numbers of rows that they rest on."""
    gram = gram_of(products(fields, frame))
    p = len(fields)
    return correlations(gram, p, 4, 1e-9), gram[2 * p :, 2 * p :]


def short(value: Any) -> float:
    """Round to 5 significant digits, for a reader and against −0."""
    return float(f"{float(value):.5g}") + 0.0
