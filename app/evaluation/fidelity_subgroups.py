"""Fidelity within subgroups: a table may be right on the whole and wrong for the few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from app.disclosure import pool_levels
from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.columns import Codes, Floats, cell_rows, codes, numbers, pooled
from app.evaluation.conformance import level_text
from app.evaluation.empirical import (
    Divided,
    Gap,
    between_levels,
    between_steps,
    deal_frames,
    draws_for,
    interval_of_greatest,
)
from app.evaluation.fidelity_associations import at_most
from app.schema.table import Field, TableSchema

MOST_ROWS = 20_000
FEWEST_ROWS = 20
"""Train rows from which on a subgroup is judged; the shape of fewer is chance."""

EXPECTED_ROWS = 20
"""Holdout rows that a subgroup should have for its yardstick."""

GROUPS = 100
STEPS = np.linspace(0, 1, 33)[1:]
"""Groups of rows, and shares of the values, that the interval is drawn from (`app.evaluation.empirical`)."""

MOST_LEVELS = 8
MOST_COLUMNS = 8
"""Columns that make subgroups where the evaluation names none."""

THIRDS = ("lowest third", "middle third", "highest third")

_STREAM = 4401


@dataclass(frozen=True, slots=True)
class _Division:
    """A column that divides the rows into parts; −1 is a row in none of them."""

    column: str
    parts: tuple[str, ...]
    train: Codes
    other: Codes


class SubgroupSimilarity:
    """The lowest of the subgroups' mean shape scores (KSComplement and TVComplement of all other columns).

    Notes
    -----
    Subgroups are the levels, or the thirds of a number, of the columns that the evaluation names as
    quasi-identifiers, sensitive or target, one column at a time; where it names none, of the categorical
    columns with the fewest levels. The baseline is the lowest of the holdout's. A subgroup without a
    synthetic row scores 0.
    """

    name: ClassVar[str] = "subgroup_similarity"
    title: ClassVar[str] = "Shape of columns within subgroups: the worst one"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 200, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds subgroup, train rows, synthetic share, value, baseline."""
        assert tables.train is not None  # `needs` says so
        cell = max(cell_rows(tables), 1)
        rng = np.random.default_rng([tables.seed, _STREAM])
        train, synthetic = (
            at_most(tables.train, rng, MOST_ROWS),
            at_most(pooled(tables), rng, MOST_ROWS),
        )
        holdout = None if tables.holdout is None else at_most(tables.holdout, rng, MOST_ROWS)
        fields = dividing_fields(tables)
        if not fields:
            return NotMeasured(
                "no column makes subgroups; name some as evaluation.quasi_identifiers or evaluation.target"
            )
        few = max(cell, FEWEST_ROWS)
        divisions = [_divide(field, train, synthetic, few) for field in fields]
        table = _table(tables, divisions, train, synthetic, few)
        if not table:
            return NotMeasured(f"no subgroup of {few} rows of the train part has a column to compare")
        held = {}
        if holdout is not None:
            beside = [_divide(field, train, holdout, few) for field in fields]
            held = {_key(row): row for row in _table(tables, beside, train, holdout, few)}
            # In a small part of the holdout chance alone would show. Judged by the number of rows that it
            # should have: by the number that it has, lucky subgroups would be kept.
            large = [row for row in table if row["train_rows"] * len(holdout) >= EXPECTED_ROWS * len(train)]
            table = large or table
        for row in table:
            own = held.get(_key(row))
            enough = own is not None and own["rows_other"] >= cell
            row["baseline"] = own["value"] if own is not None and enough else None
            del row["rows_other"]
        table.sort(key=lambda row: (row["value"], row["column"], row["subgroup"]))
        lowest = table[0]
        baselines = [row["baseline"] for row in table if row["baseline"] is not None]
        baseline = min(baselines) if baselines else None
        judged = {_key(row) for row in table}
        parts = _gaps(tables, divisions, train, synthetic, judged, rng)
        off = interval_of_greatest(parts, 1 - lowest["value"], self.bounds)
        return Score(
            value=lowest["value"],
            interval=None if off is None else (1 - off[1], 1 - off[0]),
            baseline=baseline,
            reading=(
                f"Of {len(table)} subgroups, {lowest['column']}: {lowest['subgroup']} is kept least: its "
                f"columns score {lowest['value']:.3f} on average, 1 being the same shape"
                + (
                    f"; that subgroup of the real holdout {lowest['baseline']:.3f}"
                    if lowest["baseline"]
                    else ""
                )
                + "."
            ),
            details={
                "aggregate": "least value of the table; value = mean of KSComplement and TVComplement over "
                f"the other columns, among subgroups of at least {few} train rows",
                "table": table,
                "interval": "of the lowest one, by inverting tests of how far apart the subgroups are (after "
                "Feldman & Cousins 1998), 95 %",
                "rows_at_most": MOST_ROWS,
                "divided_by": [field.name for field in fields],
                "pictures": [
                    {
                        "kind": "bars",
                        "title": "Shape of the columns within subgroups (1 is the same)",
                        "origin": 1.0,
                        "note": "Bars show what is missing to 1",
                        "rows": [
                            {
                                "name": f"{row['column']}: {row['subgroup']}",
                                "value": row["value"],
                                "baseline": row["baseline"],
                            }
                            for row in table[:20]
                        ],
                    }
                ],
            },
        )


def dividing_fields(tables: Tables) -> tuple[Field, ...]:
    """Return the columns whose levels or thirds are the subgroups."""
    named = {*tables.quasi_identifiers, *tables.sensitive, *([tables.target] if tables.target else [])}
    chosen = [
        field
        for field in tables.schema.fields
        if field.name in named and field.kind in ("categorical", "numeric", "temporal")
    ]
    if chosen:
        return tuple(chosen)
    few_levels = sorted(
        (
            field
            for field in tables.schema.fields
            if field.levels is not None
            and 2 <= len(field.levels) <= MOST_LEVELS
            and field.name != tables.group
        ),
        key=lambda field: (len(field.levels or ()), field.name),
    )
    return tuple(few_levels[:MOST_COLUMNS])


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["column"], row["subgroup"]


def _divide(field: Field, train: pd.DataFrame, other: pd.DataFrame, few: int) -> _Division:
    if field.levels is not None:
        found = codes(field, train[field.name])
        counts = np.bincount(found[found >= 0], minlength=len(field.levels))
        kept = pool_levels({place: int(count) for place, count in enumerate(counts)}, few).kept
        places = np.full(len(field.levels) + 1, -1, dtype=np.int64)
        places[list(kept)] = np.arange(len(kept))
        parts = tuple(level_text(field.levels[place]) for place in kept)
        return _Division(field.name, parts, places[found], places[codes(field, other[field.name])])
    values = [numbers(field, frame[field.name]) for frame in (train, other)]
    there = values[0][np.isfinite(values[0])]
    if len(there) < 3 * few:
        empty = [np.full(len(one), -1, dtype=np.int64) for one in values]
        return _Division(field.name, (), empty[0], empty[1])
    edges = np.quantile(there, (1 / 3, 2 / 3))
    divided = [
        np.where(np.isnan(one), -1, np.searchsorted(edges, one, side="left")).astype(np.int64)
        for one in values
    ]
    return _Division(field.name, THIRDS, divided[0], divided[1])


def _table(
    tables: Tables, divisions: list[_Division], train: pd.DataFrame, other: pd.DataFrame, few: int
) -> list[dict[str, Any]]:
    """Return a row for each subgroup of at least `few` train rows, `other` against `train` within it."""
    scores = _scores(tables.schema, tables.group, divisions, train, other)
    rows = []
    for division, found in zip(divisions, scores, strict=True):
        sizes = [
            np.bincount(one[one >= 0], minlength=len(division.parts))
            for one in (division.train, division.other)
        ]
        for place, part in enumerate(division.parts):
            mean = [score for score in found[:, place] if not np.isnan(score)]
            if sizes[0][place] < few or not mean:
                continue
            rows.append(
                {
                    "column": division.column,
                    "subgroup": part,
                    "train_rows": int(sizes[0][place]),
                    "rows_other": int(sizes[1][place]),
                    "share": round(float(sizes[1][place] / max(len(other), 1)), 4),
                    "value": float(np.mean(mean)),
                }
            )
    return rows


def _scores(
    schema: TableSchema,
    group: str | None,
    divisions: list[_Division],
    train: pd.DataFrame,
    other: pd.DataFrame,
) -> list[Floats]:
    """Return for each division the scores of all columns within its parts: shape (columns, parts)."""
    compared = _compared(schema, group)
    result = [np.full((len(compared), len(division.parts)), np.nan) for division in divisions]
    for place, field in enumerate(compared):
        score = _levels_within if field.levels is not None else _steps_within
        found = score(field, train, other, divisions)
        for division, scores, whole in zip(divisions, found, result, strict=True):
            if division.column != field.name:
                whole[place] = scores
    return result


def _compared(schema: TableSchema, group: str | None) -> list[Field]:
    return [field for field in schema.fields if field.kind not in ("id", "text") and field.name != group]


def _gaps(
    tables: Tables,
    divisions: list[_Division],
    train: pd.DataFrame,
    made: pd.DataFrame,
    judged: set[tuple[str, str]],
    rng: np.random.Generator,
) -> list[list[Gap]]:
    """Return for each judged subgroup the gaps of its columns, to draw the interval from."""
    compared = _compared(tables.schema, tables.group)
    draws = draws_for(len(compared) * len(judged))
    dealt = deal_frames((train, made), tables.group, rng, draws, GROUPS)
    found: dict[tuple[str, str], list[Gap]] = {key: [] for key in sorted(judged)}
    for field in compared:
        read: Callable[[Field, pd.Series], Any] = numbers if field.levels is None else codes
        values = [read(field, frame[field.name]) for frame in (train, made)]
        here = [~np.isnan(one) if field.levels is None else one >= 0 for one in values]
        for division in divisions:
            if division.column == field.name or not division.parts:
                continue
            inside = [
                one & (parts >= 0) for one, parts in zip(here, (division.train, division.other), strict=True)
            ]
            divided = Divided(
                (division.train[inside[0]], division.other[inside[1]]),
                len(division.parts),
                (dealt[0].some(inside[0]), dealt[1].some(inside[1])),
            )
            real, other = (one[which] for one, which in zip(values, inside, strict=True))
            if not len(real):
                continue
            if field.levels is None:
                gaps = between_steps(real, other, divided, STEPS)
            else:
                gaps = between_levels(real, other, divided, len(field.levels))
            for part, gap in zip(division.parts, gaps, strict=True):
                if (division.column, part) in found:
                    found[division.column, part].append(gap)
    return list(found.values())


def _levels_within(
    field: Field, train: pd.DataFrame, other: pd.DataFrame, divisions: list[_Division]
) -> list[Floats]:
    levels = len(field.levels or ())
    real, made = codes(field, train[field.name]), codes(field, other[field.name])
    result = []
    for division in divisions:
        shares, sizes = [], []
        for found, parts in ((real, division.train), (made, division.other)):
            there = (found >= 0) & (parts >= 0)
            k = len(division.parts)
            counts = np.bincount(parts[there] * levels + found[there], minlength=k * levels).reshape(
                k, levels
            )
            sizes.append(counts.sum(axis=1))
            shares.append(counts / np.maximum(sizes[-1][:, None], 1))
        scores = 1 - np.abs(shares[0] - shares[1]).sum(axis=1) / 2
        result.append(_known(scores, sizes[0], sizes[1]))
    return result


def _steps_within(
    field: Field, train: pd.DataFrame, other: pd.DataFrame, divisions: list[_Division]
) -> list[Floats]:
    real, made = numbers(field, train[field.name]), numbers(field, other[field.name])
    values = np.concatenate([real, made])
    # Sorted once for all subgroups: NaN goes last and is cut off.
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
    ordered = values[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.empty(0, dtype=np.bool_)
    is_real = order < len(real)
    result = []
    for division in divisions:
        parts = np.concatenate([division.train, division.other])[order]
        scores: list[float] = []
        sizes: tuple[list[int], list[int]] = ([], [])
        for part in range(len(division.parts)):
            inside = parts == part
            below = [np.cumsum(inside & side) for side in (is_real, ~is_real)]
            totals = [int(item[-1]) if len(item) else 0 for item in below]
            for size, total in zip(sizes, totals, strict=True):
                size.append(total)
            if min(totals) == 0:
                scores.append(0.0)
            else:
                gaps = np.abs(below[0][last] / totals[0] - below[1][last] / totals[1])
                scores.append(1 - float(gaps.max()))
        result.append(_known(np.array(scores), np.array(sizes[0]), np.array(sizes[1])))
    return result


def _known(scores: Floats, real: Codes, made: Codes) -> Floats:
    """Return the scores: NaN where no real value is present, 0 where real ones are and no other."""
    scored: Floats = np.where(real == 0, np.nan, np.where(made == 0, 0.0, scores))
    return scored
