"""Where a blueprint's chance comes from: a stream for every column of a shard, and cheap normals."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import SeedSequence

Floats32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEVELS = 65_536
"""Equally likely values that a normal number takes, the outermost two apart."""


def stream(seed: SeedSequence, *place: int) -> np.random.Generator:
    """Return the random stream of one place within a job: a pure function of both."""
    from numpy.random import SFC64, Generator, SeedSequence

    return Generator(SFC64(SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *place))))


class Streams:
    """The random streams of a shard, one for each column, by its name.

    A column's numbers do not depend on how many the others took: what is added to a schema, or gets missing
    values, leaves the draws of the rest as they are.
    """

    def __init__(self, seed: SeedSequence, *place: int) -> None:
        self._seed, self._place = seed, place
        self._open: dict[str, np.random.Generator] = {}

    def of(self, name: str) -> np.random.Generator:
        """Return a column's stream, where it stands; the empty name has one too."""
        found = self._open.get(name)
        if found is None:
            number = int.from_bytes(name.encode(), "little")
            found = self._open[name] = stream(self._seed, *self._place, number)
        return found


class OneStream:
    """One stream for all columns, where nobody counts on theirs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def of(self, name: str) -> np.random.Generator:
        """Return the stream."""
        return self._rng


def words(rng: np.random.Generator, n: int, dtype: str) -> NDArray[Any]:
    """Return `n` random words of that type (`<u2`, `<u4` or `<u8`): raw bits, 3x as cheap as `rng.bytes`."""
    raw = rng.bit_generator.random_raw(-(-n * np.dtype(dtype).itemsize // 8))
    return raw.astype("<u8", copy=False).view(dtype)[:n]


def at_random(rng: np.random.Generator, share: float, n: int) -> Mask | None:
    """Tell which of `n` fall into a share of all; None where none does."""
    if share <= 0:
        return None
    if share >= 1:
        return np.ones(n, np.bool_)
    return np.asarray(words(rng, n, "<u4") < np.uint32(min(round(share * 2**32), 2**32 - 1)))


def either(first: Mask | None, second: Mask | None) -> Mask | None:
    """Return where one of two masks is set; None is set nowhere."""
    if first is None or second is None:
        return first if second is None else second
    return first | second


def normals(rng: np.random.Generator, n: int, out: Floats32 | None = None) -> Floats32:
    """Draw standard normals: one of 65,536 equally likely ones each, the outermost two drawn finely.

    A look-up costs a tenth of what a rejection method does, and the tails, where a grid would be seen, are
    exact.
    """
    from scipy.special import ndtri

    drawn = words(rng, n, "<u2")
    found: Floats32 = np.take(_normal_table(), drawn, out=out, mode="clip")
    tails = np.flatnonzero((drawn == 0) | (drawn == LEVELS - 1))
    if len(tails):
        fine = ndtri((rng.random(len(tails)) + 1e-12) / LEVELS)
        found[tails] = np.where(drawn[tails] == 0, fine, -fine)
    return found


@functools.cache
def log_chances() -> Floats32:
    """Return the logarithms of 65,536 equally likely numbers between 0 and 1: what log-weights must reach.

    A table rather than `log`, whose last digit is another one on another processor.
    """
    return np.log((np.arange(LEVELS) + 0.5) / LEVELS).astype(np.float32)


@functools.cache
def _normal_table() -> Floats32:
    from scipy.special import ndtri

    edges = np.arange(LEVELS + 1) / LEVELS
    density = np.exp(-(ndtri(edges) ** 2) / 2) / math.sqrt(2 * math.pi)
    middles = np.diff(-density) * LEVELS  # the mean of each slot, so that sums keep their variance
    table: Floats32 = middles.astype(np.float32)
    return table
