"""How distances between two tables' distributions vary: draws of chance, and the interval of their mean.

A distance of two empirical distributions (the greatest gap, an area, half a sum of gaps) is the greater the
more chance there is in it, and never 0. So chance is drawn: rows are dealt into groups, each group gets a
normal weight, and the weighted deviations of the groups are what a table's distribution may be off by. All
columns share the weights of a table, so that what hangs together in the rows does so in the draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import Tables
from app.evaluation.bootstrap import person_codes, random_groups
from app.evaluation.columns import Codes, Floats, pooled
from app.evaluation.intervals import inverted

Singles = NDArray[np.float32]

GROUPS = 400
"""Groups of rows of each table (of persons, where one has several rows)."""

STEPS = np.linspace(0, 1, 65)[1:]
"""Shares of the values at which distribution functions are compared in the draws."""

TAILS = (1 - np.cos(np.linspace(0, np.pi, 129))) / 2
"""The same for areas: closer at the ends, where values are far apart."""

_SLACK, _SLACK_OF_SHARES = 0.3, 0.1
"""Standard deviations by which the mean of normal draws may be off: of few rows, or few groups of them.

Of distribution functions, which are drawn at some steps; and of shares of levels.
"""

_MOST_DRAWS, _FEWEST_DRAWS, _CELLS = 400, 100, 20_000
_BETWEEN_STEPS = 0.5826
"""What the greatest of a random walk misses between its steps, in step sizes (Chernoff 1965: −ζ(½)/√(2π))."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """One table's rows in groups, and a drawn weight for each group.

    Parameters
    ----------
    groups : ndarray of int64, shape (n,)
    weights : ndarray of float64, shape (draws, groups)
    """

    groups: Codes
    weights: Floats

    def some(self, rows: Codes | np.ndarray) -> Dealt:
        """Return the dealing of some rows."""
        return Dealt(self.groups[rows], self.weights)


def deal(tables: Tables, rng: np.random.Generator, draws: int) -> tuple[Dealt, Dealt]:
    """Deal the rows of the train part, and of all replicates together."""
    assert tables.train is not None
    return deal_frames((tables.train, pooled(tables)), tables.group, rng, draws)


def deal_frames(
    frames: tuple[pd.DataFrame, pd.DataFrame],
    group: str | None,
    rng: np.random.Generator,
    draws: int,
    most_groups: int = GROUPS,
) -> tuple[Dealt, Dealt]:
    """Deal the rows of two tables; rows of one person go together."""
    one, other = (_dealt(frame, group, rng, draws, most_groups) for frame in frames)
    return one, other


def _dealt(
    frame: pd.DataFrame, group: str | None, rng: np.random.Generator, draws: int, most_groups: int
) -> Dealt:
    persons = person_codes(frame[group]) if group is not None and len(frame) else None
    groups = random_groups(rng, len(frame), most_groups, persons)
    count = int(groups.max(initial=0)) + 1
    return Dealt(groups, rng.normal(size=(draws, count)) * math.sqrt(count / max(count - 1, 1)))


def draws_for(parts: int) -> int:
    """Return how many draws are enough for the mean over so many columns: it varies the less."""
    return int(np.clip(_CELLS // max(parts, 1), _FEWEST_DRAWS, _MOST_DRAWS))


@dataclass(frozen=True, slots=True)
class Gap:
    """Where two distributions of one column are apart, and draws of what chance adds.

    Parameters
    ----------
    apart : ndarray of float32, shape (k,)
        Differences at each step or level.
    noise : ndarray of float32, shape (draws, k)
    measure : "greatest" or "sum"
        Of the absolute values.
    scale : ndarray of float32, shape (k,)
        Weights in the sum.
    between : float
        What is added to the greatest for steps that are not looked at.
    most : float
        The distance counts so much at most.
    exact : bool
        Whether all differences are looked at.
    """

    apart: Singles
    noise: Singles
    measure: Literal["greatest", "sum"]
    scale: Singles
    between: float = 0.0
    most: float = math.inf
    exact: bool = False

    def drawn(self, differences: Singles) -> Floats:
        """Return draws of the distance where the true differences are these."""
        sizes = np.abs(differences + self.noise)
        found = sizes.max(axis=1) + self.between if self.measure == "greatest" else sizes @ self.scale
        return np.minimum(np.asarray(found, dtype=np.float64), self.most)

    def towards(self) -> Singles:
        """Return the observed differences; one that is 0 may be so by chance."""
        errors = self.noise.std(axis=0)
        return np.asarray(self.apart + np.where(self.apart < 0, -0.01, 0.01) * errors, dtype=np.float32)

    @property
    def noisy(self) -> bool:
        """Whether chance plays a part."""
        return bool(self.noise.any())


@dataclass(frozen=True, slots=True)
class Divided:
    """Present values of both tables: where they belong, who they are of.

    Parameters
    ----------
    parts : (ndarray, ndarray) of int64
        Subgroup of each real and each synthetic value, 0 … count − 1.
    count : int
    dealt : (Dealt, Dealt)
    """

    parts: tuple[Codes, Codes]
    count: int
    dealt: tuple[Dealt, Dealt]

    @classmethod
    def whole(cls, real: Codes | Floats, made: Codes | Floats, dealt: tuple[Dealt, Dealt]) -> Divided:
        """Return all values as one part."""
        return cls((np.zeros(len(real), np.int64), np.zeros(len(made), np.int64)), 1, dealt)


def between_levels(real: Codes, made: Codes, divided: Divided, levels: int) -> list[Gap]:
    """Return the gaps whose sizes are the total variation distances of two columns of codes in each part."""
    half = np.full(levels, 0.5, dtype=np.float32)
    return [
        Gap(apart, noise, "sum", half, exact=True)
        for apart, noise, _ in _noisy((real, made), divided, levels, cumulate=False)
    ]


def between_steps(real: Floats, made: Floats, divided: Divided, shares: Floats = STEPS) -> list[Gap]:
    """Return the gaps whose sizes are about the Kolmogorov–Smirnov statistics of two columns in each part."""
    steps, distinct = _steps(real, made, shares)
    places = (np.searchsorted(steps, real, side="left"), np.searchsorted(steps, made, side="left"))
    gaps = []
    for apart, noise, (n, m) in _noisy(places, divided, len(steps), cumulate=True):
        known = max(min(distinct, n + m), 1)
        unseen = max(1 / len(steps) - 1 / known, 0.0) * (1 / max(n, 1) + 1 / max(m, 1))
        # Half a step of the statistic, which takes few values where there are few rows.
        lattice = 0.5 / max(n, m, 1)
        missed = max(_BETWEEN_STEPS * math.sqrt(unseen) - lattice, 0.0)
        gaps.append(Gap(apart, noise, "greatest", np.empty(0, dtype=np.float32), missed, 1.0))
    return gaps


def between_values(real: Floats, made: Floats, divided: Divided, unit: float, most: float) -> list[Gap]:
    """Return the gaps whose sizes are about the Wasserstein distances of two columns in each part."""
    steps, _ = _steps(real, made, TAILS)
    places = (np.searchsorted(steps, real, side="left"), np.searchsorted(steps, made, side="left"))
    widths = np.append(np.minimum(np.diff(steps) / unit, 1e30), 0).astype(np.float32)
    return [
        Gap(apart, noise, "sum", widths, most=most)
        for apart, noise, _ in _noisy(places, divided, len(steps), cumulate=True)
    ]


def _steps(real: Floats, made: Floats, shares: Floats) -> tuple[Floats, int]:
    """Return values to compare at, the last being the greatest, and how many distinct ones there are."""
    together = np.unique(np.concatenate([real, made]))
    if len(together) <= len(shares):
        return together, len(together)
    every = np.sort(np.concatenate([real, made]))
    places = (shares * (len(every) - 1)).round().astype(np.int64)
    return np.unique(every[places]), len(together)


def _noisy(
    codes: tuple[Codes, Codes], divided: Divided, width: int, *, cumulate: bool
) -> list[tuple[Singles, Singles, tuple[int, int]]]:
    """Return for each part differences of shares, synthetic less real, draws of their noise, and rows."""
    shares, noise, rows = [], [], []
    for places, parts, dealt in zip(codes, divided.parts, divided.dealt, strict=True):
        groups = dealt.weights.shape[1]
        shape = (divided.count, groups, width)
        cells = np.bincount(
            (parts * groups + dealt.groups) * width + places, minlength=math.prod(shape)
        ).reshape(shape)
        in_part = cells.sum(axis=(1, 2))
        total = np.maximum(in_part, 1)[:, None]
        share = cells.sum(axis=1) / total
        off = (cells - cells.sum(axis=2, keepdims=True) * share[:, None, :]) / total[:, :, None]
        rows.append(in_part)
        shares.append(share)
        noise.append(np.matmul(dealt.weights.astype(np.float32), off.astype(np.float32)))
    apart, drawn = shares[1] - shares[0], noise[0] + noise[1]
    if cumulate:
        apart, drawn = np.cumsum(apart, axis=1), np.cumsum(drawn, axis=2)
    return [
        (apart[part].astype(np.float32), drawn[part], (int(rows[0][part]), int(rows[1][part])))
        for part in range(divided.count)
    ]


def interval_of_mean(
    gaps: Sequence[Gap], value: float, bounds: tuple[float, float]
) -> tuple[float, float] | None:
    """Return a 95 % interval of the mean distance over columns; None without a column."""
    return interval_of_greatest([gaps], value, bounds)


def interval_of_greatest(
    parts: Iterable[Sequence[Gap]], value: float, bounds: tuple[float, float]
) -> tuple[float, float] | None:
    """Return a 95 % interval of the greatest of several mean distances.

    Parameters
    ----------
    parts : iterable of sequences of Gap
        Columns of each part, all with the same draws.
    value : float
        The observed greatest mean.
    bounds : (float, float)
        What a distance can be.
    """
    kept = [list(gaps) for gaps in parts if gaps]
    if not kept:
        return None
    if not any(gap.noisy for gaps in kept for gap in gaps):
        return value, value

    towards = [[gap.towards() for gap in gaps] for gaps in kept]

    def simulate(times: float) -> Floats:
        means = [
            np.mean([gap.drawn(np.float32(times) * way) for gap, way in zip(gaps, ways, strict=True)], axis=0)
            for gaps, ways in zip(kept, towards, strict=True)
        ]
        found: Floats = np.max(means, axis=0)
        return found

    # From no true difference to well beyond the observed ones, which chance may have made small.
    chance = float(np.mean(simulate(0.0)))
    slack = _SLACK_OF_SHARES if all(gap.exact for gaps in kept for gap in gaps) else _SLACK
    return inverted(value, simulate, 1.0 + 4.0 * chance / max(value, 1e-9), bounds, slack)
