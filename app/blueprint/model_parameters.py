"""The unknowns of a compiled blueprint, and the program that they make.

The general location model (I. Olkin, R. F. Tate, Annals of Mathematical Statistics 32, 1961): categories are
cells of a table; numbers are, given the cell, correlated normal values around the cell's means. Each number's
own distribution is imposed at the end by a look-up through the mixture's distribution function, so effects
and correlations can be moved without moving a marginal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from app.blueprint.cells import Block, cells_frame
from app.blueprint.correlation import nearest_correlation
from app.blueprint.defaults import missing_share
from app.blueprint.marginal import Marginal
from app.blueprint.rows import Floats, Mask
from app.blueprint.sample import NODES, Latent, Order, Program
from app.blueprint.statements import Statement
from app.blueprint.strata import stratum_marginals
from app.blueprint.structure import Structure, even_levels, single_levels
from app.schema.evaluate import holds_relevant
from app.schema.rules import Expression
from app.schema.table import Conditional, Field

STEP = 1 / 32
MOST_CENTRES = 48
"""Classes of effects up to which their mixture is summed term by term, and not as a convolution."""

REACH = 9.0
LARGEST_EFFECT = 4.4


@dataclass(frozen=True, eq=False)
class Numbered:
    """The combinations of levels of some fields in the states of a block."""

    states: NDArray[np.int16]
    combination: NDArray[np.int64]


@dataclass(eq=False)
class Parameters:
    """Everything that compiling moves.

    Parameters
    ----------
    blocks : list of Block
    effects : dict of (latent, factor) to ndarray, shape (combinations of levels,)
    pairs : ndarray of int, shape (m, 2)
        Latent columns whose correlation is wanted.
    wanted : ndarray, shape (strata, m)
    weights : ndarray, shape (m,)
    stratum : str or None
        The field by whose levels correlations differ.
    """

    structure: Structure
    blocks: list[Block]
    effects: dict[tuple[str, tuple[str, ...]], Floats] = field(default_factory=dict)
    pairs: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    wanted: Floats = field(default_factory=lambda: np.zeros((1, 0)))
    weights: Floats = field(default_factory=lambda: np.zeros(0))
    stratum: str | None = None
    factors: list[Floats] = field(default_factory=list)
    strata: dict[str, list[Marginal]] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    rules: tuple[Expression, ...] = ()
    shifted: dict[tuple[str, int], Floats] = field(default_factory=dict)
    odds: dict[str, float] = field(default_factory=dict)
    emptied: dict[str, float] = field(default_factory=dict)
    made: dict[str, Latent] = field(default_factory=dict)
    numbered: dict[tuple[int, tuple[str, ...]], Numbered] = field(default_factory=dict)

    def copied(self) -> Parameters:
        """Return parameters that can be moved without moving these."""
        structure = replace(self.structure, marginals=dict(self.structure.marginals))
        return replace(
            self,
            structure=structure,
            blocks=list(self.blocks),
            effects=dict(self.effects),
            factors=list(self.factors),
            strata=dict(self.strata),
            orders=dict(self.orders),
            shifted=dict(self.shifted),
            odds=dict(self.odds),
            emptied=dict(self.emptied),
        )

    def combination(self, block: int, fields: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the number of each cell's combination of levels, −1 where one is missing."""
        states = self.blocks[block].states
        known = self.numbered.get((block, fields))
        if known is not None and known.states is states:
            return known.combination
        schema = self.structure.schema
        found = np.zeros(len(states), np.int64)
        absent = np.zeros(len(found), np.bool_)
        for name in fields:
            codes = self.blocks[block].codes(name).astype(np.int64)
            absent |= codes < 0
            found = found * len(schema[name].levels or ()) + np.maximum(codes, 0)
        found[absent] = -1
        found.flags.writeable = False
        self.numbered[block, fields] = Numbered(states, found)
        return found

    def correlate(self) -> None:
        """Find the correlation matrices nearest to what is wanted."""
        size = len(self.structure.latents)
        before = self.factors or [None] * len(self.wanted)  # type: ignore[list-item]
        self.factors = [
            nearest_correlation(size, self.pairs, wanted, self.weights, start)
            for wanted, start in zip(self.wanted, before, strict=True)
        ]

    def correlations(self) -> Floats:
        """Return the correlations that were reached, shape (strata, m)."""
        first, second = self.pairs.T
        return np.stack([np.einsum("ij,ij->i", L[first], L[second]) for L in self.factors])

    def fit_strata(self, warn: Callable[[str, str], None]) -> None:
        """Find each keyed column's distribution at each level of its key."""
        structure, schema = self.structure, self.structure.schema
        for name, key in structure.keys.items():
            block = structure.home[key[0]]
            combination = self.combination(block, key)
            levels = even_levels(schema, key)
            present = self._applies(name, block)
            mass = self.blocks[block].weights * present
            here = combination >= 0
            shares: Floats = np.asarray(np.bincount(combination[here], mass[here], len(levels)), np.float64)
            shares = shares / max(float(shares.sum()), 1e-12)
            # A rule may have made the key longer than what is stated: that holds of several strata then.
            stated: list[Conditional | None] = [None] * len(levels)
            for conditional in sorted(schema.conditionals, key=lambda one: len(one.given)):
                codes = single_levels(schema, conditional.given)
                fields = tuple(condition.field for condition in conditional.given)
                if conditional.field != name or codes is None or not set(fields) <= set(key):
                    continue
                for place, level in enumerate(levels):
                    coded = dict(zip(key, level, strict=True))
                    if all(coded[one] == code for one, code in zip(fields, codes, strict=True)):
                        stated[place] = conditional
            relevant = [
                s
                for s in structure.statements
                if s.fields == (name,) and s.kind != "missing" and {c.field for c in s.given} <= set(key)
            ]
            relevant = [s for s in relevant if not s.given or single_levels(schema, s.given) is not None]
            relevant += [
                s
                for s in structure.statements
                if len(s.fields) == 2 and not s.given and name in s.fields and set(s.fields) <= {name, *key}
            ]
            self.strata[name] = stratum_marginals(
                schema, structure.item(name), structure.marginals[name], key, levels, shares,
                stated, relevant, structure.thresholds.get(name, ()), warn,
            )  # fmt: skip

    def _applies(self, name: str, block: int) -> Mask:
        relevant = self.structure.schema[name].relevant
        names = self.blocks[block].names
        if relevant is None or not set(relevant.fields) <= set(names):
            return np.ones(len(self.blocks[block].weights), np.bool_)
        return holds_relevant(relevant, cells_frame(self.structure.schema, names, self.blocks[block].states))

    def program(self) -> Program:
        """Build the program that these parameters make."""
        structure, schema = self.structure, self.structure.schema
        effects = self._effects()
        variance = np.ones(len(structure.latents))
        for block, effect in zip(self.blocks, effects, strict=True):
            if effect is not None:
                variance += effect**2 @ block.weights - (effect @ block.weights) ** 2
        scale = np.sqrt(variance)
        latents = [
            self._latent(place, name, effects, scale[place]) for place, name in enumerate(structure.latents)
        ]
        mixing = (
            np.stack([(L / scale[:, None]).T for L in self.factors]) if len(latents) else np.zeros((1, 0, 0))
        )
        scaled = tuple(
            None if effect is None else (effect / scale[:, None]).astype(np.float32) for effect in effects
        )
        stratum = None
        if self.stratum is not None:
            place = structure.home[self.stratum]
            stratum = (place, np.maximum(self.blocks[place].codes(self.stratum), 0).astype(np.int16))
        order = self._drawing_order()
        back = np.array(order, np.int64)
        solved = structure.solved
        computed = [item for item in schema.fields if item.formula is not None or self._emptied_late(item)]
        checked = {item.item.name for item in solved} | {
            i.name for i in schema.fields if i.formula is not None
        }
        checked |= set(self.orders)
        return Program(
            schema,
            tuple(self.blocks),
            tuple(latents[place] for place in order),
            np.ascontiguousarray(mixing[:, :, back]).astype(np.float32)
            if len(latents)
            else np.zeros((1, 0, 0), np.float32),
            stratum,
            tuple(None if effect is None else np.ascontiguousarray(effect[back].T) for effect in scaled),
            self._gaps(),
            tuple(self.orders.values()),
            solved,
            tuple(_after_what_they_read(computed)),
            self.rules,
            tuple(item for item in schema.fields if item.name in checked),
        )

    def _gaps(self) -> dict[str, float]:
        """Return the share at random missing of what has no look-up of its own."""
        structure = self.structure
        found = {
            name: structure.marginals[name].missing
            for names in structure.blocks
            for name in names
            if name not in structure.gaps
        }
        for solved in structure.solved:
            found[solved.item.name] = missing_share(solved.item, 0.0)
        return {name: self._missing(name, share) for name, share in found.items()}

    def _missing(self, name: str, share: float) -> float:
        """Return the share to leave out, so that after rules the wanted one is missing."""
        odds = self.odds.get(name, 1.0)
        return share * odds / (1 - share + share * odds) if 0 < share < 1 else share

    def _emptied_late(self, item: Field) -> bool:
        """Whether a field applies by something that is not known from one block's cells."""
        if item.relevant is None or item.name not in self.structure.marginals:
            return item.relevant is not None and item.formula is not None
        if item.name in self.structure.home:
            return not set(item.relevant.fields) <= set(self.structure.blocks[self.structure.home[item.name]])
        return self._home_of(item.relevant.fields) is None

    def _home_of(self, names: tuple[str, ...]) -> int | None:
        places = {self.structure.home.get(name, -1) for name in names}
        return places.pop() if len(places) == 1 and -1 not in places else None

    def _drawing_order(self) -> list[int]:
        """Order the latent columns so that each comes after the one that it is cut at."""
        names = self.structure.latents
        done: list[str] = []
        waiting = list(names)
        while waiting:
            ready = [n for n in waiting if n not in self.orders or self.orders[n].other in done]
            if not ready:
                ready = waiting[:1]
            done += ready
            waiting = [n for n in waiting if n not in ready]
        return [names.index(n) for n in done]

    def _effects(self) -> list[Floats | None]:
        """Return what each block's cells add, shape (latents, cells)."""
        latents = self.structure.latents
        places = {name: place for place, name in enumerate(latents)}
        found: list[Floats | None] = [None] * len(self.blocks)
        by_factor: dict[tuple[str, ...], list[tuple[int, Floats]]] = {}
        for (name, factor), sizes in self.effects.items():
            if sizes.any():
                by_factor.setdefault(factor, []).append((places[name], sizes))
        for factor, added in by_factor.items():
            block = self.structure.home[factor[0]]
            total = found[block]
            if total is None:
                total = found[block] = np.zeros((len(latents), len(self.blocks[block].weights)))
            # The last place is for cells where one of the fields is missing: their number is -1.
            sizes_of = np.stack([np.append(sizes, 0.0) for _, sizes in added])
            total[[place for place, _ in added]] += sizes_of[:, self.combination(block, factor)]
        for block, effect in enumerate(found):
            if effect is not None:
                centred = effect - (effect @ self.blocks[block].weights)[:, None]
                found[block] = np.clip(centred, -LARGEST_EFFECT, LARGEST_EFFECT)
        return found

    def _latent(self, place: int, name: str, effects: list[Floats | None], scale: float) -> Latent:
        structure = self.structure
        item, whole = structure.item(name), structure.marginals[name]
        key = structure.keys.get(name, ())
        if name in self.orders:
            key = ()
        wanted = self.strata.get(name, [whole]) if key else [whole]
        marginals = [self._shifted(name, level, marginal) for level, marginal in enumerate(wanted)]
        applies_in = None
        relevant = structure.schema[name].relevant
        home = self._home_of(relevant.fields) if relevant is not None else None
        if home is not None:
            applies_in = (home, self._applies(name, home))
        key_in: tuple[int, NDArray[np.int16]] | None = None
        masks: list[tuple[int, Mask] | None] = [None]
        if key:
            block = structure.home[key[0]]
            combination = np.maximum(self.combination(block, key), 0)
            key_in = (block, combination.astype(np.int16))
            masks = [(block, combination == level) for level in range(len(marginals))]
        scores = np.stack([self._scores(place, effects, scale, mask, applies_in) for mask in masks])
        marginals = [replace(m, field=item, missing=0.0) for m in marginals]
        made = Latent(
            item,
            tuple(marginals),
            scores,
            key_in,
            self._missing(name, whole.missing),
            self._missing_in(name, whole.missing, applies_in),
            applies_in,
        )
        made.take_table_of(self.made.get(name))
        self.made[name] = made
        return made

    def _shifted(self, name: str, level: int, wanted: Marginal) -> Marginal:
        """Return a distribution as it is drawn, so that what rules keep of it is the wanted one."""
        factors = self.shifted.get((name, level))
        if factors is None:
            return wanted
        weights = wanted.weights * factors
        return replace(wanted, weights=weights / weights.sum())

    def _scores(
        self,
        place: int,
        effects: list[Floats | None],
        scale: float,
        key: tuple[int, Mask] | None,
        applies: tuple[int, Mask] | None,
    ) -> Floats:
        """Return the distribution function of a latent value at NODES, in the cells that count."""
        from scipy.special import ndtr

        size = int(2 * REACH / STEP) + 1
        total: Floats | None = None
        for number, (block, effect) in enumerate(zip(self.blocks, effects, strict=True)):
            if effect is None or not effect[place].any():
                continue
            weights = block.weights
            for mask in (key, applies):
                if mask is not None and mask[0] == number and (weights * mask[1]).sum() > 1e-12:
                    weights = weights * mask[1]
            weights = weights / weights.sum()
            at = (np.clip(effect[place], -REACH / 2, REACH / 2) + REACH) / STEP
            low = np.floor(at).astype(np.int64)
            share = at - low
            mass = np.zeros(size)
            mass += np.bincount(low, weights * (1 - share), size)
            mass += np.bincount(low + 1, weights * share, size)
            total = mass if total is None else _added(total, mass)
        if total is None:
            return np.asarray(ndtr(NODES * scale))
        kept = np.flatnonzero(total > 1e-9)
        if len(kept) > MOST_CENTRES:
            return _mixture(total, NODES * scale)
        centres = kept * STEP - REACH
        return np.asarray(ndtr(NODES[:, None] * scale - centres[None, :]) @ (total[kept] / total[kept].sum()))

    def _missing_in(
        self, name: str, share: float, applies: tuple[int, Mask] | None
    ) -> tuple[int, Floats] | None:
        """Return the share that is missing in each cell, where it depends on levels of one block."""
        stated = [
            s
            for s in self.structure.statements
            if s.kind == "missing" and s.fields == (name,) and s.given
            and all(c.values is not None and c.field in self.structure.home for c in s.given)
        ]  # fmt: skip
        places = [self._home_of(tuple(c.field for c in s.given)) for s in stated]
        if not stated or places[0] is None:
            return None
        block = places[0]
        stated = [s for s, place in zip(stated, places, strict=True) if place == block]
        weights = self.blocks[block].weights
        if applies is not None and applies[0] == block:
            weights = weights * applies[1]
        strata = self._strata_of(block, stated)
        if self.structure.schema[name].statistics.missing is not None:
            strata.append((np.ones(len(weights), np.bool_), share))
        shares = _missing_by_cell(strata, weights)
        odds = self.odds.get(name, 1.0)
        return block, shares * odds / (1 - shares + shares * odds)

    def _strata_of(self, block: int, stated: list[Statement]) -> list[tuple[Mask, float]]:
        schema = self.structure.schema
        found = []
        for statement in stated:
            mask = np.ones(len(self.blocks[block].weights), np.bool_)
            for condition in statement.given:
                levels = schema[condition.field].levels or ()
                wanted = [levels.index(value) for value in condition.values or ()]
                mask &= np.isin(self.blocks[block].codes(condition.field), wanted)
            found.append((mask, self.emptied.get(statement.pointer, statement.asked)))
        return found


def _missing_by_cell(strata: list[tuple[Mask, float]], weights: Floats) -> Floats:
    """Rake the odds of being missing to the strata's shares."""
    middle = sum(asked for _, asked in strata) / len(strata)
    odds = np.full(len(weights), max(middle, 1e-6) / max(1 - middle, 1e-6))
    for _ in range(60):
        for mask, asked in strata:
            mass = weights * mask
            total = float(mass.sum())
            if total <= 0:
                continue
            got = float(mass @ (odds / (1 + odds))) / total
            aim = min(max(asked, 1e-9), 1 - 1e-9)
            odds = np.where(mask, odds * (aim / (1 - aim)) / (max(got, 1e-9) / max(1 - got, 1e-9)), odds)
    found: Floats = odds / (1 + odds)
    found[found < 1e-7] = 0.0
    return found


def _mixture(mass: Floats, at: Floats) -> Floats:
    """Return the distribution function of a standard normal value plus one on the grid of effects."""
    from scipy.special import ndtr, ndtri

    reach = int(REACH / STEP)
    beyond = int(np.ceil(np.abs(at).max() / STEP)) + 1
    grid = np.arange(-beyond, beyond + 1) * STEP
    around = np.arange(-beyond - reach, beyond + reach + 1) * STEP
    shares = np.convolve(ndtr(around), mass / mass.sum(), mode="valid")
    scores = ndtri(np.clip(shares, 1e-300, 1 - 1e-16))
    return np.asarray(ndtr(np.interp(at, grid, scores)))


def _added(first: Floats, second: Floats) -> Floats:
    """Return the distribution of a sum of two independent values on the same grid, folded in at the ends."""
    size, middle = len(first), int(REACH / STEP)
    one, other = _support(first), _support(second)
    whole = np.convolve(first[one], second[other])
    at = np.clip(np.arange(len(whole)) + one.start + other.start - middle, 0, size - 1)
    return np.bincount(at, whole, size).astype(np.float64)


def _support(mass: Floats) -> slice:
    """Return where there is any: few classes of effects fill few places of the grid."""
    there = np.flatnonzero(mass)
    return slice(int(there[0]), int(there[-1]) + 1)


def _after_what_they_read(fields: list[Field]) -> list[Field]:
    waiting, ordered = list(fields), []
    while waiting:
        pending = {item.name for item in waiting}

        def reads(item: Field, pending: set[str] = pending) -> bool:
            parts = [part for part in (item.formula, item.relevant) if part is not None]
            return bool({n for part in parts for n in part.fields} & (pending - {item.name}))

        ready = [item for item in waiting if not reads(item)] or waiting[:1]
        ordered += ready
        waiting = [item for item in waiting if item not in ready]
    return ordered


def log_scale(value: float) -> float:
    """Return a signed measure's size on Fisher's scale, bounded."""
    return math.atanh(max(-0.999, min(0.999, value)))
