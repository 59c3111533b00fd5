"""Privacy: do synthetic rows repeat real ones. A small share is no proof that nobody can be recognised.

Rows are compared on the columns as they are delivered: all but ids and free text, numbers rounded to the
field's decimals, dates to their own unit, two missing values counting as equal. Each row is hashed to 64 bits
(a chance collision among 10⁶ × 10⁴ pairs has probability 5·10⁻¹⁰), so a million rows take a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import Depth, Dimension, MatchTally, NotMeasured, Score, Tables
from app.evaluation.columns import codes, numbers, pooled
from app.evaluation.intervals import mid_p
from app.schema.table import Field, TableSchema


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927), by default at 95 %.

    Parameters
    ----------
    hits, n : int
        n ≥ 1.
    """
    share, z2 = hits / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (0.0 if hits == 0 else centre - half, 1.0 if hits == n else centre + half)


def compared_fields(schema: TableSchema) -> tuple[Field, ...]:
    """Return the fields on which rows are compared: all but ids and free text."""
    return tuple(field for field in schema.fields if field.kind not in ("id", "text"))


def fingerprints(schema: TableSchema, frame: pd.DataFrame) -> NDArray[np.uint64]:
    """Hash every row as it is delivered.

    Parameters
    ----------
    schema : TableSchema
        With at least one compared field.
    frame : DataFrame
        n rows in the dtypes of `app.schema.frames`.

    Returns
    -------
    ndarray of uint64, shape (n,)
        Equal for equal rows, whatever the order of the frame's columns.
    """
    parts = {
        str(place): _delivered(field, frame[field.name])
        for place, field in enumerate(compared_fields(schema))
    }
    return np.asarray(pd.util.hash_pandas_object(pd.DataFrame(parts), index=False), dtype=np.uint64)


def _delivered(field: Field, column: pd.Series) -> NDArray[np.generic]:
    if field.levels is not None:
        return codes(field, column)
    values = numbers(field, column)
    if field.type == "number" and field.decimals is not None:
        # Whole multiples of the last decimal: 0.1 + 0.2 and 0.3 are delivered alike.
        values = np.rint(values * 10.0**field.decimals)
    # One bit pattern for 0 and −0, and one for NaN.
    return np.where(np.isnan(values), np.nan, values + 0.0)


class MatchCounter:
    """Counts synthetic rows that equal a row of the train part, batch by batch over all that are made.

    Parameters
    ----------
    schema : TableSchema
    train : DataFrame
        The train part of the reference.

    Examples
    --------
    >>> counter = MatchCounter(schema, train)  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     counter.add(batch)
    >>> counter.tally  # doctest: +SKIP
    MatchTally(rows=1000000, matches=0)
    """

    def __init__(self, schema: TableSchema, train: pd.DataFrame) -> None:
        self._schema = schema
        self._known = np.unique(fingerprints(schema, train)) if compared_fields(schema) else None
        self._rows = self._matches = 0

    def add(self, frame: pd.DataFrame) -> None:
        """Count one more batch."""
        self._rows += len(frame)
        if self._known is not None:
            self._matches += int(np.isin(fingerprints(self._schema, frame), self._known).sum())

    @property
    def tally(self) -> MatchTally:
        """What was counted so far."""
        return MatchTally(self._rows, self._matches)


class IdenticalMatchShare:
    """Share of synthetic rows that equal a row of the train part (IMS), beside the holdout's share."""

    name: ClassVar[str] = "identical_match_share"
    title: ClassVar[str] = "Rows identical to a training row (IMS)"
    dimension: ClassVar[Dimension] = "privacy"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 1, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `tables.matches`, where given, counts all rows that were made instead of a sample."""
        assert tables.train is not None  # `needs` says so
        fields = compared_fields(tables.schema)
        if not fields:
            return NotMeasured("every column is an id or free text, which are left out of the comparison")
        if len(tables.train) == 0:
            return NotMeasured("the train part has no row")
        counter = MatchCounter(tables.schema, tables.train)
        tally = tables.matches
        if tally is None:
            for frame in tables.synthetic:
                counter.add(frame)
            tally = counter.tally
        interval = mid_p(tally.matches, tally.rows)
        baseline = holdout_interval = None
        reading = f"{tally.matches:,} of {tally.rows:,} synthetic rows are identical to a training row"
        if tables.holdout is not None and len(tables.holdout):
            held = MatchCounter(tables.schema, tables.train)
            held.add(tables.holdout)
            baseline = held.tally.matches / held.tally.rows
            holdout_interval = list(mid_p(held.tally.matches, held.tally.rows))
            reading += f"; of the real holdout rows, which no generator saw, {baseline:.2%} are, by chance"
        return Score(
            value=tally.matches / tally.rows,
            interval=interval,
            baseline=baseline,
            reading=reading + ".",
            details={
                "aggregate": "matches / rows",
                "matches": tally.matches,
                "rows": tally.rows,
                "holdout_interval": holdout_interval,
                "train_rows": len(tables.train),
                "holdout_rows": 0 if tables.holdout is None else len(tables.holdout),
                "interval": "mid-P, 95 %",
                "compared_columns": [field.name for field in fields],
                "left_out_columns": [field.name for field in tables.schema.fields if field not in fields],
            },
        )


class RepeatedRowShare:
    """Share of synthetic rows that repeat an earlier synthetic row, beside the train part's share."""

    name: ClassVar[str] = "repeated_row_share"
    title: ClassVar[str] = "Rows that repeat an earlier row of the same table"
    dimension: ClassVar[Dimension] = "privacy"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset()
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure in the first rows, as many as the train part has: repeats grow with the number of rows."""
        if not compared_fields(tables.schema):
            return NotMeasured("every column is an id or free text, which are left out of the comparison")
        prints = fingerprints(tables.schema, pooled(tables))
        train = tables.train
        rows = len(prints) if train is None or len(train) == 0 else min(len(prints), len(train))
        repeats = rows - len(np.unique(prints[:rows]))
        repeats_all = len(prints) - len(np.unique(prints))
        baseline = None
        reading = f"{repeats_all:,} of {len(prints):,} synthetic rows repeat an earlier one"
        if train is not None and len(train):
            # The same number of rows on both sides, for a like comparison.
            real = fingerprints(tables.schema, train)[:rows]
            baseline = (rows - len(np.unique(real))) / rows
            reading += (
                f"; among {rows:,} rows {repeats / rows:.2%} do, of as many training rows {baseline:.2%}"
            )
        return Score(
            value=repeats / rows,
            baseline=baseline,
            reading=reading + ".",
            details={
                "aggregate": "repeats / rows",
                "repeats": repeats,
                "rows": rows,
                "repeats_all": repeats_all,
                "rows_all": len(prints),
            },
        )
