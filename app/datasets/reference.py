"""A stored dataset as a frame of a job's schema: what generators learn from and metrics measure against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.datasets.columns import Cells, Evidence, type_as
from app.disclosure import POOLED_LEVEL, say_count
from app.errors import Fault, InvalidInput, pointer
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Reference:
    """A real table under a schema.

    Parameters
    ----------
    frame : DataFrame
        Rows in their stored order; dtypes as `app.schema.frames` has them.
    warnings : tuple of Fault
        What had to be adapted; pointers into the job (`/schema/fields/3`).
    """

    frame: pd.DataFrame
    warnings: tuple[Fault, ...] = ()


def load_reference(
    path: Path, schema: TableSchema, *, min_cell: int = 10, called: str = "reference"
) -> Reference:
    """Read a stored dataset as a schema has it.

    Columns that the schema does not name are left out. Values that are none of a field's levels become its
    level `(pooled)` where it has one, as inferred schemas do, else missing. A column that is stored with
    another type is read anew as the declared one (whole numbers as text, as dates, as booleans …). A field
    with a formula that the dataset does not have is computed.

    Parameters
    ----------
    path : Path
        The stored Parquet file.
    schema : TableSchema
        The job's.
    min_cell : int
        Counts of fewer rows are not said.
    called : str
        What the dataset is to the job, for faults and warnings: "holdout", "synthetic table".

    Raises
    ------
    InvalidInput
        Where the dataset lacks a field, or a column cannot be held by its declared type.
    """
    from app.schema.frames import from_arrow

    stored = pq.ParquetFile(path)
    names = stored.schema_arrow.names
    table = stored.read(columns=[name for name in schema.names if name in names], use_threads=False)
    faults: list[Fault] = []
    warnings: list[Fault] = []
    columns: dict[str, pa.ChunkedArray] = {}
    for index, field in enumerate(schema.fields):
        where = pointer("schema", "fields", index)
        if field.name not in names:
            if field.formula is None:
                faults.append(
                    Fault(
                        where,
                        f"The {called} has no column of this name. Correct the name, or leave the field out.",
                    )
                )
            continue
        column, misfits = as_declared(table.column(field.name), field)
        if len(misfits):
            faults.append(
                Fault(
                    where + "/type",
                    f"{say_count(len(misfits), min_cell)} cells of the {called}'s column are not of the "
                    f"type {field.type}. Declare a type that holds them all, `string` at the widest.",
                )
            )
            continue
        column, unlisted = _within_levels(column, field)
        if unlisted:
            warnings.append(_unlisted(where, field, unlisted, min_cell, called))
        columns[field.name] = column
    if faults:
        raise InvalidInput(faults)
    extra = len(set(names) - set(schema.names))
    if extra:
        warnings.append(
            Fault(
                "/schema/fields", f"{extra} columns of the {called} are not in the schema and were left out."
            )
        )
    present = tuple(field for field in schema.fields if field.name in columns)
    frame = from_arrow(pa.table(columns), TableSchema(present))
    return Reference(_with_formulas(frame, schema), tuple(warnings))


def load_columns(path: Path, names: list[str]) -> pd.DataFrame:
    """Read some stored columns as they are: what `holdout_mask` orders its strata and groups by."""
    from app.schema.frames import from_arrow

    table = pq.read_table(path, columns=names, use_threads=False)
    fields = tuple(_stored_field(name, table.schema.field(name).type) for name in names)
    return from_arrow(table, TableSchema(fields))


def _stored_field(name: str, type_: pa.DataType) -> Field:
    types = pa.types
    if types.is_int64(type_):
        return Field(name, "integer")
    if types.is_floating(type_):
        return Field(name, "number")
    if types.is_boolean(type_):
        return Field(name, "boolean")
    if types.is_date(type_):
        return Field(name, "date")
    if types.is_timestamp(type_):
        return Field(name, "datetime")
    return Field(name, "time") if types.is_time(type_) else Field(name, "string")


def as_declared(
    column: pa.ChunkedArray, field: Field
) -> tuple[pa.ChunkedArray | pa.Array, NDArray[np.int64]]:
    """Give a typed column the declared type.

    Returns
    -------
    column : Array or ChunkedArray
        Of the declared type, null where it cannot hold a cell.
    misfits : ndarray of int64
        The rows of these cells.
    """
    none = np.zeros(0, dtype=np.int64)
    have = _stored_field(field.name, column.type).type
    if have == field.type or (have == "integer" and field.type == "year"):
        return column, none
    if (have, field.type) == ("integer", "number"):
        return pc.cast(column, pa.float64()), none
    if (have, field.type) == ("date", "datetime"):
        return pc.cast(column, pa.timestamp("us")), none
    # "" is how a missing cell looks as text; a stored text is never "".
    text = pc.fill_null(pc.cast(column, pa.string()), "")
    typed = type_as(field, Cells.of(text), Evidence(), ("",), {})
    return typed.values, typed.misfits


def _within_levels(
    column: pa.ChunkedArray | pa.Array, field: Field
) -> tuple[pa.ChunkedArray | pa.Array, int]:
    """Put unlisted values into the pooled level, else make them missing; count the latter."""
    if field.levels is None or field.type == "boolean":
        return column, 0
    plain = pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
    listed = pc.is_in(plain, value_set=pa.array(list(field.levels), plain.type))
    keep = pc.or_(listed, pc.is_null(plain))
    unlisted = len(plain) - (pc.sum(keep).as_py() or 0)
    if not unlisted:
        return column, 0
    pooled = field.type == "string" and POOLED_LEVEL in field.levels
    other = pa.scalar(POOLED_LEVEL if pooled else None, plain.type)
    return pc.if_else(keep, plain, other), 0 if pooled else int(unlisted)


def _unlisted(where: str, field: Field, count: int, min_cell: int, called: str) -> Fault:
    way_out = f", or add the level {POOLED_LEVEL!r}, which takes them in" if field.type == "string" else ""
    return Fault(
        where + "/categories",
        f"{say_count(count, min_cell)} rows of the {called} hold a value that is none of the categories; "
        f"it counts as missing there. List every category{way_out}.",
    )


def _with_formulas(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    from app.schema.evaluate import formula_column

    absent = [field for field in schema.fields if field.name not in frame.columns]
    while absent:
        ready = [
            field
            for field in absent
            if field.formula is not None and set(field.formula.fields) <= set(frame.columns)
        ]
        if not ready:  # a formula over itself: the schema's parser refuses these
            raise InvalidInput(
                [
                    Fault(
                        pointer("schema", "fields", schema.index(field.name)),
                        "The formula cannot be computed.",
                    )
                    for field in absent
                ]
            )
        frame = frame.assign(**{field.name: formula_column(field, frame) for field in ready})
        absent = [field for field in absent if field not in ready]
    return frame[list(schema.names)]
