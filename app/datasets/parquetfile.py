"""A Parquet file as a table of plain columns, or a refusal that names the column and its type."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.datasets.columns import LARGEST, TOO_LARGE, TOO_LONG, are_exact
from app.datasets.limits import Limits, unreadable

_EPOCH = dt.date(1970, 1, 1).toordinal()
_MOST = 2**63 - 1


def is_parquet(path: Path) -> bool:
    """Whether the file begins as a Parquet file does."""
    with path.open("rb") as file:
        return file.read(4) in (b"PAR1", b"PARE")


def read_parquet(path: Path, limits: Limits) -> tuple[pa.Table, dict[str, str]]:
    """Read a Parquet file; the column types are those that `app.schema.frames` names.

    Returns
    -------
    table : pyarrow.Table
        Columns of int64, double, bool, string, date32, timestamp[us] (without a zone; put to UTC
        where there was one) or time32[s]; NaN is null.
    notes : dict of str to str
        By column: how it was read, where that is not plain.

    Raises
    ------
    UploadUnreadable
        Where the file is damaged or encrypted, or a column is nested, binary or a duration.
    UploadTooLarge
        Over a limit.
    """
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError):
        raise unreadable(
            "The file begins as Parquet and cannot be read: it is cut off, damaged or encrypted."
        ) from None
    limits.check_rows(metadata.num_rows)
    # pandas writes its row labels as a column of this form; they are no data.
    names = [name for name in schema.names if not name.startswith("__index_level_")]
    limits.check_columns(len(names))
    _refuse(schema, names)
    if metadata.num_rows == 0:
        raise unreadable("The file has no rows. Send at least one row.")
    texts = [
        name
        for name in names
        if pa.types.is_string(schema.field(name).type) or pa.types.is_large_string(schema.field(name).type)
    ]
    try:
        table = pq.read_table(path, columns=names, read_dictionary=texts, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, pa.ArrowMemoryError):
            raise
        raise unreadable(
            "The file begins as Parquet and cannot be read: it is cut off, damaged or encrypted."
        ) from None
    notes: dict[str, str] = {}
    columns = []
    for number, name in enumerate(names, start=1):
        if name in texts:
            _check_texts(table[name], f"Column {number} ({name!r})")
        _check_years(table[name], f"Column {number} ({name!r})")
        values, note = _plain(table[name])
        columns.append(values)
        if note:
            notes[name] = note
    return pa.table(columns, names=[name.strip() for name in names]), notes


def _refuse(schema: pa.Schema, names: list[str]) -> None:
    faults = []
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        stripped = name.strip()
        if not stripped or len(stripped) > 200 or not stripped.isprintable():
            faults.append(f"Column {number}: a column's name has 1 to 200 printable characters.")
        elif stripped in seen:
            faults.append(f"Column {number}: the name {stripped!r} is there twice. Names must differ.")
        seen.add(stripped)
    if not faults:
        for number, name in enumerate(names, start=1):
            type_ = schema.field(name).type
            inner = type_.value_type if pa.types.is_dictionary(type_) else type_
            if not _is_flat(inner):
                faults.append(
                    f"Column {number} ({name!r}) has the type {str(inner)[:60]}; columns hold numbers, "
                    "booleans, texts, dates or times. Leave it out, or spread it over plain columns."
                )
    if not names:
        faults.append("The file has no columns.")
    if faults:
        raise unreadable(*faults[:20])


def _check_texts(column: pa.ChunkedArray, where: str) -> None:
    """Refuse what no text holds: other libraries write any bytes into a column of strings."""
    for chunk in column.chunks:
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        try:
            texts.validate(full=True)
        except pa.ArrowInvalid:
            raise unreadable(f"{where} holds bytes that are not UTF-8. Write it again from texts.") from None
        if pc.any(pc.match_substring(texts, "\0")).as_py():
            raise unreadable(f"{where} holds a NUL character. Write it again without.")


def _check_years(column: pa.ChunkedArray, where: str) -> None:
    """Refuse dates that no calendar of ours has: a Parquet file can hold the year 300,000."""
    type_ = column.type
    if pa.types.is_dictionary(type_) and pa.types.is_temporal(type_.value_type):
        column, type_ = pc.cast(column, type_.value_type), type_.value_type
    if pa.types.is_timestamp(type_):
        a_day = 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[type_.unit]
    elif pa.types.is_date(type_):
        a_day = 1 if pa.types.is_date32(type_) else 86_400_000
    else:
        return
    first, end = ((day.toordinal() - _EPOCH) * a_day for day in (dt.date.min, dt.date.max))
    units = pc.cast(pc.cast(column, pa.int32()) if a_day == 1 else column, pa.int64())
    beyond = pc.less(units, max(first, -_MOST))
    beyond = pc.or_(beyond, pc.greater(units, min(end + a_day - 1, _MOST)))
    row = pc.index(beyond, True).as_py()
    if row >= 0:
        raise unreadable(
            f"{where} holds dates outside the years 1 to 9999, the first in row {row + 1}. Make them "
            "missing, or write them as text."
        )


def _is_flat(type_: pa.DataType) -> bool:
    types = pa.types
    return any(
        test(type_)
        for test in (
            types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_string,
            types.is_large_string, types.is_date, types.is_timestamp, types.is_time, types.is_null,
        )
    )  # fmt: skip


def _plain(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    type_ = column.type
    types = pa.types
    if types.is_dictionary(type_):
        if types.is_string(type_.value_type) or types.is_large_string(type_.value_type):
            return pc.cast(column, pa.dictionary(pa.int32(), pa.string())), ""
        return _plain(pc.cast(column, type_.value_type))
    if types.is_integer(type_):
        return _whole(column)
    if types.is_decimal(type_):
        return _whole(column) if type_.scale == 0 else _floating(pc.cast(column, pa.float64()))
    if types.is_floating(type_):
        return _floating(pc.cast(column, pa.float64()))
    if types.is_timestamp(type_):
        # Through int64, for a cast away from a zone would give local time.
        moments = pc.cast(pc.cast(column, pa.timestamp("us", tz=type_.tz), safe=False), pa.int64())
        return pc.cast(moments, pa.timestamp("us")), ""
    if types.is_date(type_):
        return pc.cast(column, pa.date32()), ""
    if types.is_time(type_):
        return pc.cast(column, pa.time32("s"), safe=False), ""
    if types.is_null(type_):
        return pc.cast(column, pa.string()), ""
    return pc.cast(column, pa.bool_() if types.is_boolean(type_) else pa.string()), ""


def _whole(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    with contextlib.suppress(pa.ArrowInvalid):
        whole = pc.cast(column, pa.int64())
        if are_exact(whole):
            return whole, ""
    return pc.cast(column, pa.string()), TOO_LONG


def _floating(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """NaN and infinities are missing; whole numbers with gaps (which pandas keeps as floats) are integers."""
    sized = pc.less_equal(pc.abs(column), LARGEST)  # false for NaN and infinities, too
    finite = pc.if_else(sized, column, pa.scalar(None, pa.float64()))
    note = ""
    if pc.any(pc.greater(pc.abs(column), LARGEST)).as_py():
        note = TOO_LARGE
    if finite.null_count:
        whole = pc.all(pc.equal(finite, pc.floor(finite))).as_py()
        small = pc.all(pc.less(pc.abs(finite), 2.0**53)).as_py()
        if whole and small and finite.null_count < len(finite):
            return pc.cast(finite, pa.int64()), "a column of whole numbers with gaps was read as integers"
    return finite, note
