"""Columns as arrays: numbers on a field's scale, level codes, and the rows that a condition selects."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import Tables
from app.schema.evaluate import holds_relevant
from app.schema.table import Condition, Field, TableSchema

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


def numbers(field: Field, column: pd.Series) -> Floats:
    """Put a column on the field's numeric scale (`Field.to_number`).

    Parameters
    ----------
    field : Field
        Numeric, temporal or boolean, or with numeric levels.
    column : Series
        In the dtype of `app.schema.frames`, n rows.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where missing.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if column.dtype.kind == "M":
        since = column.to_numpy("datetime64[us]") - np.datetime64("1970-01-01", "us")
        return _ratio(since, np.timedelta64(1, "D"))
    if column.dtype.kind == "m":
        return _ratio(column.to_numpy("timedelta64[us]"), np.timedelta64(1, "s"))
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    result: Floats = column.to_numpy(dtype="float64", na_value=np.nan)
    return result


def _ratio(durations: NDArray[np.timedelta64], unit: np.timedelta64) -> Floats:
    result = durations / unit
    result[np.isnat(durations)] = np.nan
    return np.asarray(result, dtype=np.float64)


def codes(field: Field, column: pd.Series) -> Codes:
    """Return the position of each value among the field's levels, −1 where missing.

    Parameters
    ----------
    field : Field
        With levels.
    column : Series
        n rows.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    levels = list(field.levels or ())
    if isinstance(column.dtype, pd.CategoricalDtype) and list(column.cat.categories) == levels:
        return np.asarray(column.cat.codes, dtype=np.int64)
    found = pd.Index(levels, dtype=object).get_indexer(pd.Index(column.astype(object)))
    return np.where(column.isna().to_numpy(), -1, found).astype(np.int64)


def ordinals(field: Field, column: pd.Series) -> Floats:
    """Return what a rank correlation ranks: the position among the levels, else the number."""
    if field.levels is None:
        return numbers(field, column)
    positions = codes(field, column).astype(np.float64)
    positions[positions < 0] = np.nan
    return positions


def measurements(field: Field, column: pd.Series) -> Floats:
    """Return what a product-moment correlation multiplies: the number, else the position among the levels."""
    if field.levels is not None and field.type not in ("integer", "number", "year"):
        return ordinals(field, column)
    return numbers(field, column)


def selected(schema: TableSchema, frame: pd.DataFrame, given: Iterable[Condition]) -> Mask:
    """Return which rows of `frame` satisfy every condition; a missing value satisfies none."""
    rows = np.ones(len(frame), dtype=np.bool_)
    for condition in given:
        field, column = schema[condition.field], frame[condition.field]
        if condition.values is not None:
            if field.kind in ("numeric", "temporal"):
                wanted = [field.to_number(value) for value in condition.values]
                rows &= np.isin(numbers(field, column), wanted)
            else:
                rows &= column.astype(object).isin(list(condition.values)).to_numpy(dtype=np.bool_)
        for bound, within in ((condition.minimum, np.greater_equal), (condition.maximum, np.less_equal)):
            if bound is not None:
                rows &= within(numbers(field, column), field.to_number(bound))
    return rows


def present(column: pd.Series) -> Mask:
    """Return which values are there."""
    return column.notna().to_numpy(dtype=np.bool_)


def pooled(tables: Tables) -> pd.DataFrame:
    """Return the synthetic rows of all replicates as one table."""
    one: pd.DataFrame = tables.synthetic[0]
    if len(tables.synthetic) > 1:
        one = pd.concat(tables.synthetic, ignore_index=True)
    return one


def applies(field: Field, frame: pd.DataFrame) -> Mask:
    """Return the rows in which the field applies (its `relevant` is true, or it has none)."""
    if field.relevant is None:
        return np.ones(len(frame), dtype=np.bool_)
    return holds_relevant(field.relevant, frame)


def cell_rows(tables: Tables) -> int:
    """Return how many real rows certainly belong to `min_cell` persons."""
    if tables.train is None or tables.group is None or not len(tables.train):
        return tables.min_cell
    rows_of_a_person = tables.train[tables.group].value_counts()
    return tables.min_cell * max(int(rows_of_a_person.max()) if len(rows_of_a_person) else 1, 1)
