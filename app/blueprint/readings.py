"""How ticks and codes of a column are read: as delivered values, as numbers, as what expressions take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.chance import Mask
from app.blueprint.marginal import Marginal
from app.blueprint.rows import Floats, Ints
from app.blueprint.solving import Solved
from app.schema.evaluate import Evaluated
from app.schema.frames import DAY_SECONDS
from app.schema.table import Field

if TYPE_CHECKING:
    import pandas as pd

MICROSECONDS = {"date": DAY_SECONDS * 1_000_000, "datetime": 1_000_000, "time": 1_000_000}
UNITS = {"date": DAY_SECONDS, "datetime": 1_000_000, "time": 1}
"""Units of the delivered dtype in a tick of fields without levels."""

NAT = np.iinfo(np.int64).min


class Reading:
    """Reads the ticks (or codes) of one drawn column.

    Parameters
    ----------
    writer : Marginal
        Knows the column's field and its ticks.
    """

    def __init__(self, writer: Marginal) -> None:
        self.field, self.per_unit = writer.field, writer.per_unit
        self._texts = self.field.levels is not None and self.field.type == "string"
        levels = np.arange(len(self.field.levels)) if self.field.levels is not None else np.zeros(0, np.int64)
        encoded = writer.encode(levels)
        self.dtype = encoded.dtype
        self._levels = encoded if self.field.levels is not None else None

    @property
    def masked(self) -> bool:
        """Whether missing values are told by a mask, since the dtype has none."""
        return self.dtype.kind in "ib" and not self._texts

    def write(self, ticks: NDArray[Any], absent: Mask | None, out: NDArray[Any]) -> None:
        """Write delivered values into `out`, of this reading's dtype; masked ones as if they were present."""
        if self._texts:
            out[:] = ticks
        elif self._levels is not None:
            np.take(self._levels, ticks, out=out, mode="clip")
        elif self.field.type == "number":
            np.divide(ticks, np.float64(self.per_unit), out=out)  # the double nearest to the decimal
        elif self.field.type in UNITS:
            np.multiply(ticks, UNITS[self.field.type], out=out.view(np.int64), dtype=np.int64)
        else:
            out[:] = ticks
        if absent is None or self.masked:
            return
        if self.dtype.kind == "f":
            np.copyto(out, np.nan, where=absent)
        elif self._texts:
            np.copyto(out, -1, where=absent)
        else:
            np.copyto(out.view(np.int64), NAT, where=absent)

    def raw(self, ticks: NDArray[Any], absent: Mask | None) -> NDArray[Any]:
        """Return delivered values, as `app.schema.frames.column` takes them."""
        out = np.empty(len(ticks), self.dtype)
        self.write(ticks, absent, out)
        return out

    def numbers(self, ticks: NDArray[Any], absent: Mask | None) -> Floats:
        """Return values on the field's numeric scale, NaN where missing."""
        found: Floats = ticks / np.float64(self.per_unit)
        if absent is not None:
            np.copyto(found, np.nan, where=absent)
        return found

    def evaluated(self, ticks: NDArray[Any], absent: Mask | None) -> Evaluated:
        """Return the column as expressions take it."""
        missing = np.zeros(len(ticks), np.bool_) if absent is None else absent
        kind = self.field.type
        if self._texts:
            codes = ticks if absent is None else np.where(absent, -1, ticks)
            return Evaluated(codes, missing, tuple(str(level) for level in self.field.levels or ()))
        if self._levels is not None:
            values = self._levels
            if kind in MICROSECONDS:
                values = values.astype("m8[us]" if kind == "time" else "M8[us]").view(np.int64)
            elif kind != "boolean":
                values = values.astype(np.float64)
            return Evaluated(np.take(values, ticks, mode="clip"), missing)
        if kind in MICROSECONDS:
            return Evaluated(np.multiply(ticks, MICROSECONDS[kind], dtype=np.int64), missing)
        return Evaluated(ticks / np.float64(self.per_unit), missing)

    def within_bounds(self, ticks: NDArray[Any], absent: Mask | None) -> Mask | None:
        """Tell which values keep the field's constraints; None where all do."""
        constraints = self.field.constraints
        good: Mask | None = None
        if self.field.levels is None:
            to_tick = self.field.to_number
            if constraints.minimum is not None:
                good = ticks >= np.int64(math.ceil(to_tick(constraints.minimum) * self.per_unit - 1e-6))
            if constraints.maximum is not None:
                below = ticks <= np.int64(math.floor(to_tick(constraints.maximum) * self.per_unit + 1e-6))
                good = below if good is None else good & below
            if good is not None and absent is not None:
                good |= absent
        if constraints.required and absent is not None:
            good = ~absent if good is None else good & ~absent
        return good


def solved_column(solved: Solved, frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the column that makes a formula have its drawn value."""
    from app.schema.evaluate import as_column, evaluate

    found = evaluate(solved.expression, frame)
    if not solved.base:
        return as_column(found, solved.item, frame.index)
    base = frame[solved.base]
    days = np.where(found.missing, 0, np.rint(found.values)).astype("timedelta64[D]")
    whole = base + days.astype("timedelta64[s]")
    moved: pd.Series[Any] = whole.mask(found.missing | base.isna().to_numpy()).astype(base.dtype)
    return moved


def classes_of(item: Field, values: pd.Series[Any], edges: Floats | None) -> NDArray[np.int32]:
    """Return the coarse class of each value, 0 where missing, shape (n,)."""
    absent = values.isna().to_numpy()
    if edges is None:
        return np.asarray(codes_of(item, values) + 1, np.int32)
    with np.errstate(invalid="ignore"):
        found = np.searchsorted(edges, numbers_of(item, values), side="left") + 1
    found[absent] = 0
    return found.astype(np.int32)


def codes_of(item: Field, values: pd.Series[Any]) -> Ints:
    """Return positions of levels, −1 where missing."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(values.cat.codes, np.int64)
    levels = pd.Index([item.to_number(level) for level in item.levels or ()])
    found = levels.get_indexer(pd.Index(numbers_of(item, values)))
    return np.where(values.isna().to_numpy(), -1, found)


def numbers_of(item: Field, values: pd.Series[Any]) -> Floats:
    """Return values on the field's numeric scale, NaN where missing."""
    if values.dtype.kind == "M":
        since = values.to_numpy("datetime64[us]") - np.datetime64("1970-01-01", "us")
        found = since / np.timedelta64(1, "D")
        found[np.isnat(since)] = np.nan
        return np.asarray(found, np.float64)
    if values.dtype.kind == "m":
        spans = values.to_numpy("timedelta64[us]")
        found = spans / np.timedelta64(1, "s")
        found[np.isnat(spans)] = np.nan
        return np.asarray(found, np.float64)
    return values.to_numpy(dtype="float64", na_value=np.nan)


def within_bounds(item: Field, values: pd.Series[Any]) -> Mask:
    """Tell which values of a computed field keep its constraints."""
    absent = values.isna().to_numpy()
    constraints = item.constraints
    good = np.ones(len(values), np.bool_)
    if constraints.required:
        good &= ~absent
    if item.levels is not None:
        return good & (absent | (codes_of(item, values) >= 0))
    if item.type == "string":
        return good
    numbers = numbers_of(item, values)
    with np.errstate(invalid="ignore"):
        if constraints.minimum is not None:
            good &= absent | (numbers >= item.to_number(constraints.minimum) - 1e-9)
        if constraints.maximum is not None:
            good &= absent | (numbers <= item.to_number(constraints.maximum) + 1e-9)
    return good
