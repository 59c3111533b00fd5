"""Rows as points, and how far synthetic rows lie from real ones: what the distance-based attacks share.

A number counts its distance in interquartile ranges of the train part (in ranges where that is 0); two
different levels lie 1 apart, as do a level and a missing value; a missing number stands at the median, with 1
added. The distance of two rows is the root of the summed squares over the compared columns (a quadratic
relative of Gower 1971). Neighbours are exact, by
blocked matrix products. Columns are taken by name and synthetic rows in the order of their content, so that
neither order changes a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import NotMeasured, Tables
from app.evaluation.columns import Codes, Floats, codes, numbers, pooled
from app.evaluation.privacy import compared_fields
from app.schema.table import Field

MOST_ROWS = 10_000
"""The greatest number of rows of each kind that are held against each other."""

FEWEST_PERSONS = 10
"""An attack on fewer persons on either side says nothing."""

_FARTHEST = 10.0
_MOST_LEVELS = 64
_BLOCK_ENTRIES = 500_000  # 4 MB: what is passed over several times stays in the cache
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Points:
    """The rows of a table, one for each person of a real one.

    Parameters
    ----------
    raw : ndarray of float64, shape (n, p)
        Numbers, or positions among the levels; NaN where missing. Columns in the order of `Space.fields`.
    rows_in_table : int
        Before one row for each person was taken.
    """

    raw: Floats
    rows_in_table: int

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(frozen=True, slots=True)
class Space:
    """What is compared, and how a row becomes a point.

    Parameters
    ----------
    fields : tuple of Field
        All but ids, free text and the column that names the person, by name.
    synthetic, train, holdout : Points
        All rows; synthetic ones in the order of their content, real ones in a drawn order.
    scales : ndarray, shape (p,)
        What counts as 1; 0 for a column of levels.
    """

    fields: tuple[Field, ...]
    synthetic: Points
    train: Points
    holdout: Points
    scales: Floats

    def place(self, name: str) -> int | None:
        """Return the position of a column, None where it takes no part."""
        return next((place for place, field in enumerate(self.fields) if field.name == name), None)

    def encoded(self, rows: Floats, places: Sequence[int]) -> Floats:
        """Return points on some columns.

        Parameters
        ----------
        rows : ndarray, shape (n, p)
            Of `Points.raw`.
        places : sequence of int
            Columns.

        Returns
        -------
        ndarray of float64, shape (n, d)
        """
        parts: list[Floats] = []
        for place in places:
            column = rows[:, place]
            real = self.train.raw[:, place]
            if self.scales[place] == 0:
                # Two different levels are √2 apart as unit vectors. The rarest ones share one.
                found, counts = np.unique(np.nan_to_num(real, nan=-1.0), return_counts=True)
                kept = found[np.argsort(-counts, kind="stable")[:_MOST_LEVELS]]
                values = np.nan_to_num(column, nan=-1.0)
                parts += [(values == level)[:, None] * np.sqrt(0.5) for level in kept]
                parts.append(~np.isin(values, kept)[:, None] * np.sqrt(0.5))
                continue
            present = real[~np.isnan(real)]
            middle = float(np.median(present)) if len(present) else 0.0
            absent = np.isnan(column)
            scaled = np.where(absent, 0.0, (column - middle) / self.scales[place])
            parts.append(np.clip(scaled, -_FARTHEST, _FARTHEST)[:, None])
            if absent.any() or np.isnan(real).any():
                parts.append(absent[:, None].astype(np.float64))
            else:
                parts.append(np.zeros((len(rows), 1)))
        return np.hstack(parts) if parts else np.zeros((len(rows), 0))


_last: tuple[Tables, Space | NotMeasured] | None = None


def space_of(tables: Tables) -> Space | NotMeasured:
    """Prepare the tables for the attacks; the last tables' preparation is kept, for all attacks need it.

    Returns
    -------
    Space or NotMeasured
        The reason where there is no column to compare or a real part has too few persons.
    """
    global _last
    known = _last
    if known is None or known[0] is not tables:
        known = (tables, _prepare(tables))
        _last = known
    return known[1]


def _prepare(tables: Tables) -> Space | NotMeasured:
    assert tables.train is not None and tables.holdout is not None  # the metrics' `needs` say so
    # Who a row is of is known by a number that says nothing in another table.
    fields = tuple(
        sorted(
            (field for field in compared_fields(tables.schema) if field.name != tables.group),
            key=lambda field: field.name,
        )
    )
    if not fields:
        return NotMeasured("every column is an id or free text, which are left out of the comparison")
    rng = np.random.default_rng([tables.seed, 4001])
    train = _persons(fields, tables.train, tables.group, rng)
    holdout = _persons(fields, tables.holdout, tables.group, rng)
    for name, part in (("train part", train), ("holdout", holdout)):
        if len(part) < FEWEST_PERSONS:
            return NotMeasured(f"the {name} has {len(part)} persons; an attack needs {FEWEST_PERSONS}")
    made = _raw(fields, pooled(tables))
    made = made[np.argsort(content_order(made), kind="stable")]
    scales = np.array([_scale(field, train.raw[:, place]) for place, field in enumerate(fields)])
    return Space(fields, Points(made, len(made)), train, holdout, scales)


def _raw(fields: Sequence[Field], frame: pd.DataFrame) -> Floats:
    columns = []
    for field in fields:
        if field.levels is not None:
            values = codes(field, frame[field.name]).astype(np.float64)
            values[values < 0] = np.nan
        else:
            values = numbers(field, frame[field.name])
            if field.type == "number" and field.decimals is not None:
                # As delivered: 0.1 + 0.2 is 0.3.
                values = np.rint(values * 10.0**field.decimals) / 10.0**field.decimals
        columns.append(np.where(np.isfinite(values), values, np.nan) + 0.0)
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0))


def _persons(
    fields: Sequence[Field], frame: pd.DataFrame, group: str | None, rng: np.random.Generator
) -> Points:
    order = rng.permutation(len(frame))
    if group is not None and group in frame.columns:
        # One drawn row for each person: rows of one person are no independent evidence.
        persons = pd.factorize(frame[group])[0][order]
        _, first = np.unique(persons, return_index=True)
        known = np.sort(first[persons[first] >= 0])
        order = np.concatenate([order[known], order[persons < 0]])
    return Points(_raw(fields, frame)[order], len(frame))


def _scale(field: Field, real: Floats) -> float:
    if field.levels is not None:
        return 0.0
    present = real[~np.isnan(real)]
    if not len(present):
        return 1.0
    low, high = np.quantile(present, [0.25, 0.75])
    return float(high - low) or float(np.ptp(present)) or 1.0


def content_order(raw: Floats) -> NDArray[np.uint64]:
    """Hash rows by content: equal rows are equal, and the order is nobody's (multiply and xor-shift)."""
    mixed = np.zeros(len(raw), dtype=np.uint64)
    for place in range(raw.shape[1]):
        mixed = scrambled(mixed ^ bits(raw[:, place]))
    return mixed


def bits(column: Floats) -> NDArray[np.uint64]:
    """Return the bit patterns of a column, one for all NaN."""
    return np.where(np.isnan(column), np.nan, column + 0.0).view(np.uint64)


def scrambled(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply the finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def sampled(points: Points, most: int, rng: np.random.Generator) -> Floats:
    """Return at most `most` rows, drawn without replacement and kept in their order."""
    if len(points) <= most:
        return points.raw
    return points.raw[np.sort(rng.choice(len(points), most, replace=False))]


def nearest(points: Floats, among: Floats) -> Codes:
    """Return for each point the position of its nearest among others; of equally near ones the first.

    Parameters
    ----------
    points : ndarray, shape (n, d)
    among : ndarray, shape (k, d), k ≥ 1

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    found = np.empty(len(points), dtype=np.int64)
    lengths = np.einsum("ij,ij->i", among, among)
    step = max(_BLOCK_ENTRIES // len(among), 1)
    for start in range(0, len(points), step):
        block = points[start : start + step]
        # The point's own length is the same for all and left out.
        products = block @ among.T
        products *= -2.0
        products += lengths
        limit = products.min(axis=1, keepdims=True) + _TIE
        found[start : start + step] = (products <= limit).argmax(axis=1)
    return found


@dataclass(frozen=True, slots=True)
class Closeness:
    """Squared distances between synthetic and real rows; m is the number of holdout rows.

    Parameters
    ----------
    to_train, to_holdout : ndarray, shape (s, 2)
        From each synthetic row to its two nearest among m train rows, and among the m holdout rows.
    near_train, near_holdout : ndarray of int64, shape (s,)
        Positions of the nearest: among all train rows, and among the holdout rows.
    closer, as_close : ndarray of int64, shape (s,)
        Of all n train rows, how many lie nearer than the nearest holdout row, and how many no farther.
    from_train : ndarray, shape (n,)
        From each train row to the nearest synthetic row.
    from_holdout : ndarray, shape (m,)
        The same for the holdout.
    """

    to_train: Floats
    to_holdout: Floats
    near_train: Codes
    near_holdout: Codes
    closer: Codes
    as_close: Codes
    from_train: Floats
    from_holdout: Floats


_last_closeness: tuple[Space, int, Closeness] | None = None


def closeness_of(space: Space, seed: int) -> Closeness:
    """Measure all distances once for the metrics that share them."""
    global _last_closeness
    known = _last_closeness
    if known is None or known[0] is not space or known[1] != seed:
        known = (space, seed, _measure(space, seed))
        _last_closeness = known
    return known[2]


def _measure(space: Space, seed: int) -> Closeness:
    every = range(len(space.fields))
    drawn = sampled(space.synthetic, MOST_ROWS, np.random.default_rng([seed, 4002]))
    made = space.encoded(drawn, every)
    # Real rows stand in a drawn order: the first ones are a sample.
    train = space.encoded(space.train.raw[:MOST_ROWS], every)
    holdout = space.encoded(space.holdout.raw[: min(MOST_ROWS, len(space.train))], every)
    rows, n, m = len(made), len(train), len(holdout)
    lengths = [np.einsum("ij,ij->i", part, part) for part in (made, train, holdout)]
    to_train, to_holdout = np.empty((rows, 2)), np.empty((rows, 2))
    near_train, near_holdout, closer, as_close = (np.empty(rows, dtype=np.int64) for _ in range(4))
    from_train, from_holdout = np.full(n, np.inf), np.full(m, np.inf)
    step = max(_BLOCK_ENTRIES // max(n, m), 1)
    for start in range(0, rows, step):
        here = slice(start, start + step)
        squares = _squares(made[here], holdout, lengths[0][here], lengths[2])
        np.minimum(from_holdout, squares.min(axis=0), out=from_holdout)
        near_holdout[here] = squares.argmin(axis=1)
        to_holdout[here] = _two_least(squares, near_holdout[here])
        limit = to_holdout[here, :1]
        squares = _squares(made[here], train, lengths[0][here], lengths[1])
        np.minimum(from_train, squares.min(axis=0), out=from_train)
        closer[here] = np.count_nonzero(squares < limit - _TIE, axis=1)
        as_close[here] = np.count_nonzero(squares <= limit + _TIE, axis=1)
        near_train[here] = squares.argmin(axis=1)
        some = squares[:, :m]
        to_train[here] = _two_least(some, some.argmin(axis=1))
    return Closeness(
        to_train, to_holdout, near_train, near_holdout, closer, as_close,
        np.round(from_train, 9), np.round(from_holdout, 9),
    )  # fmt: skip


def _squares(points: Floats, among: Floats, lengths: Floats, others: Floats) -> Floats:
    squares: Floats = points @ among.T
    squares *= -2.0
    squares += lengths[:, None]
    squares += others
    return np.maximum(squares, 0.0, out=squares)


def _two_least(squares: Floats, least: Codes) -> Floats:
    """Return the least and the second least of each row; overwrites the least."""
    rows = np.arange(len(squares))
    first = squares[rows, least].copy()
    squares[rows, least] = np.inf
    second = squares.min(axis=1)
    return np.column_stack([first, second])
