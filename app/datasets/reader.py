"""The reading child: `python -m app.datasets.reader`, one JSON request on stdin, one JSON answer on stdout.

A process of its own, so that no upload can take the HTTP side's memory or time. It never writes to stderr
and never repeats an error's own message: these quote cells.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.datasets.columns import (
    TOO_LARGE,
    Cells,
    Column,
    Evidence,
    evidence_in,
    type_as,
    type_as_text,
    type_freely,
)
from app.datasets.csvfile import CsvTable, read_csv
from app.datasets.limits import FILE, Limits
from app.datasets.parquetfile import is_parquet, read_parquet
from app.datasets.reference import as_declared
from app.datasets.violations import violations
from app.errors import (
    Fault,
    InvalidInput,
    StorageFull,
    SynthwardError,
    UploadTooLarge,
    UploadUnreadable,
    pointer,
)
from app.schema.infer import infer_schema
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

_ROW_GROUP = 131_072
_MOST_FAULTS = 20
_EVIDENCE_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Request:
    """What the child is asked.

    Parameters
    ----------
    path, out, scratch : str
        The uploaded file; where the Parquet goes; a folder for intermediate files.
    max_rows, max_columns : int
        Limits.
    max_memory : int
        Bytes of address space; 0 for no limit.
    min_cell : int
        See `app.disclosure`.
    nice : int
        How far the process steps back.
    schema : dict or None
        The caller's schema document.
    """

    path: str
    out: str
    scratch: str
    max_rows: int
    max_columns: int
    max_memory: int
    min_cell: int
    nice: int
    schema: dict[str, Any] | None = None


@dataclass(slots=True)
class _Reading:
    """A typed table on its way to be stored."""

    table: pa.Table
    decimals: dict[str, int | None] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    warnings: list[Fault] = field(default_factory=list)


def read(request: Request) -> dict[str, Any]:
    """Read an upload, write it as typed Parquet and describe it.

    Returns
    -------
    dict
        `rows`, `columns`, `schema` (the caller's, else inferred) and `warnings` (`pointer`, `message`).

    Raises
    ------
    UploadUnreadable
        The file is no table, or its cells do not fit the schema.
    UploadTooLarge
        A limit is exceeded.
    InvalidInput
        The schema has faults.
    """
    path = Path(request.path)
    limits = Limits(request.max_rows, request.max_columns, request.max_memory)
    schema = parse_schema(request.schema)[0] if request.schema is not None else None
    if is_parquet(path):
        reading = _read_parquet(path, limits, schema)
    else:
        csv = read_csv(path, Path(request.scratch), limits, trust_header=schema is not None)
        reading = (
            _read_freely(csv) if schema is None else _read_as_declared(csv, schema, request.schema or {})
        )
        reading.warnings += [Fault(FILE, warning) for warning in csv.warnings]
    if schema is None:
        inferred = infer_schema(
            reading.table,
            min_cell=request.min_cell,
            decimals=reading.decimals,
            missing_values=tuple(reading.tokens),
        )
        document = inferred.document
        reading.warnings += [fault.under("/schema") for fault in inferred.warnings]
        reading.table = _with_ids_as_text(reading.table, document)
    else:
        document = request.schema or {}
        reading.warnings += violations(reading.table, schema, request.min_cell)
    pq.write_table(
        reading.table, request.out, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP,
        write_statistics=False,
    )  # fmt: skip
    return {
        "rows": reading.table.num_rows,
        "columns": reading.table.num_columns,
        "schema": document,
        "warnings": [{"pointer": fault.pointer, "message": fault.message} for fault in reading.warnings],
    }


# --- CSV -------------------------------------------------------------------------------------------------


def _cells(csv: CsvTable, name: str) -> Cells:
    return Cells.of(csv.cells.column(name), quoted=csv.dialect.quoted)


def _evidence(csv: CsvTable) -> Evidence:
    """Look at the head for the file's habits; these only break ties: each column is judged whole."""
    evidence = Evidence(delimiter=csv.dialect.delimiter)
    head = csv.cells.slice(0, _EVIDENCE_ROWS)
    for name in csv.names:
        evidence |= evidence_in(Cells.of(head.column(name), quoted=csv.dialect.quoted))
    return evidence


def _read_freely(csv: CsvTable) -> _Reading:
    evidence = _evidence(csv)
    reading = _Reading(pa.table({}))
    columns: dict[str, Column] = {}
    for name in csv.names:
        columns[name] = type_freely(_cells(csv, name), evidence)
        if columns[name].type != "string":
            reading.tokens |= columns[name].tokens - {""}
    for index, (name, column) in enumerate(columns.items()):
        where = pointer("schema", "fields", index)
        if (
            column.type == "string"
            and pc.any(pc.is_in(column.values, value_set=_tokens(reading.tokens))).as_py()
        ):
            # `missingValues` is for the whole table: what is missing in one column is so in all.
            columns[name] = type_as_text(_cells(csv, name), {*reading.tokens, *column.tokens})
        elif (
            column.type == "string"
            and pc.any(pc.is_in(column.values, value_set=_tokens({"NA", "N/A", "NULL", "NaN"}))).as_py()
        ):
            reading.warnings.append(
                Fault(
                    where,
                    "some texts here say NA or the like and were kept as values; to make them missing, "
                    'post the schema with `missingValues` such as ["", "NA"]',
                )
            )
        if column.type == "string":
            reading.tokens |= column.tokens & {"NA"}
        if column.note:
            reading.warnings.append(Fault(where, column.note))
        if column.decimals is not None:
            reading.decimals[name] = column.decimals
    reading.table = _table(columns)
    return reading


def _tokens(tokens: set[str]) -> pa.Array:
    return pa.array(sorted(tokens), pa.string())


def _read_as_declared(csv: CsvTable, schema: TableSchema, document: Mapping[str, Any]) -> _Reading:
    faults = _unmatched(csv.names, schema, "Line 1, column")
    if faults:
        raise UploadUnreadable(faults)
    evidence = _evidence(csv)
    said = schema.missing_values if "missingValues" in document else None
    reading = _Reading(pa.table({}))
    columns: dict[str, Column] = {}
    for name in csv.names:
        index = schema.index(name)
        declared = schema.fields[index]
        column = type_as(declared, _cells(csv, name), evidence, said, _properties(document, index))
        columns[name] = column
        if len(column.misfits):
            line = csv.line_of(int(column.misfits[0]))
            faults.append(
                _misfit(
                    index,
                    declared.type,
                    f"line {line}, column {csv.names.index(name) + 1}",
                    len(column.misfits),
                )
            )
        elif said is None and column.tokens - {""}:
            reading.warnings.append(
                Fault(
                    pointer("schema", "fields", index),
                    "common texts for missing values (NA, NaN, null and the like) were read as missing; "
                    "name yours in `missingValues` to decide it yourself",
                )
            )
    if faults:
        raise UploadUnreadable(faults[:_MOST_FAULTS])
    reading.table = _table(columns)
    return reading


def _properties(document: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    fields = document.get("fields")
    return fields[index] if isinstance(fields, list) and isinstance(fields[index], dict) else {}


def _misfit(index: int, type_: str, where: str, count: int) -> Fault:
    cells = "1 cell does" if count == 1 else f"{count} cells do"
    return Fault(
        pointer("schema", "fields", index),
        f"{cells} not fit the type {type_}, the first in {where}. Correct the file, the type or its "
        "`format`, or name the texts that mean missing in `missingValues`.",
    )


def _unmatched(names: tuple[str, ...], schema: TableSchema, where: str) -> list[Fault]:
    """Name the fields without a column and the columns without a field."""
    faults = [
        Fault(
            pointer("schema", "fields", index, "name"),
            f"The file has no column {declared.name!r}. Correct the name or leave the field out.",
        )
        for index, declared in enumerate(schema.fields)
        if declared.name not in names and declared.formula is None
    ]
    faults += [
        Fault(
            FILE, f"{where} {number}: the schema has no field of this name. Add one, or leave the column out."
        )
        for number, name in enumerate(names, start=1)
        if name not in schema.names
    ]
    return faults[:_MOST_FAULTS]


def _table(columns: Mapping[str, Column]) -> pa.Table:
    return pa.table({name: _compact(column.values) for name, column in columns.items()})


def _compact(values: pa.Array) -> pa.Array:
    """Keep few texts as a dictionary: a table of codes takes a fraction of the memory."""
    if not pa.types.is_string(values.type):
        return values
    encoded = values.dictionary_encode()
    return encoded if len(encoded.dictionary) * 2 < len(values) else values


# --- Parquet ---------------------------------------------------------------------------------------------


def _read_parquet(path: Path, limits: Limits, schema: TableSchema | None) -> _Reading:
    table, notes = read_parquet(path, limits)
    if schema is None:
        warnings = [
            Fault(pointer("schema", "fields", index), notes[name])
            for index, name in enumerate(table.column_names)
            if name in notes
        ]
        return _Reading(table, warnings=warnings)
    faults = _unmatched(tuple(table.column_names), schema, "Column")
    if faults:
        raise UploadUnreadable(faults)
    columns, warnings = {}, list[Fault]()
    for number, name in enumerate(table.column_names, start=1):
        index = schema.index(name)
        values, misfits = as_declared(table.column(name), schema.fields[index])
        if len(misfits):
            where = f"row {int(misfits[0]) + 1}, column {number}"
            faults.append(_misfit(index, schema.fields[index].type, where, len(misfits)))
        columns[name] = values
        if notes.get(name) == TOO_LARGE:
            warnings.append(Fault(pointer("schema", "fields", index), TOO_LARGE))
    if faults:
        raise UploadUnreadable(faults[:_MOST_FAULTS])
    return _Reading(pa.table(columns), warnings=warnings)


def _with_ids_as_text(table: pa.Table, document: Mapping[str, Any]) -> pa.Table:
    """Store whole numbers that are ids as the text that the schema says they are."""
    for index, properties in enumerate(document["fields"]):
        if properties["type"] == "string" and pa.types.is_integer(table.column(index).type):
            table = table.set_column(index, properties["name"], pc.cast(table.column(index), pa.string()))
    return table


# --- the process -----------------------------------------------------------------------------------------


def answer(text: str) -> dict[str, Any]:
    """Answer one request; what goes wrong is part of the answer, without any cell in it."""
    return guarded(lambda: _read_within_limits(Request(**json.loads(text))))


def _read_within_limits(request: Request) -> dict[str, Any]:
    limit_process(request.nice, request.max_memory)
    return read(request)


def limit_process(nice: int, max_memory: int) -> None:
    """Let the process step back, and hold it to so many bytes of address space (0: no limit)."""
    os.nice(nice)
    pa.set_cpu_count(1)
    if max_memory:
        resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))


def guarded(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a child's work came to; of what goes wrong its kind and its place, and no cell."""
    try:
        return work()
    except InvalidInput as error:
        faults = [{"pointer": fault.pointer, "message": fault.message} for fault in error.faults]
        return {"error": type(error).__name__, "detail": error.detail, "faults": faults}
    except SynthwardError as error:
        return {"error": type(error).__name__, "detail": error.detail}
    except (MemoryError, pa.ArrowMemoryError):
        return {
            "error": UploadTooLarge.__name__,
            "detail": "The table takes more memory than reading may; send fewer rows or columns.",
        }
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _unexpected(error)
        return {
            "error": StorageFull.__name__,
            "detail": "There is no room to read the upload. Ask the operator, or try again later.",
        }
    except Exception as error:  # noqa: BLE001  (its message may quote a cell: only the place is told)
        return _unexpected(error)


def _unexpected(error: Exception) -> dict[str, Any]:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return {"error": "Unexpected", "detail": f"{type(error).__name__} at {place}"}


def main() -> None:
    """Answer the request on stdin."""
    json.dump(answer(sys.stdin.read()), sys.stdout)


if __name__ == "__main__":
    main()
