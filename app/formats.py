"""Turns a job's stored Parquet parts into what is delivered: CSV, Parquet, JSON lines or XLSX, labelled.

Run as a child process of the API (`python -m app.formats`), so that the API itself loads no numerics: one
JSON request on stdin, `{"parts": [paths], "schema": {…}, "format": "csv", "out": path, "label": {…},
"spreadsheet": false}`, one JSON answer on stdout, `{"bytes": 1234}` or `{"error": {"slug": …, "detail": …}}`.

All formats: rows in order, columns in the schema's order, dates ISO 8601 (`2024-01-31T12:00:00`; with `Z`
where the field's `format` ends in `Z` or `%z`, since such values are held in UTC).

CSV: UTF-8, `,`, lines end in a line feed; quoted only where a comma, a quote or a line end makes it
necessary, except that an empty text is `""` so that it differs from a missing one. In a table of a single
column a missing value is `""` too, since readers skip empty lines.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import FormatCannotHoldRows, StorageFull, SynthwardError
from app.schema.table import Field, TableSchema

Format = Literal["csv", "parquet", "jsonl", "xlsx"]

METADATA_KEY = "synthward"
XLSX_ROWS = 1_048_575  # without the header
XLSX_COLUMNS = 16_384
XLSX_TEXT = 32_767
EXACT_INTEGER = 2**53
ROW_GROUP = 131_072
CELLS_PER_BATCH = 1_000_000

NEEDS_QUOTES = '[",\r\n]|^$'
RUNS_AS_FORMULA = "^[\"']*[=+\\-@\t\r\n＝＋－＠]"
NEEDS_ESCAPE = '[\\x00-\\x1f"\\\\]'


@dataclass(frozen=True, slots=True)
class Label:
    """What every delivered file says of itself."""

    job_id: str
    seed: int
    replicate: int
    generator: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """Return the label as it is stored in a file's metadata."""
        return {"synthetic": True, **asdict(self)}


def render(
    parts: Sequence[Path | str],
    schema: TableSchema,
    fmt: Format,
    out: Path,
    *,
    label: Label,
    spreadsheet: bool = False,
) -> int:
    """Write the parts' rows to `out` in a format, in bounded memory; returns the bytes written.

    Parameters
    ----------
    parts : sequence of path
        Parquet files as `app.schema.frames.to_arrow` lays them out, in order.
    spreadsheet : bool
        CSV only: begin with a byte order mark, and put an apostrophe before text that a spreadsheet would
        run as a formula.

    Raises
    ------
    FormatCannotHoldRows
        XLSX with more than 1,048,575 rows, 16,384 columns, or a text of more than 32,767 characters.
    StorageFull
        No room for `out`.
    """
    files = [pq.ParquetFile(part, memory_map=True) for part in parts]
    try:
        if fmt == "csv":
            _write_csv(files, schema, out, spreadsheet)
        elif fmt == "jsonl":
            _write_jsonl(files, schema, out)
        elif fmt == "parquet":
            _write_parquet(files, schema, out, label)
        else:
            _write_xlsx(files, schema, out, label)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"There is no room to write the {fmt} file. Free some, or ask for Parquet."
            ) from error
        raise
    finally:
        for file in files:
            file.close()
    return out.stat().st_size


def _batches(files: Sequence[pq.ParquetFile], schema: TableSchema, size: int) -> Iterator[list[pa.Array]]:
    for file in files:
        for batch in file.iter_batches(size, columns=list(schema.names)):
            yield [batch.column(name) for name in schema.names]


def _batch_rows(schema: TableSchema) -> int:
    return max(1_000, min(ROW_GROUP, CELLS_PER_BATCH // max(1, len(schema.fields))))


# CSV --------------------------------------------------------------------------------------------------


def _write_csv(files: Sequence[pq.ParquetFile], schema: TableSchema, out: Path, spreadsheet: bool) -> None:
    quote = _quoted_and_disarmed if spreadsheet else _quoted
    absent = schema.missing_values[0] if schema.missing_values else ""
    absent = quote(pa.array([absent]))[0].as_py() if absent or len(schema.fields) == 1 else ""
    with out.open("wb") as stream:
        if spreadsheet:
            stream.write(b"\xef\xbb\xbf")
        header = quote(pa.array(schema.names, pa.string())).to_pylist()
        stream.write((",".join(header) + "\n").encode())
        for columns in _batches(files, schema, _batch_rows(schema)):
            cells = [
                _by_level(column, quote) if _is_text(field) else _plain(column, field)
                for column, field in zip(columns, schema.fields, strict=True)
            ]
            lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement=absent)
            _write_buffer(stream, pc.binary_join_element_wise(lines, "", "\n"))


def _quoted(texts: pa.Array) -> pa.Array:
    needs = pc.match_substring_regex(texts, NEEDS_QUOTES)
    if not pc.any(needs).as_py():
        return texts
    doubled = pc.replace_substring(texts, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise('"', doubled, '"', ""), texts)


def _quoted_and_disarmed(texts: pa.Array) -> pa.Array:
    runs = pc.match_substring_regex(texts, RUNS_AS_FORMULA)
    return _quoted(pc.if_else(runs, pc.binary_join_element_wise("'", texts, ""), texts))


# JSON lines -------------------------------------------------------------------------------------------


def _write_jsonl(files: Sequence[pq.ParquetFile], schema: TableSchema, out: Path) -> None:
    keys = [json.dumps(name, ensure_ascii=False) + ": " for name in schema.names]
    with out.open("wb") as stream:
        for columns in _batches(files, schema, _batch_rows(schema)):
            pieces: list[Any] = []
            for place, (column, field) in enumerate(zip(columns, schema.fields, strict=True)):
                pieces.append(("{" if place == 0 else ", ") + keys[place])
                if _is_text(field):
                    cells = _by_level(column, _json_strings)
                elif field.type in ("date", "datetime", "time"):
                    cells = _json_strings(_plain(column, field))
                else:
                    cells = _plain(column, field)
                pieces.append(cells)
            pieces.append("}\n")
            _write_buffer(
                stream,
                pc.binary_join_element_wise(*pieces, "", null_handling="replace", null_replacement="null"),
            )


def _json_strings(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(texts, NEEDS_ESCAPE)).as_py():
        written = (
            None if text is None else json.dumps(text, ensure_ascii=False) for text in texts.to_pylist()
        )
        return pa.array(written, pa.string())
    return pc.binary_join_element_wise('"', texts, '"', "")


# Parquet ----------------------------------------------------------------------------------------------


def _write_parquet(files: Sequence[pq.ParquetFile], schema: TableSchema, out: Path, label: Label) -> None:
    said = json.dumps(label.to_json(), sort_keys=True, ensure_ascii=False)
    stored = files[0].schema_arrow
    columns = [stored.field(name).with_nullable(True) for name in schema.names]
    columns = [
        column.with_type(pa.dictionary(pa.int32(), pa.string(), ordered=field.ordered))
        if _has_levels(field)
        else column
        for column, field in zip(columns, schema.fields, strict=True)
    ]
    target = pa.schema(columns, metadata={METADATA_KEY: said})
    with pq.ParquetWriter(out, target, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        rows = 0
        for batch in _batches(files, schema, ROW_GROUP):
            arrays = [
                _all_levels(column, field) if _has_levels(field) else column
                for column, field in zip(batch, schema.fields, strict=True)
            ]
            waiting.append(pa.Table.from_arrays(arrays, schema=target))
            rows += waiting[-1].num_rows
            if rows >= ROW_GROUP:  # the same row groups however the parts were cut: the same bytes
                table = pa.concat_tables(waiting)
                writer.write_table(table.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
                waiting = [table.slice(ROW_GROUP)]
                rows -= ROW_GROUP
        if rows:
            writer.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP)


def _all_levels(column: pa.Array, field: Field) -> pa.Array:
    """Take the dictionary of the schema's levels, whichever of them a part holds."""
    levels = pa.array(list(field.levels or ()), pa.string())
    indices = pc.index_in(_texts(column), levels)
    return pa.DictionaryArray.from_arrays(indices, levels, ordered=field.ordered)


# XLSX -------------------------------------------------------------------------------------------------


def _write_xlsx(files: Sequence[pq.ParquetFile], schema: TableSchema, out: Path, label: Label) -> None:
    import datetime as dt

    import xlsxwriter

    rows = sum(file.metadata.num_rows for file in files)
    if rows > XLSX_ROWS or len(schema.fields) > XLSX_COLUMNS:
        raise FormatCannotHoldRows(
            f"An XLSX sheet holds {XLSX_ROWS:,} rows and {XLSX_COLUMNS:,} columns, and this table has "
            f"{rows:,} and {len(schema.fields):,}. Ask for format=csv, jsonl or parquet."
        )
    book = xlsxwriter.Workbook(
        out,
        {
            "constant_memory": True,
            "tmpdir": str(out.parent),
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        },
    )
    said = label.to_json()
    book.set_properties(
        {
            "title": schema.title or "Synthetic data",
            "subject": "Synthetic data: no row describes a real person",
            "category": "synthetic",
            "comments": json.dumps(said, sort_keys=True, ensure_ascii=False),
            "created": dt.datetime(
                2000, 1, 1
            ),  # the same rows are the same bytes, whenever they are asked for
        }
    )
    for name, value in said.items():
        book.set_custom_property(name, value if isinstance(value, bool) else str(value))
    formats = {
        "date": book.add_format({"num_format": "yyyy-mm-dd"}),
        "datetime": book.add_format({"num_format": 'yyyy-mm-dd"T"hh:mm:ss'}),
        "time": book.add_format({"num_format": "hh:mm:ss"}),
    }
    sheet = book.add_worksheet("synthetic")
    for place, name in enumerate(schema.names):
        sheet.write_string(0, place, name)
    absent = schema.missing_values[0] if schema.missing_values else ""
    row = 1
    # constant_memory writes row after row and forgets: cells must come in that order
    for batch in _batches(files, schema, 10_000):
        columns = [_cells(column, field) for column, field in zip(batch, schema.fields, strict=True)]
        for cells in zip(*columns, strict=True):
            for place, cell in enumerate(cells):
                if cell is None:
                    if absent:
                        sheet.write_string(row, place, absent)
                elif isinstance(cell, str):
                    if sheet.write_string(row, place, cell) == -2:
                        raise FormatCannotHoldRows(
                            f"`{schema.names[place]}` has a text of more than {XLSX_TEXT:,} characters, and "
                            "an XLSX cell holds no more. Ask for format=csv, jsonl or parquet."
                        )
                elif isinstance(cell, bool):
                    sheet.write_boolean(row, place, cell)
                elif isinstance(cell, int | float):
                    sheet.write_number(row, place, cell)
                else:
                    sheet.write_datetime(row, place, cell, formats[schema.fields[place].type])
            row += 1
    book.close()


def _cells(column: pa.Array, field: Field) -> list[Any]:
    """Return Python cells; what a spreadsheet cannot hold exactly as a number or a date becomes text."""
    if _is_text(field):
        return list(_texts(column).to_pylist())
    if field.type in ("date", "datetime"):
        cells = column.to_pylist()
        texts = _plain(column, field).to_pylist()
        # Spreadsheets know no day before 1900, and take 1900 for a leap year.
        return [
            text if cell is not None and (cell.year, cell.month) < (1900, 3) else cell
            for cell, text in zip(cells, texts, strict=True)
        ]
    cells = column.to_pylist()
    if field.type in ("integer", "year"):
        return [str(cell) if cell is not None and abs(cell) > EXACT_INTEGER else cell for cell in cells]
    return list(cells)


# Shared -----------------------------------------------------------------------------------------------


def _is_text(field: Field) -> bool:
    return field.type == "string"


def _has_levels(field: Field) -> bool:
    return field.type == "string" and field.levels is not None


def _texts(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _by_level(column: pa.Array, write: Any) -> pa.Array:
    """Apply `write` to each text; once for each level where the column is a dictionary."""
    if not pa.types.is_dictionary(column.type):
        return write(_texts(column))
    return write(column.dictionary.cast(pa.string())).take(column.indices)


def _plain(column: pa.Array, field: Field) -> pa.Array:
    """Write numbers, booleans and times as text that needs no quotes."""
    if field.type == "datetime":
        seconds = column.cast(pa.timestamp("s"), safe=False)
        whole = pc.all(pc.equal(seconds.cast(column.type), column)).as_py()
        moments = pc.replace_substring(
            (seconds if whole is not False else column).cast(pa.string()), " ", "T"
        )
        zoned = (field.format or "").endswith(("Z", "%z"))
        return pc.binary_join_element_wise(moments, "Z", "") if zoned else moments
    if field.type == "number":
        # Few distinct values: write each once.
        encoded = column.dictionary_encode()
        if len(encoded.dictionary) * 4 < len(column):
            return encoded.dictionary.cast(pa.string()).take(encoded.indices)
    if field.type == "time":
        column = column.cast(pa.time32("s"))  # Parquet keeps milliseconds at the coarsest
    return column.cast(pa.string())


def _write_buffer(stream: IO[bytes], lines: pa.Array) -> None:
    """Write the strings one after another: they lie in memory as they go to the file."""
    _, offsets, data = lines.buffers()
    ends = pa.Array.from_buffers(pa.int32(), len(lines) + 1, [None, offsets], offset=lines.offset)
    if len(lines):
        stream.write(memoryview(data)[ends[0].as_py() : ends[-1].as_py()])


def main() -> int:
    """Answer one request from stdin on stdout."""
    from app.schema.parse import parse_schema

    request: Mapping[str, Any] = json.load(sys.stdin)
    try:
        schema, _ = parse_schema(request["schema"])
        size = render(
            request["parts"],
            schema,
            request["format"],
            Path(request["out"]),
            label=Label(**request["label"]),
            spreadsheet=request.get("spreadsheet", False),
        )
    except SynthwardError as error:
        json.dump({"error": {"slug": error.slug, "detail": error.detail}}, sys.stdout)
        return 1
    json.dump({"bytes": size}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
