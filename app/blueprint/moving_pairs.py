"""Moves latent correlations until simulated rows show the associations that are stated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from app.blueprint.model_parameters import Parameters
from app.blueprint.ordering import Ordered
from app.blueprint.rows import Floats, Rows
from app.blueprint.slopes import ENOUGH, range_slope, squeezed, stretched
from app.blueprint.standins import StandIns
from app.blueprint.statements import Statement, measure
from app.blueprint.structure import single_levels


class Pairs:
    """Pairs of latent columns of which something is stated."""

    def __init__(
        self, parameters: Parameters, signs: Mapping[str, int], inputs: StandIns, ordered: Iterable[Ordered]
    ) -> None:
        self.parameters, self.signs, self._inputs = parameters, signs, inputs
        self.pairs: list[tuple[Statement, int, int, int]] = []
        self._tied = [{pair.first, pair.second} for pair in ordered]
        self._find_pairs()

    def _find_pairs(self) -> None:
        structure, schema = self.parameters.structure, self.parameters.structure.schema
        place = {name: number for number, name in enumerate(structure.latents)}
        taken: set[tuple[int, int]] = set()

        within: dict[str, int] = {}
        for statement in structure.statements:
            if (
                len(statement.fields) == 2
                and statement.given
                and single_levels(schema, statement.given) is not None
            ):
                fields = {c.field for c in statement.given}
                if len(fields) == 1 and (name := next(iter(fields))) in structure.home:
                    within[name] = within.get(name, 0) + 1
        if within:
            self.parameters.stratum = max(sorted(within), key=lambda name: within[name])
        strata = len(schema[self.parameters.stratum].levels or ()) if self.parameters.stratum else 1
        wanted: dict[tuple[int, int], Floats] = {}
        ranked = sorted(
            structure.statements,
            key=lambda s: (bool(s.given), any(name not in structure.marginals for name in s.fields)),
        )
        for statement in ranked:
            ends = self._ends(statement, place, taken)
            if ends is None:
                continue
            i, j, sign = ends
            key = (min(i, j), max(i, j))
            if statement.given and len(statement.fields) == 2:
                codes = single_levels(schema, statement.given)
                if codes is None or tuple(c.field for c in statement.given) != (self.parameters.stratum,):
                    continue
                row = wanted.setdefault(key, np.zeros(strata))
                row[codes[0]] = sign * self._strength(statement)
            elif key not in wanted:
                # An order makes most of a pair's dependence by itself.
                tied = {structure.latents[i], structure.latents[j]} in self._tied
                wanted[key] = np.full(strata, 0.0 if tied else sign * self._strength(statement))
            else:
                continue
            taken.add(key)
            self.pairs.append((statement, i, j, sign))
        keys = list(wanted)
        self.parameters.pairs = np.array(keys, np.int64).reshape(-1, 2)
        self.parameters.wanted = np.array([wanted[key] for key in keys]).reshape(len(keys), strata).T.copy()
        self.parameters.weights = np.ones(len(keys))
        self._pair_place = {key: number for number, key in enumerate(keys)}

    def _ends(
        self, statement: Statement, place: Mapping[str, int], taken: set[tuple[int, int]]
    ) -> tuple[int, int, int] | None:
        """Return the two latent columns that a statement ties, and 1 or −1 as it ties them."""
        if len(statement.fields) == 2:
            names = statement.fields
        elif statement.kind in ("mean", "quantile") and len(statement.given) == 1:
            condition = statement.given[0]
            if condition.values is not None or (statement.kind == "quantile" and statement.p != 0.5):
                return None
            names = (statement.fields[0], condition.field)
        else:
            return None
        for first, one in self._inputs.of(names[0]):
            for second, other in self._inputs.of(names[1]):
                i, j = place[first], place[second]
                direct = first == names[0] and second == names[1]
                if i != j and (direct or (min(i, j), max(i, j)) not in taken):
                    return i, j, one * other
        return None

    def _strength(self, statement: Statement) -> float:
        value = statement.asked
        if len(statement.fields) == 1:
            name = statement.fields[0]
            marginal = self.parameters.structure.marginals.get(name)
            if marginal is None:
                return 0.0
            slope = range_slope(self.parameters.structure, statement.given[0])
            return (
                float(np.clip((value - marginal.mean) / max(marginal.sd, 1e-12) / slope, -0.9, 0.9))
                if slope
                else 0.0
            )
        if statement.kind == "odds_ratio":
            value = math.tanh(math.log(max(value, 1e-6)) / 4)
        elif statement.kind in ("cramers_v", "correlation_ratio"):
            value *= self.signs.get(statement.pointer, 1)
        return float(np.clip(value, -0.97, 0.97))

    def move(self, rows: Rows) -> bool:
        """Move correlations towards what is stated; say whether anything was far off."""
        if not self.pairs:
            return False
        parameters = self.parameters
        schema = parameters.structure.schema
        reached = parameters.correlations()
        far = False
        for statement, i, j, sign in self.pairs:
            found = measure(statement, rows)
            if math.isnan(found.achieved):
                continue
            far = far or abs(found.gap) > ENOUGH
            at = self._pair_place[min(i, j), max(i, j)]
            if len(statement.fields) == 1:
                slope = range_slope(self.parameters.structure, statement.given[0], rows)
                sd = float(np.nanstd(rows.value(statement.fields[0])))
                step = (
                    np.clip((statement.asked - found.achieved) / max(sd, 1e-12) / slope, -0.3, 0.3)
                    if slope
                    else 0.0
                )
            elif statement.kind == "odds_ratio":
                step = 0.25 * math.log(max(statement.asked, 1e-6) / max(found.achieved, 1e-6))
            else:
                asked, achieved = stretched(statement.asked), stretched(found.achieved)
                if statement.kind in ("cramers_v", "correlation_ratio"):
                    # The measure has no sign, its cause has: others may have turned it round.
                    wanted = self.signs.get(statement.pointer, 1)
                    turned = wanted * _correlation(statement.fields, rows) < -found.achieved / 2
                    asked, achieved = wanted * asked, -wanted * achieved if turned else wanted * achieved
                step = asked - achieved
            strata = range(len(reached))
            if statement.given and len(statement.fields) == 2:
                codes = single_levels(schema, statement.given)
                assert codes is not None
                strata = range(codes[0], codes[0] + 1)
            for stratum in strata:
                # From where the matrix is, not from what was wanted of it: what cannot be does not wind up.
                here = stretched(float(np.clip(reached[stratum, at], -0.999, 0.999)))
                parameters.wanted[stratum, at] = squeezed(here + sign * step)
        parameters.correlate()
        return far


def _correlation(fields: tuple[str, ...], rows: Rows) -> float:
    """Return two columns' product-moment correlation, of levels by their places."""
    first, second = fields
    both = np.flatnonzero(rows.present(first) & rows.present(second))
    x, y = rows.measurement(first)[both], rows.measurement(second)[both]
    w = rows.weights[both] / max(float(rows.weights[both].sum()), 1e-12)
    x, y = x - w @ x, y - w @ y
    spread = math.sqrt(float(w @ x**2) * float(w @ y**2))
    return float(w @ (x * y)) / spread if spread > 0 else 0.0
