"""Coverage: do the synthetic rows reach every level and value range of the real columns?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import pool_levels
from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.columns import Floats, cell_rows, codes, numbers, pooled, present
from app.evaluation.conformance import level_text
from app.evaluation.intervals import rare
from app.schema.table import Field

SHOWN_LEVELS = 20


class LevelCoverage:
    """Share of the real table's levels and value ranges that the synthetic rows reach; the mean over columns.

    Notes
    -----
    Of a category, the levels of at least `min_cell` train rows. Of a number or date, the parts between
    quantiles of the train part, at most 20 of at least `min_cell` rows each.
    """

    name: ClassVar[str] = "level_coverage"
    title: ClassVar[str] = "Coverage of real levels and value ranges"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds column, parts, value, baseline and the levels not reached."""
        assert tables.train is not None  # `needs` says so
        cell = max(cell_rows(tables), 1)
        synthetic = pooled(tables)
        table, expected = [], []
        for field in tables.schema.fields:
            if field.kind in ("id", "text") or field.name == tables.group:
                continue
            real, made = tables.train[field.name], synthetic[field.name]
            held = None if tables.holdout is None else tables.holdout[field.name]
            found = _covered(field, real, made, held, cell)
            if found is not None:
                row, counts = found
                table.append(row)
                expected.append(counts * (int(present(made).sum()) / max(int(present(real).sum()), 1)))
        if not table:
            return NotMeasured(f"no column has {cell} rows of the train part in one level or range")
        table.sort(key=lambda row: (row["value"], row["column"]))
        value = float(np.mean([row["value"] for row in table]))
        baselines = [row["baseline"] for row in table if row["baseline"] is not None]
        baseline = float(np.mean(baselines)) if len(baselines) == len(table) else None
        missed = sum(row["parts"] - row["reached"] for row in table)
        # Whether a part is reached is chance where few rows are expected: what is missed is a rare event.
        least, most = rare(missed, (1 - value) / missed if missed else _weight_of_a_rare_part(expected))
        short = [row["column"] for row in table if row["value"] < 1]
        reading = (
            f"The synthetic rows reach {value:.1%} of the levels and value ranges of the real columns"
            + (f" (the real holdout: {baseline:.1%})" if baseline is not None else "")
            + (f". Not all of: {', '.join(short[:5])}" if short else "")
            + "."
        )
        return Score(
            value=value,
            interval=(max(min(1 - most, value), 0.0), min(max(1 - least, value), 1.0)),
            baseline=baseline,
            reading=reading,
            details={
                "aggregate": "mean of value over columns; value = parts reached / parts",
                "table": table,
                "interval": "of the parts that are not reached, as rare events (mid-P Poisson), 95 %",
                "smallest_part": cell,
            },
        )


def _weight_of_a_rare_part(expected: list[Floats]) -> float:
    """Return what a part counts for in the mean over columns, averaged by the chance that it is missed.

    Parameters
    ----------
    expected : list of ndarray, shape (parts,)
        For each column how many synthetic rows each of its parts should have.
    """
    missed = [np.exp(-counts) for counts in expected]
    weights = [1 / (len(expected) * len(counts)) for counts in expected]
    chance = sum(float(each.sum()) for each in missed)
    if not chance > 0:
        return min(weights)
    return sum(float(each.sum()) * weight for each, weight in zip(missed, weights, strict=True)) / chance


def _covered(
    field: Field, real: pd.Series, made: pd.Series, held: pd.Series | None, cell: int
) -> tuple[dict[str, Any], Floats] | None:
    """Return the row of a column, and how many real rows each of its parts has."""
    if field.levels is not None:
        found = codes(field, real)
        counts = np.bincount(found[found >= 0], minlength=len(field.levels))
        kept = pool_levels({place: int(count) for place, count in enumerate(counts)}, cell).kept
        if not kept:
            return None
        expected = counts[list(kept)]
        reached = np.isin(kept, codes(field, made))
        held_reached = None if held is None else np.isin(kept, codes(field, held))
        missed = [level_text(field.levels[place]) for place, ok in zip(kept, reached, strict=True) if not ok]
    else:
        values = numbers(field, real)
        values = values[np.isfinite(values)]
        if len(values) < max(cell, 2):
            return None
        parts = max(min(len(values) // cell, 20), 1)
        # At real values, so that no part lies between the values of a coarse scale.
        edges = np.unique(np.quantile(values, np.linspace(0, 1, parts + 1), method="lower"))
        real_counts = _counts_between(edges, values)
        # Ties may leave a part with few rows.
        asked = real_counts >= min(cell, int(real_counts.max()))
        expected = real_counts[asked]
        reached = _counts_between(edges, numbers(field, made))[asked] > 0
        held_reached = None if held is None else _counts_between(edges, numbers(field, held))[asked] > 0
        missed = []
    row = {
        "column": field.name,
        "parts": len(reached),
        "reached": int(reached.sum()),
        "value": float(reached.mean()),
        "baseline": None if held_reached is None or len(held_reached) == 0 else float(held_reached.mean()),
        "not_reached": missed[:SHOWN_LEVELS],
    }
    return row, expected.astype(np.float64)


def _counts_between(edges: Floats, values: Floats) -> NDArray[np.int64]:
    """Count the values from each edge up to the next one, the last part being closed."""
    inside = values[(values >= edges[0]) & (values <= edges[-1])]
    parts = max(len(edges) - 1, 1)
    places = np.clip(np.searchsorted(edges, inside, side="right") - 1, 0, parts - 1)
    return np.bincount(places, minlength=parts)
