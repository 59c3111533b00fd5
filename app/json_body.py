"""Reading a JSON request body: streamed, limited, and strict about what JSON is."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from app.errors import Fault, InvalidInput, pointer
from app.problem_objects import MalformedJson, RequestTooLarge, UnsupportedMediaType

MAX_DEPTH = 64
"""Objects and arrays within one another. A schema needs about ten."""

_MAX_DIGITS = 300  # an integer of more digits has no float


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body of a request that says it is JSON; `parse_json` makes a document of it.

    Parameters
    ----------
    request : Request
        Its body must not have been read.
    limit : int
        Bytes; reading stops there.

    Raises
    ------
    UnsupportedMediaType
        Where the body does not say that it is JSON in UTF-8, or is compressed.
    RequestTooLarge
        Where it is longer than `limit`.
    """
    _check_media_type(request)
    return await _read(request, limit)


def _check_media_type(request: Request) -> None:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType("Send JSON, with `Content-Type: application/json`.")
    charset = parameters.strip().lower().replace('"', "").removeprefix("charset=")
    if parameters.strip().lower().startswith("charset=") and charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("JSON is read in UTF-8 only.")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Compressed bodies are not read; send it without `Content-Encoding`.")


async def _read(request: Request, limit: int) -> bytes:
    too_large = RequestTooLarge(f"The body has more than {limit} bytes, which is the limit here.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


class _NotJson(ValueError):
    """Something that Python's parser would let pass."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise _NotJson(f"the name {twice[:100]!r} occurs twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _NotJson(f"a number has more than {_MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise _NotJson("a number is too large")
    return number


def _constant(text: str) -> float:
    raise _NotJson(f"{text} is not JSON; write null or leave it out")


def parse_json(raw: bytes) -> Any:
    """Parse what a client sent.

    Raises
    ------
    MalformedJson
        Where it is not JSON, with line and column; also for repeated names, NaN and Infinity.
    InvalidInput
        Where it is nested too deeply, or a text holds what cannot be stored.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not UTF-8: byte {error.start + 1} cannot be read.") from None
    try:
        document = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise MalformedJson(f"Line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except _NotJson as error:
        raise MalformedJson(f"In the body {error}.") from None
    except RecursionError:
        raise InvalidInput([_TOO_DEEP]) from None
    # Most documents are too small to be too deep, and hold no escapes: they are not walked.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH or b"\\u" in raw:
        _walk(document)
    return document


_TOO_DEEP = Fault("", f"Objects and arrays may lie at most {MAX_DEPTH} deep within one another.")


def _walk(document: Any) -> None:
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(document, ())]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, str):
            _check_text(value, path)
        elif len(path) >= MAX_DEPTH and isinstance(value, dict | list):
            raise InvalidInput([_TOO_DEEP])
        elif isinstance(value, dict):
            for name, item in value.items():
                _check_text(name, path)
                waiting.append((item, (*path, name)))
        elif isinstance(value, list):
            waiting.extend((item, (*path, position)) for position, item in enumerate(value))


def _check_text(text: str, path: tuple[str | int, ...]) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(
            [
                Fault(
                    pointer(*path),
                    "A text here holds NUL or half of a surrogate pair, which cannot be stored.",
                )
            ]
        )
