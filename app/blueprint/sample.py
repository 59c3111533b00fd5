"""A compiled blueprint and a seed become rows: plain array look-ups, in fixed blocks.

A row's categories are cells of joint tables; each number has a latent normal value, moved by the row's cells
and correlated with the others', that a table turns into a value. So a row costs a few look-ups a column,
and a million rows cost what they cost NumPy to draw as many normals. Blocks have fixed sizes and streams of
their own: a shorter shard is the prefix of the longer one.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.cells import Block
from app.blueprint.marginal import Marginal
from app.blueprint.rows import Floats, Ints, Mask
from app.blueprint.solving import Solved
from app.errors import RowShortfall
from app.schema.rules import Expression
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

SLOTS = 65_536
PER_UNIT = 4_096
"""Slots of a look-up table in one unit of the latent scale: 65,536 of them reach from −8 to 8."""

FIRST_BLOCK = 256
LARGEST_BLOCK = 16_384
PATIENCE = 100
LEAST_ACCEPTED = 0.01

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Latent:
    """A column that is read off a latent value.

    Parameters
    ----------
    field : Field
    marginals : tuple of Marginal
        One for each level of the key.
    scores : ndarray of float64, shape (keys, nodes)
        The distribution function of the latent value at `NODES`, for each level of the key.
    key : (int, ndarray of int16, shape (cells,)) or None
        The block, and the level of the key in each of its cells.
    missing : float
        Share that is absent, where it is the same everywhere.
    missing_in : (int, ndarray of float64, shape (cells,)) or None
        The block, and the share in each of its cells.
    applies_in : (int, ndarray of bool, shape (cells,)) or None
        The block, and whether the field applies in each of its cells.
    """

    field: Field
    marginals: tuple[Marginal, ...]
    scores: Floats
    key: tuple[int, NDArray[np.int16]] | None = None
    missing: float = 0.0
    missing_in: tuple[int, Floats] | None = None
    applies_in: tuple[int, Mask] | None = None

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @functools.cached_property
    def table(self) -> NDArray[Any]:
        """Return ticks (or codes) by key and slot, shape (keys × 65,536,)."""
        shares = self.slot_shares
        ticks = [m._ticks(p) for m, p in zip(self.marginals, shares, strict=True)]
        whole = np.concatenate(ticks)
        small = whole.min(initial=0) >= -(2**31) and whole.max(initial=0) < 2**31
        return whole.astype(np.int32) if small else whole

    @property
    def slot_shares(self) -> Floats:
        """Return the distribution function at the middle of each slot, shape (keys, 65,536)."""
        middles = (np.arange(SLOTS) + 0.5) / PER_UNIT - SLOTS / PER_UNIT / 2
        return np.stack([between(middles, row) for row in self.scores])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the table behind: it is made again in a few milliseconds."""
        return {name: value for name, value in self.__dict__.items() if name != "table"}


NODES = np.linspace(-8, 8, 1025)


def between(z: Floats, shares: Floats) -> Floats:
    """Interpolate a distribution function given at `NODES`, on the normal scale: there it is smooth."""
    from scipy.special import ndtr, ndtri

    scale = ndtri(np.clip(shares, 1e-300, 1 - 1e-16))
    return np.asarray(ndtr(np.interp(z, NODES, scale)))


@dataclass(frozen=True, eq=False)
class Order:
    """A column that stays on one side of another: drawn from its own distribution, cut at the other's value.

    Parameters
    ----------
    name, other : str
        The column, and the one drawn before.
    upper : bool
        Whether `name` is at most `other` (else at least).
    strict : bool
        Whether equality is forbidden.
    grid : ndarray of int64, shape (bins + 1,)
        Edges of bins of the column's ticks.
    log_share : ndarray of float64, shape (bins + 1,)
        The logarithm of the distribution function that is cut (of what is left above, where `name` is at
        least `other`), at the edges: columns that lie close together need its far tail.
    equal_in, free_in : (int, ndarray of bool, shape (cells,)) or None
        The block, and the cells where the two are equal, and where there is no order.
    """

    name: str
    other: str
    upper: bool
    strict: bool
    grid: Ints
    log_share: Floats
    equal_in: tuple[int, Mask] | None = None
    free_in: tuple[int, Mask] | None = None


@dataclass(frozen=True, eq=False)
class Tilt:
    """Log-weights by which candidates are accepted, as tables over coarse classes of columns.

    Parameters
    ----------
    edges : mapping of axis to ndarray
        The upper edges of the classes of a number, on its numeric scale; fields with levels have none.
    sizes : mapping of axis to int
        Classes of each axis, the first for what is missing.
    tables : tuple of (axes, ndarray)
        Flat tables of log-weights over the classes of these axes.
    top : float
        The log-weight from which on every candidate is accepted.
    sources : mapping of axis to name
        The columns of axes that are not named for theirs.
    """

    edges: Mapping[str, Floats]
    sizes: Mapping[str, int]
    tables: tuple[tuple[tuple[str, ...], Floats32], ...]
    top: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Drawn:
    """Candidates: ticks or codes of each column, and where they are absent (None: nowhere)."""

    ticks: dict[str, NDArray[Any]] = field(default_factory=dict)
    absent: dict[str, Mask | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Program:
    """Everything that the sampler needs; made by `app.blueprint.compile`.

    Parameters
    ----------
    blocks : tuple of Block
    latents : tuple of Latent
        In the order in which they are drawn.
    mixing : ndarray of float32, shape (strata, latents, latents)
        Transposed factors of the latent correlation in each stratum.
    stratum : (int, ndarray of int16, shape (cells,)) or None
        The block, and the stratum of each of its cells.
    effects : tuple of ndarray of float32, shape (cells, latents), or None
        What a block's cell adds to the latent values.
    gaps : mapping of name to float
        Share at random missing of fields with levels.
    orders : tuple of Order
    solved : tuple of Solved
        Fields that are computed so that a formula has a drawn value.
    steps : tuple of Field
        Fields to compute by formula or to empty where they do not apply, each after what it reads.
    rules : tuple of Expression
        Rules that candidates may break.
    bounded : tuple of Field
        Computed fields whose constraints candidates may break.
    """

    schema: TableSchema
    blocks: tuple[Block, ...]
    latents: tuple[Latent, ...]
    mixing: Floats32
    stratum: tuple[int, NDArray[np.int16]] | None
    effects: tuple[Floats32 | None, ...]
    gaps: Mapping[str, float]
    orders: tuple[Order, ...] = ()
    solved: tuple[Solved, ...] = ()
    steps: tuple[Field, ...] = ()
    rules: tuple[Expression, ...] = ()
    bounded: tuple[Field, ...] = ()
    tilt: Tilt | None = None

    def draw(self, rng: np.random.Generator, n: int) -> Drawn:
        """Draw `n` candidates."""
        cells = [block.draw(rng, n) for block in self.blocks]
        normal = normals(rng, n * len(self.latents)).reshape(len(self.latents), n)
        return self.compute(cells, normal, rng)

    def compute(self, cells: Sequence[Ints], normal: Floats32, rng: np.random.Generator) -> Drawn:
        """Turn cells and independent normals into candidates.

        Parameters
        ----------
        cells : sequence of ndarray of int, shape (n,)
        normal : ndarray of float32, shape (latents, n)
        rng : Generator
            For what is missing at random.
        """
        n = normal.shape[1] if len(self.latents) else (len(cells[0]) if cells else 0)
        found = Drawn()
        for block, cell in zip(self.blocks, cells, strict=True):
            for name in block.names:
                codes = block.codes(name)
                taken = codes[cell]
                absent = taken < 0 if codes.min(initial=0) < 0 else None
                found.ticks[name] = taken
                found.absent[name] = _either(absent, _at_random(rng, self.gaps.get(name, 0.0), n))
        latent = self._mixed(cells, normal)
        for place, item in enumerate(self.latents):
            order = self._order_of.get(item.name)
            slot: NDArray[Any] = _slots(latent[place])
            if item.key is not None:
                slot = slot.astype(np.int32) + self._key_offsets[place][cells[item.key[0]]]
            if order is None:
                ticks = item.table[slot]
            else:
                ticks = self._ordered(order, place, slot, cells, found)
            absent = None
            if item.applies_in is not None:
                absent = ~item.applies_in[1][cells[item.applies_in[0]]]
            if item.missing_in is not None:
                threshold = (item.missing_in[1] * 2.0**32).astype(np.float64)
                words = np.frombuffer(rng.bytes(4 * n), "<u4")
                absent = _either(absent, words < threshold[cells[item.missing_in[0]]])
            else:
                absent = _either(absent, _at_random(rng, item.missing, n))
            found.ticks[item.name], found.absent[item.name] = ticks, absent
        for solved in self.solved:
            found.absent[solved.item.name] = _at_random(rng, self.gaps.get(solved.item.name, 0.0), n)
        return found

    def _mixed(self, cells: Sequence[Ints], normal: Floats32) -> Floats32:
        if not len(self.latents):
            return normal
        if self.stratum is None or len(self.mixing) == 1:
            mixed = self.mixing[0].T @ normal
        else:
            stratum = self.stratum[1][cells[self.stratum[0]]]
            mixed = self.mixing[0].T @ normal
            for number in range(1, len(self.mixing)):
                here = np.flatnonzero(stratum == number)
                mixed[:, here] = self.mixing[number].T @ normal[:, here]
        for effect, cell in zip(self.effects, cells, strict=True):
            if effect is not None:
                for place in np.flatnonzero(effect.any(axis=0)):
                    mixed[place] += effect[:, place][cell]
        return np.asarray(mixed)

    @functools.cached_property
    def _order_of(self) -> dict[str, Order]:
        return {order.name: order for order in self.orders}

    @functools.cached_property
    def _key_offsets(self) -> dict[int, NDArray[np.int32]]:
        return {
            place: item.key[1].astype(np.int32) * SLOTS
            for place, item in enumerate(self.latents)
            if item.key is not None
        }

    @functools.cached_property
    def _slot_shares(self) -> dict[int, Floats]:
        """The distribution function by slot of the columns that an order cuts."""
        return {
            place: np.clip(item.slot_shares.ravel(), 1e-12, 1 - 1e-12)
            for place, item in enumerate(self.latents)
            if item.name in self._order_of
        }

    def _ordered(
        self, order: Order, place: int, slot: NDArray[Any], cells: Sequence[Ints], found: Drawn
    ) -> NDArray[Any]:
        share = self._slot_shares[place][slot]
        other = self._other_ticks(order, found)
        absent = found.absent[order.other]
        if order.upper:
            edge = other if order.strict else other + 1  # ticks below this edge are within
        else:
            edge = other + 1 if order.strict else other
        cut = np.interp(edge, order.grid, order.log_share)
        free = None
        if order.free_in is not None:
            free = order.free_in[1][cells[order.free_in[0]]]
        for whole in (absent, free):
            if whole is not None:
                cut = np.where(whole, 0.0, cut)
        if order.upper:
            reach = np.log(share) + cut
            ticks = np.floor(np.interp(reach, order.log_share, order.grid)).astype(np.int64)
        else:
            reach = np.log1p(-share) + cut
            ticks = np.floor(np.interp(-reach, -order.log_share, order.grid)).astype(np.int64)
        ticks = np.clip(ticks, order.grid[0], order.grid[-1] - 1)
        bound = np.minimum(ticks, edge - 1) if order.upper else np.maximum(ticks, edge)
        if absent is not None or free is not None:
            keep = np.zeros(len(ticks), np.bool_) if absent is None else absent
            bound = np.where(keep if free is None else keep | free, ticks, bound)
        if order.equal_in is not None:
            equal = order.equal_in[1][cells[order.equal_in[0]]]
            bound = np.where(equal if absent is None else equal & ~absent, other, bound)
        return np.asarray(bound)

    def _other_ticks(self, order: Order, found: Drawn) -> Ints:
        """The other column's values in this column's ticks: equal where they can be."""
        mine, other = self._per_unit[order.name], self._per_unit[order.other]
        ticks = found.ticks[order.other].astype(np.int64)
        if mine == other:
            return ticks
        if mine > other:
            return ticks * (mine // other)
        ratio = other // mine
        return ticks // ratio if order.upper else -(-ticks // ratio)

    @functools.cached_property
    def _per_unit(self) -> dict[str, int]:
        return {item.name: item.marginals[0].per_unit for item in self.latents}

    def marginal(self, name: str) -> Marginal:
        """Return a marginal that writes the column."""
        return self._writers[name]

    @functools.cached_property
    def _writers(self) -> dict[str, Marginal]:
        found = {item.name: item.marginals[0] for item in self.latents}
        for block in self.blocks:
            for name in block.names:
                positions = np.arange(len(self.schema[name].levels or ()))
                found[name] = Marginal(
                    self.schema[name], positions, positions, np.full(len(positions), 1 / len(positions))
                )
        return found

    def frame(self, drawn: Drawn) -> pd.DataFrame:
        """Return candidates as a frame, computed and emptied columns included."""
        import pandas as pd

        from app.schema.evaluate import formula_column, holds_relevant
        from app.schema.frames import column

        columns: dict[str, Any] = {}
        n = 0
        whole: dict[str, Any] = {}
        sources = {name for solved in self.solved for name in (*solved.expression.fields, solved.base)}
        for name, ticks in drawn.ticks.items():
            absent = drawn.absent[name]
            n = len(ticks)
            writer = self.marginal(name)
            codes = np.maximum(ticks, 0) if writer.field.levels is not None else ticks
            values = writer.encode(codes.astype(np.int64))
            if name in sources:
                whole[name] = column(writer.field, values.copy())
            columns[name] = column(writer.field, values, None if absent is None else absent.copy())
        frame = pd.DataFrame(columns, index=pd.RangeIndex(n), copy=False)
        if self.solved:
            # From values that will be emptied too: what is missing is one column's own affair.
            complete = pd.DataFrame(whole, index=frame.index, copy=False)
            for solved in self.solved:
                found = solved_column(solved, complete)
                absent = drawn.absent[solved.item.name]
                frame[solved.item.name] = found if absent is None else found.mask(absent)
        for item in self.steps:
            if item.formula is not None:
                frame[item.name] = formula_column(item, frame)
            if item.relevant is not None:
                frame[item.name] = frame[item.name].mask(~holds_relevant(item.relevant, frame))
        return frame

    def accepted(self, frame: pd.DataFrame, rejected: Counter[str] | None = None) -> Mask:
        """Tell the candidates that break no rule and no bound; count in `rejected` what the others break."""
        from app.schema.evaluate import Columns

        good = np.ones(len(frame), np.bool_)
        columns = Columns(frame)
        for rule in self.rules:
            broken = columns.breaks(rule)
            good &= ~broken
            if rejected is not None:
                rejected[f"the rule `{rule.text}`"] += int(broken.sum())
        for item in self.bounded:
            within = within_bounds(item, frame[item.name])
            good &= within
            if rejected is not None:
                rejected[f"the constraints of `{item.name}`"] += int((~within).sum())
        return good

    def log_weights(self, frame: pd.DataFrame) -> Floats32:
        """Return the tilt of each candidate."""
        assert self.tilt is not None
        tilt = self.tilt
        classes: dict[str, NDArray[np.int32]] = {}
        total = np.zeros(len(frame), np.float32)
        for axes, table in tilt.tables:
            at: NDArray[Any] | None = None
            for axis in axes:
                if axis not in classes:
                    name = tilt.sources.get(axis, axis)
                    classes[axis] = classes_of(self.schema[name], frame[name], tilt.edges.get(axis))
                at = classes[axis] if at is None else at * tilt.sizes[axis] + classes[axis]
            total += table[at]
        return total

    def __getstate__(self) -> dict[str, Any]:
        """Leave look-ups behind."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def solved_column(solved: Solved, frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the column that makes a formula have its drawn value."""
    from app.schema.evaluate import as_column, evaluate

    found = evaluate(solved.expression, frame)
    if not solved.base:
        return as_column(found, solved.item, frame.index)
    base = frame[solved.base]
    days = np.where(found.missing, 0, np.rint(found.values)).astype("timedelta64[D]")
    whole = base + days.astype("timedelta64[s]")
    moved: pd.Series[Any] = whole.mask(found.missing | base.isna().to_numpy()).astype(base.dtype)
    return moved


def classes_of(item: Field, values: pd.Series[Any], edges: Floats | None) -> NDArray[np.int32]:
    """Return the coarse class of each value, 0 where missing, shape (n,)."""
    absent = values.isna().to_numpy()
    if edges is None:
        return np.asarray(codes_of(item, values) + 1, np.int32)
    with np.errstate(invalid="ignore"):
        found = np.searchsorted(edges, numbers_of(item, values), side="left") + 1
    found[absent] = 0
    return found.astype(np.int32)


def codes_of(item: Field, values: pd.Series[Any]) -> Ints:
    """Return positions of levels, −1 where missing."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(values.cat.codes, np.int64)
    levels = pd.Index([item.to_number(level) for level in item.levels or ()])
    found = levels.get_indexer(pd.Index(numbers_of(item, values)))
    return np.where(values.isna().to_numpy(), -1, found)


def numbers_of(item: Field, values: pd.Series[Any]) -> Floats:
    """Return values on the field's numeric scale, NaN where missing."""
    if values.dtype.kind == "M":
        since = values.to_numpy("datetime64[us]") - np.datetime64("1970-01-01", "us")
        found = since / np.timedelta64(1, "D")
        found[np.isnat(since)] = np.nan
        return np.asarray(found, np.float64)
    if values.dtype.kind == "m":
        spans = values.to_numpy("timedelta64[us]")
        found = spans / np.timedelta64(1, "s")
        found[np.isnat(spans)] = np.nan
        return np.asarray(found, np.float64)
    return values.to_numpy(dtype="float64", na_value=np.nan)


def within_bounds(item: Field, values: pd.Series[Any]) -> Mask:
    """Tell which values of a computed field keep its constraints."""
    absent = values.isna().to_numpy()
    constraints = item.constraints
    good = np.ones(len(values), np.bool_)
    if constraints.required:
        good &= ~absent
    if item.levels is not None:
        return good
    numbers = numbers_of(item, values)
    with np.errstate(invalid="ignore"):
        if constraints.minimum is not None:
            good &= absent | (numbers >= item.to_number(constraints.minimum) - 1e-9)
        if constraints.maximum is not None:
            good &= absent | (numbers <= item.to_number(constraints.maximum) + 1e-9)
    return good


def _slots(latent: Floats32) -> NDArray[np.uint16]:
    scaled = latent * np.float32(PER_UNIT) + np.float32(SLOTS / 2)
    np.clip(scaled, 0, SLOTS - 1, out=scaled)
    return scaled.astype(np.uint16)


def _at_random(rng: np.random.Generator, share: float, n: int) -> Mask | None:
    if share <= 0:
        return None
    if share >= 1:
        return np.ones(n, np.bool_)
    return np.frombuffer(rng.bytes(4 * n), "<u4") < np.uint32(min(round(share * 2**32), 2**32 - 1))


def _either(first: Mask | None, second: Mask | None) -> Mask | None:
    if first is None or second is None:
        return first if second is None else second
    return first | second


@functools.cache
def _normal_table() -> Floats32:
    from scipy.special import ndtri

    edges = np.arange(SLOTS + 1) / SLOTS
    density = np.exp(-(ndtri(edges) ** 2) / 2) / math.sqrt(2 * math.pi)
    middles = np.diff(-density) * SLOTS  # the mean of each slot, so that sums keep their variance
    table: Floats32 = middles.astype(np.float32)
    return table


def normals(rng: np.random.Generator, n: int) -> Floats32:
    """Draw standard normals: one of 65,536 equally likely ones each, the outermost two drawn finely.

    A look-up costs a fifth of what a rejection method does, and the tails, where a grid would be seen, are
    exact.
    """
    from scipy.special import ndtri

    words = np.frombuffer(rng.bytes(2 * n), "<u2")
    found = np.take(_normal_table(), words)
    tails = np.flatnonzero((words == 0) | (words == SLOTS - 1))
    if len(tails):
        fine = ndtri((rng.random(len(tails)) + 1e-12) / SLOTS)
        found[tails] = np.where(words[tails] == 0, fine, -fine)
    return found


@dataclass(frozen=True, eq=False)
class BlueprintRows:
    """Draws accepted rows of a shard: what `app.generators.machinery` calls a component.

    Parameters
    ----------
    program : Program
    names : tuple of str
        Columns to return.
    place : int
        Names the random streams.
    """

    program: Program
    names: tuple[str, ...]
    place: int = 0

    def rows(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        """Return the first `n_rows` accepted candidates of a shard.

        Raises
        ------
        RowShortfall
            After PATIENCE blocks of which less than LEAST_ACCEPTED was kept.
        """
        import pandas as pd

        kept: list[pd.DataFrame] = []
        rejected: Counter[str] = Counter()
        made = drawn = block = 0
        size = FIRST_BLOCK
        while made < n_rows:
            if block >= PATIENCE and made < LEAST_ACCEPTED * drawn:
                raise RowShortfall(n_rows, made, _blame(rejected, drawn, made))
            frame = self.block(shard, block, size, seed, rejected)
            kept.append(frame)
            made += len(frame)
            drawn += size
            block += 1
            size = min(size * 4, LARGEST_BLOCK)
        whole = pd.concat(kept, ignore_index=True) if len(kept) > 1 else kept[0]
        return whole.iloc[:n_rows]

    def block(
        self, shard: int, block: int, size: int, seed: SeedSequence, rejected: Counter[str]
    ) -> pd.DataFrame:
        """Return the accepted candidates of one block."""
        rng = stream(seed, shard, self.place, block)
        program = self.program
        frame = program.frame(program.draw(rng, size))
        good: Mask | None = None
        if program.rules or program.bounded:
            good = program.accepted(frame, rejected)
        if program.tilt is not None:
            chosen = _chosen(program.tilt, program.log_weights(frame), rng)
            good = chosen if good is None else good & chosen
        frame = frame[list(self.names)]
        return frame if good is None or good.all() else frame[good]


def _blame(rejected: Counter[str], drawn: int, made: int) -> str:
    reason, count = rejected.most_common(1)[0] if rejected else ("the tilt", drawn - made)
    if count == drawn:
        return (
            f"{reason} held for none of {drawn} candidates. Correct it, or the statistics of what it reads."
        )
    return (
        f"{reason} turned away {count} of {drawn} candidates, and {made} were kept. "
        "Loosen it, or declare statistics that agree with it."
    )


@dataclass(frozen=True, eq=False)
class BlueprintCandidates:
    """Draws candidates where rules read columns that are made elsewhere: a `Part` of the machinery."""

    program: Program
    names: tuple[str, ...]

    def draw(self, rng: np.random.Generator, n: int) -> pd.DataFrame:
        """Return `n` candidates that the tilt accepts."""
        import pandas as pd

        program, kept, made = self.program, [], 0
        while made < n:
            frame = program.frame(program.draw(rng, n))
            if program.tilt is not None:
                frame = frame[_chosen(program.tilt, program.log_weights(frame), rng)]
            kept.append(frame[list(self.names)])
            made += len(frame)
        return pd.concat(kept, ignore_index=True).iloc[:n]


def _chosen(tilt: Tilt, log_weights: Floats32, rng: np.random.Generator) -> Mask:
    chance = np.exp(np.minimum(log_weights - np.float32(tilt.top), 0))
    return np.asarray(np.frombuffer(rng.bytes(4 * len(chance)), "<u4") < chance * np.float32(2.0**32))


def stream(seed: SeedSequence, *place: int) -> np.random.Generator:
    """Return the random stream of one place within a job: a pure function of both."""
    from numpy.random import SFC64, Generator, SeedSequence

    return Generator(SFC64(SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *place))))
