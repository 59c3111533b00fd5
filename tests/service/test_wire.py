"""What comes before a route is reached: bytes that are no request, and requests without end."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from tests.service.conftest import Service


def answer_to(service: Service, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; return status, headers and body of the answer."""
    received = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        # It may hang up before all is sent: its answer is there to be read.
        with contextlib.suppress(OSError):
            connection.sendall(raw)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/jobs\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_with_a_problem(service: Service, raw: bytes) -> None:
    status, headers, body = answer_to(service, raw)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("/problems/bad-request", 400)
    assert int(headers["content-length"]) == len(body)


@pytest.mark.parametrize("line", [b"X-Long: ", b"X-%d: y\r\n"])
def test_headers_without_end_are_refused_before_they_fill_the_memory(service: Service, line: bytes) -> None:
    many = b"".join(line % number for number in range(20_000)) if b"%d" in line else line + b"a" * 300_000
    status, headers, body = answer_to(service, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + many)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert "65536 bytes" in json.loads(body)["detail"]


def test_a_large_body_is_not_taken_for_headers(service: Service) -> None:
    body = json.dumps({"labels": {"x": "y" * 300_000}}).encode()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {service.key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    assert answer_to(service, head.encode() + body)[0] == 422
