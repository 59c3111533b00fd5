"""Moves how numbers depend on levels until simulated rows show what is stated of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from app.blueprint.cells import level_scores
from app.blueprint.model_parameters import Parameters
from app.blueprint.rows import Floats, Rows
from app.blueprint.slopes import ENOUGH, group_means, range_slope, stretched
from app.blueprint.standins import StandIns
from app.blueprint.statements import Statement, measure
from app.blueprint.structure import even_levels, single_levels
from app.schema.table import Condition

OWN = 1.0
"""Part of what levels show of a column that is their own doing, from which on less of it is enough."""


@dataclass(frozen=True, eq=False)
class Factor:
    """Statements that say how a latent column depends on levels of some fields of one block."""

    latent: str
    fields: tuple[str, ...]
    means: tuple[tuple[int, Statement], ...] = ()
    line: Statement | None = None
    spread: Statement | None = None
    shares: tuple[Statement, ...] = ()
    within: Condition | None = None
    sign: int = 1


class Effects:
    """What levels add to latent columns."""

    def __init__(self, parameters: Parameters, signs: Mapping[str, int], inputs: StandIns) -> None:
        self.parameters, self.signs, self._inputs = parameters, signs, inputs
        self.factors: list[Factor] = []
        self._find_factors()

    def _find_factors(self) -> None:
        structure = self.parameters.structure
        found: dict[tuple[str, tuple[str, ...]], Factor] = {}
        direct = [s for s in structure.statements if s.fields[0] in structure.marginals]
        computed = [s for s in structure.statements if s.fields[0] not in structure.marginals]
        for statement in (*direct, *computed):
            if len(statement.fields) == 2 and not statement.given:
                self._add_association(statement, found)
            elif statement.kind in ("mean", "quantile") and statement.given:
                self._add_mean(statement, found)
            elif statement.kind == "proportion" and statement.given:
                self._add_share(statement, found)
        self.factors = list(found.values())
        for factor in self.factors:
            self._start(factor)

    def _add_association(
        self, statement: Statement, found: dict[tuple[str, tuple[str, ...]], Factor]
    ) -> None:
        home = self.parameters.structure.home
        for name, by in (statement.fields, statement.fields[::-1]):
            if by not in home:
                continue
            for latent, sign in self._inputs.of(name):
                key = (latent, (by,))
                if self._keyed_on(*key) or (latent != name and key in found):
                    continue
                factor = found.setdefault(key, Factor(*key, sign=sign))
                if statement.kind in ("spearman", "pearson", "odds_ratio"):
                    found[key] = replace(factor, line=statement)
                else:
                    found[key] = replace(factor, spread=statement)
                return

    def _add_mean(self, statement: Statement, found: dict[tuple[str, tuple[str, ...]], Factor]) -> None:
        schema = self.parameters.structure.schema
        if statement.kind == "quantile" and statement.p != 0.5:
            return
        codes = single_levels(schema, statement.given)
        fields = tuple(condition.field for condition in statement.given)
        if codes is None or not self._one_block(fields):
            return
        order = sorted(range(len(fields)), key=lambda k: fields[k])
        place = 0
        for k in order:
            place = place * len(schema[fields[k]].levels or ()) + codes[k]
        for latent, sign in self._inputs.of(statement.fields[0]):
            key = (latent, tuple(fields[k] for k in order))
            if self._keyed_on(*key):
                continue
            factor = found.setdefault(key, Factor(*key, sign=sign))
            other = any(s.fields != statement.fields for _, s in factor.means)
            if other or (statement.kind == "quantile" and any(p == place for p, _ in factor.means)):
                continue
            found[key] = replace(factor, means=(*factor.means, (place, statement)))
            return

    def _add_share(self, statement: Statement, found: dict[tuple[str, tuple[str, ...]], Factor]) -> None:
        """Take shares of a category's levels within a range of a number for the number's means by level."""
        by = statement.fields[0]
        ranges = [condition for condition in statement.given if condition.values is None]
        if not ranges or by not in self.parameters.structure.home:
            return
        condition = max(ranges, key=lambda one: self._stated_between(by, one.field))
        for latent, sign in self._inputs.of(condition.field):
            key = (latent, (by,))
            if self._keyed_on(*key):
                continue
            factor = found.setdefault(key, Factor(*key, sign=sign))
            if factor.means or factor.line or any(s.given != statement.given for s in factor.shares):
                return
            found[key] = replace(factor, shares=(*factor.shares, statement), within=condition)
            return

    def _stated_between(self, first: str, second: str) -> float:
        """Return how strongly two columns are said to go together."""
        stated = [
            abs(s.asked)
            for s in self.parameters.structure.statements
            if set(s.fields) == {first, second} and not s.given and s.kind != "odds_ratio"
        ]
        return max(stated, default=0.0)

    def _keyed_on(self, name: str, fields: tuple[str, ...]) -> bool:
        if name in self.parameters.orders:
            return False
        return set(fields) <= set(self.parameters.structure.keys.get(name, ()))

    def _one_block(self, fields: tuple[str, ...]) -> bool:
        home = self.parameters.structure.home
        return all(name in home for name in fields) and len({home[name] for name in fields}) == 1

    def _start(self, factor: Factor) -> None:
        schema = self.parameters.structure.schema
        sizes = np.zeros(len(even_levels(schema, factor.fields)))
        if factor.means:
            mean, sd = self._centre(factor.means[0][1].fields[0], factor.means)
            for place, statement in factor.means:
                sizes[place] = factor.sign * np.clip((statement.asked - mean) / sd, -3, 3)
        elif factor.shares and not factor.line and not factor.spread:
            pass
        else:
            stated = factor.line or factor.spread
            assert stated is not None
            scores = self._scores(factor.fields[0])
            strength = stated.asked
            if stated.kind == "odds_ratio":
                strength = math.tanh(math.log(max(strength, 1e-6)) / 4)
            strength *= self.signs.get(stated.pointer, 1)
            strength = factor.sign * float(np.clip(strength, -0.95, 0.95))
            sizes = strength / math.sqrt(1 - strength**2) * scores
        self.parameters.effects[factor.latent, factor.fields] = sizes

    def _centre(self, name: str, means: tuple[tuple[int, Statement], ...]) -> tuple[float, float]:
        marginal = self.parameters.structure.marginals.get(name)
        if marginal is not None:
            return marginal.mean, max(marginal.sd, 1e-12)
        asked = np.array([statement.asked for _, statement in means])
        return float(asked.mean()), max(float(asked.std()), 1e-12)

    def _scores(self, name: str) -> Floats:
        structure = self.parameters.structure
        block = self.parameters.blocks[structure.home[name]]
        codes = block.codes(name).astype(np.int64)
        rows = Rows(structure.schema, {}, {name: codes}, {}, block.weights)
        scores = level_scores(rows, name)
        found = np.zeros(len(structure.schema[name].levels or ()))
        found[codes[codes >= 0]] = scores[codes >= 0]
        return found

    def move(self, rows: Rows) -> bool:
        """Move what levels add towards what is stated; say whether anything was far off."""
        far = False
        for factor in self.factors:
            key = (factor.latent, factor.fields)
            sizes = self.parameters.effects[key].copy()
            if factor.means:
                name = factor.means[0][1].fields[0]
                sd = max(float(np.nanstd(rows.value(name))), 1e-12)
                for place, statement in factor.means:
                    found = measure(statement, rows)
                    if math.isnan(found.achieved):
                        continue
                    far = far or abs(found.gap) > ENOUGH
                    sizes[place] += factor.sign * np.clip((statement.asked - found.achieved) / sd, -1, 1)
            elif factor.line or factor.spread:
                stated = factor.line or factor.spread
                assert stated is not None
                found = measure(stated, rows)
                if math.isnan(found.achieved):
                    continue
                far = far or abs(found.gap) > ENOUGH
                scores = factor.sign * self._scores(factor.fields[0])
                if stated.kind in ("spearman", "pearson"):
                    sizes += (stretched(stated.asked) - stretched(found.achieved)) * scores
                elif stated.kind == "odds_ratio":
                    sizes += 0.3 * math.log(stated.asked / max(found.achieved, 1e-6)) * scores
                else:
                    ratio = stretched(stated.asked) / max(stretched(found.achieved), 1e-3)
                    if ratio >= 1:
                        sizes *= min(ratio, 2.5)
                    else:
                        first, second = stated.fields
                        means = group_means(first, second, factor.fields[0], rows)
                        if np.linalg.norm(sizes) >= OWN * np.linalg.norm(means):
                            sizes *= max(ratio, 0.4)
                        else:  # others bring what is too much: it is taken off where it shows
                            sizes += (max(ratio, 0.4) - 1) * factor.sign * means
            if factor.shares and not factor.means and not factor.line:
                assert factor.within is not None
                slope = factor.sign * range_slope(self.parameters.structure, factor.within, rows)
                for statement in factor.shares if slope else ():
                    found = measure(statement, rows)
                    if math.isnan(found.achieved):
                        continue
                    far = far or abs(found.gap) > ENOUGH
                    ratio = math.log((statement.asked + 1e-3) / (found.achieved + 1e-3))
                    sizes[statement.level] += 0.7 * np.clip(ratio, -1, 1) / slope
            self.parameters.effects[key] = np.clip(sizes, -4, 4)
        return far
