"""The routes of jobs: HTTP in, `JobService` and `Downloads` behind, HTTP out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from app.blueprint.model import Blueprint
from app.blueprint.page import blueprint_page
from app.errors import JobHasNoBlueprint
from app.jobs.answers import bytes_response, chosen_format, file_response
from app.jobs.checking import Order
from app.jobs.downloads import MEDIA_TYPES, Downloads, Format, Wanted, require_rows
from app.jobs.schemas import (
    ENDED,
    EVALUATION_EXAMPLES,
    REQUEST_EXAMPLES,
    DryRun,
    Job,
    JobPage,
    Status,
)
from app.jobs.service import Accepted, JobService, can_be_rehearsed, dry_run_of
from app.jobs.waiting import EndedJobs
from app.json_body import parse_json, read_body
from app.keys.access import CurrentPrincipal, CurrentServices
from app.keys.service import Principal
from app.openapi import problems
from app.query import known_query
from app.rehearsal import Rehearsals, Rehearsed
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(known_query)])
evaluations = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], dependencies=[Depends(known_query)])

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?0*(\d+)\"?\s*(?=$|[,;])", re.IGNORECASE)
_REPORT_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # noqa: E501 - one header


async def _jobs(request: Request) -> JobService:
    jobs: JobService = request.app.state.jobs
    return jobs


async def _downloads(request: Request) -> Downloads:
    downloads: Downloads = request.app.state.downloads
    return downloads


Jobs = Annotated[JobService, Depends(_jobs)]
Files = Annotated[Downloads, Depends(_downloads)]
Judged = TypeVar("Judged")
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Makes a repeated request get the first one's answer, for at least 24 hours.",
    ),
]
Prefer = Annotated[
    str | None, Header(description="`wait=20` holds the answer until the job ends, for at most 60 seconds.")
]


def _json(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # Written by pydantic's own serialiser: FastAPI's way would validate the answer a second time.
    return Response(model.model_dump_json(), status, headers, "application/json")


_ACCEPTED_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "The job."},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds until it is worth asking."},
    "Idempotent-Replayed": {
        "schema": {"type": "string"},
        "description": "`true` where this answer is a repetition.",
    },
    "Preference-Applied": {"schema": {"type": "string"}, "description": "How long was waited for."},
}


_NEXT = {
    name: {"operationId": name, "parameters": {"job_id": "$response.body#/id"}}
    for name in (
        "get_job",
        "cancel_job",
        "delete_job",
        "download_rows",
        "read_report",
        "read_blueprint",
        "read_transcript",
    )
}


def _body(model: str, examples: Sequence[Any]) -> dict[str, Any]:
    content = {
        "schema": {"$ref": f"#/components/schemas/{model}"},
        "examples": {
            f"example {number}": {"value": example} for number, example in enumerate(examples, start=1)
        },
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


_SUBMITTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The job has ended while the answer was held (`Prefer: wait`), or the dry run's "
        "result.",
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/Job"},
                        {"$ref": "#/components/schemas/DryRun"},
                    ]
                }
            }
        },
    },
    202: {
        "description": "The job is queued.",
        "links": _NEXT,
        "headers": _ACCEPTED_HEADERS,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
    },
    **problems(409, 413, 415, 422),
}


@router.post(
    "",
    status_code=202,
    summary="Ask for a table",
    operation_id="submit_job",
    response_class=Response,
    openapi_extra=_body("JobRequest", REQUEST_EXAMPLES),
    responses=_SUBMITTED,
)
async def submit(
    request: Request,
    principal: CurrentPrincipal,
    services: CurrentServices,
    jobs: Jobs,
    dry_run: Annotated[bool, Query(description="Judge the request and queue nothing.")] = False,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Post a schema, a generator choice and a row count; a queued job makes the rows and a report.

    A 422 names every fault at once. What will not be as it was asked stands in the job's `warnings`.
    """
    door = Door(jobs.submit, jobs.judge, jobs.find)
    return await _submitted(door, request, principal, services, dry_run, idempotency_key, prefer)


@evaluations.post(
    "",
    status_code=202,
    summary="Have a table judged",
    operation_id="submit_evaluation",
    response_class=Response,
    openapi_extra=_body("EvaluationJobRequest", EVALUATION_EXAMPLES),
    responses=_SUBMITTED,
)
async def submit_evaluation(
    request: Request,
    principal: CurrentPrincipal,
    services: CurrentServices,
    jobs: Jobs,
    dry_run: Annotated[bool, Query(description="Judge the request and queue nothing.")] = False,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Name an uploaded synthetic table and a real one; a queued job judges it and writes a report.

    Whoever made the table: it is judged by the code that judges the rows of this service's own jobs.
    """
    door = Door(jobs.submit_evaluation, jobs.judge_evaluation, jobs.find)
    return await _submitted(door, request, principal, services, dry_run, idempotency_key, prefer)


@dataclass(frozen=True, slots=True)
class Door:
    """What a submission goes through: how it is judged and accepted, or judged only, and looked at again."""

    submit: Callable[[str, Any, str | None], Accepted]
    judge: Callable[[str, Any], Order]
    find: Callable[[str, str], Job | None]


async def _submitted(
    door: Door,
    request: Request,
    principal: Principal,
    services: Services,
    dry_run: bool,
    idempotency_key: str | None,
    prefer: str | None,
) -> Response:
    owner = principal.owner
    raw = await read_body(request, services.settings.max_request_bytes)
    if dry_run:
        return _json(await _tried(request, await run_in_threadpool(_parsed, door.judge, owner, raw)))
    accepted = await run_in_threadpool(_parsed, door.submit, owner, raw, idempotency_key)
    # Preferences may come in several headers; the parameter `prefer`, which tells of them, has only one.
    preferences = ", ".join(request.headers.getlist("prefer")) if prefer else ""
    seconds = _seconds_to_wait(preferences, services.settings.max_wait)
    if seconds is None:
        return _accepted(accepted, {})

    applied = {"Preference-Applied": f"wait={seconds}"}
    job_id, replayed, at_once = accepted.job.id, accepted.replayed, _accepted(accepted, {**applied})
    del raw, accepted  # hundreds of callers may wait here
    await _until_ended(request, job_id, seconds)
    job = await run_in_threadpool(door.find, owner, job_id)
    if job is None or (replayed and job.status not in ENDED):  # deleted meanwhile, or the first answer again
        return at_once
    if job.status not in ENDED:
        return _accepted(Accepted(job, replayed=False), applied)
    if replayed:
        applied["Idempotent-Replayed"] = "true"
    return _json(job, 200, {**applied, "Location": job.links.self})


async def _tried(request: Request, order: Order) -> DryRun:
    rehearsals: Rehearsals = request.app.state.rehearsals
    if not can_be_rehearsed(order):
        return dry_run_of(order, Rehearsed())
    rehearsed = await rehearsals.rehearse(
        order.generator, order.options, dict(order.schema.document), order.seed, order.rows
    )
    return dry_run_of(order, rehearsed)


def _parsed(judge: Callable[..., Judged], owner: str, raw: bytes, *more: Any) -> Judged:
    # In the thread that judges: of hundreds that come at once only those whose turn it is take the memory of
    # a document, ten times that of its bytes.
    return judge(owner, parse_json(raw), *more)


def _seconds_to_wait(prefer: str, at_most: float) -> int | None:
    found = _WAIT.search(prefer)
    # Nine digits tell that it is longer than anyone may wait; a million of them would cost time to read.
    return None if found is None else min(int(found.group(1)[:9]), int(at_most))


def _accepted(accepted: Accepted, headers: dict[str, str]) -> Response:
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    headers["Location"] = accepted.job.links.self
    headers["Retry-After"] = "1"
    return _json(accepted.job, 202, headers)


async def _until_ended(request: Request, job_id: str, seconds: int) -> None:
    request.scope["synthward.waited"] = True
    waiting: EndedJobs = request.app.state.ended_jobs

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    await waiting.wait(job_id, seconds, gone)


@router.get(
    "", summary="List jobs", operation_id="list_jobs", response_model=JobPage, responses=problems(422)
)
def page(
    principal: CurrentPrincipal,
    jobs: Jobs,
    status: Annotated[Status | None, Query(description="Only jobs in this state.")] = None,
    generator: Annotated[
        str | None, Query(max_length=100, description="Only jobs of this generator.")
    ] = None,
    label: Annotated[
        list[str],
        Query(max_length=20, description="Only jobs with this label, `key:value`; may be repeated."),
    ] = [],  # noqa: B006 - FastAPI copies it
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """Return the caller's jobs, newest first."""
    return _json(
        jobs.page(
            principal.owner, status=status, generator=generator, labels=label, limit=limit, cursor=cursor
        )
    )


@router.get(
    "/{job_id}",
    summary="Look at a job",
    operation_id="get_job",
    response_model=Job,
    responses=problems(404, 422),
)
async def get(job_id: str, principal: CurrentPrincipal, jobs: Jobs) -> Response:
    """Return what was asked, complete, and how it goes."""
    return _json(await run_in_threadpool(jobs.get, principal.owner, job_id))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    operation_id="cancel_job",
    response_class=Response,
    responses={
        200: {
            "description": "The job had ended before; it stays as it is.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
        },
        202: {
            "description": "Queued work never starts, running work stops within seconds.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
        },
        **problems(404, 422),
    },
)
def cancel(job_id: str, principal: CurrentPrincipal, jobs: Jobs) -> Response:
    """Cancel a job; what it wrote is removed."""
    job, had_ended = jobs.cancel(principal.owner, job_id)
    return _json(job, 200 if had_ended else 202)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    operation_id="delete_job",
    response_class=Response,
    responses={204: {"description": "Job, rows and report are gone."}, **problems(404, 409, 422)},
)
def delete(job_id: str, principal: CurrentPrincipal, jobs: Jobs) -> Response:
    """Delete a job with its rows, report and fitted model. A running one has to be cancelled first."""
    jobs.delete(principal.owner, job_id)
    return Response(status_code=204)


_FILE_HEADERS: dict[str, Any] = {
    "ETag": {"schema": {"type": "string"}},
    "Accept-Ranges": {"schema": {"type": "string"}},
    "Content-Disposition": {"schema": {"type": "string"}},
    "Synthward-Synthetic": {
        "schema": {"type": "string"},
        "description": "`true`: no row is a real person's.",
    },
}
_FILE: dict[str, Any] = {
    media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
    for media_type in MEDIA_TYPES.values()
}


@router.get(
    "/{job_id}/data",
    summary="Download the rows",
    operation_id="download_rows",
    response_class=Response,
    responses={
        200: {"description": "The rows, marked as synthetic.", "headers": _FILE_HEADERS, "content": _FILE},
        206: {"description": "The asked range.", "headers": _FILE_HEADERS, "content": _FILE},
        304: {"description": "Not changed."},
        **problems(403, 404, 406, 409, 410, 416, 422),
    },
)
async def data(
    job_id: str,
    request: Request,
    principal: CurrentPrincipal,
    jobs: Jobs,
    files: Files,
    format: Annotated[Format | None, Query(description="Else the `Accept` header decides; else CSV.")] = None,
    replicate: Annotated[int, Query(ge=1, le=2**31 - 1)] = 1,
    spreadsheet: Annotated[
        bool, Query(description="CSV for spreadsheets: a BOM, and no text that would run as a formula.")
    ] = False,
) -> Response:
    """Return one replicate's rows, as exactly the file that was asked for; whole, or in one range."""
    job = await run_in_threadpool(jobs.record, principal.owner, job_id)
    kind = format or chosen_format(request.headers.get("accept"))
    wanted = Wanted(kind, replicate, spreadsheet and kind == "csv")
    require_rows(job, wanted)
    rendered = await files.file(principal.owner, job, wanted)
    marks = {"Synthward-Synthetic": "true", "Synthward-Job": job.id, "Synthward-Seed": str(job.seed)}
    return await file_response(request, files, rendered, marks)


@router.get(
    "/{job_id}/report",
    summary="Read the evaluation report",
    operation_id="read_report",
    response_class=Response,
    responses={
        200: {
            "description": "The report; the HTML is one self-contained page.",
            "headers": {"ETag": {"schema": {"type": "string"}}},
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/html": {"schema": {"type": "string"}},
            },
        },
        304: {"description": "Not changed."},
        **problems(404, 409, 410, 422),
    },
)
def report(
    job_id: str,
    request: Request,
    principal: CurrentPrincipal,
    jobs: Jobs,
    files: Files,
    format: Annotated[Literal["json", "html"], Query()] = "json",
) -> Response:
    """Return the report of a job. It stays where the rows are withheld."""
    job = jobs.record(principal.owner, job_id)
    stored, content = files.report(principal.owner, job, "report" if format == "json" else "page")
    if format == "json":
        return bytes_response(request, content, stored.sha256, "application/json", {})
    return bytes_response(
        request, content, stored.sha256, "text/html; charset=utf-8", {"Content-Security-Policy": _REPORT_CSP}
    )


@router.get(
    "/{job_id}/blueprint",
    summary="Read the blueprint",
    operation_id="read_blueprint",
    response_class=Response,
    responses={
        200: {
            "description": "How the rows are distributed: every number with where it comes from, and what "
            "became of it. Edit it, and post it back as the generator's option `blueprint`.",
            "headers": {"ETag": {"schema": {"type": "string"}}},
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/html": {"schema": {"type": "string"}},
            },
        },
        304: {"description": "Not changed."},
        **problems(403, 404, 409, 410, 422),
    },
)
def blueprint(
    job_id: str,
    request: Request,
    principal: CurrentPrincipal,
    jobs: Jobs,
    files: Files,
    format: Annotated[
        Literal["json", "html"], Query(description="HTML is to read, print and sign.")
    ] = "json",
) -> Response:
    """Return the blueprint of a job, where its generator has one."""
    job = jobs.record(principal.owner, job_id)
    stored, content = files.blueprint(principal.owner, job)
    if format == "json":
        return bytes_response(request, content, stored.sha256, "application/json", {})
    try:
        page = blueprint_page(Blueprint.from_json(content), job.id, stored.sha256).encode()
    except ValueError as error:  # a generator from outside may keep a document of its own form
        raise JobHasNoBlueprint("The job's document has no page; ask for it as JSON.") from error
    locked = {"Content-Security-Policy": _REPORT_CSP}
    return bytes_response(request, page, f"{stored.sha256}-html", "text/html; charset=utf-8", locked)


@router.get(
    "/{job_id}/transcript",
    summary="Read what a language model was asked",
    operation_id="read_transcript",
    response_class=Response,
    responses={
        200: {
            "description": "Every request and its answer, oldest first; a running job's so far.",
            "content": {
                "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        **problems(404, 409, 410, 422),
    },
)
def transcript(
    job_id: str,
    principal: CurrentPrincipal,
    jobs: Jobs,
    format: Annotated[Literal["json", "jsonl"], Query(description="A list, or one object a line.")] = "json",
) -> Response:
    """Return what was asked and answered, with the tokens that each answer took."""
    receipts = jobs.receipts(principal.owner, job_id)
    if format == "jsonl":
        return StreamingResponse((data + b"\n" for data in receipts), media_type="application/x-ndjson")
    return StreamingResponse(_listed(receipts), media_type="application/json")


def _listed(receipts: Iterator[bytes]) -> Iterator[bytes]:
    yield b"["
    for place, data in enumerate(receipts):
        yield (b",\n" if place else b"") + data
    yield b"]"
