"""Frames as numeric design matrices for linear models and for trees, fitted on real rows alone.

Ids, free text and the column that names the person are left out; dates are days, times are seconds. What is
learned (means, spreads, which levels are pooled) comes from the frame that the encoding is fitted on, never
from the rows that are judged with it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import POOLED_LEVEL
from app.evaluation.base import Tables
from app.evaluation.columns import Codes, Floats, codes, numbers
from app.schema.table import Field, TableSchema

MOST_LEVELS = 60
"""Levels of one column that are kept apart at most; the rest are pooled (boosted trees take at most 255)."""

FARTHEST = 10.0
"""Standard deviations at which a standardised number is cut off: one wild value must not stop a solver."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a design matrix.

    Parameters
    ----------
    column : str
        The column of the table that it comes from.
    part : str
        "" for a number or the codes of a category, "missing" for an indicator, else the level.
    """

    column: str
    part: str = ""

    @property
    def label(self) -> str:
        """What a reader is shown."""
        return f"{self.column}: {self.part}" if self.part else self.column


@dataclass(frozen=True, slots=True)
class _Number:
    field: Field
    centre: float
    spread: float
    gaps: bool

    @property
    def features(self) -> tuple[Feature, ...]:
        indicator = (Feature(self.field.name, "missing"),) if self.gaps else ()
        return (Feature(self.field.name), *indicator)

    def raw(self, frame: pd.DataFrame) -> Floats:
        values = numbers(self.field, frame[self.field.name])
        # NumPy's float32 in the trees: what does not fit would become infinite.
        return np.clip(values, -1e30, 1e30)

    def linear(self, frame: pd.DataFrame) -> Floats:
        values = self.raw(frame)
        absent = np.isnan(values)
        scaled = np.clip((values - self.centre) / self.spread, -FARTHEST, FARTHEST)
        scaled[absent] = 0.0
        return np.column_stack([scaled, absent] if self.gaps else [scaled])

    def trees(self, frame: pd.DataFrame) -> Floats:
        return self.raw(frame)


@dataclass(frozen=True, slots=True)
class _Category:
    """`places[code]` is the place of a level among `parts`, most frequent first; pooled ones share one."""

    field: Field
    parts: tuple[str, ...]
    places: tuple[int, ...]
    gaps: bool

    @property
    def features(self) -> tuple[Feature, ...]:
        # The first part is the reference level: it has no column, so that the columns are not collinear.
        indicator = (Feature(self.field.name, "missing"),) if self.gaps else ()
        return tuple(Feature(self.field.name, part) for part in self.parts[1:]) + indicator

    def placed(self, frame: pd.DataFrame) -> Codes:
        """Return places, −1 where missing."""
        places = np.array((*self.places, -1), dtype=np.int64)
        placed: Codes = places[codes(self.field, frame[self.field.name])]
        return placed

    def linear(self, frame: pd.DataFrame) -> Floats:
        wanted = [*range(1, len(self.parts)), *([-1] if self.gaps else [])]
        return np.equal.outer(self.placed(frame), np.array(wanted, dtype=np.int64)).astype(np.float64)

    def trees(self, frame: pd.DataFrame) -> Floats:
        if self.field.ordered:
            found = codes(self.field, frame[self.field.name])
            return np.where(found < 0, np.nan, found)
        places = self.placed(frame)
        return np.where(places < 0, np.nan, places)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the columns of a table become numbers. Made by `fit_encoding`.

    Notes
    -----
    Both matrices have a row for each row of the frame. `linear` holds no NaN; `trees` keeps NaN where a value
    is missing (scikit-learn's histogram boosting and forests split on it).
    """

    _columns: tuple[_Number | _Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The table's columns that are used, in order; `trees` has one matrix column for each."""
        return tuple(column.field.name for column in self._columns)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The matrix columns of `linear`, in order."""
        return tuple(feature for column in self._columns for feature in column.features)

    @property
    def categorical(self) -> NDArray[np.bool_]:
        """Which matrix columns of `trees` hold codes without an order (`categorical_features`)."""
        return np.array(
            [isinstance(column, _Category) and not column.field.ordered for column in self._columns],
            dtype=np.bool_,
        )

    def linear(self, frame: pd.DataFrame) -> Floats:
        """Encode for linear models.

        Numbers are standardised by the fitted mean and standard deviation, cut off at ±`FARTHEST`, and 0
        where missing, beside an indicator where the fitted frame had missing values; categories are one-hot
        without their most frequent level, rare levels pooled, with a column for missing where there was one.

        Returns
        -------
        ndarray of float64, shape (n, len(features))
        """
        return _stacked([column.linear(frame) for column in self._columns], len(frame))

    def trees(self, frame: pd.DataFrame) -> Floats:
        """Encode for trees.

        Numbers as they are; ordered categories as the position among the levels, others as codes below 255
        (see `categorical`), rare levels sharing one; NaN where missing.

        Returns
        -------
        ndarray of float64, shape (n, len(names))
        """
        return _stacked([column.trees(frame)[:, None] for column in self._columns], len(frame))


def fit_encoding(
    schema: TableSchema, frame: pd.DataFrame, *, without: Collection[str] = (), min_level: int = 10
) -> Encoding:
    """Learn an encoding.

    Parameters
    ----------
    schema : TableSchema
    frame : DataFrame
        The real train part, or what stands for it; may be empty.
    without : collection of str
        Columns to leave out beside ids and free text: the target, the column that names the person.
    min_level : int
        Levels of fewer rows are pooled into one.
    """
    columns: list[_Number | _Category] = []
    for field in schema.fields:
        if field.name in without or field.kind in ("id", "text"):
            continue
        if field.levels is None:
            columns.append(_fit_number(field, numbers(field, frame[field.name])))
        else:
            columns.append(_fit_category(field, codes(field, frame[field.name]), min_level))
    return Encoding(tuple(columns))


def encoding_of(tables: Tables, *, without: Collection[str] = ()) -> Encoding:
    """Return the encoding fitted on the train part, without the column that names the person.

    Raises
    ------
    ValueError
        Where there is no train part.
    """
    if tables.train is None:
        raise ValueError("an encoding is fitted on the train part, and there is none")
    left_out = {*without} if tables.group is None else {*without, tables.group}
    return fit_encoding(tables.schema, tables.train, without=left_out, min_level=tables.min_cell)


def _fit_number(field: Field, values: Floats) -> _Number:
    present = values[np.isfinite(values)]
    centre = float(present.mean()) if len(present) else 0.0
    spread = float(present.std()) if len(present) else 0.0
    usable = spread > 1e-12 * max(abs(centre), 1e-300) and np.isfinite(spread)
    return _Number(field, centre, spread if usable else 1.0, bool(np.isnan(values).any()))


def _fit_category(field: Field, found: Codes, min_level: int) -> _Category:
    levels = field.levels or ()
    counts = np.bincount(found[found >= 0], minlength=len(levels))
    # Ties by the declared order: the same parts whatever the order of the rows.
    by_size = np.argsort(-counts, kind="stable")
    kept = [int(place) for place in by_size[:MOST_LEVELS] if counts[place] >= max(min_level, 1)]
    rest = [place for place in range(len(levels)) if place not in set(kept)]
    parts = [str(levels[place]) for place in kept]
    places = np.full(len(levels), -1, dtype=np.int64)
    places[kept] = np.arange(len(kept))
    if rest:
        places[rest] = len(parts)
        parts.append(POOLED_LEVEL)
    gaps = bool((found < 0).any())
    return _Category(field, tuple(parts), tuple(int(place) for place in places), gaps)


def _stacked(blocks: list[Floats], n_rows: int) -> Floats:
    return np.concatenate([np.empty((n_rows, 0)), *blocks], axis=1)
