"""Categories that hang together, drawn jointly: a table of all their possible combinations and shares.

Combinations that a rule or a `relevant` forbids are not in the table. The shares are those of greatest
entropy under what is stated of the categories (Bishop, Fienberg, Holland, Discrete Multivariate Analysis,
1975): pairs of which nothing is stated depend on each other through the others only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.blueprint.chance import words
from app.blueprint.marginal import Marginal
from app.blueprint.reweighting import loss, reweigh
from app.blueprint.rows import Floats, Ints, Mask, Rows
from app.blueprint.statements import Statement, measure
from app.schema.evaluate import breaks, holds_relevant
from app.schema.frames import column
from app.schema.rules import Expression
from app.schema.table import TableSchema

LEAST_SHARE = 1e-10
STRONGEST = 0.95
NESTED = 0.9
"""Cramér's V beyond which one field all but follows from another, and levels have no line to lie on."""

DEALT = 8.0
"""How much likelier, as a logarithm, a level's own partner is made at first."""

FARTHEST_SEED = 40.0
RAKED = 100
HOPELESS = 15.0
"""Tolerances beyond which a statement is out of reach: nearly what `loss` counts at most."""
HALVINGS = 7
SEEDS = 24
HELD = 1.0
"""Sum of gaps, in tolerances, at which no other seed is tried."""

DEAR = 100_000
"""Cells times statements from which on one seed must do."""

SEVERAL = 65_535
MOST_IN_PARTS = 1_024
"""Cells up to which a table of parts is drawn from: a third of what an alias table costs."""


@dataclass(frozen=True, eq=False)
class Block:
    """The joint distribution of some fields with levels.

    Parameters
    ----------
    names : tuple of str
    states : ndarray of int16, shape (cells, fields)
        Positions of levels, −1 where missing.
    weights : ndarray of float64, shape (cells,)
        Sum to 1.
    """

    names: tuple[str, ...]
    states: NDArray[np.int16]
    weights: Floats

    @functools.cached_property
    def alias(self) -> tuple[int, NDArray[np.uint32], NDArray[np.int64]]:
        """Return A. J. Walker's alias table (Electronics Letters 10, 1974), filled up to a power of two.

        Returns
        -------
        int
            Bits that choose a cell.
        ndarray of uint32, shape (2**bits,)
            What the remaining bits must stay below for that cell, rather than its stand-in.
        ndarray of int64, shape (2**bits,)
            Stand-ins.
        """
        bits = max(1, math.ceil(math.log2(len(self.weights))))
        limit = np.zeros(2**bits)
        limit[: len(self.weights)] = self.weights / self.weights.sum() * 2**bits
        stand_in = np.arange(2**bits)
        small = [int(i) for i in np.flatnonzero(limit < 1)]
        large = [int(i) for i in np.flatnonzero(limit >= 1)]
        while small and large:
            less, more = small.pop(), large[-1]
            stand_in[less] = more
            limit[more] -= 1 - limit[less]
            if limit[more] < 1:
                small.append(large.pop())
        limit[large] = 1.0
        stand_in[small] = np.argmax(self.weights)  # rounding left them: what fills up must not be drawn
        return bits, np.minimum(np.round(limit * 2.0 ** (32 - bits)), 2**32 - 1).astype(np.uint32), stand_in

    @functools.cached_property
    def table(self) -> NDArray[np.uint16]:
        """Return the cell of each of 65,536 equal parts of 1; `SEVERAL` where a part is of more than one."""
        ends = np.cumsum(self.weights) / self.weights.sum() * 65_536
        parts = np.arange(65_536)
        first = np.searchsorted(ends, parts, side="right")
        last = np.searchsorted(ends, parts + 1, side="left")
        return np.where(first == last, np.minimum(first, len(ends) - 1), SEVERAL).astype(np.uint16)

    def draw(self, rng: np.random.Generator, n: int) -> Ints:
        """Draw the cells of `n` rows."""
        if len(self.weights) == 1:
            return np.zeros(n, np.int64)
        return self._by_part(rng, n) if len(self.weights) <= MOST_IN_PARTS else self._by_alias(rng, n)

    def _by_part(self, rng: np.random.Generator, n: int) -> Ints:
        """Few cells: a word chooses a part, and where a part is of several cells a finer number does."""
        drawn = words(rng, n, "<u2")
        cell = np.take(self.table, drawn).astype(np.int64)
        several = np.flatnonzero(cell == SEVERAL)
        if len(several):
            ends = np.cumsum(self.weights) / self.weights.sum() * 65_536
            at = drawn[several] + rng.random(len(several))
            cell[several] = np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1)
        return cell

    def _by_alias(self, rng: np.random.Generator, n: int) -> Ints:
        """Many cells: the lower bits of a word choose one, the upper between it and its stand-in."""
        bits, limit, stand_in = self.alias
        drawn = words(rng, n, "<u4")
        cell = (drawn & np.uint32(2**bits - 1)).astype(np.int64)
        keep = (drawn >> np.uint32(bits)) < np.take(limit, cell)
        return np.where(keep, cell, np.take(stand_in, cell))

    def even(self, n: int, rng: np.random.Generator) -> Ints:
        """Return cells of `n` rows in their shares as exactly as `n` rows can have them, in random order."""
        at = (np.arange(n) + rng.random()) / n
        upper = np.cumsum(self.weights)
        cells = np.minimum(np.searchsorted(upper / upper[-1], at, side="right"), len(upper) - 1)
        return rng.permutation(cells)

    def codes(self, name: str) -> NDArray[np.int16]:
        """Return the field's code in each cell."""
        return self.states[:, self.names.index(name)]

    def __getstate__(self) -> dict[str, object]:
        """Leave tables behind."""
        return {name: getattr(self, name) for name in ("names", "states", "weights")}


def cells_frame(schema: TableSchema, names: Sequence[str], states: NDArray[np.int16]) -> pd.DataFrame:
    """Return the cells as a frame in the dtypes of `app.schema.frames`."""
    columns = {}
    for place, name in enumerate(names):
        item = schema[name]
        shares = np.ones(len(item.levels or ()))
        positions = np.arange(len(shares))
        codes = states[:, place].astype(np.int64)
        values = Marginal(item, positions, positions, shares).encode(np.maximum(codes, 0))
        columns[name] = column(item, values, codes < 0)
    return pd.DataFrame(columns)


def joint_block(
    schema: TableSchema,
    names: Sequence[str],
    marginals: Mapping[str, Marginal],
    statements: Sequence[Statement],
    rules: Iterable[Expression],
    gaps: frozenset[str],
    signs: Mapping[str, int],
    solved: MutableMapping[Hashable, Floats],
) -> Block:
    """Find the joint distribution of fields with levels.

    Parameters
    ----------
    marginals : mapping of name to Marginal
        Shares to begin with.
    statements : sequence of Statement
        What is stated of these fields alone.
    rules : iterable of Expression
        Rules that read these fields alone.
    gaps : frozenset of str
        Fields whose missing values are a level of their own here; others are emptied later, at random.
    signs : mapping of pointer to {-1, 1}
        Directions of measures that have none.
    solved : mutable mapping
        Weights that were found before, by what was asked; what is found now is entered.
    """
    names = tuple(names)
    states, weights = _product(names, marginals, gaps)
    frame = cells_frame(schema, names, states)
    possible = np.ones(len(frame), np.bool_)
    applies: dict[str, Mask] = {}
    for place, name in enumerate(names):
        relevant = schema[name].relevant
        if relevant is None or not set(relevant.fields) <= set(names):
            continue
        applies[name] = holds_relevant(relevant, frame)
        missing = marginals[name].missing
        absent = states[:, place] < 0
        possible &= applies[name] | absent
        # Where it does not apply, its one state stands for the whole; elsewhere for what is missing.
        weights = np.where(absent & ~applies[name], weights / missing if missing > 0 else weights, weights)
        if missing == 0:
            possible &= ~(absent & applies[name])
    for rule in rules:
        possible &= ~breaks(rule, frame)
    if not possible.any():
        possible[:] = True  # the rules contradict one another: the row count will say so
    states, weights = states[possible], weights[possible]
    applies = {name: mask[possible] for name, mask in applies.items()}
    rows = Rows(
        schema, {}, {name: states[:, place] for place, name in enumerate(names)}, applies,
        weights / weights.sum(),
    )  # fmt: skip
    asked = _asked(rows, statements, signs)
    if asked not in solved:
        solved[asked] = _solved(rows, statements, signs)
    weights = solved[asked]
    kept = weights > LEAST_SHARE
    return Block(names, states[kept], weights[kept] / weights[kept].sum())


def _asked(rows: Rows, statements: Sequence[Statement], signs: Mapping[str, int]) -> Hashable:
    """Return all that the weights follow from; where a statement stands in its document is not of it."""
    fields = tuple((name, rows.schema[name].levels, rows.schema[name].ordered) for name in rows.codes)
    stated = tuple((replace(one, pointer=""), signs.get(one.pointer, 1)) for one in statements)
    applies = tuple((name, mask.tobytes()) for name, mask in rows.applies.items())
    cells = tuple(codes.tobytes() for codes in rows.codes.values())
    return fields, stated, applies, cells, rows.weights.tobytes()


def _solved(rows: Rows, statements: Sequence[Statement], signs: Mapping[str, int]) -> Floats:
    # First the shares alone: what is forbidden has bent them, and the seeds below want them right.
    alone = [statement for statement in statements if len(statement.reads) == 1]
    rows = reweigh(rows, alone, passes=15)
    return _jointly(rows, statements, [s for s in statements if len(s.reads) > 1], signs).weights


def _jointly(
    rows: Rows, statements: Sequence[Statement], together: Sequence[Statement], signs: Mapping[str, int]
) -> Rows:
    """Weigh the cells so that the statements hold, from other seeds where the first does not lead there.

    Which levels of an unordered field go with which of another is open where only a Cramér's V is stated,
    and the nearest pattern that has one may be at odds with the rest.
    """
    best = reweigh(_seeded(rows, together, signs), statements)
    least = _missed(best, statements)
    several = any(s.kind == "cramers_v" and _open(rows.schema, s.fields) for s in together)
    for number in range(SEEDS if several and len(rows) * len(statements) < DEAR else 0):
        if least < HELD:
            break
        rng = np.random.Generator(np.random.SFC64(number))
        other = reweigh(_seeded(rows, together, signs, rng), statements)
        missed = _missed(other, statements)
        if missed < least:
            best, least = other, missed
    return best if len(rows) * len(statements) >= DEAR else _nearer(rows, best, statements, together, signs)


def _nearer(
    rows: Rows,
    best: Rows,
    statements: Sequence[Statement],
    together: Sequence[Statement],
    signs: Mapping[str, int],
) -> Rows:
    """Lead statements that are out of reach as near to what they ask as the others let them.

    Beyond some distance a gap counts no more, lest it pull all else along: then a little nearer is no gain,
    and what asks for too much would be left where it began. How far it can go is found by halving.
    """
    hopeless = {s for s in together if abs(measure(s, best).gap) > HOPELESS}
    begun = {s: measure(s, rows).achieved for s in hopeless}
    if not hopeless or any(math.isnan(value) for value in begun.values()):
        return best
    others = [s for s in statements if s not in hopeless]
    held = max(HELD, _missed(best, others))
    least = _distance(best, statements)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        eased = {s: replace(s, asked=begun[s] + share * (s.asked - begun[s])) for s in hopeless}
        asked = [eased.get(s, s) for s in statements]
        found = reweigh(_seeded(rows, [eased.get(s, s) for s in together], signs), asked)
        if _missed(found, others) <= held and _missed(found, list(eased.values())) <= HELD:
            low, distance = share, _distance(found, statements)
            if distance < least:
                best, least = found, distance
        else:
            high = share
    return best


def _distance(rows: Rows, statements: Sequence[Statement]) -> float:
    """Return how far off the statements are together, in tolerances, however far."""
    return math.fsum(measure(statement, rows).distance for statement in statements)


def _missed(rows: Rows, statements: Sequence[Statement]) -> float:
    return loss([measure(statement, rows) for statement in statements])


def _open(schema: TableSchema, fields: Iterable[str]) -> list[str]:
    """Return the fields whose levels have no order, so that no two patterns are one another's mirror."""
    return [name for name in fields if len(schema[name].levels or ()) > 2 and not schema[name].ordered]


def _product(
    names: tuple[str, ...], marginals: Mapping[str, Marginal], gaps: frozenset[str]
) -> tuple[NDArray[np.int16], Floats]:
    levels, shares = [], []
    for name in names:
        marginal = marginals[name]
        codes, weights = marginal.first.astype(np.int16), marginal.weights
        if name in gaps:
            missing = marginal.missing
            codes = np.append(codes, np.int16(-1))
            weights = np.append(weights * (1 - missing), missing if missing > 0 else 1.0)
        kept = weights > 0
        levels.append(codes[kept])
        shares.append(weights[kept])
    grid = np.meshgrid(*levels, indexing="ij")
    mass = functools.reduce(np.multiply.outer, shares)
    return np.stack([axis.ravel() for axis in grid], axis=1).astype(np.int16), np.asarray(mass).ravel()


def _seeded(
    rows: Rows,
    statements: Sequence[Statement],
    signs: Mapping[str, int],
    rng: np.random.Generator | None = None,
) -> Rows:
    """Lean the shares towards what is stated of pairs: a measure without a sign has no slope at 0.

    Each field keeps its own shares. With a generator, levels without an order are lined up anew. Where one
    field all but follows from another, its levels are dealt out.
    """
    exponent = np.zeros(len(rows))
    for statement in statements:
        if statement.kind not in ("cramers_v", "odds_ratio", "spearman", "pearson") or statement.given:
            continue
        strength = statement.asked
        if statement.kind == "odds_ratio":
            strength = math.tanh(math.log(max(strength, 1e-6)) / 4)
        elif statement.kind == "cramers_v":
            strength *= signs.get(statement.pointer, 1)
        if statement.kind == "cramers_v" and statement.asked > NESTED:
            exponent += DEALT * _dealt(rows, *statement.fields)
            continue
        strength = max(-STRONGEST, min(STRONGEST, strength))
        u, v = (level_scores(rows, name) for name in statement.fields)
        if rng is not None and statement.kind == "cramers_v":
            u, v = (
                _lined_up(rows, name, scores, rng) if _open(rows.schema, (name,)) else scores
                for name, scores in zip(statement.fields, (u, v), strict=True)
            )
        exponent += strength / (1 - strength**2) * u * v
    if not exponent.any():
        return rows
    weights = rows.weights * np.exp(np.clip(exponent - exponent.max(), -FARTHEST_SEED, 0))
    return rows.reweighted(_raked(rows, weights / weights.sum()))


def _lined_up(rows: Rows, name: str, scores: Floats, rng: np.random.Generator) -> Floats:
    """Return scores that have been dealt to other levels, standardised again."""
    codes = rows.codes[name]
    here = codes >= 0
    drawn = rng.standard_normal(len(rows.schema[name].levels or ()))[np.maximum(codes, 0)]
    total = max(float(rows.weights @ here), 1e-12)
    drawn = np.where(here, drawn - float(rows.weights @ (drawn * here)) / total, 0.0)
    spread = math.sqrt(float(rows.weights @ drawn**2) / total)
    return np.asarray(drawn / spread) if spread > 1e-6 else scores


def _raked(rows: Rows, weights: Floats) -> Floats:
    """Return weights in which every field has the shares that it has in `rows`: proportional fitting."""
    places = [codes.astype(np.int64) + 1 for codes in rows.codes.values()]
    sizes = [int(place.max()) + 1 for place in places]
    asked = [np.bincount(place, rows.weights, size) for place, size in zip(places, sizes, strict=True)]
    for _ in range(RAKED):
        worst = 0.0
        for place, size, shares in zip(places, sizes, asked, strict=True):
            found = np.bincount(place, weights, size)
            worst = max(worst, float(np.abs(found - shares).max()))
            weights = weights * (shares / np.maximum(found, 1e-300))[place]
        if worst < 1e-4:
            break
    return np.asarray(weights / weights.sum())


def _dealt(rows: Rows, first: str, second: str) -> Mask:
    """Return the rows in which each level of one field has the one level of the other that it was dealt.

    Levels of the field that has more go, the most common first, to the level that lacks most: so the shares
    come as near to both fields' as they can.
    """
    shares = {
        name: np.bincount(rows.codes[name].astype(np.int64) + 1, rows.weights) for name in (first, second)
    }
    many, few = sorted(shares, key=lambda name: -np.count_nonzero(shares[name]))
    lacking = shares[few].copy()
    home = np.zeros(len(shares[many]), np.int64)
    for level in np.argsort(-shares[many], kind="stable"):
        home[level] = int(np.argmax(lacking))
        lacking[home[level]] -= shares[many][level]
    return np.asarray(home[rows.codes[many].astype(np.int64) + 1] == rows.codes[few].astype(np.int64) + 1)


def level_scores(rows: Rows, name: str) -> Floats:
    """Return each row's level as a standardised mid-rank, 0 where missing, shape (n,)."""
    codes = rows.codes[name]
    here = codes >= 0
    mass = np.bincount(np.maximum(codes, 0), rows.weights * here, len(rows.schema[name].levels or ()))
    ranks = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1e-12) - 0.5
    spread = math.sqrt(max(float((mass * ranks**2).sum() / max(mass.sum(), 1e-12)), 1e-12))
    found: Floats = np.where(here, ranks[np.maximum(codes, 0)] / spread, 0.0)
    return found
