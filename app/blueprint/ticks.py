"""Ticks, the smallest steps of a field: 1 for integers, 10^−decimals for numbers, a day, a second."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.defaults import DAY_SECONDS, MOST_DECIMALS, decimals_for
from app.schema.table import Field, Value

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_TICK = 2.0**60


def ticks_per_unit(field: Field, sd: float, largest: float = 0.0) -> int:
    """Return the ticks in one unit of the field's numeric scale; `sd` decides where decimals are open.

    Fewer decimals than declared only where a value as far from 0 as `largest` could not be counted.
    """
    if field.type == "datetime":
        return DAY_SECONDS
    if field.type != "number":
        return 1
    decimals = field.decimals if field.decimals is not None else decimals_for(sd)
    holds = MOST_DECIMALS if largest < 1 else math.floor(math.log10(LARGEST_TICK / largest))
    return int(10 ** max(0, min(decimals, holds, MOST_DECIMALS)))


def numbers(field: Field, present: pd.Series[Any]) -> Floats:
    """Return present values on the field's numeric scale (`Field.to_number`), shape (n,)."""
    if field.type in ("date", "datetime"):
        seconds = present.to_numpy().astype("datetime64[s]").astype("int64")
        return seconds / DAY_SECONDS
    if field.type == "time":
        return present.to_numpy().astype("timedelta64[s]").astype("float64")
    return present.to_numpy("float64")


def ticks_of(field: Field, value: Value) -> int:
    """Return a value's tick, where a unit of dates, times and whole numbers is one."""
    return round(field.to_number(value) * (DAY_SECONDS if field.type == "datetime" else 1))


def encode_ticks(field: Field, ticks: Ints, per_unit: int) -> NDArray[Any]:
    """Return raw values of a numeric or temporal field, as `app.schema.frames.column` takes them."""
    if field.type == "number":
        return ticks / per_unit  # the double nearest to the decimal
    if field.type == "date":
        return (ticks * DAY_SECONDS).astype("datetime64[s]")
    if field.type == "datetime":
        return (ticks * 1_000_000).astype("datetime64[us]")
    if field.type == "time":
        return ticks.astype("timedelta64[s]")
    return ticks
