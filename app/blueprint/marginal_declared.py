"""The marginal that a field's declared statistics describe, in two steps.

A family's parameters are solved so that the bounded and rounded distribution has the declared mean and sd
(`marginal_families`); what then still differs (quantiles, a family that cannot have that mean and sd) is met
by the nearest distribution that has it (`marginal_projection`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.blueprint.defaults import (
    Choice,
    bounds,
    constant,
    default_span,
    is_firm,
    missing_share,
    of_two_values,
    place,
    quantiles_of,
    spoken,
)
from app.blueprint.lattices import on_lattice
from app.blueprint.marginal import Marginal
from app.blueprint.marginal_families import family_bins
from app.blueprint.marginal_projection import project
from app.blueprint.ticks import ticks_per_unit
from app.schema.table import Field, TableSchema

Warn = Callable[[str, str], None]
Floats = NDArray[np.float64]


def declared_marginal(schema: TableSchema, field: Field, warn: Warn) -> Marginal:
    """Return the distribution that a field's declared statistics describe, or a stated default.

    Parameters
    ----------
    warn : callable
        Called as `warn(pointer, message)`, the pointer into the schema's document, where something is
        undeclared and a default was taken, or cannot be met.
    """
    if missing_share(field, 0.0) == 1:
        warn = silent  # nothing of it will be seen
    if field.levels is not None:
        shares, missing = _declared_proportions(schema, field, warn), missing_share(field, 0.0)
        return replace(levels_marginal(field, shares, missing), firm=is_firm(field))
    statistics = field.statistics
    lower, upper = bounds(field)
    value = constant(statistics, lower, upper)
    if value is not None:
        per_unit = ticks_per_unit(field, 0.0, abs(value))
        tick = np.array([round(value * per_unit)])
        return Marginal(field, tick, tick, np.ones(1), 1, per_unit, missing_share(field, 0.0), is_firm(field))
    choice = Choice.of(schema, field, lower, upper, warn)
    if (
        choice.family == "uniform"
        and not is_firm(field)
        and field.type in ("date", "datetime", "time", "year")
    ):
        lower, upper = default_span(field, lower, upper)
    per_unit = ticks_per_unit(field, choice.sd, abs(choice.mean) + 4096 * choice.sd)
    landmarks = np.array([q for _, q in quantiles_of(statistics)], "float64")
    if of_two_values(field, lower, upper) and statistics.distribution is None:
        assert lower is not None
        share = min(max(choice.mean - lower, 0.0), 1.0)
        first = last = np.array([round(lower), round(lower) + 1])
        weights = np.array([1 - share, share])
    else:
        first, last, weights = family_bins(choice, lower, upper, per_unit, landmarks)
    marginal = Marginal(field, first, last, weights, 1, per_unit, missing_share(field, 0.0), is_firm(field))
    met = project(schema, on_lattice(schema, marginal), statistics, warn)
    _tell(choice, schema, met, warn)
    return met


def levels_marginal(field: Field, proportions: Floats, missing: float) -> Marginal:
    """Return the marginal of a field with levels that has these shares, shape (levels,)."""
    positions = np.arange(len(proportions))
    return Marginal(field, positions, positions, proportions, missing=missing)


def _declared_proportions(schema: TableSchema, field: Field, warn: Warn) -> Floats:
    assert field.levels is not None
    statistics = field.statistics
    if statistics.proportions is not None:
        declared = dict(statistics.proportions)
        shares: Floats = np.array([declared.get(level, 0.0) for level in field.levels], "float64")
        return np.asarray(shares / shares.sum())
    equal = np.full(len(field.levels), 1 / len(field.levels))
    if field.type in ("integer", "number", "year") and (
        statistics.mean is not None or statistics.sd is not None
    ):
        order = np.argsort(np.array(field.levels, "float64"))
        ticks = np.round(np.array(field.levels, "float64")[order] * 1000).astype("int64")
        bins = Marginal(field, ticks, ticks, equal, per_unit=1000)
        shares = np.empty(len(equal))
        shares[order] = project(schema, bins, statistics, warn).weights
        return shares
    warn(
        place(schema, field),
        f"No proportions of `{field.name}` are declared: equal shares were taken. "
        "Declare `statistics.proportions`.",
    )
    return equal


def _tell(choice: Choice, schema: TableSchema, marginal: Marginal, warn: Warn) -> None:
    """Say what was taken by default, in figures of what is delivered."""
    field, at = marginal.field, place(schema, marginal.field, "statistics")
    centre = 0.0 if abs(marginal.mean) < 1e-9 * marginal.sd else marginal.mean  # not -1.3e-16
    sd, mean = f"{marginal.sd:.4g}", spoken(field, centre)
    if "sd" in choice.taken:
        warn(at, f"No sd of `{field.name}` is declared: {sd} was taken. Declare `sd` or quantiles.")
    if "mean" in choice.taken:
        warn(at, f"No mean of `{field.name}` is declared: {mean} was taken. Declare `mean` or `median`.")
    if "statistics" in choice.taken:
        shape = choice.family.replace("_", " ")
        said = f"the {shape} distribution with mean {mean} and sd {sd}"
        if field.kind == "temporal" or field.type == "year":
            first, last = (
                spoken(field, int(end) / marginal.per_unit) for end in (marginal.first[0], marginal.last[-1])
            )
            said = f"the {shape} distribution between {first} and {last}"
        warn(
            place(schema, field),
            f"No statistics of `{field.name}` are declared: {said} was taken. Declare `statistics`.",
        )


def silent(pointer: str, message: str) -> None:
    """For defaults that are never seen."""
