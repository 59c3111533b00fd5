"""Keeps declared and learned distributions where rules turn candidates away.

Rejection bends the columns that a rule reads: where one in six of a rare diagnosis passes, it comes out at a
sixth of its share. So the columns' weights are changed beforehand, by iterative proportional fitting
(Deming, Stephan, Annals of Mathematical Statistics 11, 1940), so that what is *kept* has the shares that
were declared. Columns stay as independent as the rules allow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from app.errors import pointer
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from app.blueprint.marginal import Marginal
    from app.generators.machinery import Component

MOST_CELLS = 100_000
"""Combinations of values up to which all are looked at, instead of a sample."""

PILOT = 65_536
PASSES = 60
LEAST_KEPT = 0.02
"""Share of candidates that must stay acceptable: beyond it, speed matters more than the last points."""

TOLERANCE = 0.01


def balance(schema: TableSchema, component: Component, warn: Callable[[str, str], None]) -> Component:
    """Return the component with its columns reweighted, or as it is where nothing is rejected.

    Only components whose parts are all `OneColumn`s can be reweighted, and in these only columns that were
    declared or learned, apply to every row and are read as they were drawn.
    """
    import numpy as np

    from app.generators.machinery import OneColumn

    parts = [part for part in component.parts if isinstance(part, OneColumn)]
    computed = [field for field in component.bounded if field.formula is not None]
    if not parts or len(parts) < len(component.parts) or not (component.rules or computed):
        return component
    frame, cells, base = _candidates(component, [part.marginal for part in parts])
    kept = component.judge(frame, Counter())
    before = float(base @ kept)
    if kept.all() or not before > 0:
        return component
    steered = [
        k for k, part in enumerate(parts) if part.marginal.firm and part.marginal.field.relevant is None
    ]
    sizes = [int(cells[k].max()) + 1 for k in range(len(parts))]
    aims = {k: np.bincount(cells[k], base, sizes[k]) / base.sum() for k in steered}
    factors = {k: np.ones(sizes[k]) for k in steered}
    weights = base * kept
    miss = 0.0
    for _ in range(PASSES):
        miss = 0.0
        for k in steered:
            shares = np.bincount(cells[k], weights, sizes[k]) / weights.sum()
            miss = max(miss, float(np.abs(shares - aims[k]).max()))
            step = np.divide(aims[k], shares, out=np.ones(sizes[k]), where=(shares > 0) & (aims[k] > 0))
            factors[k] *= step
            weights *= step[cells[k]]
        if miss < 1e-5:
            break
    everything = base.copy()
    for k in steered:
        everything *= factors[k][cells[k]]
    after = float(weights.sum() / everything.sum())
    possible = after >= min(LEAST_KEPT, before)
    if not possible or miss > TOLERANCE:
        _say(schema, component, [parts[k].marginal for k in steered], warn)
    if not possible:
        return component
    balanced = list(parts)
    for k in steered:
        balanced[k] = replace(parts[k], marginal=parts[k].marginal.reweighted(factors[k]))
    return replace(component, parts=tuple(balanced))


def _candidates(
    component: Component, marginals: list[Marginal]
) -> tuple[pd.DataFrame, list[NDArray[np.int64]], NDArray[np.float64]]:
    """Return candidates, the cell of each in each column, and their weights: all there are, or a sample."""
    import numpy as np

    exact = [marginal.values_alone() for marginal in marginals]
    if not component.numbered and all(exact) and math.prod(m.cells for m in marginals) <= MOST_CELLS:
        grid = np.indices([marginal.cells for marginal in marginals]).reshape(len(marginals), -1)
        columns = {m.field.name: m.column_of(codes) for m, codes in zip(marginals, grid, strict=True)}
        base = np.prod([m.cell_shares()[codes] for m, codes in zip(marginals, grid, strict=True)], axis=0)
        return component.completed(columns, grid.shape[1]), list(grid), base
    frame = component.pilot(PILOT)
    return (
        frame,
        [marginal.cells_of(frame[marginal.field.name]) for marginal in marginals],
        np.full(PILOT, 1 / PILOT),
    )


def _say(
    schema: TableSchema, component: Component, marginals: list[Marginal], warn: Callable[[str, str], None]
) -> None:
    for rule in component.rules:
        names = [marginal.field.name for marginal in marginals if marginal.field.name in rule.fields]
        if names:
            warn(
                pointer("rules", schema.rules.index(rule)),
                f"The rule `{rule.text}` cannot hold together with the distributions of {', '.join(names)} "
                "where columns are independent: the rule holds, and the distributions bend.",
            )
