"""Fidelity of single columns beyond their shape: distance in sd, and missing values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import say_count
from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import person_codes
from app.evaluation.columns import Floats, cell_rows, numbers, pooled, present
from app.evaluation.empirical import (
    Dealt,
    Divided,
    Gap,
    between_values,
    deal_frames,
    draws_for,
    interval_of_mean,
)
from app.evaluation.fidelity_associations import at_most
from app.evaluation.intervals import mean_distance
from app.schema.table import Field

FARTHEST_SD = 10.0
"""A column counts as so many sd away at most: one wild value must not drown all others."""

SHOWN_COLUMNS = 40

_STREAM = 4301


def wasserstein(real: Floats, other: Floats) -> float:
    """Return the first Wasserstein distance: the area between the two empirical distribution functions.

    Parameters
    ----------
    real, other : ndarray of float64, shape (n,), (m,)
        Finite values, at least one each.
    """
    real, other = np.sort(real), np.sort(other)
    steps = np.concatenate([real, other])
    steps.sort()
    below_real = np.searchsorted(real, steps[:-1], side="right") / len(real)
    below_other = np.searchsorted(other, steps[:-1], side="right") / len(other)
    return float(np.abs(below_real - below_other) @ np.diff(steps))


class WassersteinInSd:
    """How far numbers and dates would have to be moved, in real sd; the mean over columns."""

    name: ClassVar[str] = "wasserstein_in_sd"
    title: ClassVar[str] = "Distance of numeric and date columns (Wasserstein, in real sd)"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, FARTHEST_SD)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds column, value, baseline, shift of the mean, ratio of the sd."""
        assert tables.train is not None  # `needs` says so
        fields = [
            field
            for field in tables.schema.fields
            if field.kind in ("numeric", "temporal") and field.name != tables.group
        ]
        if not fields:
            return NotMeasured("the table has no numeric or date column")
        rng = np.random.default_rng([tables.seed, _STREAM])
        few = max(cell_rows(tables), 2)
        train, synthetic = at_most(tables.train, rng), at_most(pooled(tables), rng)
        dealt = deal_frames((train, synthetic), tables.group, rng, draws_for(len(fields)))
        gaps: list[Gap] = []
        table = [self._column(field, train, synthetic, tables.holdout, few, dealt, gaps) for field in fields]
        measured = [row for row in table if row["value"] is not None]
        if not measured:
            return NotMeasured(f"none of the numeric or date columns could be compared: {table[0]['reason']}")
        value = float(np.mean([row["value"] for row in measured]))
        baselines = [row["baseline"] for row in measured if row["baseline"] is not None]
        baseline = float(np.mean(baselines)) if len(baselines) == len(measured) else None
        table.sort(key=lambda row: (-(row["value"] if row["value"] is not None else -1.0), row["column"]))
        furthest = table[0]
        return Score(
            value=value,
            interval=interval_of_mean(gaps, value, self.bounds),
            baseline=baseline,
            reading=(
                f"The {len(measured)} numeric or date columns lie {value:.3f} real standard deviations off "
                "on average"
                + (f" (the real holdout: {baseline:.3f})" if baseline is not None else "")
                + f". Furthest: {furthest['column']}, {furthest['value']:.2f} sd."
            ),
            details={
                "aggregate": f"mean of value over the measured columns; one counts {FARTHEST_SD:g} at most",
                "table": table,
                "interval": "by inverting tests of how far apart the distributions are (after Feldman & "
                "Cousins 1998), 95 %",
                "rows": {"train": len(train), "synthetic": len(synthetic)},
                "pictures": [
                    {
                        "kind": "bars",
                        "title": "Distance of each column in real standard deviations",
                        "rows": [
                            {"name": row["column"], "value": row["value"], "baseline": row["baseline"]}
                            for row in table[:20]
                            if row["value"] is not None
                        ],
                    }
                ],
            },
        )

    def _column(
        self,
        field: Field,
        train: pd.DataFrame,
        synthetic: pd.DataFrame,
        holdout: pd.DataFrame | None,
        few: int,
        dealt: tuple[Dealt, Dealt],
        gaps: list[Gap],
    ) -> dict[str, Any]:
        row: dict[str, Any] = {
            "column": field.name,
            "value": None,
            "baseline": None,
            "shift": None,
            "spread_ratio": None,
            "reason": "",
        }
        real, made = numbers(field, train[field.name]), numbers(field, synthetic[field.name])
        there = np.isfinite(real), np.isfinite(made)
        if there[0].sum() < few:
            return row | {"reason": f"fewer than {few} values are present in the train part"}
        if not there[1].any():
            return row | {"reason": "no value is present in the synthetic rows"}
        # Squares of larger numbers would overflow.
        real, made = (np.clip(one, -1e150, 1e150) for one in (real[there[0]], made[there[1]]))
        sd = float(real.std(ddof=1))
        if not sd > 0:
            return row | {"reason": "the column is constant in the train part"}
        row["value"] = min(wasserstein(real, made) / sd, FARTHEST_SD)
        row["shift"] = round(float(np.clip((made.mean() - real.mean()) / sd, -1e6, 1e6)), 4) + 0.0
        row["spread_ratio"] = round(min(float(made.std()) / float(real.std()), 1e6), 4)
        if holdout is not None:
            held = numbers(field, holdout[field.name])
            held = np.clip(held[np.isfinite(held)], -1e150, 1e150)
            if len(held) >= few:
                row["baseline"] = min(wasserstein(real, held) / sd, FARTHEST_SD)
        divided = Divided.whole(real, made, (dealt[0].some(there[0]), dealt[1].some(there[1])))
        gaps += between_values(real, made, divided, sd, FARTHEST_SD)
        return row


class Missingness:
    """1 − the difference of missing shares, the mean over columns in which anything is missing."""

    name: ClassVar[str] = "missingness"
    title: ClassVar[str] = "Missing values: share in each column, and together"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; what a few rows miss is not said, and counts as if half a cell of rows did."""
        assert tables.train is not None  # `needs` says so
        cell = max(cell_rows(tables), 1)
        rng = np.random.default_rng([tables.seed, _STREAM + 1])
        train, synthetic = at_most(tables.train, rng), at_most(pooled(tables), rng)
        holdout = None if tables.holdout is None else at_most(tables.holdout, rng)
        if len(train) < max(cell, 2):
            return NotMeasured(f"the train part has fewer than {max(cell, 2)} rows")
        names = sorted(field.name for field in tables.schema.fields)
        real, made = _absent(train, names), _absent(synthetic, names)
        held = None if holdout is None or len(holdout) < max(cell, 2) else _absent(holdout, names)
        gaps = real.any(axis=0) | made.any(axis=0)
        judged = np.flatnonzero(gaps) if gaps.any() else np.arange(len(names))
        shares = _sayable(real.sum(axis=0), len(real), cell)
        score = 1 - np.abs(shares - _sayable(made.sum(axis=0), len(made), cell))
        held_score = None
        if held is not None:
            held_score = 1 - np.abs(shares - _sayable(held.sum(axis=0), len(held), cell))
        table = [
            self._row(names[place], place, real, made, score, held_score, cell) for place in judged.tolist()
        ]
        table.sort(key=lambda row: (row["value"], row["column"]))
        value = float(score[judged].mean())
        baseline = None if held_score is None else float(held_score[judged].mean())
        told = _sayable(made.sum(axis=0), len(made), cell)
        covariance = _covariance(real, shares, train, tables.group, cell) + _covariance(
            made, told, synthetic, tables.group, cell
        )
        distance = mean_distance(
            (told - shares)[judged],
            covariance[np.ix_(judged, judged)],
            np.full(len(judged), 1 / len(judged)),
            rng,
        )
        reading = "Neither the train part nor the synthetic rows have a missing value."
        if gaps.any():
            lowest = table[0]
            reading = (
                f"In {len(judged)} of {len(names)} columns something is missing; the shares agree to "
                f"{value:.3f} on average, 1 being the same"
                + (f" (the real holdout: {baseline:.3f})" if baseline is not None else "")
                + f". Lowest: {lowest['column']}, {lowest['value']:.3f}."
            )
        patterns = _pattern_complement(real, made)
        return Score(
            value=value,
            interval=(max(min(1 - distance[1], value), 0.0), min(max(1 - distance[0], value), 1.0)),
            baseline=baseline,
            reading=reading,
            details={
                "aggregate": "mean of value over the columns of the table; value = 1 − |real − synthetic|, "
                f"shares of fewer than {cell} rows taken as {cell / 2:g} rows",
                "table": table,
                "row_patterns": round(patterns, 4),
                "row_patterns_holdout": None if held is None else round(_pattern_complement(real, held), 4),
                "row_patterns_meaning": "1 − the total variation distance of which columns miss together",
                "interval": "of the mean distance, by inverting tests of how far apart the shares are (after "
                "Feldman & Cousins 1998), 95 %",
                "pictures": _together(names, real, made, cell) if gaps.any() else [],
            },
        )

    def _row(
        self,
        name: str,
        place: int,
        real: NDArray[np.bool_],
        made: NDArray[np.bool_],
        score: Floats,
        held: Floats | None,
        cell: int,
    ) -> dict[str, Any]:
        absent, n = int(real[:, place].sum()), len(real)
        said = absent == 0 or (absent >= cell and n - absent >= cell) or absent == n
        return {
            "column": name,
            "real": round(absent / n, 4) if said else None,
            "note": "" if said else f"{say_count(min(absent, n - absent), cell)} of {n}",
            "synthetic": round(float(made[:, place].mean()), 4),
            "value": float(score[place]),
            "baseline": None if held is None else float(held[place]),
        }


def _absent(frame: pd.DataFrame, names: list[str]) -> NDArray[np.bool_]:
    return np.column_stack([~present(frame[name]) for name in names])


def _sayable(absent: NDArray[np.int64], n: int, cell: int) -> Floats:
    """Return shares; where fewer than `cell` rows miss the value (or have it), as if half a cell did."""
    few, rest = (absent > 0) & (absent < cell), (absent < n) & (n - absent < cell)
    counts = np.where(few, cell / 2, np.where(rest, n - cell / 2, absent))
    shares: Floats = np.clip(counts / n, 0, 1)
    return shares


def _covariance(
    rows: NDArray[np.bool_], shares: Floats, frame: pd.DataFrame, group: str | None, cell: int
) -> Floats:
    """Return the covariance of the columns' shares; rows of one person are no independent ones.

    Where a share may not be said exactly, what is said instead varies by less, and to few values; its
    variance is that of what would be said of tables that have the said share, so that it tells no more.
    """
    centred = rows - rows.mean(axis=0)
    if group is not None:
        persons = person_codes(frame[group])
        total = np.zeros((int(persons.max()) + 1, rows.shape[1]))
        np.add.at(total, persons, centred)
        centred = total
    result: Floats = centred.T @ centred / len(rows) ** 2
    unsaid = np.flatnonzero(np.abs(shares - rows.mean(axis=0)) > 1e-12)
    result[unsaid], result[:, unsaid] = 0.0, 0.0
    result[unsaid, unsaid] = [
        _variance_of_the_sayable(float(shares[place]), len(rows), cell) for place in unsaid
    ]
    return result


def _variance_of_the_sayable(share: float, n: int, cell: int) -> float:
    from scipy.stats import binom

    counts = np.arange(n + 1)
    chances = binom.pmf(counts, n, share)
    said = _sayable(counts, n, cell)
    return float(chances @ (said - chances @ said) ** 2)


def _pattern_complement(real: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    packed = np.packbits(np.concatenate([real, other]), axis=1)
    _, found = np.unique(packed, axis=0, return_inverse=True)
    found = found.ravel()
    k = int(found.max()) + 1
    shares = [np.bincount(part, minlength=k) / len(part) for part in (found[: len(real)], found[len(real) :])]
    return 1 - float(np.abs(shares[0] - shares[1]).sum()) / 2


def _together(
    names: list[str], real: NDArray[np.bool_], made: NDArray[np.bool_], cell: int
) -> list[dict[str, Any]]:
    """Return a picture of the share of rows in which both columns of a pair are missing."""
    heat = np.abs(real.mean(axis=0) - made.mean(axis=0))
    gaps = np.flatnonzero(real.any(axis=0) | made.any(axis=0))
    shown = np.sort(gaps[np.argsort(-heat[gaps], kind="stable")[:SHOWN_COLUMNS]])
    one, other = (part[:, shown].astype(np.float64) for part in (real, made))
    counts, shares = one.T @ one, other.T @ other / len(made)
    said = (counts == 0) | ((counts >= cell) & (len(real) - counts >= cell))

    def cells(matrix: Floats, shown_cells: NDArray[np.bool_]) -> list[list[float | None]]:
        return [
            [round(float(value), 4) + 0.0 if known else None for value, known in zip(*line, strict=True)]
            for line in zip(matrix, shown_cells, strict=True)
        ]

    return [
        {
            "kind": "matrix",
            "title": "Share of rows in which both columns are missing",
            "labels": [names[place] for place in shown],
            "note": f"Grey: fewer than {cell} real rows, which is not said",
            "most": max(
                0.05, math.ceil(20 * float(max((counts / len(real))[said].max(initial=0), shares.max()))) / 20
            ),
            "real": cells(counts / len(real), said),
            "synthetic": cells(shares, np.ones_like(said)),
            "difference": cells(shares - counts / len(real), said),
        }
    ]
