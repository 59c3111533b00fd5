"""A CSV file, whatever its encoding and delimiter, as a table of texts; or a refusal with line and column.

pyarrow reads; Python's csv module looks a second time only where something is wrong, to name the line.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from app.datasets.limits import Limits, unreadable
from app.errors import UploadUnreadable

_BLOCK = 1 << 20
_HEAD = 1 << 18
_ARROW_BLOCK = 16 << 20  # also the longest line that can be read
_MOST_FAULTS = 20
_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

# First bytes of what people send as .csv; the remedy is the same for all.
_MAGIC = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls) or another Office file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"Rar!", "a RAR archive"),
    (b"$FL2", "an SPSS file (.sav)"),
    (b"$FL3", "an SPSS file (.zsav)"),
    (b"<stata_dta>", "a Stata file (.dta)"),
    (b"RDX", "an R data file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc2\xea\x81\x60", "a SAS file (.sas7bdat)"),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written.

    Parameters
    ----------
    delimiter : str
        One character.
    skip : int
        Lines before the header: Excel's `sep=;`.
    quoted : bool
        The header's names are quoted, so the file quotes its texts (as R's write.csv does).
    encoding : str
        Of the uploaded file, for people.
    """

    delimiter: str
    skip: int
    quoted: bool
    encoding: str


@dataclass(frozen=True, slots=True)
class CsvTable:
    """What was read: `cells` are strings, a null stands for an unquoted NA."""

    cells: pa.Table
    names: tuple[str, ...]
    dialect: Dialect
    source: Path
    warnings: tuple[str, ...] = ()

    def line_of(self, row: int) -> int:
        """Return the line of the file (from 1) on which row `row` (from 0) begins."""
        records = _records(self.source, self.dialect)
        for number, (line, cells) in enumerate(itertools.islice(_filled(records, len(self.names)), row + 2)):
            if number == row + 1 and cells is not None:
                return line
        return row + 2 + self.dialect.skip


def read_csv(path: Path, scratch: Path, limits: Limits, *, trust_header: bool) -> CsvTable:
    """Read a CSV file as texts.

    Parameters
    ----------
    path : Path
        The uploaded file.
    scratch : Path
        A folder for intermediate files; the caller deletes it.
    limits : Limits
        Most rows and columns.
    trust_header : bool
        The caller declared the columns' names, so that names which look like data are names.

    Raises
    ------
    UploadUnreadable
        With line and column, never with a cell.
    UploadTooLarge
        Over a limit.
    """
    refuse_other_formats(path)
    source, encoding, warnings, odd_quotes = _as_utf8(path, scratch)
    dialect = _sniff(source, encoding)
    raw_names = _header(source, dialect, limits, trust_header)
    if odd_quotes:
        _refuse_open_quote(source, dialect, len(raw_names))
    cells = _to_strings(source, scratch, dialect, raw_names, limits)
    names = tuple(name.strip() for name in raw_names)
    return CsvTable(cells.rename_columns(list(names)), names, dialect, source, tuple(warnings))


def refuse_other_formats(path: Path) -> None:
    """Raise UploadUnreadable, saying what it is, where the file is known to be no CSV."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    remedy = "Send the table itself as CSV or Parquet."
    if not head.strip():
        raise unreadable("The file is empty. Send a table with a header line and at least one row.")
    if head.startswith(b"PK\x03\x04"):
        excel = b"xl/" in head or b"[Content_Types].xml" in head
        what = "an Excel workbook (.xlsx) or another Office file" if excel else "a ZIP archive"
        raise unreadable(f"The file is {what}, not CSV. {remedy}")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise unreadable(f"The file is {what}, not CSV. {remedy}")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise unreadable(f"The file is a web page or XML, not CSV. {remedy}")
    if re.match(rb'(\[\s*)?\{\s*("|\})', start):
        raise unreadable(f"The file is JSON, not CSV. {remedy}")


# --- encoding --------------------------------------------------------------------------------------------


def _as_utf8(path: Path, scratch: Path) -> tuple[Path, str, list[str], bool]:
    """Give the file in UTF-8: the path, the encoding's name, warnings, and whether its quotes are odd."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    codec, name = _by_bom(head) or _utf16_without_bom(head) or ("utf-8", "UTF-8")
    source = path
    warnings: list[str] = []
    if codec == "utf-8":
        fault = _first_undecodable(path, codec)
        if fault is not None:
            codec, name = "cp1252", "Windows-1252"
            if _has_multibyte_before(path, fault):
                raise unreadable(_undecodable(path, fault, "UTF-8"))
            fault = _first_undecodable(path, codec)
            if fault is not None:
                raise unreadable(_undecodable(path, fault, "UTF-8 and Windows-1252"))
            warnings.append(
                "The file is not UTF-8; its letters beyond ASCII were read as Windows-1252 (Latin-1). Send "
                "UTF-8 where they come out wrong."
            )
    if codec != "utf-8":
        source = scratch / "utf8.csv"
        _transcode(path, source, codec, name)
    return source, name, warnings, _check_bytes(source)


def _by_bom(head: bytes) -> tuple[str, str] | None:
    for bom, codec, name in (
        (codecs.BOM_UTF8, "utf-8", "UTF-8"),
        (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
        (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
        (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
        (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
    ):
        if head.startswith(bom):
            return codec, name
    return None


def _utf16_without_bom(head: bytes) -> tuple[str, str] | None:
    # ASCII in UTF-16 is every other byte zero; a stray NUL in a text file is not.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(len(head) // 2, 1)
    if odd / half > 0.7 and even / half < 0.2:
        return "utf-16-le", "UTF-16"
    if even / half > 0.7 and odd / half < 0.2:
        return "utf-16-be", "UTF-16"
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_BLOCK), b"")


def _first_undecodable(path: Path, codec: str) -> int | None:
    """Return the offset of the first byte that is not of the encoding."""
    decoder = codecs.getincrementaldecoder(codec)()
    offset = 0
    try:
        for block in _blocks(path):
            pending = len(decoder.getstate()[0])
            decoder.decode(block)
            offset += len(block)
        pending = len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return offset - pending + error.start
    return None


def _has_multibyte_before(path: Path, offset: int) -> bool:
    """Whether valid UTF-8 beyond ASCII stands before an undecodable byte: then it is damaged UTF-8."""
    with path.open("rb") as file:
        rest = offset
        while rest > 0:
            block = file.read(min(_BLOCK, rest))
            if not block.isascii():
                return True
            rest -= len(block)
    return False


def _undecodable(path: Path, offset: int, encodings: str) -> str:
    line, column = _place(path, offset)
    return (
        f"Line {line}, byte {column} of the line: a byte that is not {encodings}. Save the file as UTF-8 and "
        "send it again."
    )


def _place(path: Path, offset: int) -> tuple[int, int]:
    """Return line and byte within it (both from 1) of an offset."""
    line, seen, start = 1, 0, 0
    mark = b"\n"
    with path.open("rb") as file:
        if b"\n" not in file.read(_HEAD):
            mark = b"\r"
    for block in _blocks(path):
        part = block[: offset - seen]
        line += part.count(mark)
        last = part.rfind(mark)
        if last >= 0:
            start = seen + last + 1
        seen += len(part)
        if seen >= offset:
            break
    return line, offset - start + 1


def _transcode(path: Path, target: Path, codec: str, name: str) -> None:
    decoder = codecs.getincrementaldecoder(codec)()
    line = 1
    with target.open("wb") as out:
        try:
            for block in _blocks(path):
                text = decoder.decode(block)
                line += text.count("\n")
                out.write(text.encode())
            decoder.decode(b"", final=True)
        except UnicodeError:
            raise unreadable(
                f"Near line {line}: bytes that are not {name}. Save the file as UTF-8 and send it again."
            ) from None


def _check_bytes(source: Path) -> bool:
    """Refuse NUL bytes; say whether the number of quotes is odd."""
    quotes = offset = 0
    for block in _blocks(source):
        place = block.find(b"\0")
        if place >= 0:
            line, column = _place(source, offset + place)
            raise unreadable(
                f"Line {line}, byte {column} of the line: a NUL byte. A text file has none; export the table "
                "again."
            )
        quotes += block.count(b'"')
        offset += len(block)
    return quotes % 2 == 1


# --- dialect and header ----------------------------------------------------------------------------------


def _sniff(source: Path, encoding: str) -> Dialect:
    """Find the delimiter: the one that cuts most records of the file's head as it cuts the header."""
    with source.open("rb") as file:
        raw = file.read(_HEAD)
    text = raw.decode("utf-8", errors="ignore").removeprefix("\ufeff")
    told = re.match(r'"?sep=(.)"?(?:\r\n|\n|\r)', text)
    skip = 1 if told else 0
    if told:
        text = text[told.end() :]
    quoted = text.lstrip().startswith('"')
    if told and told.group(1) in _DELIMITERS:
        return Dialect(told.group(1), skip, quoted, encoding)
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        widths = _widths(text, delimiter, whole=len(raw) < _HEAD)
        if not widths or widths[0] < 2:
            continue
        alike = sum(width == widths[0] for width in widths) / len(widths)
        if (alike, widths[0]) > best_score:
            best, best_score = delimiter, (alike, widths[0])
    return Dialect(best, skip, quoted, encoding)


def _widths(text: str, delimiter: str, *, whole: bool) -> list[int]:
    reader = csv.reader(re.split(r"(?<=\n)|(?<=\r)(?!\n)", text), delimiter=delimiter)
    try:
        widths = [len(record) for record in itertools.islice(reader, 1000) if record]
    except csv.Error:
        return []
    # The head may end in the middle of a record.
    return widths if whole or len(widths) in (1, 1000) else widths[:-1]


def _records(source: Path, dialect: Dialect, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield every record with the line on which it begins; blank lines are empty records."""
    csv.field_size_limit(sys.maxsize)
    with source.open(encoding="utf-8-sig", newline="") as file:
        for _ in range(dialect.skip):
            file.readline()
        reader = csv.reader(file, delimiter=dialect.delimiter, strict=strict)
        line = 1 + dialect.skip
        for record in reader:
            yield line, record
            line = reader.line_num + 1 + dialect.skip


def _filled(records: Iterator[tuple[int, list[str]]], columns: int) -> Iterator[tuple[int, list[str]]]:
    """Leave out blank lines, but in a table of one column, where they are missing values."""
    return (item for item in records if item[1] or columns == 1)


def _header(source: Path, dialect: Dialect, limits: Limits, trust_header: bool) -> list[str]:
    records = _records(source, dialect)
    line, header = next((item for item in records if item[1]), (1, []))
    if line != 1 + dialect.skip:
        raise unreadable(f"Line {1 + dialect.skip} is empty; the header line must be the first.")
    limits.check_columns(len(header))
    names = [name.strip() for name in header]
    faults = []
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            faults.append(f"Line {line}, column {number}: the header is empty. Name every column.")
        elif name in seen:
            # By number: in a file without a header these would be cells.
            faults.append(
                f"Line {line}, column {number}: the same header as column {seen[name]}. Names must differ."
            )
        elif len(name) > 200 or not name.isprintable():
            faults.append(
                f"Line {line}, column {number}: a column's name has at most 200 printable characters. "
                "Shorten it, and take out line breaks and tabs."
            )
        seen.setdefault(name, number)
    if not trust_header and not faults:
        faults += _data_as_header(names, line)
    if faults:
        raise unreadable(*faults[:_MOST_FAULTS])
    return header


def _data_as_header(names: list[str], line: int) -> list[str]:
    """Say why the first line cannot be a header: it holds measurements or dates, or mostly numbers."""
    measured = [
        i for i, name in enumerate(names, 1) if re.fullmatch(r"[+-]?\d*[.,]\d+|\d+[-./]\d+[-./]\d+.*", name)
    ]
    numbers = [i for i, name in enumerate(names, 1) if re.fullmatch(r"[+-]?\d+", name)]
    if measured or len(numbers) > len(names) / 2:
        column = (measured or numbers)[0]
        return [
            f"Line {line}, column {column}: the first line looks like data. Put a line with the columns' "
            "names first, or send a schema whose fields have these names."
        ]
    return []


def _refuse_open_quote(source: Path, dialect: Dialect, columns: int) -> None:
    """Raise where a quoted cell never ends. An odd number of quotes alone (5" needle) is no fault."""
    line = 1 + dialect.skip
    try:
        for begins, record in _records(source, dialect, strict=True):
            line = begins + 1 + sum(cell.count("\n") for cell in record)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise unreadable(
                f"Line {line}: a quoted cell begins here and is never closed. Close the quote, or double a "
                'quote that is part of a text ("").'
            ) from None


# --- reading ---------------------------------------------------------------------------------------------


def _to_strings(source: Path, scratch: Path, dialect: Dialect, names: list[str], limits: Limits) -> pa.Table:
    """Read every cell as text into an Arrow file on disk, mapped into memory."""
    ragged = False

    def refuse(_row: object) -> str:
        nonlocal ragged
        ragged = True
        return "skip"

    target = scratch / "cells.arrow"
    rows = 0
    try:
        reader = pyarrow.csv.open_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=_ARROW_BLOCK, skip_rows=dialect.skip
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=dialect.delimiter,
                newlines_in_values=True,
                ignore_empty_lines=len(names) > 1,
                invalid_row_handler=refuse,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                null_values=["NA"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        with reader, pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as out:
            for batch in reader:
                rows += batch.num_rows
                limits.check_rows(rows)
                out.write_batch(batch)
                if ragged:
                    break
    except pa.ArrowInvalid:
        # Arrow's message quotes the row; look again by ourselves.
        _refuse_ragged(source, dialect, len(names))
        if sum(1 for _, record in _records(source, dialect) if record) < 2:
            raise unreadable(
                "The file has a header line and no rows. Send at least one row (curl: mind the @ in "
                "`-F file=@table.csv`)."
            ) from None
        raise unreadable(
            f"A line is longer than {_ARROW_BLOCK // (1 << 20)} MiB or a quoted cell is never closed."
        ) from None
    if ragged:
        _refuse_ragged(source, dialect, len(names))
        raise unreadable("Some rows have another number of cells than the header.")
    if rows == 0:
        raise unreadable("The file has a header line and no rows. Send at least one row.")
    table = pa.ipc.open_file(pa.memory_map(str(target))).read_all()
    if table.num_columns != len(names) or any(item != pa.string() for item in table.schema.types):
        raise unreadable(
            "Line 1: the header cannot be read in one way only; quote names with a delimiter in them."
        )
    return table


def _refuse_ragged(source: Path, dialect: Dialect, columns: int) -> None:
    faults: list[str] = []
    more = 0
    for line, record in _filled(_records(source, dialect), columns):
        if len(record) == columns or (columns == 1 and not record):
            continue
        if len(faults) == _MOST_FAULTS:
            more += 1
            continue
        where = (
            f"column {columns + 1} is one too many"
            if len(record) > columns
            else f"column {len(record) + 1} is missing"
        )
        faults.append(
            f"Line {line}: {len(record)} {'cell' if len(record) == 1 else 'cells'} where the header has "
            f"{columns}; {where}. Quote cells that hold a {_NAMES[dialect.delimiter]} or a line break."
        )
    if more:
        faults.append(f"{more} more rows have another number of cells than the header.")
    if faults:
        raise UploadUnreadable(unreadable(*faults).faults)
