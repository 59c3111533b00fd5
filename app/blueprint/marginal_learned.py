"""The marginal of a real column: it keeps no value that fewer than a number of persons share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.defaults import (
    MOST_DECIMALS,
    bounds,
    decimals_for,
    missing_share,
    place,
    quantiles_of,
)
from app.blueprint.marginal import Marginal
from app.blueprint.marginal_declared import declared_marginal, levels_marginal, silent
from app.blueprint.marginal_projection import project
from app.blueprint.pooling import onto, outward, pool, round_step
from app.blueprint.ticks import numbers, ticks_per_unit
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd

Warn = Callable[[str, str], None]
Floats = NDArray[np.float64]

MIN_CELL = 10
"""Persons of a real table that a learned bin or atom rests on, at least."""

MOST_LEARNED_BINS = 256


def fitted_marginal(
    schema: TableSchema, field: Field, column: pd.Series[Any], warn: Warn, min_cell: int = MIN_CELL
) -> Marginal:
    """Return the distribution of a real column, with declared statistics in place of fitted ones.

    Parameters
    ----------
    column : Series
        The field's values in the rows where it applies, with the dtype of `app.schema.frames`.
    min_cell : int
        Persons that each learned bin and atom rests on, at least. Values that fewer share are pooled with
        their neighbours, the outer ends are rounded outward to a coarse step within the constraints.

    Notes
    -----
    Learns from `column` and keeps none of its values, except a value that `min_cell` persons share.
    """
    present = column.dropna()
    missing = missing_share(field, 1 - len(present) / len(column) if len(column) else 0.0)
    if not len(present):
        if len(column):
            warn(place(schema, field), f"`{field.name}` has no values in the reference: it stays empty.")
        return replace(declared_marginal(schema, field, silent if len(column) else warn), missing=missing)
    if field.statistics.proportions is not None or field.statistics.distribution is not None:
        return replace(declared_marginal(schema, field, warn), missing=missing)
    if field.levels is not None:
        if field.type == "string":
            counts = np.bincount(present.cat.codes, minlength=len(field.levels)).astype("float64")
        else:
            counts = present.value_counts().reindex(list(field.levels), fill_value=0).to_numpy("float64")
        rare = counts < min_cell
        if rare.all():
            warn(
                place(schema, field),
                f"No level of `{field.name}` is held by {min_cell} rows of the reference: nothing was "
                "learned of it. Declare `statistics.proportions`, or use a larger reference.",
            )
            return replace(declared_marginal(schema, field, warn), missing=missing)
        if rare.any():
            warn(
                place(schema, field),
                f"Levels of `{field.name}` that fewer than {min_cell} rows of the reference hold, or none, "
                "are not made. Declare `statistics.proportions` to have them.",
            )
            counts = np.where(rare, 0.0, counts)
        return levels_marginal(field, counts / counts.sum(), missing)
    if len(present) < min_cell:
        warn(
            place(schema, field),
            f"The reference has fewer than {min_cell} values of `{field.name}`: nothing was learned of them. "
            "Declare its statistics, or use a larger reference.",
        )
        return replace(declared_marginal(schema, field, warn), missing=missing)
    marginal = _learn(field, present, min_cell, missing)
    unmet: list[tuple[str, str]] = []
    met = project(schema, marginal, field.statistics, lambda at, message: unmet.append((at, message)))
    if not unmet:
        return met
    anew = _declared_beyond(schema, marginal)
    if anew is not None:
        warn(
            place(schema, field, "statistics"),
            f"What is declared of `{field.name}` lies beyond the values of the reference: it overrules, and "
            "nothing of the learned shape was kept.",
        )
        return anew
    for at, message in unmet:
        warn(at, message)
    return met


def _declared_beyond(schema: TableSchema, learned: Marginal) -> Marginal | None:
    """Return the distribution of what is declared, the learned mean or sd filled in; None if none has it."""
    field, statistics = learned.field, learned.field.statistics
    quantiles = quantiles_of(statistics)
    filled = replace(
        statistics,
        mean=learned.mean if statistics.mean is None and not quantiles else statistics.mean,
        sd=learned.sd if statistics.sd is None and len(quantiles) < 2 else statistics.sd,
    )
    decimals = field.decimals
    if field.type == "number" and decimals is None:
        decimals = round(math.log10(learned.per_unit))
    unmet: list[str] = []
    anew = declared_marginal(
        schema,
        replace(field, statistics=filled, decimals=decimals),
        lambda _, message: unmet.append(message),
    )
    return None if unmet else replace(anew, field=field, missing=learned.missing)


def _learn(field: Field, present: pd.Series[Any], min_cell: int, missing: float) -> Marginal:
    values = numbers(field, present)
    per_unit = ticks_per_unit(
        replace(field, decimals=_decimals(field, values)), 1.0, float(np.abs(values).max())
    )
    ticks, counts = np.unique(np.round(values * per_unit).astype("int64"), return_counts=True)
    if len(ticks) == 1:
        return Marginal(field, ticks, ticks, np.ones(1), per_unit=per_unit, missing=missing)
    stride = int(np.gcd.reduce(np.diff(ticks)))
    least = max(min_cell, -(-int(counts.sum()) // MOST_LEARNED_BINS))
    sd = float(np.sqrt(np.cov(ticks, fweights=counts)))
    # A grid as coarse as the data themselves needs no coarser ends; else a 1-2-5 step near a fifth of the sd.
    coarse = max(stride, round_step(sd / 5))
    origin = int(ticks[0]) % stride
    lower, upper = bounds(field)
    lowest = outward(int(ticks[0]), coarse, origin, stride, -1)
    highest = outward(int(ticks[-1]), coarse, origin, stride, +1)
    if lower is not None:
        lowest = max(lowest, onto(math.ceil(lower * per_unit - 1e-6), origin, stride, +1))
    if upper is not None:
        highest = min(highest, onto(math.floor(upper * per_unit + 1e-6), origin, stride, -1))
    first, last, weights = pool(ticks, counts, least, lowest, highest, stride)
    return Marginal(field, first, last, weights / weights.sum(), stride, per_unit, missing)


def _decimals(field: Field, values: Floats) -> int:
    if field.decimals is not None:
        return min(field.decimals, MOST_DECIMALS)
    for decimals in range(7):
        if np.abs(values * 10**decimals - np.round(values * 10**decimals)).max() < 1e-6:
            return decimals
    return decimals_for(float(values.std()))
