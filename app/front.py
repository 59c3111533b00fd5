"""What every request passes on its way in and out: the gate, the headers, the counts, the last resort.

Pure ASGI, for a middleware that wraps requests into objects costs more than the rest of a small answer.
"""

from __future__ import annotations

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import HostNotAllowed
from app.keys.access import require_local
from app.problems import problem_response, unexpected

_access = logging.getLogger("app.access")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Set where an answer does not say otherwise itself."""


class RequestMetrics:
    """Counts and durations of requests, by the route's template: ids are not labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "synthward_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "synthward_http_request_duration_seconds",
            "Seconds from request to the last byte; requests that asked to wait are left out.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def observe(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = method if method in _METHODS else "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        if "synthward.waited" not in scope:
            self._seconds.labels(method, route).observe(seconds)


class Front:
    """The outermost layer.

    Parameters
    ----------
    app : ASGIApp
        What is behind.
    metrics : RequestMetrics
        Where requests are counted.
    local_only : bool
        Let only this machine in (the service runs without keys).
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, local_only: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens behind."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        method = scope["method"]
        head = method == "HEAD"
        if head:
            # Whatever answers GET answers HEAD: the same headers, no body. A route that would stream looks
            # at the mark. A scope of our own: the server looks into its own for the method, and breaks a
            # connection on which a GET was answered with less than its Content-Length.
            scope = {**scope, "method": "GET", "synthward.head": True}
        status = 0

        async def outward(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            if self._local_only:
                require_local(scope)
            await self._app(scope, receive, outward)
        except ClientDisconnect:
            pass  # nobody is left to answer
        except HostNotAllowed as error:
            await problem_response(error, scope["path"])(scope, receive, outward)
        except Exception as error:  # noqa: BLE001 - the last resort: nothing internal may reach the caller
            answer = unexpected(error, scope["path"])
            if status:
                # The answer has begun: breaking off is the only way left to say that it is not whole.
                raise _BrokenOff from None
            await answer(scope, receive, outward)
        finally:
            seconds = time.perf_counter() - begin
            self._metrics.observe(scope, method, status, seconds)
            # Without the query, and without a path that is not ours: either may hold what no log should.
            path = _loggable(scope["path"]) if scope.get("route") is not None else "(unmatched)"
            _access.info("%s %s %d %.1f ms", method, path, status, seconds * 1000)


def _loggable(path: str) -> str:
    # A decoded path can hold line breaks and terminal codes: nobody writes lines of their own into the log.
    return path if path.isascii() and path.isprintable() and len(path) <= 200 else "(unprintable)"


class _BrokenOff(Exception):
    """An answer could not be completed; what happened was logged under its incident."""
