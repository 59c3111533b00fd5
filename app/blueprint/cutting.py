"""Columns that stay on one side of another: drawn from their own distribution, cut at the other's value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.chance import Floats32, Mask
from app.blueprint.rows import Floats, Ints

MANTISSA = 11
"""Bits of a depth's mantissa that choose a node: 2,048 of them between a depth and its double."""

SHIFT = 23 - MANTISSA
SHALLOWEST, DEEPEST = np.float32(2.0**-24), np.float32(2.0**11)

MOST_TICKS = 2**18
"""Ticks up to which each has an entry of its own; float32 counts them and 64th parts of them exactly."""


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


class Cut:
    """The look-ups of an order: depths (minus the logarithm of a share) in, ticks out.

    A value's depth is that of its own share plus that of the other's value; a tick is read off between the
    two nearest nodes, which lie closer the less deep they are.

    Parameters
    ----------
    order : Order
    shares : ndarray of float64, shape (slots,)
        The distribution function of the column's latent value, by slot.
    per_unit, other_per_unit : int
        Ticks in a unit, of the column and of the other.
    """

    def __init__(self, order: Order, shares: Floats, per_unit: int, other_per_unit: int) -> None:
        self.order = order
        self._units = per_unit, other_per_unit
        shares = np.clip(shares, 1e-12, 1 - 1e-12)
        self._depth = -np.log(shares) if order.upper else -np.log1p(-shares)
        self._first, self._last = int(order.grid[0]), int(order.grid[-1])
        # Along rising depth, as `interp` wants it: shares of what is left above fall along the grid already.
        along = -1 if order.upper else 1
        self._depths = np.maximum.accumulate(-order.log_share[::along])
        self._ends = order.grid[::along].astype(np.float64)
        narrow = max(abs(self._first), abs(self._last)) < 2**30
        self._coarse = narrow and self._last - self._first <= MOST_TICKS
        if not self._coarse:
            return
        self._depth32 = self._depth.astype(np.float32)
        edges = np.arange(self._first, self._last + 1)
        self._depth_at: Floats32 = np.interp(edges, order.grid, -order.log_share).astype(np.float32)
        self._base = int(SHALLOWEST.view(np.int32)) >> SHIFT
        bits = np.arange(self._base, (int(DEEPEST.view(np.int32)) >> SHIFT) + 2, dtype=np.int32) << SHIFT
        nodes = np.interp(bits.view(np.float32).astype(np.float64), self._depths, self._ends) - self._first
        self._node: Floats32 = nodes[:-1].astype(np.float32)
        self._step: Floats32 = (np.diff(nodes) / 2.0**SHIFT).astype(np.float32)

    def ticks(
        self, slot: NDArray[Any], other: NDArray[Any], unbound: Mask | None, equal: Mask | None
    ) -> NDArray[Any]:
        """Return the column's ticks.

        Parameters
        ----------
        slot : ndarray of int, shape (n,)
            Of the column's own latent value.
        other : ndarray of int, shape (n,)
            The other's ticks.
        unbound, equal : ndarray of bool, shape (n,), or None
            Where the other does not matter, and where the two are equal.
        """
        order = self.order
        other = self._in_own_ticks(other)
        beyond = (
            order.strict != order.upper
        )  # ticks from the edge on (up to it, for an upper one) are cut off
        edge = other + 1 if beyond else other
        ticks = self._looked_up(slot, edge, unbound) if self._coarse else self._finely(slot, edge, unbound)
        bound = np.minimum(ticks, edge - 1) if order.upper else np.maximum(ticks, edge)
        if unbound is not None:
            bound = np.where(unbound, ticks, bound)
        return bound if equal is None else np.where(equal, other, bound)

    def _in_own_ticks(self, other: NDArray[Any]) -> NDArray[Any]:
        """Return the other's values in the column's ticks: equal where they can be."""
        mine, theirs = self._units
        if mine == theirs:
            return other.astype(np.int32 if other.dtype.itemsize < 8 else np.int64)
        ticks = other.astype(np.int64)
        if mine > theirs:
            return ticks * (mine // theirs)
        ratio = theirs // mine
        return ticks // ratio if self.order.upper else -(-ticks // ratio)

    def _looked_up(self, slot: NDArray[Any], edge: NDArray[Any], unbound: Mask | None) -> NDArray[np.int32]:
        cut = np.take(self._depth_at, edge - self._first, mode="clip")
        if unbound is not None:
            cut *= ~unbound
        cut += np.take(self._depth32, slot)
        bits = cut.view(np.int32)
        node = (bits >> SHIFT) - self._base
        reached = (bits & (2**SHIFT - 1)).astype(np.float32)
        reached *= np.take(self._step, node, mode="clip")
        reached += np.take(self._node, node, mode="clip")
        ticks: NDArray[np.int32] = np.floor(reached, out=reached).astype(np.int32)
        np.clip(ticks, 0, self._last - self._first - 1, out=ticks)
        ticks += np.int32(self._first)
        return ticks

    def _finely(self, slot: NDArray[Any], edge: NDArray[Any], unbound: Mask | None) -> Ints:
        cut = np.interp(edge, self.order.grid, -self.order.log_share)
        if unbound is not None:
            cut = np.where(unbound, 0.0, cut)
        reached = np.interp(self._depth[slot] + cut, self._depths, self._ends)
        ticks: Ints = np.floor(reached).astype(np.int64)
        return np.clip(ticks, self._first, self._last - 1, out=ticks)
