"""Moves effects, correlations and orders until simulated rows show what is stated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from app.blueprint.cells import Block, level_scores
from app.blueprint.inducing import induced_effects
from app.blueprint.marginal import declared_marginal
from app.blueprint.model_parameters import Parameters
from app.blueprint.ordering import (
    EQUAL,
    GREATER,
    LESS,
    Ordered,
    cut_distribution,
    grid_of,
    orders_in,
    share_below,
)  # fmt: skip
from app.blueprint.rows import Floats, Rows
from app.blueprint.sample import Order, Program
from app.blueprint.simulation import simulate, widening
from app.blueprint.standins import StandIns
from app.blueprint.statements import Statement, measure
from app.blueprint.structure import even_levels, fields_of_rules, single_levels
from app.schema.table import Condition

ROWS = 32_768
FEWEST = 8_192
NEVER = 0.003
"""Share of a distribution that no candidate keeps, from which on it is bounded."""

LEAST_SLOPE = 0.1
"""Mean normal score of a range below which a correlation is not what moves the mean within it."""

TURNED_AWAY = 0.005
"""Share of candidates that rules turn away, from which on every column is held to its distribution."""

LEAST_STEP = 0.25
"""Share of a miss that is made up in one pass, at least."""

COARSE = 40
"""Classes in which a distribution is moved."""

ENOUGH = 0.2
"""Gap, in tolerances, at which nothing is moved any more."""


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


@dataclass(frozen=True)
class _Pace:
    """How far off a distribution to cut was, and how much of that is made up in one pass."""

    worst: float
    step: float


@dataclass(frozen=True)
class Way:
    """What a calibration may do in one way or another: which is better shows in the rows.

    Parameters
    ----------
    turned : bool
        Whether of two numbers in order the one of which more is stated is cut.
    induced : bool
        Whether numbers go with categories by way of others (`app.blueprint.inducing`).
    """

    turned: bool = False
    induced: bool = True


@dataclass(eq=False)
class Calibration:
    """The state of a calibration."""

    parameters: Parameters
    signs: Mapping[str, int]
    way: Way = Way()
    factors: list[Factor] = field(default_factory=list)
    pairs: list[tuple[Statement, int, int, int]] = field(default_factory=list)
    ordered: list[Ordered] = field(default_factory=list)
    targets: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the statements into what can be moved for them."""
        self._inputs = StandIns(self.parameters.structure)
        self._wanted_shares: dict[tuple[int, str], Floats] = {}
        self._pace: dict[str, _Pace] = {}
        self._tightened = self._turnable = False
        self._find_orders()
        self._find_factors()
        self._find_pairs()
        induced = {}
        if self.way.induced:
            tied = ((pair.first, pair.second) for pair in self.ordered)
            induced = induced_effects(self.parameters, tied)
            self.parameters.effects |= induced
        self.others = self._other_ways(bool(induced))
        self.parameters.correlate()
        self._place_orders(None)

    def program(self) -> Program:
        """Return the program as it stands."""
        return self.parameters.program()

    def simulated(self, program: Program) -> Rows:
        """Simulate a program."""
        structure = self.parameters.structure
        return simulate(program, structure, max(ROWS >> widening(structure), FEWEST))

    def move(self, rows: Rows) -> bool:
        """Move everything towards what is stated; say whether anything was far off."""
        if not self._tightened:
            self._tightened = True
            if self._tighten(rows):
                return True
        far = self._move_orders(rows)
        far = self._move_marginals(rows) or far
        far = self._move_factors(rows) or far
        return self._move_pairs(rows) or far

    # Marginals that rules bend ---------------------------------------------------------------------

    def _move_marginals(self, rows: Rows) -> bool:
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

    def _tighten(self, rows: Rows) -> bool:
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

    # Effects -------------------------------------------------------------------------------------

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

    def _move_factors(self, rows: Rows) -> bool:
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
                    sizes += (_stretched(stated.asked) - _stretched(found.achieved)) * scores
                elif stated.kind == "odds_ratio":
                    sizes += 0.3 * math.log(stated.asked / max(found.achieved, 1e-6)) * scores
                else:
                    ratio = _stretched(stated.asked) / max(_stretched(found.achieved), 1e-3)
                    sizes *= np.clip(ratio, 0.4, 2.5)
            if factor.shares and not factor.means and not factor.line:
                assert factor.within is not None
                slope = factor.sign * self._range_slope(factor.within, rows)
                for statement in factor.shares if slope else ():
                    found = measure(statement, rows)
                    if math.isnan(found.achieved):
                        continue
                    far = far or abs(found.gap) > ENOUGH
                    ratio = math.log((statement.asked + 1e-3) / (found.achieved + 1e-3))
                    sizes[statement.level] += 0.7 * np.clip(ratio, -1, 1) / slope
            self.parameters.effects[key] = np.clip(sizes, -4, 4)
        return far

    # Correlations --------------------------------------------------------------------------------

    def _find_pairs(self) -> None:
        structure, schema = self.parameters.structure, self.parameters.structure.schema
        place = {name: number for number, name in enumerate(structure.latents)}
        taken: set[tuple[int, int]] = set()

        self._tied = [{pair.first, pair.second} for pair in self.ordered]
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
            slope = self._range_slope(statement.given[0])
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

    def _range_slope(self, condition: Condition, rows: Rows | None = None) -> float:
        """Return the mean normal score of a number within a statement's range, 0 where it is near 0."""
        from scipy.special import ndtri

        structure = self.parameters.structure
        item = structure.schema[condition.field]
        if item.levels is not None:
            return 0.0
        if rows is not None and condition.field in rows.numbers:
            inside = rows.selected((condition,))
            place, size = rows.place(condition.field)
            here = rows.present(condition.field)
            mass = np.bincount(place[here], rows.weights[here], size)
            shares = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1e-12)
            if not inside.any():
                return 0.0
            slope = float(ndtri(np.clip(shares[place[inside]], 1e-6, 1 - 1e-6)).mean())
        else:
            marginal = structure.marginals.get(condition.field)
            if marginal is None:
                return 0.0
            values = marginal._ticks((np.arange(2048) + 0.5) / 2048) / marginal.per_unit
            within = np.ones(len(values), np.bool_)
            if condition.minimum is not None:
                within &= values >= item.to_number(condition.minimum)
            if condition.maximum is not None:
                within &= values <= item.to_number(condition.maximum)
            if not within.any() or within.all():
                return 0.0
            slope = float(ndtri((np.arange(2048) + 0.5) / 2048)[within].mean())
        return slope if abs(slope) > LEAST_SLOPE else 0.0

    def _move_pairs(self, rows: Rows) -> bool:
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
                slope = self._range_slope(statement.given[0], rows)
                sd = float(np.nanstd(rows.value(statement.fields[0])))
                step = (
                    np.clip((statement.asked - found.achieved) / max(sd, 1e-12) / slope, -0.3, 0.3)
                    if slope
                    else 0.0
                )
            elif statement.kind == "odds_ratio":
                step = 0.25 * math.log(max(statement.asked, 1e-6) / max(found.achieved, 1e-6))
            else:
                step = _stretched(statement.asked) - _stretched(found.achieved)
                if statement.kind in ("cramers_v", "correlation_ratio"):
                    step *= self.signs.get(statement.pointer, 1)
            strata = range(len(reached))
            if statement.given and len(statement.fields) == 2:
                codes = single_levels(schema, statement.given)
                assert codes is not None
                strata = range(codes[0], codes[0] + 1)
            for stratum in strata:
                # From where the matrix is, not from what was wanted of it: what cannot be does not wind up.
                here = _stretched(float(np.clip(reached[stratum, at], -0.999, 0.999)))
                parameters.wanted[stratum, at] = _squeezed(here + sign * step)
        parameters.correlate()
        return far

    # Orders --------------------------------------------------------------------------------------

    def _find_orders(self) -> None:
        parameters = self.parameters
        structure = parameters.structure
        numbers = {
            name: structure.marginals[name]
            for name in structure.latents
            if structure.item(name).levels is None
        }
        done: set[str] = set()
        used: set[str] = set()
        for pair in orders_in(structure.schema, parameters.rules, numbers, parameters.blocks):
            name = self._cut_one(pair, done, used)
            if name is None:
                continue
            done.add(name)
            used |= {pair.first, pair.second}
            self.ordered.append(pair if name == pair.first else _turned(pair))
            parameters.orders[name] = self._order(self.ordered[-1], None)
            absorbed = {rule.text for rule in pair.rules}
            parameters.rules = tuple(rule for rule in parameters.rules if rule.text not in absorbed)
            # What is cut has no key, and so none that keeps its rules.
            parameters.rules += structure.thresholds.get(name, ())

    def _other_ways(self, induced: bool) -> tuple[Way, ...]:
        """Return what else may be tried."""
        if self.way != Way():
            return ()
        ways = [Way(turned=True)] if self._turnable else []
        if induced:
            ways.append(Way(induced=False))
            ways += [Way(turned=True, induced=False)] if self._turnable else []
        return tuple(ways)

    def _cut_one(self, pair: Ordered, done: set[str], used: set[str]) -> str | None:
        """Choose the column to cut: one that is not cut yet, without a key, and of which less is stated."""
        keys = self.parameters.structure.keys
        numbers = self.parameters.structure.marginals
        sides = [(pair.first, pair.second), (pair.second, pair.first)]
        fit = []
        for name, other in sides:
            if name in done or self._reaches(other, name):
                continue
            equal = not pair.allowed[:, LESS].any() or (pair.allowed.sum(axis=1) == 1).any()
            if equal and numbers[name].per_unit < numbers[other].per_unit:
                continue
            coarser = numbers[name].per_unit < numbers[other].per_unit
            strength = self._stated_strength(name, other)
            fit.append((name in keys, coarser, -strength if self.way.turned else strength, name))
        self._turnable = self._turnable or (len(fit) > 1 and len({one[:2] for one in fit}) == 1)
        return min(fit)[-1] if fit else None

    def _stated_strength(self, name: str, partner: str) -> float:
        """Return how strongly a number is said to go with other columns than its partner.

        What is cut has its dependence by way of its partner first: it is the one to have less of its own.
        """
        total = 0.0
        for statement in self.parameters.structure.statements:
            if name not in statement.reads or partner in statement.reads:
                continue
            if len(statement.fields) == 2 and statement.kind != "odds_ratio":
                total += statement.asked**2
            elif statement.given:
                total += 0.02
        return total

    def _reaches(self, name: str, goal: str) -> bool:
        orders = self.parameters.orders
        while name in orders:
            name = orders[name].other
            if name == goal:
                return True
        return False

    def _place_orders(self, rows: Rows | None) -> None:
        for pair in self.ordered:
            self.parameters.orders[pair.first] = self._order(pair, rows)

    def _order(self, pair: Ordered, rows: Rows | None) -> Order:
        """Find the distribution to cut, from what the other column is in simulated rows (or by itself)."""
        structure, parameters = self.parameters.structure, self.parameters
        mine, other = structure.marginals[pair.first], structure.marginals[pair.second]
        grid = grid_of([mine])
        upper = bool(pair.allowed[:, LESS].any()) or not pair.allowed[:, GREATER].any()
        strict = not pair.allowed[:, EQUAL].any()
        single = pair.allowed.sum(axis=1) == 1
        equal = single & pair.allowed[:, EQUAL]
        free = pair.allowed[:, LESS] & pair.allowed[:, GREATER]
        place = pair.block
        shares = np.ones(1) if place is None else parameters.blocks[place].weights
        wanted = self.targets.get(pair.first)
        if wanted is None:
            wanted = self.targets[pair.first] = share_below(mine, grid)
        scale = mine.per_unit / other.per_unit
        cut, equal_share = self._others(pair, grid, scale, rows, equal, free, shares, upper, strict)
        if equal_share is not None:
            p, below = equal_share
            wanted = np.clip((wanted - p * below) / max(1 - p, 1e-9), 0, 1)
            wanted = np.maximum.accumulate(wanted)
            if wanted[-1] > 0:
                wanted = wanted / wanted[-1]
        if upper:
            share = cut_distribution(wanted, cut, np.diff(grid))
        else:
            share = cut_distribution(1 - wanted[::-1], cut[::-1], np.diff(grid)[::-1])[::-1]
        log_share = np.log(np.maximum(share, 1e-280))
        ramp = np.arange(len(share)) * 1e-9  # strictly monotone, so that it can be read backwards
        log_share = np.minimum(log_share + (ramp - ramp[-1] if upper else -ramp), 0.0)
        return Order(
            pair.first, pair.second, upper, strict, grid, log_share,
            None if place is None or not equal.any() else (place, equal),
            None if place is None or not free.any() else (place, free),
        )  # fmt: skip

    def _others(
        self, pair: Ordered, grid: np.ndarray, scale: float, rows: Rows | None, equal: np.ndarray,
        free: np.ndarray, shares: Floats, upper: bool, strict: bool,
    ) -> tuple[Floats, tuple[float, Floats] | None]:  # fmt: skip
        """Return the other's share in each bin where it cuts; where it is copied, how often."""
        structure = self.parameters.structure
        bins = len(grid) - 1
        if rows is None:
            other = structure.marginals[pair.second]
            edges = np.floor(grid / scale).astype(np.int64)
            below = share_below(other, edges)
            below[0], below[-1] = 0.0, 1.0
            p = float(shares @ equal)
            mass = np.diff(below)
            unbound = float(shares @ free)
            mass = mass * (1 - unbound)
            mass[-1 if upper else 0] += unbound
            return mass, (p, below) if p > 0 else None
        values = rows.numbers[pair.second]
        here = ~np.isnan(values)
        weights = rows.weights * rows.present(pair.first)
        copied, loose = self._row_masks(pair, rows, equal, free)
        ticks = np.round(np.where(here, values, 0.0) * structure.marginals[pair.first].per_unit)
        if strict:
            ticks = ticks - 1 if upper else ticks + 1
        bin_of = np.clip(np.searchsorted(grid, ticks, side="right") - 1, 0, bins - 1)
        end = bins - 1 if upper else 0
        bin_of = np.where(here & ~loose, bin_of, end)
        cutting = weights * ~copied
        mass = np.bincount(bin_of, cutting, bins) / max(float(cutting.sum()), 1e-12)
        p = float((weights * copied * here).sum() / max(weights.sum(), 1e-12))
        if p <= 0:
            return mass, None
        copies = np.bincount(bin_of, weights * copied * here, bins)
        below = np.concatenate([[0.0], np.cumsum(copies / copies.sum())])
        return mass, (p, below)

    def _row_masks(
        self, pair: Ordered, rows: Rows, equal: np.ndarray, free: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tell in which rows the two are equal, and in which they have no order."""
        n = len(rows)
        if pair.block is None:
            return np.full(n, bool(equal[0])), np.full(n, bool(free[0]))
        block = self.parameters.blocks[pair.block]
        fields = tuple(name for name in block.names if any(name in rule.fields for rule in pair.rules))
        places = [block.names.index(name) for name in fields]
        states, first = np.unique(block.states[:, places], axis=0, return_index=True)
        mine = np.stack([rows.codes[name] for name in fields], axis=1)
        found = [np.zeros(n, np.bool_), np.zeros(n, np.bool_)]
        for state, cell in zip(states, first, strict=True):
            at = (mine == state).all(axis=1)
            found[0] |= at & equal[cell]
            found[1] |= at & free[cell]
        return found[0], found[1]

    def _lean(self, pair: Ordered, rows: Rows) -> None:
        """Move the other column where it is copied, if copies alone have more in a tail than is wanted."""
        parameters, structure = self.parameters, self.parameters.structure
        equal = (pair.allowed.sum(axis=1) == 1) & pair.allowed[:, EQUAL]
        if pair.block is None or not equal.any() or equal.all():
            return
        names = parameters.blocks[pair.block].names
        fields = tuple(sorted(n for n in names if any(n in rule.fields for rule in pair.rules)))
        key = (pair.second, fields)
        keyed = (
            set(fields) & set(structure.keys.get(pair.second, ())) and pair.second not in parameters.orders
        )
        if keyed or any(f.latent == pair.second and set(f.fields) & set(fields) for f in self.factors):
            return
        mine = structure.marginals[pair.first]
        grid = parameters.orders[pair.first].grid
        copied, _ = self._row_masks(pair, rows, equal, equal & False)
        here = copied & rows.present(pair.first) & rows.present(pair.second)
        weights = rows.weights * rows.present(pair.first)
        share = float(weights[here].sum() / max(weights.sum(), 1e-12))
        if share <= 0:
            return
        ticks = np.round(rows.numbers[pair.second][here] * mine.per_unit)
        at = np.clip(np.searchsorted(grid, ticks, side="right") - 1, 0, len(grid) - 2)
        mass = np.bincount(at, weights[here], len(grid) - 1)
        below = np.concatenate([[0.0], np.cumsum(mass / mass.sum())])
        asked = share_below(mine, grid)
        above = float((share * (1 - below) - (1 - asked)).max())
        under = float((share * below - asked).max())
        step = float(np.clip((max(under, 0.0) - max(above, 0.0)) / (0.2 * share), -0.5, 0.5))
        if abs(step) < 0.02:
            return
        sizes = parameters.effects.get(key, np.zeros(len(even_levels(structure.schema, fields)))).copy()
        combination = parameters.combination(pair.block, fields)[equal]
        sizes[np.unique(combination[combination >= 0])] += step
        parameters.effects[key] = np.clip(sizes, -4, 4)

    def _move_orders(self, rows: Rows) -> bool:
        far = False
        for pair in self.ordered:
            self._lean(pair, rows)
            marginal = self.parameters.structure.marginals[pair.first]
            order = self.parameters.orders[pair.first]
            asked = share_below(marginal, order.grid)
            ticks = np.round(rows.numbers[pair.first] * marginal.per_unit)
            here = ~np.isnan(ticks)
            bins = len(order.grid) - 1
            at = np.clip(np.searchsorted(order.grid, ticks[here], side="right") - 1, 0, bins - 1)
            mass = np.bincount(at, rows.weights[here], bins)
            got = np.concatenate([[0.0], np.cumsum(mass / max(mass.sum(), 1e-12))])
            miss = asked - got
            # In the tails, what is little by itself is much of what is there.
            worst = float((np.abs(miss) / np.sqrt(asked * (1 - asked) + 1e-3)).max())
            far = far or worst > 0.006
            before = self._pace.get(pair.first)
            step = 0.8 if before is None else before.step
            if before is not None and worst > before.worst:  # it went too far, or something else moved
                step = max(step / 1.5, LEAST_STEP)
            self._pace[pair.first] = _Pace(worst, step)
            target = self.targets[pair.first] + step * miss
            target = np.maximum.accumulate(np.clip(target, 0, 1))
            target[-1] = 1.0
            self.targets[pair.first] = target
        self._place_orders(rows)
        return far


def _turned(pair: Ordered) -> Ordered:
    return Ordered(pair.second, pair.first, pair.block, pair.allowed[:, ::-1], pair.rules)


def _stretched(value: float) -> float:
    return math.atanh(max(-0.995, min(0.995, value)))


def _squeezed(value: float) -> float:
    return math.tanh(max(-3.3, min(3.3, value)))
