"""The OpenAPI document: what FastAPI derives from the routes, with problems and keys said as they are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.datasets.describing import DescribeRequest
from app.jobs.schemas import DryRun, EvaluationJobRequest, Job, JobRequest, Problem

DESCRIPTION = """Makes synthetic clinical tables: post a schema, a generator choice and a row count; download
the rows and a report that says how true, how useful and how private they are."""

_REASONS: dict[int, str] = {
    400: "The request cannot be read",
    401: "A valid API key is needed",
    403: "Not given out, or not to this caller",
    404: "There is no such thing, or it is another owner's",
    406: "The format cannot be had",
    409: "Not now: the state of the job or of another request is in the way",
    410: "Expired and deleted",
    413: "Too large",
    415: "The body is of a type that is not read here",
    416: "The range lies outside the file",
    422: "Invalid input; every fault is named",
    500: "Something unexpected went wrong",
    503: "A part of the service does not answer",
    507: "There is no room",
}
KEY: list[dict[str, list[str]]] = [{"key": []}]
NO_KEY: list[dict[str, list[str]]] = []
_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_ANYWHERE = (403, 500, 503, 507)
"""What any route under `/v1` can answer: without keys another machine is refused, and parts can fail."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can answer with these statuses, all of them problems."""
    return {
        status: {
            "description": _REASONS[status],
            "content": {"application/problem+json": {"schema": _SCHEMA}},
        }
        for status in statuses
    }


def install(app: FastAPI, security: list[dict[str, list[str]]]) -> None:
    """Let an application describe itself; the document is made once, when it is first asked for.

    `security` is `KEY`, or `NO_KEY` where the service runs without keys.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title, version=app.version, description=app.description, routes=app.routes
                ),
                security,
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(document: dict[str, Any], security: list[dict[str, list[str]]]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    # Made from the models themselves: FastAPI drops the nulls of examples, and does not see bodies read by
    # hand.
    _, own = models_json_schema(
        [
            (JobRequest, "validation"),
            (EvaluationJobRequest, "validation"),
            (DescribeRequest, "validation"),
            (DryRun, "serialization"),
            (Job, "serialization"),
            (Problem, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    schemas.update(own["$defs"])
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key; not needed with `--no-auth`."}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            described = responses.get("422", {}).get("content", {})
            if "application/json" in described:  # FastAPI's own kind of 422, which this service never answers
                responses.update(_named(problems(422)))
            if path.startswith("/v1"):
                operation["security"] = security
                extra = problems(401, *_ANYWHERE)
                responses.update({key: value for key, value in _named(extra).items() if key not in responses})
            elif path not in ("/healthz", "/readyz", "/metrics"):
                responses.setdefault("500", problems(500)[500])
            operation["responses"] = dict(sorted(responses.items()))
    document["tags"] = [
        {"name": "jobs", "description": "Tables to be made, and what was made."},
        {"name": "evaluations", "description": "Tables to be judged, whoever made them."},
        {"name": "datasets", "description": "Uploaded real tables. Their rows never leave."},
        {"name": "generators", "description": "What can make tables."},
        {"name": "service", "description": "How the service is."},
    ]
    return document


def _named(responses: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(status): response for status, response in responses.items()}
