"""How many rows of an uploaded table break the constraints that its uploader declared."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.disclosure import POOLED_LEVEL, say_count
from app.errors import Fault, pointer
from app.schema.table import Field, TableSchema


def violations(table: pa.Table, schema: TableSchema, min_cell: int) -> list[Fault]:
    """Count the rows that break each declared constraint; counts below `min_cell` are not said.

    Parameters
    ----------
    table : pyarrow.Table
        Typed as the schema declares.
    schema : TableSchema
        The caller's.
    min_cell : int
        The smallest number of rows that is said.

    Returns
    -------
    list of Fault
        Warnings with pointers such as `/schema/fields/2/constraints/minimum`. The rows stay as they are.
    """
    warnings = []
    for index, field in enumerate(schema.fields):
        if field.name not in table.column_names:
            continue
        column = table.column(field.name)
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        for name, count in _counts(field, column).items():
            if count:
                where = pointer("schema", "fields", index, *name.split("/"))
                warnings.append(
                    Fault(
                        where,
                        f"{say_count(count, min_cell)} rows of the file break this; they are kept.",
                    )
                )
    return warnings


def _counts(field: Field, column: pa.ChunkedArray) -> dict[str, int]:
    constraints = field.constraints
    counts: dict[str, int] = {}
    if constraints.required:
        counts["constraints/required"] = column.null_count
    if constraints.unique:
        present = len(column) - column.null_count
        counts["constraints/unique"] = present - int(pc.count_distinct(column).as_py())
    if constraints.minimum is not None:
        counts["constraints/minimum"] = _true(pc.less(column, _scalar(constraints.minimum, column.type)))
    if constraints.maximum is not None:
        counts["constraints/maximum"] = _true(pc.greater(column, _scalar(constraints.maximum, column.type)))
    if pa.types.is_string(column.type):
        lengths = pc.utf8_length(column)
        if constraints.min_length is not None:
            counts["constraints/minLength"] = _true(pc.less(lengths, constraints.min_length))
        if constraints.max_length is not None:
            counts["constraints/maxLength"] = _true(pc.greater(lengths, constraints.max_length))
        if constraints.pattern is not None:
            counts["constraints/pattern"] = _breaking(constraints.pattern, column)
    # Where there is a pooled level, it takes in whatever is not listed.
    if field.levels is not None and field.type != "boolean" and POOLED_LEVEL not in field.levels:
        listed = pc.is_in(column, value_set=pa.array(list(field.levels), column.type))
        counts["categories"] = _true(pc.and_(pc.invert(listed), column.is_valid()))
    return counts


def _true(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _breaking(pattern: str, column: pa.ChunkedArray) -> int:
    try:
        return _true(pc.invert(pc.match_substring_regex(column, f"^(?:{pattern})$")))
    except pa.ArrowInvalid:  # RE2 knows no look-around; such patterns are checked on what is generated
        return 0


def _scalar(value: Any, type_: pa.DataType) -> pa.Scalar:
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    if isinstance(value, float) and pa.types.is_integer(type_):
        return pa.scalar(value, pa.float64())
    return pa.scalar(value, type_)
