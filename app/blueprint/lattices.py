"""Distributions of numbers of which a rule allows only evenly spaced values, such as whole tens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.blueprint.marginal import Marginal
from app.schema.evaluate import Columns
from app.schema.frames import column
from app.schema.table import TableSchema

FEWEST = 3
"""Allowed values that make a lattice; two may be the ends of anything."""


def on_lattice(schema: TableSchema, marginal: Marginal) -> Marginal:
    """Move each value's share to the nearest that the rules of this field alone allow, where these are even.

    Redrawing would keep the shares of allowed values as they stand, so that a quantile would lie at the edge
    of its step. Anything but a lattice is left to the rules: moved, its shares would pile up at bounds.
    """
    rules = [rule for rule in schema.rules if rule.fields == (marginal.field.name,)]
    if not rules or marginal.field.levels is not None or (marginal.first != marginal.last).any():
        return marginal
    import pandas as pd

    values = column(marginal.field, marginal.encode(marginal.first))
    columns = Columns(pd.DataFrame({marginal.field.name: values}))
    good = np.ones(len(marginal.first), np.bool_)
    for rule in rules:
        good &= ~columns.breaks(rule)
    allowed = marginal.first[good]
    steps = np.unique(np.diff(allowed))
    if len(allowed) < FEWEST or len(steps) != 1 or good.all():
        return marginal
    inside = (marginal.first > allowed[0] - steps[0]) & (marginal.first < allowed[-1] + steps[0])
    ticks, weights = marginal.first[inside], marginal.weights[inside]
    # What lies halfway goes to both.
    below = np.clip((ticks - allowed[0] + (steps[0] - 1) // 2) // steps[0], 0, len(allowed) - 1)
    above = np.clip((ticks - allowed[0] + steps[0] // 2) // steps[0], 0, len(allowed) - 1)
    shares = np.bincount(below, weights, len(allowed)) + np.bincount(above, weights, len(allowed))
    if not shares.sum() > 0:
        return marginal
    return replace(marginal, first=allowed, last=allowed, weights=shares / shares.sum())
