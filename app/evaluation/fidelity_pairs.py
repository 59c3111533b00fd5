"""Fidelity of pairs of columns of like type: CorrelationSimilarity and ContingencySimilarity of SDMetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import folding, jackknife_error, person_codes, random_groups, t_interval
from app.evaluation.columns import Codes, Floats, cell_rows, codes, numbers, pooled
from app.evaluation.fidelity_associations import SHOWN_PAIRS, at_most, correlations, gram_of
from app.schema.table import Field

_STREAM = 4102
_GROUPS = 20

MOST_PAIRS_WITH_INTERVAL = 2_000
"""With more pairs of categorical columns the mean hardly moves, and an interval would take seconds."""


class CorrelationSimilarity:
    """1 − half the difference of Pearson's correlations, the mean over pairs of numeric or date columns.

    As SDMetrics defines it, over the rows where both values are present. Pairs that are not correlated in
    the real table count like the others: `AssociationSimilarity` weights them.
    """

    name: ClassVar[str] = "correlation_similarity"
    title: ClassVar[str] = "Correlations of numeric and date columns (CorrelationSimilarity)"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 30}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds first, second, real, synthetic, value, baseline."""
        assert tables.train is not None  # `needs` says so
        fields = [
            field
            for field in tables.schema.fields
            if field.kind in ("numeric", "temporal") and field.name != tables.group
        ]
        if len(fields) < 2:
            return NotMeasured("the table has fewer than 2 numeric or date columns")
        least = max(cell_rows(tables), 4)
        rng = np.random.default_rng([tables.seed, _STREAM])
        real, real_left = _correlated(fields, at_most(tables.train, rng), tables.group, least, rng)
        made, made_left = _correlated(fields, at_most(pooled(tables), rng), tables.group, 4, rng)
        usable = np.triu(~np.isnan(real) & ~np.isnan(made), 1)
        if not usable.any():
            return NotMeasured(
                f"no pair has {least} rows of the train part, and 4 synthetic ones, where both are present "
                "and vary"
            )
        score = _half_apart(real, made)
        held = None
        if tables.holdout is not None and len(tables.holdout) >= least:
            found = gram_of(products(fields, at_most(tables.holdout, rng)))
            held = _half_apart(real, correlations(found, len(fields), least, 1e-9))
        left_out = np.nan_to_num(np.array(real_left)), np.nan_to_num(np.array(made_left))
        single = np.hypot(jackknife_error(left_out[0]), jackknife_error(left_out[1]))
        factor = folding((made - real)[usable], single[usable], np.ones(int(usable.sum())))
        errors = [
            (factor * float(jackknife_error(_half_apart(one, other)[:, usable].mean(axis=1))), len(left))
            for left, one, other in (
                (real_left, left_out[0], made),
                (made_left, real, left_out[1]),
            )
        ]
        rows = [
            {
                "columns": f"{fields[i].name} × {fields[j].name}",
                "first": fields[i].name,
                "second": fields[j].name,
                "real": round(float(real[i, j]), 4),
                "synthetic": round(float(made[i, j]), 4),
                "value": float(score[i, j]),
                "baseline": None if held is None or np.isnan(held[i, j]) else float(held[i, j]),
            }
            for i, j in np.argwhere(usable)
        ]
        value = float(score[usable].mean())
        return _score_of(rows, value, t_interval(value, errors, self.bounds), "numeric or date")


def products(fields: Sequence[Field], frame: pd.DataFrame) -> Floats:
    """Return standardised numbers, their squares and their presence, 0 where missing: see `correlations`.

    Parameters
    ----------
    fields : sequence of Field
        p numeric or temporal ones.
    frame : DataFrame
        n rows.

    Returns
    -------
    ndarray of float64, shape (n, 3p)
    """
    values = np.column_stack([numbers(field, frame[field.name]) for field in fields])
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    counts = np.maximum(there.sum(axis=0), 1)
    centred = np.where(there, filled - filled.sum(axis=0) / counts, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / counts)
    scaled = centred / np.where(spread > 0, spread, 1.0)
    return np.concatenate([scaled, scaled**2, there], axis=1)


def _correlated(
    fields: Sequence[Field], frame: pd.DataFrame, group: str | None, least: int, rng: np.random.Generator
) -> tuple[Floats, list[Floats]]:
    """Return the correlations of all pairs, and again without each of some random groups of rows."""
    matrix = products(fields, frame)
    dealt = random_groups(rng, len(frame), _GROUPS, _persons(frame, group))
    total = gram_of(matrix)
    left_out = [
        correlations(total - gram_of(matrix[dealt == one]), len(fields), 4, 1e-9)
        for one in range(int(dealt.max(initial=-1)) + 1)
    ]
    return correlations(total, len(fields), least, 1e-9), left_out


def _half_apart(real: Floats, other: Floats) -> Floats:
    result: Floats = 1 - np.abs(real - other) / 2
    return result


class ContingencySimilarity:
    """1 − the total variation distance of two-way tables, the mean over pairs of categorical columns.

    As SDMetrics defines it: over all rows, missing counting as a level.
    """

    name: ClassVar[str] = "contingency_similarity"
    title: ClassVar[str] = "Two-way tables of categorical columns (ContingencySimilarity)"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds first, second, value, baseline."""
        assert tables.train is not None  # `needs` says so
        fields = [field for field in tables.schema.fields if field.kind == "categorical"]
        if len(fields) < 2:
            return NotMeasured("the table has fewer than 2 categorical columns")
        least = max(cell_rows(tables), 1)
        if len(tables.train) < least:
            return NotMeasured(f"the train part has fewer than {least} rows")
        rng = np.random.default_rng([tables.seed, _STREAM + 1])
        train, synthetic = at_most(tables.train, rng), at_most(pooled(tables), rng)
        real, made = _placed(fields, train), _placed(fields, synthetic)
        held = None
        if tables.holdout is not None and len(tables.holdout) >= least:
            held = _placed(fields, at_most(tables.holdout, rng))
        sizes = [len(field.levels or ()) + 1 for field in fields]
        rows = [
            {
                "columns": f"{fields[i].name} × {fields[j].name}",
                "first": fields[i].name,
                "second": fields[j].name,
                "value": two_way_complement((real[i], real[j]), (made[i], made[j]), (sizes[i], sizes[j])),
                "baseline": None
                if held is None
                else two_way_complement((real[i], real[j]), (held[i], held[j]), (sizes[i], sizes[j])),
            }
            for i, j in combinations(range(len(fields)), 2)
        ]
        value = float(np.mean([row["value"] for row in rows]))
        interval = None
        if len(rows) <= MOST_PAIRS_WITH_INTERVAL:
            dealt = [
                random_groups(rng, len(frame), _GROUPS, _persons(frame, tables.group))
                for frame in (train, synthetic)
            ]
            found = [
                _without_groups((real[i], real[j]), (made[i], made[j]), (sizes[i], sizes[j]), dealt)
                for i, j in combinations(range(len(fields)), 2)
            ]
            left = np.mean([one[0] for one in found], axis=0)
            gaps, single = (np.concatenate([one[part] for one in found]) for part in (1, 2))
            factor = folding(gaps, single, np.ones(len(gaps)))
            groups = [int(one.max()) + 1 for one in dealt]
            errors = [
                (factor * float(jackknife_error(left[side, : groups[side]])), groups[side]) for side in (0, 1)
            ]
            interval = t_interval(value, errors, self.bounds)
        return _score_of(rows, value, interval, "categorical")


def _persons(frame: pd.DataFrame, group: str | None) -> Codes | None:
    return person_codes(frame[group]) if group is not None and len(frame) else None


def _without_groups(
    real: tuple[Codes, Codes], made: tuple[Codes, Codes], sizes: tuple[int, int], dealt: Sequence[Codes]
) -> tuple[Floats, Floats, Floats]:
    """Return what an interval is made of.

    The score without each group of real, and of synthetic, rows, shape (2, _GROUPS), NaN at the end; of each
    cell the difference of shares and its standard error.
    """
    parts, width = _cells((real, made), sizes)
    counts = [
        np.bincount(groups * width + part, minlength=(int(groups.max()) + 1) * width).reshape(-1, width)
        for groups, part in zip(dealt, parts, strict=True)
    ]
    result = np.full((2, _GROUPS), np.nan)
    for side in (0, 1):
        without = counts[side].sum(axis=0) - counts[side]
        whole = counts[1 - side].sum(axis=0) / len(parts[1 - side])
        shares = without / np.maximum(without.sum(axis=1, keepdims=True), 1)
        result[side, : len(without)] = 1 - np.abs(shares - whole).sum(axis=1) / 2
    n, m = (len(part) for part in parts)
    sums = [one.sum(axis=0) for one in counts]
    together = (sums[0] + sums[1]) / (n + m)
    return result, sums[1] / m - sums[0] / n, np.sqrt(together * (1 - together) * (1 / n + 1 / m))


def two_way_complement(
    real: tuple[Codes, Codes], other: tuple[Codes, Codes], sizes: tuple[int, int]
) -> float:
    """Return 1 − the total variation distance of two two-way tables.

    Parameters
    ----------
    real, other : pairs of ndarray of int64, shapes (n,), (m,)
        Codes 0 … size−1 of the two columns, missing a code of its own; n, m ≥ 1.
    sizes : (int, int)
        Number of codes of the two columns.
    """
    parts, width = _cells((real, other), sizes)
    shares = [np.bincount(part, minlength=width) / len(part) for part in parts]
    return 1.0 - float(np.abs(shares[0] - shares[1]).sum()) / 2


def _cells(tables: Sequence[tuple[Codes, Codes]], sizes: tuple[int, int]) -> tuple[list[Codes], int]:
    """Return for each table the cell of each row, and how many cells there are."""
    cells = [first * sizes[1] + second for first, second in tables]
    width = sizes[0] * sizes[1]
    rows = [len(one) for one in cells]
    if width <= sum(rows) + 10_000:
        return cells, width
    # Most cells of a huge table are empty: number those that occur.
    known, together = np.unique(np.concatenate(cells), return_inverse=True)
    return np.split(together, np.cumsum(rows)[:-1]), len(known)


def _placed(fields: Sequence[Field], frame: pd.DataFrame) -> list[Codes]:
    """Return for each field its level codes, missing being the last one."""
    found = [codes(field, frame[field.name]) for field in fields]
    return [
        np.where(values < 0, len(field.levels or ()), values)
        for field, values in zip(fields, found, strict=True)
    ]


def _score_of(
    rows: list[dict[str, Any]], value: float, interval: tuple[float, float] | None, columns: str
) -> Score:
    baselines = [row["baseline"] for row in rows if row["baseline"] is not None]
    baseline = float(np.mean(baselines)) if len(baselines) == len(rows) else None
    rows.sort(key=lambda row: (row["value"], row["columns"]))
    lowest = rows[0]
    aggregate = "mean of value over all pairs that could be measured"
    if len(rows) > SHOWN_PAIRS:
        aggregate += f"; the table shows the {SHOWN_PAIRS} lowest"
    return Score(
        value=value,
        interval=interval,
        baseline=baseline,
        reading=(
            f"The {len(rows):,} pair{'s' * (len(rows) != 1)} of {columns} columns score"
            f"{'s' * (len(rows) == 1)} {value:.3f} on average, 1 being the same"
            + (f"; the real holdout scores {baseline:.3f}" if baseline is not None else "")
            + f". Lowest: {lowest['columns']}, {lowest['value']:.3f}."
        ),
        details={
            "aggregate": aggregate,
            "table": rows[:SHOWN_PAIRS],
            "pairs": len(rows),
            "interval": "delete-a-group jackknife over rows of both tables, 95 %" if interval else "none",
        },
    )
