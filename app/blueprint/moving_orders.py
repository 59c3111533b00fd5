"""Moves the distributions that are cut where two numbers have an order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from app.blueprint.model_parameters import Parameters
from app.blueprint.moving_effects import Factor
from app.blueprint.ordering import (
    EQUAL,
    GREATER,
    LESS,
    Ordered,
    cut_distribution,
    grid_of,
    orders_in,
    share_below,
)
from app.blueprint.rows import Floats, Rows
from app.blueprint.sample import Order
from app.blueprint.structure import even_levels

LEAST_STEP = 0.25
"""Share of a miss that is made up in one pass, at least."""


@dataclass(frozen=True)
class _Pace:
    """How far off a distribution to cut was, and how much of that is made up in one pass."""

    worst: float
    step: float


class Orders:
    """Pairs of numbers in order, of which one is cut at the other.

    Parameters
    ----------
    turned : bool
        Whether the one of which more is stated is cut.
    """

    def __init__(self, parameters: Parameters, turned: bool) -> None:
        self.parameters, self._turned = parameters, turned
        self.ordered: list[Ordered] = []
        self.turnable = False
        self._targets: dict[str, Floats] = {}
        self._pace: dict[str, _Pace] = {}
        self._find_orders()

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
            fit.append((name in keys, coarser, -strength if self._turned else strength, name))
        self.turnable = self.turnable or (len(fit) > 1 and len({one[:2] for one in fit}) == 1)
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

    def place(self, rows: Rows | None) -> None:
        """Find what to cut anew, from simulated rows or, to begin with, from the distributions alone."""
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
        wanted = self._targets.get(pair.first)
        if wanted is None:
            wanted = self._targets[pair.first] = share_below(mine, grid)
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

    def _lean(self, pair: Ordered, rows: Rows, factors: Iterable[Factor]) -> None:
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
        if keyed or any(f.latent == pair.second and set(f.fields) & set(fields) for f in factors):
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

    def move(self, rows: Rows, factors: Iterable[Factor]) -> bool:
        """Move what is cut towards what is wanted; say whether anything was far off."""
        far = False
        for pair in self.ordered:
            self._lean(pair, rows, factors)
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
            target = self._targets[pair.first] + step * miss
            target = np.maximum.accumulate(np.clip(target, 0, 1))
            target[-1] = 1.0
            self._targets[pair.first] = target
        self.place(rows)
        return far


def _turned(pair: Ordered) -> Ordered:
    return Ordered(pair.second, pair.first, pair.block, pair.allowed[:, ::-1], pair.rules)
