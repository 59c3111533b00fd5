"""How a provider is reached: by `httpx2`, within bounds of time and size, and never anywhere else."""

from __future__ import annotations

import time
from typing import Any

import httpx2

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of an answer, unpacked, that are read; the longest good one has a few hundred thousand."""


class TooLong(httpx2.TransportError):
    """An answer's body is beyond what is read; says so, after the provider's name."""


class Bounded(httpx2.Client):
    """The client that `openai` speaks through: it reads whole answers in bounded time and space.

    A timeout of `httpx2` is for each piece that arrives: one byte a second would keep a job for ever. What a
    provider points to is not followed: a schema goes to the address that the operator named and no other.
    """

    def __init__(self) -> None:
        super().__init__(follow_redirects=False)

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request; return its answer, read to the end.

        Raises
        ------
        httpx2.ReadTimeout
            Also where the whole takes longer than the request's timeout.
        TooLong
        """
        began = time.monotonic()
        longest = (request.extensions.get("timeout") or {}).get("read")
        response = super().send(request, stream=True, **options | {"follow_redirects": False})
        body = bytearray()
        try:
            for piece in response.iter_bytes():  # unpacked: a piece that arrives is small
                body += piece
                if len(body) > MOST_BYTES:
                    raise TooLong(f"answers with more than {MOST_BYTES >> 20} MB, which is no answer")
                if longest is not None and time.monotonic() - began > longest:
                    raise httpx2.ReadTimeout("The answer did not end in time.", request=request)
        finally:
            response.close()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=request)
