"""What a neural network learns of a table, and how its output becomes a table again.

A column reaches the network as normal scores (the ranks of its values, put through the normal quantile
function), as a code (levels, booleans, numbers of few distinct values; a missing value is a code too), or as
normal scores beside a code that says whether the value is absent. Names, units and values stay outside: the
network sees scores and codes alone, and what it draws gets its values from the column's `Marginal`, whose
bins rest on several persons each. So dates, integers and grids need nothing of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from app.errors import pointer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from app.blueprint.marginal import Marginal
    from app.generators.machinery import Component
    from app.schema.frames import Column
    from app.schema.table import Field, TableSchema

MOST_CODES = 50
"""Levels of a column that are learned one by one; the rarer ones beyond are learned as one."""

FEW_VALUES = 5
"""Distinct values up to which a number is learned as codes."""

KNOTS = 512
PILOT = 32_768
PASSES = 6
TOLERANCE = 2e-4


class Network(Protocol):
    """Draws raw output: one column of scores, or one column of log weights for each code."""

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.float32]:
        """Return raw output, shape (n, width), with the noise that makes the largest log weight a draw."""


@dataclass(frozen=True, eq=False)
class Slot:
    """Columns of the network's input or output that belong together.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Of the train part: float64 scores, or int64 codes that count from 0 without gaps.
    codes : int
        How many codes there are; 0 for scores.
    """

    values: NDArray[Any]
    codes: int


@dataclass(frozen=True, eq=False)
class Learned:
    """One learned column.

    Parameters
    ----------
    marginal : Marginal
        What its values are made from, and the shares that are aimed at.
    groups : tuple of ndarray of int64
        For codes: the bins of the marginal that each code stands for. Empty for scores.
    gaps : bool
        Whether a code says that the value is absent: the last one, or one of a slot of its own.
    """

    marginal: Marginal
    groups: tuple[NDArray[np.int64], ...]
    gaps: bool

    @property
    def slots(self) -> int:
        """How many slots the column takes."""
        return 1 if self.groups or not self.gaps else 2

    def encode(
        self, column: pd.Series[Any], applies: NDArray[np.bool_], rng: np.random.Generator
    ) -> list[Slot]:
        """Return the train part's scores and codes; what is absent or does not apply gets a draw."""
        import numpy as np

        present = column.notna().to_numpy() & applies
        absent = ~present & applies
        if self.groups:
            group_of_bin = np.zeros(len(self.marginal.first), "int64")
            for code, bins in enumerate(self.groups):
                group_of_bin[bins] = code
            codes = np.full(len(column), len(self.groups), "int64")
            codes[present] = group_of_bin[self.marginal.bins_of(column[present])]
            known = present | absent if self.gaps else present
            codes[~known] = rng.choice(codes[known], int((~known).sum()))
            return [Slot(codes, len(self.groups) + self.gaps)]
        scores = Slot(_normal_scores(self.marginal, column, present, rng), 0)
        if not self.gaps:
            return [scores]
        gaps = absent.astype("int64")
        gaps[~applies] = rng.choice(gaps[applies], int((~applies).sum()))
        return [scores, Slot(gaps, 2)]

    def aims(self) -> list[NDArray[np.float64] | None]:
        """Return for each slot the shares of its codes that are aimed at; None for scores."""
        import numpy as np

        missing = self.marginal.missing
        if not self.groups:
            return [None, np.array([1 - missing, missing])][: self.slots]
        shares = np.array([self.marginal.weights[bins].sum() for bins in self.groups])
        return [np.append(shares * (1 - missing), missing) if self.gaps else shares]

    def decode(self, found: list[NDArray[Any]], rng: np.random.Generator) -> Column:
        """Return the column of these scores (as positions 0 … 1 in the distribution) and codes."""
        import numpy as np

        n = len(found[0])
        if self.gaps:
            absent = found[-1] == (len(self.groups) or 1)
        else:
            absent = rng.random(n) < self.marginal.missing
        if not self.groups:
            return self.marginal.column_at(found[0], absent)
        upper = np.cumsum(self.marginal.weights)
        position, spread = np.zeros(n), rng.random(n)
        for code, bins in enumerate(self.groups):
            rows = np.flatnonzero(found[0] == code)
            weights = np.cumsum(self.marginal.weights[bins])
            if not len(rows) or not weights[-1] > 0:
                continue
            at = spread[rows] * weights[-1]
            place = np.minimum(np.searchsorted(weights, at, side="right"), len(bins) - 1)
            within = (weights[place] - at) / self.marginal.weights[bins][place]
            # Not onto a bin's very end: there the next bin begins.
            position[rows] = upper[bins[place]] - self.marginal.weights[bins][place] * np.clip(
                within, 1e-6, 1 - 1e-6
            )
        return self.marginal.column_at(position / upper[-1], absent)


@dataclass(frozen=True, eq=False)
class LearnedTable:
    """All learned columns, drawn together. A `Part` of `app.generators.machinery`.

    Parameters
    ----------
    network : Network
        Draws raw output.
    spans : tuple of (int, int)
        Where each slot's output begins and how wide it is.
    settings : tuple of ndarray
        For each slot: what is added to the log weights, or KNOTS quantiles of the raw scores.
    """

    columns: tuple[Learned, ...]
    network: Network
    spans: tuple[tuple[int, int], ...]
    settings: tuple[NDArray[np.float64], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(column.marginal.field.name for column in self.columns)

    def draw(self, rng: np.random.Generator, n: int) -> Mapping[str, Column]:
        """Draw `n` rows."""
        return self.decode(self.network.draw(rng, n), rng)

    def decode(self, raw: NDArray[np.float32], rng: np.random.Generator) -> Mapping[str, Column]:
        """Return the columns of raw output."""
        found = iter(self.found(raw))
        return {
            column.marginal.field.name: column.decode([next(found) for _ in range(column.slots)], rng)
            for column in self.columns
        }

    def found(self, raw: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return each slot's codes, or positions (0 … 1) in its distribution."""
        import numpy as np

        positions = np.linspace(0, 1, KNOTS)
        aims = [aim for column in self.columns for aim in column.aims()]
        return [
            np.interp(raw[:, start], setting, positions)
            if aim is None
            else np.argmax(raw[:, start : start + width] + setting, axis=1)
            for (start, width), setting, aim in zip(self.spans, self.settings, aims, strict=True)
        ]

    def calibrated(self, raw: NDArray[np.float32], counted: list[NDArray[np.bool_]]) -> LearnedTable:
        """Return the table whose columns have the distributions aimed at, each on its own.

        Parameters
        ----------
        raw : ndarray, shape (n, width)
            Raw output.
        counted : list of ndarray of bool, shape (n,)
            For each column, the rows that count: those that are kept and to which it applies.
        """
        import numpy as np

        settings: list[NDArray[np.float64]] = []
        places = iter(zip(self.spans, self.settings, strict=True))
        for column, rows in zip(self.columns, counted, strict=True):
            for aim in column.aims():
                (start, width), setting = next(places)
                if rows.sum() < KNOTS:
                    settings.append(setting)
                elif aim is None:
                    knots = np.quantile(raw[rows, start].astype("float64"), np.linspace(0, 1, KNOTS))
                    settings.append(knots)
                else:
                    settings.append(balanced(raw[rows, start : start + width], setting, aim))
        return replace(self, settings=tuple(settings))


def learned_columns(
    schema: TableSchema,
    marginals: Iterable[Marginal],
    train: pd.DataFrame,
    warn: Callable[[str, str], None],
    min_cell: int,
) -> tuple[Learned, ...]:
    """Return the columns of which something joint can be learned: not the constant, empty or nearly so.

    Parameters
    ----------
    marginals : iterable of Marginal
        The fitted distributions.
    min_cell : int
        Rows that a code of its own must have, and a column to be learned at all.
    """
    found = (_learned(schema, marginal, train, warn, min_cell) for marginal in marginals)
    return tuple(column for column in found if column is not None)


def settle(schema: TableSchema, table: LearnedTable, component: Component, seed: Any) -> LearnedTable:
    """Return the table calibrated so that the rows which rules leave have the distributions aimed at."""
    import numpy as np

    from app.generators.machinery import stream

    raw = table.network.draw(stream(seed, 0), PILOT)
    others = {
        str(name): values.array for name, values in component.pilot(PILOT).items() if name not in table.names
    }
    columns = [schema[name] for name in table.names]
    strict = bool(component.rules or component.bounded or component.steps)
    everything = [np.ones(PILOT, bool)] * len(columns)
    table = table.calibrated(raw, everything)
    for _ in range(PASSES if strict else 0):
        frame = component.completed(others | dict(table.decode(raw, stream(seed, 1))), PILOT)
        kept = component.judge(frame, Counter())
        if all(field.relevant is None for field in columns) and kept.all():
            break
        table = table.calibrated(raw, [kept & applying(field, frame) for field in columns])
    return table


def applying(field: Field, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell the rows to which the field applies."""
    import numpy as np

    from app.schema.evaluate import holds_relevant

    if field.relevant is None:
        return np.ones(len(frame), bool)
    return np.asarray(holds_relevant(field.relevant, frame), bool)


def _learned(
    schema: TableSchema,
    marginal: Marginal,
    train: pd.DataFrame,
    warn: Callable[[str, str], None],
    min_cell: int,
) -> Learned | None:
    import numpy as np

    field = marginal.field
    applies = applying(field, train)
    column = train[field.name]
    present = column.notna().to_numpy() & applies
    if present.sum() < min_cell:
        return None
    gaps = bool((applies & ~present).any()) and 0 < marginal.missing < 1
    if field.levels is None and column[present].nunique() > FEW_VALUES:
        return Learned(marginal, (), gaps)
    counts = np.bincount(marginal.bins_of(column[present]), minlength=len(marginal.first))
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    unseen = [int(k) for k in np.flatnonzero(counts == 0) if marginal.weights[k] > 0]
    common = min(sum(counts[k] >= min_cell for k in order), MOST_CODES - 1)
    # The last one may be alone: there is nothing to pool it with but what no row has.
    alone, pooled = order[:common], [*order[common:], *unseen]
    if len(order) - common > 1 and marginal.weights[pooled].sum() > 0:
        warn(
            pointer("fields", schema.index(field.name)),
            f"`{field.name}` has {len(order)} levels in the reference: the {len(order) - common} rarest were "
            "learned as one, and are drawn among themselves by their shares alone.",
        )
    elif unseen and not order[common:]:  # declared, and in no row: they come with the rarest
        alone, pooled = order[:-1], [order[-1], *unseen]
    groups = [np.array([k]) for k in sorted(alone)] + ([np.array(sorted(pooled))] if pooled else [])
    if len(groups) + gaps < 2:
        return None
    return Learned(marginal, tuple(groups), gaps)


def _normal_scores(
    marginal: Marginal, column: pd.Series[Any], present: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Ranks through the normal quantile function; ties in any order, what is absent anywhere."""
    import numpy as np
    from scipy.special import ndtri

    from app.blueprint.ticks import numbers

    scores = rng.standard_normal(len(column))
    values = numbers(marginal.field, column[present])
    order = np.lexsort((rng.random(len(values)), values))
    ranks = np.empty(len(values))
    ranks[order] = (np.arange(len(values)) + 0.5) / len(values)
    scores[present] = ndtri(ranks)
    return scores


def balanced(
    raw: NDArray[np.float32], setting: NDArray[np.float64], aim: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What to add to log weights so that the largest is each code's as often as aimed at."""
    import numpy as np

    n, setting = len(raw), setting.copy()
    best, least = (np.inf, setting), 0.5 / n
    for turn in range(60):
        shares = np.bincount(np.argmax(raw + setting, axis=1), minlength=len(aim)) / n
        miss = float(np.abs(shares - aim).max())
        if miss < best[0]:
            best = (miss, setting)
        if miss <= max(1 / n, TOLERANCE):
            break
        step = np.log(np.maximum(aim, least)) - np.log(np.maximum(shares, least))
        setting = setting + np.clip(step, -3, 3) * (1.5 if turn < 20 else 0.7)
    return best[1]
