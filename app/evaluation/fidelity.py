"""Fidelity: does each column have the shape of the real one, with the holdout as yardstick.

The two scores are those of SDMetrics (KSComplement, TVComplement), missing values left out on both sides;
how many are missing stands in the report's table of columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.columns import Codes, Floats, Mask, cell_rows, codes, numbers, pooled
from app.evaluation.empirical import (
    Dealt,
    Divided,
    Gap,
    between_levels,
    between_steps,
    deal,
    draws_for,
    interval_of_mean,
)
from app.schema.table import Field, Kind


def ks_complement(real: Floats, synthetic: Floats) -> float:
    """Return 1 − the two-sample Kolmogorov–Smirnov statistic.

    Parameters
    ----------
    real, synthetic : ndarray of float64, shape (n,), (m,)
        Present values, at least one each.

    Returns
    -------
    float
        In [0, 1]; 1 where the two empirical distribution functions are equal.
    """
    real, synthetic = np.sort(real), np.sort(synthetic)
    steps = np.concatenate([real, synthetic])
    below_real = np.searchsorted(real, steps, side="right") / len(real)
    below_synthetic = np.searchsorted(synthetic, steps, side="right") / len(synthetic)
    return 1.0 - float(np.abs(below_real - below_synthetic).max())


def tv_complement(real: Codes, synthetic: Codes) -> float:
    """Return 1 − the total variation distance of two columns of level codes.

    Parameters
    ----------
    real, synthetic : ndarray of int64, shape (n,), (m,)
        Codes ≥ 0 of the levels that are present, at least one each.

    Returns
    -------
    float
        In [0, 1]; 1 where every level has the same share in both.
    """
    levels = int(max(real.max(), synthetic.max())) + 1
    shares = [np.bincount(values, minlength=levels) / len(values) for values in (real, synthetic)]
    return 1.0 - float(np.abs(shares[0] - shares[1]).sum()) / 2


def _counted(count: int, columns: str) -> str:
    return (
        f"The only {columns} column scores"
        if count == 1
        else f"The {count} {columns} columns score on average"
    )


class _PerColumn(ABC):
    """A score for each column of some kinds; the headline is their mean."""

    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 1, "synthetic": 1}
    kinds: ClassVar[frozenset[Kind]]
    columns: ClassVar[str]
    stream: ClassVar[int]

    @abstractmethod
    def values_of(self, field: Field, column: pd.Series) -> Any:
        """Return the values as an array; `there` says which are present."""

    @abstractmethod
    def there(self, values: Any) -> Mask:
        """Return which values are present."""

    @abstractmethod
    def gaps(self, field: Field, real: Any, other: Any, divided: Divided) -> list[Gap]:
        """Return what the interval is drawn from, of present values."""

    @abstractmethod
    def compare(self, real: Any, other: Any) -> float:
        """Score two arrays of present values, neither empty."""

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds column, value, baseline, and the reason of an absence."""
        fields = [field for field in tables.schema.fields if field.kind in self.kinds]
        if not fields:
            return NotMeasured(f"the table has no {self.columns} column")
        synthetic = pooled(tables)
        rng = np.random.default_rng([tables.seed, self.stream])
        dealt = deal(tables, rng, draws_for(len(fields)))
        gaps: list[Gap] = []
        table = [self._row(field, synthetic, tables, dealt, gaps) for field in fields]
        measured = [row for row in table if row["value"] is not None]
        if not measured:
            return NotMeasured(f"none of the {self.columns} columns could be compared: {table[0]['reason']}")
        baselines = [row["baseline"] for row in measured if row["baseline"] is not None]
        value = fmean(row["value"] for row in measured)
        baseline = fmean(baselines) if len(baselines) == len(measured) else None
        lowest = min(measured, key=lambda row: float(row["value"]))
        reading = (
            f"{_counted(len(measured), self.columns)} {value:.3f}, 1 being the same shape"
            + (f"; the real holdout scores {baseline:.3f}" if baseline is not None else "")
            + f". Lowest: {lowest['column']}, {lowest['value']:.3f}."
        )
        off = interval_of_mean(gaps, 1 - value, self.bounds)
        return Score(
            value=value,
            interval=None if off is None else (min(1 - off[1], value), max(1 - off[0], value)),
            baseline=baseline,
            reading=reading,
            details={
                "aggregate": "mean of value over the measured columns",
                "table": table,
                "interval": "of the mean distance, by inverting tests of how far apart the distributions are "
                "(after Feldman & Cousins 1998), 95 %",
            },
        )

    def _row(
        self,
        field: Field,
        synthetic: pd.DataFrame,
        tables: Tables,
        dealt: tuple[Dealt, Dealt],
        gaps: list[Gap],
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"column": field.name, "value": None, "baseline": None, "reason": ""}
        try:
            assert tables.train is not None  # `needs` says so
            values = [self.values_of(field, frame[field.name]) for frame in (tables.train, synthetic)]
            here = [self.there(column) for column in values]
            real, made = (column[which] for column, which in zip(values, here, strict=True))
            few = max(cell_rows(tables), 1)
            if len(real) < few:
                return row | {"reason": f"fewer than {few} values are present in the train part"}
            if len(made) == 0:
                return row | {"reason": "no value is present in the synthetic rows"}
            row["value"] = self.compare(real, made)
            divided = Divided.whole(real, made, (dealt[0].some(here[0]), dealt[1].some(here[1])))
            gaps += self.gaps(field, real, made, divided)
            if tables.holdout is not None:
                held = self.values_of(field, tables.holdout[field.name])
                held = held[self.there(held)]
                row["baseline"] = self.compare(real, held) if len(held) >= few else None
        except Exception as error:  # noqa: BLE001  one column must not cost the others
            return row | {"value": None, "reason": f"failed: {type(error).__name__}"}
        return row


class KSComplement(_PerColumn):
    """1 − Kolmogorov–Smirnov statistic of each numeric or temporal column; the mean over columns."""

    name: ClassVar[str] = "ks_complement"
    title: ClassVar[str] = "Shape of numeric and date columns (KSComplement)"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"numeric", "temporal"})
    columns: ClassVar[str] = "numeric or date"
    stream: ClassVar[int] = 4101

    def values_of(self, field: Field, column: pd.Series) -> Floats:
        """Return the numbers."""
        return numbers(field, column)

    def there(self, values: Floats) -> Mask:
        """Return which are not missing."""
        return ~np.isnan(values)

    def gaps(self, field: Field, real: Floats, other: Floats, divided: Divided) -> list[Gap]:
        """Return the gap between the distribution functions."""
        return between_steps(real, other, divided)

    def compare(self, real: Floats, other: Floats) -> float:
        """Return `ks_complement`."""
        return ks_complement(real, other)


class TVComplement(_PerColumn):
    """1 − total variation distance of each categorical or boolean column; the mean over columns."""

    name: ClassVar[str] = "tv_complement"
    title: ClassVar[str] = "Shares of levels of categorical columns (TVComplement)"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"categorical"})
    columns: ClassVar[str] = "categorical"
    stream: ClassVar[int] = 4102

    def values_of(self, field: Field, column: pd.Series) -> Codes:
        """Return the codes of the levels."""
        return codes(field, column)

    def there(self, values: Codes) -> Mask:
        """Return which are not missing."""
        return values >= 0

    def gaps(self, field: Field, real: Codes, other: Codes, divided: Divided) -> list[Gap]:
        """Return the gap between the shares of the levels."""
        return between_levels(real, other, divided, len(field.levels or ()))

    def compare(self, real: Codes, other: Codes) -> float:
        """Return `tv_complement`."""
        return tv_complement(real, other)
