"""How one column is distributed, as bins of ticks (`app.blueprint.ticks`), and drawn from.

Means, deviations and quantiles are those of the *delivered*, bounded and rounded values, and nothing is ever
clipped. What is declared becomes one in `marginal_declared`, what a real column has in `marginal_learned`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.ticks import encode_ticks, numbers, ticks_of
from app.schema.table import Field

if TYPE_CHECKING:
    import pandas as pd

    from app.schema.frames import Column

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLOTS = 65_536
"""Entries of the table that is drawn from: shares are exact to 1/65,536."""
MOST_CELLS = 128  # bins up to which each is a cell of its own
CELLS = 16


@dataclass(frozen=True, eq=False)
class Marginal:
    """The distribution of one column over the rows where it applies.

    Parameters
    ----------
    field : Field
        The column. Text and ids have no marginal.
    first, last : ndarray of int64, shape (bins,)
        Each bin's admissible values are `first, first + stride, …, last`, all equally likely, in ticks;
        for strings with levels, positions in `field.levels`. Ascending, not overlapping.
    weights : ndarray of float64, shape (bins,)
        Sum to 1.
    stride : int
        Ticks between admissible values.
    per_unit : int
        Ticks in one unit of the field's numeric scale (`Field.to_number`).
    missing : float
        Share that is absent.
    firm : bool
        Whether it was declared or learned, rather than taken by default.
    """

    field: Field
    first: Ints
    last: Ints
    weights: Floats
    stride: int = 1
    per_unit: int = 1
    missing: float = 0.0
    firm: bool = True

    @property
    def mean(self) -> float:
        """Mean of what is delivered, on the field's numeric scale."""
        return float(self.weights @ (self.first + self.last)) / 2 / self.per_unit

    @property
    def sd(self) -> float:
        """Standard deviation of what is delivered, on the field's numeric scale."""
        centres, spreads = bin_moments(self.first, self.last, self.stride)
        mean = self.weights @ centres
        return float(np.sqrt(self.weights @ ((centres - mean) ** 2 + spreads))) / self.per_unit

    def quantile(self, p: float) -> float:
        """Return the p-quantile of what is delivered, on the field's numeric scale."""
        return float(self._ticks(np.array([p]))[0]) / self.per_unit

    def draw(self, rng: np.random.Generator, n: int) -> Column:
        """Draw `n` independent values; returns a column of the field's dtype (`app.schema.frames`)."""
        from app.schema.frames import column

        if self._fine:
            words = np.frombuffer(rng.bytes(4 * n), "<u4")
            slot = words >> 16
            low, span = self._fine_table
            ticks = low[slot] + ((span[slot] * (words & 0xFFFF)) >> 16) * self.stride
            # The outermost slots hold whole tails, which are not straight.
            tails = np.flatnonzero((slot == 0) | (slot == SLOTS - 1))
            ticks[tails] = self._ticks((words[tails] + 0.5) / 2.0**32)
            values = self.encode(ticks)
        else:
            # A look-up: 9 ms for a million against 25 ms the fine way.
            values = self._table[np.frombuffer(rng.bytes(2 * n), "<u2")]
        if not self.missing:
            return column(self.field, values)
        absent = np.frombuffer(rng.bytes(4 * n), "<u4") < round(self.missing * 2**32)
        return column(self.field, values, absent)

    @property
    def cells(self) -> int:
        """How many cells the column's values fall into: groups of bins, and the last for what is missing."""
        return int(self._cell_of_bin[-1]) + 2

    def values_alone(self) -> bool:
        """Whether each cell is a single value."""
        return self.cells == len(self.first) + 1 and bool((self.first == self.last).all())

    def cell_shares(self) -> Floats:
        """Return the share of each cell, shape (cells,)."""
        present = np.bincount(self._cell_of_bin, self.weights, self.cells - 1)
        return np.append(present * (1 - self.missing), self.missing)

    def cells_of(self, drawn: pd.Series[Any]) -> Ints:
        """Return the cell of each value of a drawn column, shape (n,)."""
        found = np.full(len(drawn), self.cells - 1)
        here = drawn.notna().to_numpy()
        found[here] = self._cell_of_bin[self.bins_of(drawn[here])]
        return found

    def bins_of(self, present: pd.Series[Any]) -> Ints:
        """Return the bin of each present value, the nearest below for a value between two, shape (n,)."""
        if self.field.levels is None:
            ticks = np.round(numbers(self.field, present) * self.per_unit).astype("int64")
            return np.clip(np.searchsorted(self.first, ticks, side="right") - 1, 0, len(self.first) - 1)
        if self.field.type == "string":
            return np.asarray(present.cat.codes, "int64")
        whole = self.encode(np.arange(len(self.field.levels)))
        order = np.argsort(whole)
        return np.asarray(order[np.searchsorted(whole[order], present.to_numpy(whole.dtype))])

    def column_at(self, p: Floats, missing: NDArray[np.bool_]) -> Column:
        """Return the quantiles at `p` (0 … 1), shape (n,), as a column of the field's dtype."""
        from app.schema.frames import column

        return column(self.field, self.encode(self._ticks(p)), missing)

    def column_of(self, cells: Ints) -> Column:
        """Return the column of these cells, where each is a single value."""
        from app.schema.frames import column

        absent = cells == self.cells - 1
        return column(self.field, self.encode(self.first[np.where(absent, 0, cells)]), absent)

    def reweighted(self, factors: Floats) -> Marginal:
        """Return the distribution whose cells' shares are multiplied by `factors`, shape (up to cells,)."""
        factors = np.append(factors, np.ones(self.cells - len(factors)))
        weights = self.weights * factors[self._cell_of_bin]
        present = (1 - self.missing) * weights.sum()
        absent = self.missing * factors[-1]
        return replace(self, weights=weights / weights.sum(), missing=float(absent / (present + absent)))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads: numbers and lists only."""
        bins = [
            [int(a), int(b), float(w)] for a, b, w in zip(self.first, self.last, self.weights, strict=True)
        ]
        return {
            "bins": bins,
            "stride": self.stride,
            "per_unit": self.per_unit,
            "missing": self.missing,
            "firm": self.firm,
        }

    @classmethod
    def from_json(cls, field: Field, document: dict[str, Any]) -> Marginal:
        """Return the marginal that `to_json` wrote."""
        first, last, weights = zip(*document["bins"], strict=True)
        return cls(
            field,
            np.array(first, "int64"),
            np.array(last, "int64"),
            np.array(weights, "float64"),
            document["stride"],
            document["per_unit"],
            document["missing"],
            document["firm"],
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the drawing tables behind: they are made again in a few milliseconds."""
        tables = ("_table", "_fine_table", "_fine", "_cell_of_bin")
        return {name: value for name, value in self.__dict__.items() if name not in tables}

    @functools.cached_property
    def _cell_of_bin(self) -> Ints:
        if len(self.first) <= MOST_CELLS:
            return np.arange(len(self.first))
        middles = np.cumsum(self.weights) - self.weights / 2
        return np.unique(np.minimum(middles * CELLS, CELLS - 1).astype("int64"), return_inverse=True)[1]

    @functools.cached_property
    def _fine(self) -> bool:
        return int(((self.last - self.first) // self.stride + 1).sum()) > SLOTS // 4

    @functools.cached_property
    def _table(self) -> NDArray[Any]:
        return self.encode(self._ticks((np.arange(SLOTS) + 0.5) / SLOTS))

    @functools.cached_property
    def _fine_table(self) -> tuple[Ints, Ints]:
        edges = self._ticks(np.arange(SLOTS + 1) / SLOTS)
        span = np.diff(edges) // self.stride
        # No value between two bins that do not touch.
        gaps = np.flatnonzero(self.first[1:] - self.last[:-1] > self.stride)
        reach = np.searchsorted(edges[1:], self.first[gaps + 1])
        span[reach[reach < SLOTS]] = 0
        return edges[:-1], span

    def _ticks(self, p: Floats) -> Ints:
        upper = np.cumsum(self.weights)
        bins = np.minimum(np.searchsorted(upper, p * upper[-1], side="right"), len(upper) - 1)
        within = (p * upper[-1] - (upper[bins] - self.weights[bins])) / np.maximum(self.weights[bins], 1e-300)
        counts = (self.last - self.first)[bins] // self.stride + 1
        steps = np.clip((within * counts).astype("int64"), 0, counts - 1)
        return np.asarray(self.first[bins] + steps * self.stride, "int64")

    def encode(self, ticks: Ints) -> NDArray[Any]:
        """Return raw values of ticks (or positions of levels), as `app.schema.frames.column` takes them."""
        field = self.field
        if field.levels is not None and field.type in ("integer", "year", "number", "boolean"):
            return np.array(field.levels, {"number": "float64", "boolean": "bool"}.get(field.type, "int64"))[
                ticks
            ]
        if field.levels is not None and field.type == "string":
            return ticks.astype("int8" if len(field.levels) <= 127 else "int32")
        if field.levels is not None:
            return encode_ticks(field, np.array([ticks_of(field, level) for level in field.levels])[ticks], 1)
        return encode_ticks(field, ticks, self.per_unit)


def bin_moments(first: Ints, last: Ints, stride: int) -> tuple[Floats, Floats]:
    """Return mean and variance of the values within each bin, in ticks."""
    counts = (last - first) / stride + 1
    return (first + last) / 2, stride**2 * (counts**2 - 1) / 12
