"""The routes of datasets: uploads streamed to disk and read in a child process; listing; deleting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.config import Settings
from app.datasets import service
from app.datasets.child import read_in_child
from app.datasets.describing import describe_in_child, read_request
from app.datasets.receive import receive
from app.datasets.repository import DatasetRecord
from app.datasets.schemas import Dataset, DatasetCreated, DatasetPage, DatasetWarning
from app.json_body import parse_json, read_body
from app.keys.access import CurrentPrincipal, CurrentServices
from app.keys.service import Principal
from app.openapi import problems
from app.query import known_query
from app.scratch import Scratch, remove_leftovers
from app.services import Services

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], dependencies=[Depends(known_query)])

Answer = TypeVar("Answer")

READERS = 2
"""Uploads that are read at once; others wait on disk."""


def _json(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(by_alias=True), status, headers, "application/json")


def _properties(record: DatasetRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "rows": record.rows,
        "columns": record.columns,
        "schema": record.schema_document,
        "sha256": record.sha256,
        "attempts": record.attempts,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
    }


async def _reading_turns(request: Request) -> asyncio.Semaphore:
    state = request.app.state
    if not hasattr(state, "reading_turns"):
        state.reading_turns = asyncio.Semaphore(READERS)
    turns: asyncio.Semaphore = state.reading_turns
    return turns


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "The table: CSV with a header line (any common encoding and "
                            "delimiter), or Parquet.",
                        },
                        "schema": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "The table's schema, as JSON text; inferred where absent.",
                        },
                        "name": {
                            "type": "string",
                            "maxLength": 200,
                            "description": "For people; the file's name where absent.",
                        },
                    },
                },
                "examples": {"a table": {"value": {"file": "age,sex\n61,F\n70,M\n", "name": "two patients"}}},
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    summary="Upload a real table",
    response_model=DatasetCreated,
    openapi_extra=_FORM,
    responses={
        201: {
            "description": "The table is kept. Its rows are never given out.",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "The dataset."}},
        },
        **problems(400, 413, 415, 422),
    },
)
async def upload(
    request: Request,
    principal: CurrentPrincipal,
    services: CurrentServices,
    turns: Annotated[asyncio.Semaphore, Depends(_reading_turns)],
) -> Response:
    """Upload a CSV or Parquet file; read as `schema` declares it, else its schema is inferred.

    What is said of the table passes the disclosure rules; faults name line and column, never a cell.
    """
    try:
        return await _upload(request, principal, services, turns)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it; an error would be logged as one of ours


async def _upload(
    request: Request, principal: Principal, services: Services, turns: asyncio.Semaphore
) -> Response:
    settings = services.settings
    async with _scratch_folder(settings) as folder:
        received = await receive(
            request.stream(),
            content_type=request.headers.get("content-type", ""),
            content_length=request.headers.get("content-length", ""),
            path=folder / "upload",
            max_bytes=settings.max_upload_bytes,
            max_field_bytes=settings.max_request_bytes,
        )
        wish = await run_in_threadpool(
            service.wish_of,
            received.fields,
            received.filename,
            parse_json=parse_json,
            max_fields=settings.max_fields,
        )
        async with turns:
            reading = read_in_child(received.path, wish.schema, settings)
            read = await _while_connected(request, reading)
        record = await run_in_threadpool(
            service.add,
            services.engine,
            services.store,
            settings,
            principal.owner,
            name=wish.name,
            sha256=received.sha256,
            size=received.size,
            read=read,
        )
    warnings = [
        DatasetWarning(pointer=fault.pointer, message=fault.message)
        for fault in (*wish.warnings, *read.warnings)
    ]
    created = DatasetCreated(**_properties(record), warnings=warnings)
    return _json(created, 201, {"Location": f"/v1/datasets/{record.id}"})


@contextlib.asynccontextmanager
async def _scratch_folder(settings: Settings) -> AsyncIterator[Path]:
    # No sweeper may run on this machine, and a process that was killed cannot clean up after itself.
    await run_in_threadpool(remove_leftovers, settings.scratch_dir)
    scratch = Scratch(settings.scratch_dir)
    try:
        yield scratch.path
    finally:
        scratch.remove()  # a handful of files: quicker than a hop to a thread, and not to be cancelled


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for a child's answer; end it where the client goes away."""
    reading = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise ClientDisconnect
        return reading.result()
    finally:
        for task in (reading, leaving):
            if not task.done():
                task.cancel()
        await asyncio.gather(reading, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get("", summary="List datasets", response_model=DatasetPage, responses=problems(422))
def page(
    principal: CurrentPrincipal,
    services: CurrentServices,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """Return the caller's datasets, newest first."""
    found = service.listed(services.engine, principal.owner, limit=limit, cursor=cursor)
    items = [Dataset(**_properties(record)) for record in found.items]
    return _json(DatasetPage(items=items, next_cursor=found.next_cursor))


@router.get(
    "/{dataset_id}", summary="Look at a dataset", response_model=Dataset, responses=problems(404, 422)
)
def get(dataset_id: str, principal: CurrentPrincipal, services: CurrentServices) -> Response:
    """Return what may be said of a dataset; `attempts` counts the jobs that used it."""
    return _json(Dataset(**_properties(service.get(services.engine, principal.owner, dataset_id))))


_DESCRIBED: dict[str, Any] = {
    "fields": [
        {
            "name": "status",
            "type": "integer",
            "categories": [0, 1],
            "statistics": {"proportions": {"0": 0.602, "1": 0.398}},
        },
        {
            "name": "gtv",
            "type": "number",
            "decimals": 2,
            "constraints": {"minimum": 0, "maximum": 40},
            "statistics": {"mean": 8.66, "sd": 8.66, "quantiles": {"0.25": 2.5, "0.5": 6.6, "0.75": 12}},
        },
    ],
    "associations": [{"fields": ["status", "gtv"], "measure": "spearman", "value": 0.15}],
    "conditionals": [
        {"field": "gtv", "given": {"status": 1}, "statistics": {"mean": 10.4, "sd": 9.6}},
    ],
    "described": {"min_cell": 10, "target": "status", "notes": []},
}


@router.post(
    "/{dataset_id}/describe",
    summary="Say what may be published of a dataset",
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/DescribeRequest"},
                    "examples": {
                        "with an outcome": {"value": {"target": "status", "holdout": 0.3}},
                        "as it is": {"value": {}},
                    },
                }
            },
        }
    },
    responses={
        200: {
            "description": "A schema with statistics, associations, conditionals and rules: ready to be "
            "posted as a job's `schema`. `described` says what was withheld.",
            "content": {
                "application/json": {
                    "schema": {"type": "object", "required": ["fields"]},
                    "examples": {"in part": {"value": _DESCRIBED}},
                }
            },
        },
        **problems(400, 404, 413, 415, 422),
    },
)
async def describe(
    request: Request,
    dataset_id: str,
    principal: CurrentPrincipal,
    services: CurrentServices,
    turns: Annotated[asyncio.Semaphore, Depends(_reading_turns)],
) -> Response:
    """Describe a dataset within the disclosure rules: its statistics may leave, its rows do not."""
    try:
        raw = await read_body(request, services.settings.max_request_bytes)
        asked = read_request(parse_json(raw), services.settings)
        record = await run_in_threadpool(service.get, services.engine, principal.owner, dataset_id)
        async with turns:
            work = describe_in_child(record, asked, services.store, services.settings)
            schema = await _while_connected(request, work)
        return JSONResponse(schema)
    except ClientDisconnect:
        return Response(status_code=400)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset",
    response_class=Response,
    responses={204: {"description": "The dataset is gone."}, **problems(404, 409, 422)},
)
def delete(dataset_id: str, principal: CurrentPrincipal, services: CurrentServices) -> Response:
    """Delete a dataset and its rows; 409 while a job that has not ended uses it."""
    service.delete(services.engine, services.store, principal.owner, dataset_id)
    return Response(status_code=204)
