"""Moves distributions, shares and gaps, so that what rules keep of them is as wanted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from app.blueprint.cells import Block
from app.blueprint.marginal_declared import declared_marginal
from app.blueprint.model_parameters import Parameters
from app.blueprint.ordering import share_below
from app.blueprint.rows import Floats, Rows
from app.blueprint.slopes import ENOUGH
from app.blueprint.statements import measure
from app.blueprint.structure import fields_of_rules

NEVER = 0.003
"""Share of a distribution that no candidate keeps, from which on it is bounded."""

TURNED_AWAY = 0.005
"""Share of candidates that rules turn away, from which on every column is held to its distribution."""

COARSE = 40
"""Classes in which a distribution is moved."""


class Margins:
    """Distributions, level shares and missing shares, as they are drawn."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._wanted_shares: dict[tuple[int, str], Floats] = {}

    def move(self, rows: Rows) -> bool:
        """Draw more of what rules turn away, so that what they keep is as wanted."""
        parameters, structure = self.parameters, self.parameters.structure
        bent = self._bent()
        if bent and len(rows) < (1 - TURNED_AWAY) * rows.drawn:
            bent = set(structure.marginals)  # what goes with those is bent as well
        far = False
        for name in sorted(bent & set(structure.latents)):
            if name in parameters.orders or structure.item(name).levels is not None:
                continue
            far = self._move_marginal(name, rows) or far
        for block, names in enumerate(structure.blocks):
            weights = rows.weights
            for name in sorted(bent & set(names)):
                # Each of them sees what the one before has moved: they go together.
                weights, moved = self._move_shares(block, name, rows, weights)
                far = moved or far
        return self._move_gaps(rows, bent) or far

    def _move_gaps(self, rows: Rows, bent: set[str]) -> bool:
        """Empty more, or less, than is asked for, so that what rules keep has as much missing as is asked."""
        parameters, far = self.parameters, False
        stated = [s for s in parameters.structure.statements if s.kind == "missing" and s.fields[0] in bent]
        by_strata = {s.fields[0] for s in stated if s.given}
        for statement in stated:
            name, asked = statement.fields[0], statement.asked
            if name in by_strata and not statement.given:
                continue
            found = measure(statement, rows)
            if math.isnan(found.achieved) or not 0 < asked < 1 or not 0 < found.achieved < 1:
                continue
            far = far or abs(found.gap) > ENOUGH
            ratio = min(max(asked / (1 - asked) / (found.achieved / (1 - found.achieved)), 0.3), 3.0)
            if statement.given:
                before = parameters.emptied.get(statement.pointer, asked)
                odds = before / (1 - before) * ratio
                parameters.emptied[statement.pointer] = min(max(odds / (1 + odds), 1e-4), 1 - 1e-4)
            else:
                odds = parameters.odds.get(name, 1.0) * ratio
                parameters.odds[name] = min(max(odds, 0.02), 50.0)
        return far

    def tighten(self, rows: Rows) -> bool:
        """Bound columns to what rules leave of them, and meet what is stated within that."""
        parameters, structure = self.parameters, self.parameters.structure
        found = False
        for name in self._bent() & set(structure.latents):
            item, marginal = structure.item(name), structure.marginals[name]
            values = rows.numbers.get(name)
            if values is None or name in parameters.orders or not np.isfinite(values).any():
                continue
            ends = float(np.nanmin(values)), float(np.nanmax(values))
            edges = np.round(np.array(ends) * marginal.per_unit).astype(np.int64) + np.array([0, 1])
            below, upto = share_below(marginal, edges)
            if below < NEVER and 1 - upto < NEVER:
                continue
            low = ends[0] if below >= NEVER else item.statistics.minimum
            high = ends[1] if 1 - upto >= NEVER else item.statistics.maximum
            tight = replace(item, statistics=replace(item.statistics, minimum=low, maximum=high))
            again = declared_marginal(structure.schema, tight, lambda *_: None)
            structure.marginals[name] = replace(again, field=item)  # type: ignore[index]
            found = True
        if found:
            parameters.fit_strata(lambda *_: None)
        return found

    def _bent(self) -> set[str]:
        """Return the names of columns that rules still turn away candidates for."""
        bent = fields_of_rules(self.parameters.rules)
        for solved in self.parameters.structure.solved:
            bent |= {*solved.expression.fields, solved.item.name}
        return bent

    def _move_marginal(self, name: str, rows: Rows) -> bool:
        parameters, structure = self.parameters, self.parameters.structure
        key = structure.keys.get(name, ())
        wanted = parameters.strata.get(name, [structure.marginals[name]])
        here = rows.present(name)
        level_of = np.zeros(len(rows), np.int64)
        for one in key:
            codes = rows.codes[one]
            level_of = level_of * len(structure.schema[one].levels or ()) + np.maximum(codes, 0)
        far = False
        for level, marginal in enumerate(wanted):
            chosen = here & (level_of == level)
            total = float(rows.weights[chosen].sum())
            if chosen.sum() < 500 or len(marginal.first) < 2:
                continue
            ticks = np.round(rows.numbers[name][chosen] * marginal.per_unit).astype(np.int64)
            bins = np.clip(
                np.searchsorted(marginal.first, ticks, side="right") - 1, 0, len(marginal.first) - 1
            )
            upper = np.cumsum(marginal.weights)
            label = np.minimum(((upper - marginal.weights / 2) * COARSE).astype(np.int64), COARSE - 1)
            asked = np.bincount(label, marginal.weights, COARSE)
            got = np.bincount(label[bins], rows.weights[chosen] / total, COARSE)
            far = far or bool(np.abs(np.cumsum(asked - got)).max() > 0.002)
            step = np.ones(COARSE)
            seen = (asked > 0) & (got > 0)
            step[seen] = np.clip(asked[seen] / got[seen], 0.5, 2.0)
            middles = (np.arange(COARSE) + 0.5) / COARSE
            factor = np.interp(upper - marginal.weights / 2, middles[asked > 0], step[asked > 0])
            before = parameters.shifted.get((name, level), np.ones(len(factor)))
            parameters.shifted[name, level] = np.clip(before * factor, 0.01, 100.0)
        return far

    def _move_shares(self, block: int, name: str, rows: Rows, weights: Floats) -> tuple[Floats, bool]:
        """Draw more of the levels that rules turn away; return the rows' weights as they then are."""
        parameters = self.parameters
        cells = parameters.blocks[block]
        codes = cells.codes(name).astype(np.int64)
        size = len(parameters.structure.schema[name].levels or ()) + 1
        wanted = self._wanted_shares.setdefault(
            (block, name), np.asarray(np.bincount(codes + 1, cells.weights, size), np.float64)
        )
        place = rows.codes[name].astype(np.int64) + 1
        got = np.bincount(place, weights, size) / weights.sum()
        step = np.ones(size)
        seen = (wanted > 0) & (got > 0)
        step[seen] = np.clip(wanted[seen] / got[seen], 0.5, 2.0)
        drawn = cells.weights * step[codes + 1]
        parameters.blocks[block] = Block(cells.names, cells.states, drawn / drawn.sum())
        return weights * step[place], bool(np.abs(wanted - got).max() > 0.001)
