"""How a table is held in memory, and on its way to Arrow: one dtype per kind of field, everywhere.

| field | pandas dtype | Arrow type |
|---|---|---|
| integer, year (no levels, or integer levels) | `Int64` | int64 |
| number (also with levels) | `float64`, missing is NaN | double |
| boolean | `boolean` | bool |
| string with levels | `CategoricalDtype(levels, ordered)` | dictionary(int32, string) |
| string without levels (text, id) | `string[pyarrow]` | string |
| date | `datetime64[s]` | date32 |
| datetime | `datetime64[us]`, without a zone; put to UTC where a zone was given | timestamp[us] |
| time | `timedelta64[s]` since midnight | time32[s] |
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from app.schema.table import Field, TableSchema

METADATA_KEY = b"synthward"
"""Key of the JSON label in the metadata of an Arrow schema or a Parquet file."""

DAY_SECONDS = 86_400

Column = ExtensionArray | NDArray[Any]


def dtype_of(field: Field) -> Any:
    """Return the pandas dtype in which `field` is held."""
    if field.type in ("integer", "year"):
        return pd.Int64Dtype()
    if field.type == "number":
        return np.dtype("float64")
    if field.type == "boolean":
        return pd.BooleanDtype()
    if field.type == "date":
        return np.dtype("datetime64[s]")
    if field.type == "datetime":
        return np.dtype("datetime64[us]")
    if field.type == "time":
        return np.dtype("timedelta64[s]")
    if field.levels is not None:
        return pd.CategoricalDtype(list(field.levels), ordered=field.ordered)
    return pd.StringDtype("pyarrow")


def arrow_type_of(field: Field) -> pa.DataType:
    """Return the Arrow type in which `field` is stored."""
    if field.type in ("integer", "year"):
        return pa.int64()
    if field.type == "number":
        return pa.float64()
    if field.type == "boolean":
        return pa.bool_()
    if field.type == "date":
        return pa.date32()
    if field.type == "datetime":
        return pa.timestamp("us")
    if field.type == "time":
        return pa.time32("s")
    if field.levels is not None:
        return pa.dictionary(pa.int32(), pa.string(), ordered=field.ordered)
    return pa.string()


def arrow_schema(schema: TableSchema, metadata: Mapping[str, Any] | None = None) -> pa.Schema:
    """Return the Arrow schema of a table; `metadata` is kept as JSON under `METADATA_KEY`."""
    label = {METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()} if metadata is not None else None
    return pa.schema([(field.name, arrow_type_of(field)) for field in schema.fields], metadata=label)


def empty(schema: TableSchema) -> pd.DataFrame:
    """Return a frame of that schema without rows."""
    return pd.DataFrame({field.name: pd.Series(dtype=dtype_of(field)) for field in schema.fields})


def column(field: Field, values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> Column:
    """Wrap raw values as a column of the field's dtype, without a copy where nothing is missing.

    Parameters
    ----------
    values : ndarray, shape (n,)
        int64 for integers and years, float64 for numbers, bool for booleans, codes of the levels (−1 is
        missing) for strings with levels, datetime64[s], datetime64[us] or timedelta64[s] for times. May be
        written to: hand over what nobody else reads.
    missing : ndarray of bool, shape (n,), optional
        Where the value is absent.
    """
    if field.type in ("integer", "year"):
        return pd.arrays.IntegerArray(values, np.zeros(len(values), bool) if missing is None else missing)
    if field.type == "boolean":
        return pd.arrays.BooleanArray(values, np.zeros(len(values), bool) if missing is None else missing)
    if field.type == "number":
        if missing is not None:
            values[missing] = np.nan
        return values
    if field.type in ("date", "datetime", "time"):
        if missing is not None:
            values[missing] = "NaT"
        return values
    if field.levels is not None:
        if missing is not None:
            values[missing] = -1
        return pd.Categorical.from_codes(values, dtype=dtype_of(field))  # type: ignore[arg-type]
    raise TypeError(f"A column of type {field.type} without levels is not made of raw values.")


def conform(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """Return the schema's columns of `frame`, in its order, each cast to the field's dtype.

    Columns that have the dtype already are not copied. A value that is none of a field's levels becomes
    missing.

    Raises
    ------
    KeyError
        A column is absent.
    ValueError, TypeError
        A value cannot be held by the field's dtype.
    """
    columns = {field.name: _cast(frame[field.name], field) for field in schema.fields}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)), copy=False)


def to_arrow(frame: pd.DataFrame, schema: TableSchema, metadata: Mapping[str, Any] | None = None) -> pa.Table:
    """Return `frame` (dtypes as `conform` gives them) as an Arrow table, without a copy where Arrow can."""
    arrays = [_to_array(frame[field.name], field) for field in schema.fields]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(schema, metadata))


def from_arrow(table: pa.Table, schema: TableSchema) -> pd.DataFrame:
    """Return an Arrow table's columns as a frame with the schema's dtypes."""
    columns = {field.name: _from_array(table.column(field.name), field) for field in schema.fields}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=False)


def _cast(series: pd.Series[Any], field: Field) -> Any:
    dtype = dtype_of(field)
    if series.dtype == dtype:
        return series.array
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.dtype.categories.dtype)
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Categorical(series.astype("string").astype(object), dtype=dtype)
    if field.type in ("integer", "year"):
        if series.dtype.kind == "f":
            return series.astype("Int64").array  # `to_numeric` keeps NaN, which becomes -2**63
        return pd.to_numeric(series, dtype_backend="numpy_nullable").astype("Int64").array
    if field.type == "number":
        return pd.to_numeric(series).to_numpy("float64", na_value=np.nan)
    if field.type == "time":
        text = series.map(lambda cell: cell.isoformat() if hasattr(cell, "isoformat") else cell)
        return pd.to_timedelta(text).to_numpy().astype("timedelta64[s]")
    if field.type in ("date", "datetime"):
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        moments = (
            series.to_numpy()
            if series.dtype.kind == "M"
            else np.array([_moment(cell) for cell in series], "M8[us]")
        )
        return moments.astype("datetime64[D]" if field.type == "date" else dtype).astype(dtype)
    return series.astype(dtype).array


def _moment(cell: Any) -> dt.datetime | dt.date | None:
    # Not pandas: it refuses years beyond 1677 to 2262, and 9999-12-31 is a common way to say "still open".
    if isinstance(cell, str):
        cell = dt.datetime.fromisoformat(cell)
    if cell is None or cell is pd.NaT or cell != cell:
        return None
    if isinstance(cell, dt.datetime) and cell.tzinfo is not None:
        return cell.astimezone(dt.UTC).replace(tzinfo=None)
    return cell  # type: ignore[no-any-return]


def _to_array(series: pd.Series[Any], field: Field) -> pa.Array | pa.ChunkedArray:
    if field.type in ("date", "time"):
        values = series.to_numpy()
        seconds = values.view("int64")
        counts = seconds // DAY_SECONDS if field.type == "date" else seconds
        return pa.array(counts.astype("int32"), mask=_absent(np.isnat(values))).cast(arrow_type_of(field))
    if field.type == "number":
        return pa.array(series.to_numpy(), type=pa.float64(), from_pandas=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy()
        indices = pa.array(codes.astype("int32"), mask=_absent(codes < 0))
        levels = pa.array(list(series.cat.categories), type=pa.string())
        return pa.DictionaryArray.from_arrays(indices, levels, ordered=field.ordered)
    array = pa.array(series.array)
    return array if array.type == arrow_type_of(field) else array.cast(arrow_type_of(field))


def _absent(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return mask if mask.any() else None


def _from_array(chunked: pa.ChunkedArray, field: Field) -> Any:
    dtype = dtype_of(field)
    if isinstance(dtype, pd.CategoricalDtype):
        if not pa.types.is_dictionary(chunked.type):
            chunked = chunked.dictionary_encode()
        array = chunked.unify_dictionaries().combine_chunks()
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        position = {level: code for code, level in enumerate(dtype.categories)}
        codes = np.array([position.get(level, -1) for level in array.dictionary.to_pylist()] + [-1], "int32")
        found = codes[array.indices.fill_null(len(codes) - 1).to_numpy()]
        return pd.Categorical.from_codes(found, dtype=dtype)
    chunked = chunked.cast(arrow_type_of(field))
    if field.type in ("date", "time"):
        counts = chunked.cast(pa.int32()).cast(pa.int64())
        absent = counts.is_null().to_numpy()
        seconds = counts.fill_null(0).to_numpy() * (DAY_SECONDS if field.type == "date" else 1)
        values = seconds.astype(dtype)
        values[absent] = "NaT"
        return values
    if field.type == "number":
        return chunked.to_numpy()
    if field.type == "datetime":
        return chunked.to_numpy().astype(dtype)
    return dtype.__from_arrow__(chunked)
