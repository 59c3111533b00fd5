"""What a blueprint is compiled into, and how candidates are drawn by it: look-ups in plain arrays.

A row's categories are cells of joint tables; each number has a latent normal value, moved by the row's cells
and correlated with the others', that a table turns into a tick. Nothing here depends on the processor: sums
are taken in a fixed order, and no library of linear algebra is asked for a row.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.cells import Block
from app.blueprint.chance import Floats32, Mask, OneStream, Streams, at_random, either, normals, words
from app.blueprint.cutting import Cut, Order
from app.blueprint.marginal import Marginal
from app.blueprint.readings import Reading
from app.blueprint.rows import Floats, Ints
from app.blueprint.solving import Solved
from app.blueprint.weighing import TickClasses, Tilt, Weighing
from app.schema.rules import Expression
from app.schema.table import Field, TableSchema

SLOTS = 65_536
PER_UNIT = 4_096
"""Slots of a look-up table in one unit of the latent scale: 65,536 of them reach from −8 to 8."""

FEW_TICKS = 16_384
"""Ticks up to which the slots where each begins are computed, not the tick of each slot."""

NODES = np.linspace(-8, 8, 1025)


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
        """Return ticks (or codes) by key and slot, shape (keys × 65,536,), in their smallest type."""
        whole = np.concatenate(
            [_ticks_by_slot(m, row) for m, row in zip(self.marginals, self.scores, strict=True)]
        )
        for small in (np.int16, np.int32):
            if whole.min(initial=0) >= np.iinfo(small).min and whole.max(initial=0) <= np.iinfo(small).max:
                return whole.astype(small)
        return whole

    def take_table_of(self, other: Latent | None) -> None:
        """Take over what another has computed, where it would be computed again."""
        if (
            other is not None
            and "table" in other.__dict__
            and len(other.marginals) == len(self.marginals)
            and np.array_equal(other.scores, self.scores)
            and all(
                np.array_equal(mine.first, its.first)
                and np.array_equal(mine.last, its.last)
                and np.array_equal(mine.weights, its.weights)
                for mine, its in zip(self.marginals, other.marginals, strict=True)
            )
        ):
            self.__dict__["table"] = other.table

    @property
    def slot_shares(self) -> Floats:
        """Return the distribution function at the middle of each slot, shape (keys, 65,536)."""
        return np.stack([between(_middles(np.arange(SLOTS)), row) for row in self.scores])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the table behind: it is made again in a few milliseconds."""
        return {name: value for name, value in self.__dict__.items() if name != "table"}


def _middles(slots: Ints) -> Floats:
    return (slots + 0.5) / PER_UNIT - SLOTS / PER_UNIT / 2


def _ticks_by_slot(marginal: Marginal, shares: Floats) -> Ints:
    """Return a distribution's tick in each slot, from the distribution function at `NODES`."""
    counts = (marginal.last - marginal.first) // marginal.stride + 1
    many = int(counts.sum())
    if many > FEW_TICKS:
        return marginal._ticks(between(_middles(np.arange(SLOTS)), shares))
    # Where a tick begins is read off the inverse, at a fraction of the slots.
    within = np.arange(many) - np.repeat(np.cumsum(counts) - counts, counts)
    upper = np.cumsum(marginal.weights)
    begins = np.repeat(upper - marginal.weights, counts)
    begins += np.repeat(marginal.weights / counts, counts) * within
    begins /= upper[-1]
    starts = np.ceil((_normal_at(begins[1:], shares) + SLOTS / PER_UNIT / 2) * PER_UNIT - 0.5)
    starts = np.maximum.accumulate(np.clip(starts, 0, SLOTS)).astype(np.int64)
    widths = np.diff(np.concatenate([[0], starts, [SLOTS]]))
    return np.repeat(np.repeat(marginal.first, counts) + within * marginal.stride, widths)


def _normal_at(p: Floats, shares: Floats) -> Floats:
    """Return where a distribution function given at `NODES` reaches `p`: the inverse of `between`."""
    scale, wanted = _normal_scale(shares), _normal_scale(p)
    found = np.interp(wanted, scale, NODES)
    return np.where(p <= 0, -np.inf, np.where(wanted > scale[-1], np.inf, found))


def _normal_scale(shares: Floats) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(shares, 1e-300, 1 - 1e-16)))


def between(z: Floats, shares: Floats) -> Floats:
    """Interpolate a distribution function given at `NODES`, on the normal scale: there it is smooth."""
    from scipy.special import ndtr

    return np.asarray(ndtr(np.interp(z, NODES, _normal_scale(shares))))


@dataclass(eq=False)
class Drawn:
    """Candidates: ticks or codes of each column, and where they are absent (None: nowhere).

    Codes of fields with levels are −1 where they are absent by their cell.
    """

    n: int
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

    def room(self, n: int) -> Floats32:
        """Return room to draw up to `n` candidates in, again and again: fresh memory costs a draw."""
        return np.empty((2, len(self.latents), n), np.float32)

    def draw(self, rng: np.random.Generator | Streams, n: int, room: Floats32 | None = None) -> Drawn:
        """Draw `n` candidates: each column from its own stream, or all from one.

        Parameters
        ----------
        room : ndarray, optional
            See `room`; what is drawn does not refer to it.
        """
        streams = rng if isinstance(rng, Streams) else OneStream(rng)
        cells = [block.draw(streams.of(block.names[0]), n) for block in self.blocks]
        normal, mixed = (self.room(n) if room is None else room)[:, :, :n]
        for item, row in zip(self.latents, normal, strict=True):
            normals(streams.of(item.name), n, row)
        return self._read(cells, self._mixed(cells, normal, mixed), streams, n)

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
        return self._read(cells, self._mixed(cells, normal, np.empty_like(normal)), OneStream(rng), n)

    def _read(self, cells: Sequence[Ints], latent: Floats32, streams: Streams | OneStream, n: int) -> Drawn:
        found = Drawn(n)
        for block, cell in zip(self.blocks, cells, strict=True):
            for name in block.names:
                codes, some_absent = self._codes[name]
                taken = np.take(codes, cell)
                gaps = at_random(streams.of(name), self.gaps.get(name, 0.0), n)
                found.ticks[name], found.absent[name] = (
                    taken,
                    either(taken < 0 if some_absent else None, gaps),
                )
        for place, item in enumerate(self.latents):
            slot = self._slots(place, latent[place], cells)
            cut = self._cuts.get(item.name)
            if cut is None:
                found.ticks[item.name] = np.take(item.table, slot)
            else:
                order = cut.order
                absent = found.absent[order.other]
                equal = _where(order.equal_in, cells)
                if equal is not None and absent is not None:
                    equal = equal & ~absent
                unbound = either(absent, _where(order.free_in, cells))
                found.ticks[item.name] = cut.ticks(slot, found.ticks[order.other], unbound, equal)
            found.absent[item.name] = self._gaps_of(place, cells, streams, n)
        for solved in self.solved:
            name = solved.item.name
            found.absent[name] = at_random(streams.of(name), self.gaps.get(name, 0.0), n)
        return found

    def _mixed(self, cells: Sequence[Ints], normal: Floats32, mixed: Floats32) -> Floats32:
        """Write latent values in slots into `mixed`: correlated, and moved by the cells."""
        if self.stratum is None or len(self.mixing) == 1:
            _combine(self.mixing[0], normal, mixed)
        else:
            stratum = np.take(self.stratum[1], cells[self.stratum[0]])
            for number in range(len(self.mixing)):
                here = np.flatnonzero(stratum == number)
                part = np.empty((len(mixed), len(here)), np.float32)
                _combine(self.mixing[number], np.take(normal, here, axis=1), part)
                mixed[:, here] = part
        for block, place, effect in self._moves:
            mixed[place] += np.take(effect, cells[block])
        mixed += np.float32(SLOTS / 2)
        return np.clip(mixed, 0, SLOTS - 1, out=mixed)

    def _slots(self, place: int, latent: Floats32, cells: Sequence[Ints]) -> NDArray[Any]:
        item = self.latents[place]
        if item.key is None:
            return latent.astype(np.uint16)
        slot = latent.astype(np.int32)
        slot += np.take(self._key_offsets[place], cells[item.key[0]])
        return slot

    def _gaps_of(
        self, place: int, cells: Sequence[Ints], streams: Streams | OneStream, n: int
    ) -> Mask | None:
        item, rng = self.latents[place], streams.of(self.latents[place].name)
        if item.missing_in is not None:
            share = np.take(self._thresholds[place], cells[item.missing_in[0]])
            gaps: Mask | None = words(rng, n, "<u4") < share
        else:
            gaps = at_random(rng, item.missing, n)
        applies = _where(item.applies_in, cells)
        return gaps if applies is None else either(~applies, gaps)

    @functools.cached_property
    def _codes(self) -> dict[str, tuple[NDArray[np.int16], bool]]:
        found = {}
        for block in self.blocks:
            for name in block.names:
                codes = np.ascontiguousarray(block.codes(name))
                found[name] = codes, bool(codes.min(initial=0) < 0)
        return found

    @functools.cached_property
    def _moves(self) -> list[tuple[int, int, Floats32]]:
        """What each block's cells add to a latent value, in slots: (block, latent, effect by cell)."""
        return [
            (number, int(place), np.ascontiguousarray(effect[:, place]) * np.float32(PER_UNIT))
            for number, effect in enumerate(self.effects)
            if effect is not None
            for place in np.flatnonzero(effect.any(axis=0))
        ]

    @functools.cached_property
    def _cuts(self) -> dict[str, Cut]:
        latents = {item.name: item for item in self.latents}
        found = {}
        for order in self.orders:
            item, other = latents[order.name], latents[order.other]
            units = item.marginals[0].per_unit, other.marginals[0].per_unit
            found[order.name] = Cut(order, item.slot_shares.ravel(), *units)
        return found

    @functools.cached_property
    def _key_offsets(self) -> dict[int, NDArray[np.int32]]:
        return {
            place: item.key[1].astype(np.int32) * SLOTS
            for place, item in enumerate(self.latents)
            if item.key is not None
        }

    @functools.cached_property
    def _thresholds(self) -> dict[int, NDArray[np.uint64]]:
        return {
            place: (item.missing_in[1] * 2.0**32).astype(np.uint64)
            for place, item in enumerate(self.latents)
            if item.missing_in is not None
        }

    def reading(self, name: str) -> Reading:
        """Return how a drawn column's ticks are read."""
        return self._readings[name]

    def tick_classes(self, axis: str) -> TickClasses:
        """Return the classes that the tilt sees in the ticks of a drawn column without levels."""
        return self._tick_classes[axis]

    @functools.cached_property
    def _readings(self) -> dict[str, Reading]:
        found = {item.name: Reading(item.marginals[0]) for item in self.latents}
        for block in self.blocks:
            for name in block.names:
                positions = np.arange(len(self.schema[name].levels or ()))
                shares = np.full(len(positions), 1 / len(positions))
                found[name] = Reading(Marginal(self.schema[name], positions, positions, shares))
        return found

    @functools.cached_property
    def _tick_classes(self) -> dict[str, TickClasses]:
        assert self.tilt is not None
        return {
            axis: TickClasses.of(
                edges, item.marginals[0].per_unit, int(item.table.min()), int(item.table.max())
            )
            for axis, edges in self.tilt.edges.items()
            for item in self.latents
            if item.name == self.tilt.sources.get(axis, axis)
        }

    @functools.cached_property
    def _weighing(self) -> Weighing | None:
        return None if self.tilt is None else Weighing(self.tilt)

    @property
    def weighing(self) -> Weighing | None:
        """Return the tilt, made ready."""
        return self._weighing

    def __getstate__(self) -> dict[str, Any]:
        """Leave look-ups behind."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def _where(cells_with: tuple[int, Mask] | None, cells: Sequence[Ints]) -> Mask | None:
    return None if cells_with is None else np.take(cells_with[1], cells[cells_with[0]])


def _combine(mixing: Floats32, normal: Floats32, out: Floats32) -> None:
    """Write `mixing.T @ normal` in slots, term by term: faster than a product where most terms are 0."""
    term = np.empty(normal.shape[1:], np.float32)
    for sums, weights in zip(out, mixing.T * np.float32(PER_UNIT), strict=True):
        places = np.flatnonzero(weights)
        np.multiply(normal[places[0]], weights[places[0]], out=sums) if len(places) else sums.fill(0)
        for place in places[1:]:
            np.multiply(normal[place], weights[place], out=term)
            sums += term
