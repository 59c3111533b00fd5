"""A multipart upload, streamed to disk: bounded in bytes, hashed on the way, never whole in memory."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import Fault, InvalidInput, StorageFull, SynthwardError, UploadTooLarge, pointer
from app.problem_objects import BadRequest, UnsupportedMediaType

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_GATHER = 1 << 20  # bytes handed to a thread at a time
_MOST_HEADER_BYTES = 8192  # of one part
_NAME_BYTES = 1024
_MOST_BOUNDARY = 70  # RFC 2046, 5.1.1


@dataclass(frozen=True, slots=True)
class Received:
    """What came.

    Parameters
    ----------
    path : Path
        The file, on disk.
    sha256 : str
        Of the file (hex).
    size : int
        Its bytes.
    filename : str
        As the client named it; "" where it did not.
    fields : dict of str to bytes
        The other parts: `schema` and `name`, where they came.
    """

    path: Path
    sha256: str
    size: int
    filename: str
    fields: dict[str, bytes]


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a multipart/form-data body; raise UnsupportedMediaType where it is none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= _MOST_BOUNDARY:
        raise UnsupportedMediaType(
            "Send multipart/form-data with the table as `file`, as `curl -F file=@table.csv` does."
        )
    return boundary


async def receive(
    stream: AsyncIterator[bytes],
    *,
    content_type: str,
    content_length: str,
    path: Path,
    max_bytes: int,
    max_field_bytes: int,
) -> Received:
    """Write the `file` part of a multipart body to disk and keep the small parts.

    Parameters
    ----------
    stream : async iterator of bytes
        The body.
    content_type, content_length : str
        The request's headers; a declared length that is too large is refused before anything is read.
    path : Path
        Where the file goes.
    max_bytes, max_field_bytes : int
        Most bytes of the file, and of `schema`.

    Raises
    ------
    UnsupportedMediaType, UploadTooLarge, InvalidInput, BadRequest, StorageFull
        Each says what to do.
    """
    boundary = boundary_of(content_type)
    # Room for the small parts, their headers and the boundaries.
    most = max_bytes + max_field_bytes + (1 << 16)
    if content_length.isdecimal() and int(content_length) > most:
        raise _too_large(max_bytes)
    with path.open("wb") as file:
        form = _Form(file, max_bytes, max_field_bytes)
        parser = MultipartParser(boundary, form.callbacks())
        gathered, size = bytearray(), 0
        async for chunk in stream:
            size += len(chunk)
            if size > most:
                raise _too_large(max_bytes)
            gathered += chunk
            if len(gathered) >= _GATHER:
                await anyio.to_thread.run_sync(_feed, parser, bytes(gathered))
                gathered.clear()
        await anyio.to_thread.run_sync(_feed, parser, bytes(gathered))
    return form.received(path)


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"The file has more than the {max_bytes} bytes that are allowed; send fewer rows or columns."
    )


def _feed(parser: MultipartParser, data: bytes) -> None:
    try:
        parser.write(data)
    except FormParserError:
        raise BadRequest("The body is not well-formed multipart/form-data.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "There is no room for the upload. Ask the operator, or try again later."
            ) from None
        raise


@dataclass(slots=True)
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    header_name: bytes = b""
    header_value: bytes = b""


class _Form:
    """What the parser calls as it meets the parts."""

    def __init__(self, file: BinaryIO, max_bytes: int, max_field_bytes: int) -> None:
        self._file = file
        self._limits = {"schema": max_field_bytes, "name": _NAME_BYTES}
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._filename = ""
        self._seen: set[str] = set()
        self._fields: dict[str, bytearray] = {}
        self._part = _Part()
        self._ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def received(self, path: Path) -> Received:
        if not self._ended:
            raise BadRequest("The body ends before its last boundary; send it again.")
        if "file" not in self._seen:
            raise InvalidInput(
                [Fault("/file", "The part `file` is missing: it carries the table, as CSV or Parquet.")]
            )
        fields = {name: bytes(value) for name, value in self._fields.items()}
        return Received(path, self._digest.hexdigest(), self._bytes, self._filename, fields)

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]
        self._check_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._part.header_name) + len(self._part.header_value) > _MOST_HEADER_BYTES:
            raise BadRequest("A part of the form has a header that is too long.")

    def _on_header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.decode("latin-1").lower()] = part.header_value
        part.header_name = part.header_value = b""
        if len(part.headers) > 20:
            raise BadRequest("A part of the form has too many headers.")

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", errors="replace")
        fault = self._fault_of(name)
        if fault is not None:
            raise fault
        self._seen.add(name)
        self._part.name = name
        if name == "file":
            self._filename = options.get(b"filename", b"").decode("utf-8", errors="replace")
        else:
            self._fields[name] = bytearray()

    def _fault_of(self, name: str) -> SynthwardError | None:
        if name != "file" and name not in self._limits:
            message = "This part is not known here. The parts are `file`, `schema` and `name`."
            return InvalidInput([Fault(pointer(name[:100]), message)])
        if name in self._seen:
            return InvalidInput([Fault(pointer(name), "This part came twice; send it once.")])
        return None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        name = self._part.name
        if name == "file":
            self._bytes += end - start
            if self._bytes > self._max_bytes:
                raise _too_large(self._max_bytes)
            piece = memoryview(data)[start:end]
            self._digest.update(piece)
            self._file.write(piece)
            return
        value = self._fields[name]
        if len(value) + end - start > self._limits[name]:
            raise InvalidInput([Fault(pointer(name), f"This part has more than {self._limits[name]} bytes.")])
        value += data[start:end]

    def _on_end(self) -> None:
        self._ended = True
