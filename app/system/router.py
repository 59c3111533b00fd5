"""Health, readiness, metrics, generators, the reference, and the pages that explain problems."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from app import catalog
from app.keys.access import CurrentPrincipal, current_principal, why_not_local
from app.openapi import problems
from app.problem_objects import RouteNotFound
from app.query import known_query
from app.system import pages
from app.system.readiness import Readiness

router = APIRouter()


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Part(BaseModel):
    """One part that the service needs."""

    ready: bool
    detail: str


class Ready(BaseModel):
    """Whether work can be taken and done; `parts` has database, broker, store and worker."""

    status: Literal["ready", "not ready"]
    parts: dict[str, Part]


class Generator(BaseModel):
    """Something that makes tables."""

    name: str
    description: str
    version: str | None
    options: dict[str, Any] | None
    needs_reference: bool | None
    learns_from_reference: bool | None
    honours: tuple[str, ...]
    reproducible: bool | None
    available: bool
    why_not: str | None


class Generators(BaseModel):
    """All of them."""

    items: list[Generator]


@router.get(
    "/v1/generators", tags=["generators"], summary="List generators", dependencies=[Depends(known_query)]
)
def generators(principal: CurrentPrincipal) -> Generators:
    """Return every generator: what it needs, which declarations it honours, its options as JSON Schema."""
    return Generators(
        items=[Generator.model_validate(entry, from_attributes=True) for entry in catalog.entries()]
    )


@router.get("/healthz", tags=["service"], summary="Whether the process answers")
async def healthz() -> Health:
    """Answer, without asking anything else. Needs no key."""
    return Health()


@router.get(
    "/readyz",
    tags=["service"],
    summary="Whether every part is there",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "A part is missing; `parts` says which."}},
)
async def readyz(request: Request) -> Response:
    """Return each part and its state: database, broker, store, worker. Needs no key, and says no "
    "addresses."""
    readiness: Readiness = request.app.state.readiness
    states = await readiness.states()
    ready = all(state.ready for state in states)
    answer = Ready(
        status="ready" if ready else "not ready",
        parts={state.name: Part(ready=state.ready, detail=state.detail) for state in states},
    )
    return JSONResponse(answer.model_dump(), 200 if ready else 503, None if ready else {"Retry-After": "5"})


@router.get(
    "/metrics",
    tags=["service"],
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "In Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(401),
    },
)
async def metrics(request: Request) -> Response:
    """Return counts over all owners: open to this machine itself; anyone else, and any proxy, needs a key."""
    if why_not_local(request.scope) is not None:
        await current_principal(request)
    registry: CollectorRegistry = request.app.state.registry
    return Response(await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/problems/{slug}", include_in_schema=False)
async def problem(slug: str) -> Response:
    """Explain a problem type."""
    page = pages.problem_page(slug)
    if page is None:
        raise RouteNotFound("There is no problem type of this name.")
    return HTMLResponse(
        page, headers={"Content-Security-Policy": pages.PAGE_POLICY, "Cache-Control": "public, max-age=3600"}
    )


@router.get("/", include_in_schema=False)
async def root() -> Response:
    """Lead to the reference."""
    return RedirectResponse("/docs", 307)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """Show the reference of all routes."""
    return HTMLResponse(pages.DOCS_PAGE, headers={"Content-Security-Policy": pages.DOCS_POLICY})


@router.get("/docs/start.js", include_in_schema=False)
async def docs_script() -> Response:
    """Start the reference page."""
    return Response(pages.DOCS_SCRIPT, media_type="text/javascript")


@router.get("/docs/{name}", include_in_schema=False)
def docs_asset(name: str) -> Response:
    """Return a file of the reference page."""
    if name not in pages.ASSETS:
        raise RouteNotFound("There is no such file.")
    return Response(
        pages.asset(name),
        headers={"Content-Type": pages.ASSETS[name], "Cache-Control": "public, max-age=3600"},
    )


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())
