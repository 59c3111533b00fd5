"""HTTP's side of files: which format is accepted, whether it changed, which range of it is wanted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import Response, StreamingResponse

from app.jobs.downloads import Downloads, Format, Rendered
from app.problem_objects import NotAcceptable, RangeNotSatisfiable

_FORMATS: dict[str, Format] = {
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


def chosen_format(accept: str | None) -> Format:
    """Return the best format that an `Accept` header admits; CSV where there is none.

    Raises
    ------
    NotAcceptable
        Where it admits none of the formats.
    """
    if accept is None or not accept.strip():
        return "csv"
    best: tuple[float, int, Format] | None = None
    for position, part in enumerate(accept.split(",")):
        kind, *parameters = (item.strip().lower() for item in part.split(";"))
        weight = _weight(parameters)
        found = next((name for media, name in _FORMATS.items() if _matches(kind, media)), None)
        if found is not None and weight > 0 and (best is None or weight > best[0]):
            best = (weight, position, found)
    if best is None:
        raise NotAcceptable(f"The rows can be had as {', '.join(_FORMATS)}; or give `format` in the query.")
    return best[2]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _matches(pattern: str, media_type: str) -> bool:
    return pattern in ("*/*", media_type) or (
        pattern.endswith("/*") and media_type.startswith(pattern.removesuffix("*"))
    )


def _named_by(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Return the wanted part as (start, stop); None where the header is to be ignored (RFC 9110, 14.2)."""
    shape = _RANGE.fullmatch(header)
    if shape is None or shape.groups() == ("", ""):
        return None  # several ranges, or none that can be read: the whole file is a right answer
    first, last = shape.groups()
    if first == "":
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), size if last == "" else min(int(last) + 1, size)
        if last != "" and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(size)
    return start, stop


async def file_response(
    request: Request, files: Downloads, rendered: Rendered, marks: dict[str, str]
) -> Response:
    """Answer with a stored file, or with the part of it that `Range` asks for."""
    stored = rendered.stored
    etag = f'"{stored.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization",
        **marks,
    }
    if _named_by(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{rendered.filename}"'
    status, start, stop = 200, 0, stored.bytes
    wanted = request.headers.get("range")
    if wanted is not None and request.headers.get("if-range", etag) == etag:
        part = _range(wanted, stored.bytes)
        if part is not None:
            status, (start, stop) = 206, part
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.bytes}"
    headers["Content-Length"] = str(stop - start)
    if "synthward.head" in request.scope:
        return Response(None, status, headers, rendered.media_type)
    blocks = iter(files.chunks(stored, start, stop))
    # The first block is read before the answer begins, so that a missing file is a problem and not a broken
    # answer.
    first = await run_in_threadpool(next, blocks, b"")

    async def content() -> AsyncIterator[bytes]:
        yield first
        async for block in iterate_in_threadpool(blocks):
            yield block

    return StreamingResponse(content(), status, headers, rendered.media_type)


def bytes_response(
    request: Request, content: bytes, sha256: str, media_type: str, extra: dict[str, str]
) -> Response:
    """Answer with a small file, unless the caller has it."""
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization", **extra}
    if _named_by(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, media_type)
