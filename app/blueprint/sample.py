"""A compiled blueprint and a seed become rows, in fixed blocks that fit a processor's cache.

A row costs a few look-ups a column, and a million rows cost what they cost NumPy to draw as many normals.
Blocks have fixed sizes, and every column's stream is read block by block: a shorter shard is the prefix of
the longer one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.candidates import Candidates
from app.blueprint.chance import Mask, Streams, stream
from app.blueprint.cutting import Order
from app.blueprint.program import NODES, Latent, Program
from app.blueprint.readings import codes_of, numbers_of, solved_column
from app.blueprint.rows import Ints
from app.blueprint.weighing import Tilt
from app.errors import RowShortfall

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

__all__ = [
    "NODES", "BlueprintCandidates", "BlueprintRows", "Latent", "Order", "Program", "Tilt", "codes_of",
    "numbers_of", "solved_column", "stream",
]  # fmt: skip

FIRST_BLOCK = 256
LARGEST_BLOCK = 16_384
PATIENCE = 100
LEAST_ACCEPTED = 0.01


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
        program, streams = self.program, Streams(seed, shard, self.place)
        pages = _Pages(program, self.names, n_rows)
        rejected: Counter[str] = Counter()
        room = program.room(LARGEST_BLOCK)
        drawn = block = 0
        size = FIRST_BLOCK
        while pages.made < n_rows:
            if block >= PATIENCE and pages.made < LEAST_ACCEPTED * drawn:
                raise RowShortfall(n_rows, pages.made, _blame(rejected, drawn, pages.made))
            candidates = Candidates(program, program.draw(streams, size, room))
            pages.add(candidates, _chosen(program, candidates, streams.of(""), candidates.accepted(rejected)))
            drawn += size
            block += 1
            size = min(size * 4, LARGEST_BLOCK)
        return pages.frame()


def _chosen(
    program: Program, candidates: Candidates, rng: np.random.Generator, good: Mask | None
) -> Ints | None:
    """Return the places of candidates that are good and that the tilt accepts; None where all are."""
    if program.weighing is not None:
        kept = program.weighing.chosen(candidates.log_weights(), rng)
        good = kept if good is None else good & kept
    return None if good is None or good.all() else np.flatnonzero(good)


@dataclass(eq=False)
class _Pages:
    """Columns of a shard, written block by block where they will be delivered from."""

    program: Program
    names: tuple[str, ...]
    n: int
    made: int = 0
    _values: dict[str, NDArray[Any]] = field(default_factory=dict)
    _masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    _computed: dict[str, list[pd.Series[Any]]] = field(default_factory=dict)

    def _lay_out(self, drawn: Sequence[str]) -> None:
        """Make room for drawn columns: one piece for all of a width, which comes in large pages."""
        readings = {name: self.program.reading(name) for name in drawn}
        masked = [name for name in drawn if readings[name].masked]
        self._masks = dict(zip(masked, np.zeros((len(masked), self.n), np.bool_), strict=True))
        for width in {reading.dtype.itemsize for reading in readings.values()}:
            names = [name for name in drawn if readings[name].dtype.itemsize == width]
            rows = np.empty((len(names), self.n * width), np.uint8)
            self._values |= {
                name: row.view(readings[name].dtype) for name, row in zip(names, rows, strict=True)
            }

    def add(self, candidates: Candidates, chosen: Ints | None) -> None:
        """Write the chosen candidates (all where None), as many as there is room for."""
        stop = min(self.n, self.made + (candidates.n if chosen is None else len(chosen)))
        count = stop - self.made
        if chosen is not None:
            chosen = chosen[:count]
        if not self._values:
            self._lay_out([name for name in self.names if name not in candidates.computed])
        for name in self.names:
            if name in candidates.computed:
                series = candidates.computed[name]
                part = series.iloc[:count] if chosen is None else series.iloc[chosen]
                self._computed.setdefault(name, []).append(part)
                continue
            mask = self._masks.get(name)
            candidates.write(
                name,
                chosen,
                self._values[name][self.made : stop],
                None if mask is None else mask[self.made : stop],
            )
        self.made = stop

    def frame(self) -> pd.DataFrame:
        """Return the whole as a frame with the dtypes of `app.schema.frames`."""
        import pandas as pd

        from app.schema.frames import column

        columns: dict[str, Any] = {}
        for name in self.names:
            if name in self._values:
                columns[name] = column(self.program.schema[name], self._values[name], self._masks.get(name))
            else:
                columns[name] = pd.concat(self._computed[name], ignore_index=True).array
        return pd.DataFrame(columns, index=pd.RangeIndex(self.n), copy=False)


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

        kept, made = [], 0
        while made < n:
            candidates = Candidates(self.program, self.program.draw(rng, n))
            chosen = _chosen(self.program, candidates, rng, None)
            frame = candidates.frame(self.names)
            kept.append(frame if chosen is None else frame.iloc[chosen])
            made += len(kept[-1])
        return pd.concat(kept, ignore_index=True).iloc[:n]
