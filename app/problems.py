"""Errors → application/problem+json. The only place that turns an exception into an HTTP answer."""

from __future__ import annotations

import json
import logging
import secrets
import traceback
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import (
    Fault,
    IdempotencyKeyInProgress,
    InvalidInput,
    JobStillRunning,
    NotAuthenticated,
    ServiceUnavailable,
    StorageFull,
    SynthwardError,
)
from app.faults import faults_from
from app.problem_objects import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotAcceptable,
    RangeNotSatisfiable,
    RequestTooLarge,
    RouteNotFound,
    UnsupportedMediaType,
    problem_of,
)

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


def problem_response(error: SynthwardError, path: str) -> Response:
    """Return the answer to a request that failed."""
    problem = problem_of(error, instance=path)
    extra: dict[str, str] = {}
    if isinstance(error, NotAuthenticated):
        extra["WWW-Authenticate"] = 'Bearer realm="synthward"'
    if isinstance(error, ServiceUnavailable):
        extra["Retry-After"] = "5"
    if isinstance(error, JobStillRunning | IdempotencyKeyInProgress):
        extra["Retry-After"] = "1"
    if isinstance(error, RangeNotSatisfiable):
        extra["Content-Range"] = f"bytes */{error.size}"
    return _response(problem, extra)


def _response(problem: dict[str, Any], headers: dict[str, str]) -> Response:
    # Surrogates cannot be encoded: they are escaped, so that an answer can always be sent.
    content = json.dumps(problem, ensure_ascii=True).encode()
    return Response(content, problem["status"], headers, MEDIA_TYPE)


def unexpected(error: BaseException, path: str) -> Response:
    """Return the answer to a request that met a bug, and log where; neither says what the data was.

    An exception's message can hold what a caller sent, so the log gets its type and the frames alone.
    """
    incident = secrets.token_hex(8)
    frames = "; ".join(
        f"{frame.filename}:{frame.lineno}:{frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    )
    _log.error("incident %s: %s at %s", incident, type(error).__qualname__, frames)
    return problem_response(
        InternalError(f"An unexpected error; tell the operator the incident id {incident}."), path
    )


def database_error(error: Exception) -> SynthwardError:
    """Return what an error of the database means to a caller."""
    if isinstance(error, DBAPIError) and "disk is full" in str(error.orig):
        return StorageFull("The database has no room.")
    return ServiceUnavailable("The database does not answer. Nothing was changed; ask again.")


async def _on_synthward_error(request: Request, error: SynthwardError) -> Response:
    return problem_response(error, request.url.path)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    kinds: dict[int, Callable[[], SynthwardError]] = {
        404: lambda: RouteNotFound("Check the path; `/docs` lists every route."),
        405: lambda: MethodNotAllowed("The `Allow` header names the methods that this path answers."),
        406: lambda: NotAcceptable("Widen the `Accept` header."),
        413: lambda: RequestTooLarge("Send a smaller body."),
        415: lambda: UnsupportedMediaType("Send JSON, with `Content-Type: application/json`."),
    }
    kind = kinds.get(error.status_code, lambda: BadRequest(str(error.detail)))
    problem = problem_of(kind(), instance=request.url.path) | {"status": error.status_code}
    headers = dict(error.headers or {})
    route = request.scope.get("route")
    methods: dict[str, str] = getattr(request.app.state, "methods", {})
    if error.status_code == 405 and route is not None and route.path in methods:
        headers = {"Allow": methods[route.path]}
    return _response(problem, headers)


_PLACES = {"query": "query", "header": "headers", "path": "path", "cookie": "cookies"}


def faults_of_request(error: RequestValidationError) -> list[Fault]:
    """Return what is wrong with a request's parameters: `/query/<name>`, `/headers/<name>` and so on."""
    located = []
    for detail in error.errors():
        place, *rest = detail["loc"]
        loc = tuple(rest) if place == "body" else (_PLACES.get(str(place), str(place)), *rest)
        located.append({**detail, "loc": loc})
    return faults_from(located)


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return problem_response(InvalidInput(faults_of_request(error)), request.url.path)


async def _on_database_error(request: Request, error: Exception) -> Response:
    _log.error("the database failed: %s", type(getattr(error, "orig", error)).__qualname__)
    return problem_response(database_error(error), request.url.path)


def install(app: FastAPI) -> None:
    """Let an application answer every error with a problem object. What is unexpected is `app.front`'s."""
    handlers: dict[Any, Any] = {
        SynthwardError: _on_synthward_error,
        HTTPException: _on_http_exception,
        RequestValidationError: _on_validation_error,
        OperationalError: _on_database_error,
        InterfaceError: _on_database_error,
        PoolTimeout: _on_database_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
