"""The HTTP protocol below the application: what cannot be read as a request is a problem here, too."""

from __future__ import annotations

import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.problem_objects import BadRequest, problem_of

MAX_HEAD = 65_536
"""Bytes of request line and headers: without a limit one caller could fill the memory."""


class Wire(HttpToolsProtocol):
    """uvicorn's protocol, with this service's problems, and a limit on what comes before a body."""

    _head: int | None = None  # bytes of the head that is being read; None between heads

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self._refuse(f"Request line and headers have more than {MAX_HEAD} bytes.")

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: bodies are limited where they are read."""
        self._head = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request."""
        self._refuse("This is not a request of HTTP/1.1 that can be read.")

    def _refuse(self, detail: str) -> None:
        problem: dict[str, Any] = problem_of(BadRequest(detail))
        content = json.dumps(problem).encode()
        headers = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(content)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[problem["status"]] + lines.encode() + b"\r\n" + content)
        self.transport.close()
