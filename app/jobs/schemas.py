"""What goes over the wire about jobs: the request, the Job, the list. The OpenAPI document is made from "
"these."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_SEED = 2**53 - 1
"""The largest integer that every JSON reader keeps."""

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["fit", "sample", "check", "store", "evaluate", "release"]
Decision = Literal["released", "withheld", "not_assessed"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class GeneratorChoice(_Request):
    """Which generator, and how. `GET /v1/generators` lists them with their options."""

    name: str = Field(max_length=100, examples=["marginals"])
    options: dict[str, Any] = Field(default_factory=dict, description="What is left out gets its default.")


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class EvaluationRequest(_Request):
    """What the report judges."""

    enabled: bool = True
    depth: Literal["core", "full"] = Field(
        "core", description="`full` adds slower figures: more models, more attacks."
    )
    target: str | None = Field(None, description="The field that a later user would predict.")
    group: str | None = Field(
        None, description="The field that names the person, where one person has several rows."
    )
    quasi_identifiers: list[str] = Field(
        default_factory=list, max_length=1000, description="Fields by which a person could be recognised."
    )
    sensitive: list[str] = Field(
        default_factory=list, max_length=1000, description="Fields that must not be learned about a person."
    )
    holdout: float = Field(
        0.3, gt=0, lt=1, description="Share of the reference that the generator never sees; the yardstick."
    )


class ReleaseLimits(_Request):
    """Limits that the rows must keep to be given out. One that cannot be measured withholds them."""

    max_identical_match_share: float | None = Field(
        None, ge=0, le=1, description="Share of synthetic rows that are identical to a training row."
    )
    max_singling_out_advantage: float | None = Field(
        None, ge=0, le=1, description="Advantage of a singling-out attack over the holdout baseline."
    )


LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^:]+$")]
LabelValue = Annotated[str, StringConstraints(max_length=200)]

_FLAGSHIP_SCHEMA: dict[str, Any] = {
    "title": "Older adults after cranial neurosurgery",
    "fields": [
        {
            "name": "age",
            "type": "integer",
            "unit": "years",
            "constraints": {"required": True, "minimum": 65, "maximum": 95},
            "statistics": {"mean": 71.2, "sd": 4.3},
        },
        {
            "name": "sex",
            "type": "string",
            "categories": ["F", "M"],
            "statistics": {"proportions": {"F": 0.52, "M": 0.48}},
        },
        {
            "name": "los_days",
            "type": "integer",
            "constraints": {"minimum": 1},
            "statistics": {"quantiles": {"0.25": 4, "0.5": 6, "0.75": 9}, "missing": 0.02},
        },
    ],
}
REQUEST_EXAMPLES: list[Any] = [
    {"schema": _FLAGSHIP_SCHEMA, "generator": "marginals", "rows": 1390, "seed": 7},
    {
        "schema": _FLAGSHIP_SCHEMA,
        "generator": {"name": "marginals", "options": {}},
        "rows": 100,
        "replicates": 2,
        "evaluation": {"enabled": True, "target": "los_days", "quasi_identifiers": ["age", "sex"]},
        "labels": {"request": "DAR-2026-014"},
    },
    {
        "schema": {"fields": [{"name": "sex", "type": "string", "categories": ["F", "M"]}]},
        "generator": "marginals",
        "rows": 10,
        "evaluation": {"enabled": False},
    },
]


class JobRequest(_Request):
    """A table to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": REQUEST_EXAMPLES})

    schema_: dict[str, Any] | None = Field(
        None,
        alias="schema",
        description="A Frictionless Table Schema, with what is declared about the table. May be left out "
        "where `reference_id` is given: it is then inferred.",
    )
    generator: Annotated[
        GeneratorChoice, BeforeValidator(_named, json_schema_input_type=GeneratorChoice | str)
    ] = Field(description="A name, or an object with `name` and `options`.")
    rows: int = Field(ge=1, description="Rows of each replicate; up to a configured maximum.")
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="Same request, seed and version: same bytes. Drawn where absent."
    )
    replicates: int = Field(
        1, ge=1, description="Independent samples of one fit; up to a configured maximum."
    )
    reference_id: str | None = Field(
        None, max_length=40, description="An uploaded real table, from `POST /v1/datasets`."
    )
    evaluation: EvaluationRequest = EvaluationRequest.model_validate({})
    release: ReleaseLimits | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=20)


EVALUATION_EXAMPLES: list[Any] = [
    {
        "synthetic_id": "ds_1hz3k0c5m7e9q2w4r6t8y1a3sdf",
        "reference_id": "ds_1hz3k0c5m7e9q2w4r6t8y1a3sdg",
        "evaluation": {"target": "status", "quasi_identifiers": ["age", "sex"]},
    }
]


class EvaluationJobRequest(_Request):
    """A table to be judged, whoever made it."""

    model_config = ConfigDict(json_schema_extra={"examples": EVALUATION_EXAMPLES})

    synthetic_id: str = Field(max_length=40, description="The table to judge, from `POST /v1/datasets`.")
    reference_id: str = Field(max_length=40, description="The real table to hold it against.")
    holdout_id: str | None = Field(
        None,
        max_length=40,
        description="Real rows that whoever made the table has not seen; the whole reference is then the "
        "train part. Where absent, the holdout is split from the reference.",
    )
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="What all tables are read by. Default: the reference's own."
    )
    evaluation: EvaluationRequest = EvaluationRequest.model_validate({})
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="Of resampling and attacks. Drawn where absent."
    )
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=20)


class JobWarning(BaseModel):
    """Something that will not be as it was asked, and where it was asked."""

    pointer: str
    message: str


class GeneratorUsed(BaseModel):
    """The generator, with all of its options; `uploaded`, with the ids of the tables, for an evaluation."""

    name: str
    options: dict[str, Any]
    version: str


class Progress(BaseModel):
    """How far the job is. `fraction` (0 … 1) never falls."""

    stage: Stage | None
    fraction: float
    detail: str
    eta_seconds: float | None


class Usage(BaseModel):
    """What a language model was asked."""

    model_config = ConfigDict(extra="allow")

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


class Release(BaseModel):
    """Whether the rows are given out, and why."""

    decision: Decision
    reasons: list[str]


class Links(BaseModel):
    """Paths of this service."""

    self: str
    cancel: str
    data: str | None = Field(description="Null where the job makes no rows.")
    report: str
    blueprint: str | None = Field(None, description="Null where the generator has none.")
    transcript: str | None = Field(None, description="Null where no language model is asked.")


class ProblemError(BaseModel):
    """One thing wrong with an input."""

    pointer: str = Field(
        description="JSON pointer into the body; `/query/…`, `/path/…` and `/headers/…` name parameters."
    )
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(
        description="A path of this service that explains it.", examples=["/problems/invalid-input"]
    )
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[ProblemError] = Field(default_factory=list)


_JOB_EXAMPLE: dict[str, Any] = {
    "id": "job_1hz3k0c5m7e9q2w4r6t8y1a3sdf",
    "kind": "generation",
    "status": "running",
    "created_at": "2026-01-31T10:00:00.000000Z",
    "updated_at": "2026-01-31T10:00:02.000000Z",
    "started_at": "2026-01-31T10:00:00.020000Z",
    "finished_at": None,
    "expires_at": None,
    "generator": {"name": "marginals", "options": {}, "version": "1"},
    "rows": 1390,
    "rows_written": 0,
    "replicates": 1,
    "seed": 7,
    "reference_id": None,
    "evaluation": {
        "enabled": True,
        "depth": "core",
        "target": None,
        "group": None,
        "quasi_identifiers": [],
        "sensitive": [],
        "holdout": 0.3,
    },
    "progress": {"stage": "sample", "fraction": 0.42, "detail": "", "eta_seconds": 1.5},
    "usage": None,
    "release": {"decision": "not_assessed", "reasons": []},
    "warnings": [],
    "error": None,
    "labels": {"request": "DAR-2026-014"},
    "links": {
        "self": "/v1/jobs/job_1hz3k0c5m7e9q2w4r6t8y1a3sdf",
        "cancel": "/v1/jobs/job_1hz3k0c5m7e9q2w4r6t8y1a3sdf/cancel",
        "data": "/v1/jobs/job_1hz3k0c5m7e9q2w4r6t8y1a3sdf/data",
        "report": "/v1/jobs/job_1hz3k0c5m7e9q2w4r6t8y1a3sdf/report",
        "blueprint": None,
        "transcript": None,
    },
}


class Job(BaseModel):
    """A job: what was asked, complete, and how it goes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB_EXAMPLE]})

    id: str
    kind: Literal["generation", "evaluation"]
    status: Status
    created_at: dt.datetime
    updated_at: dt.datetime = Field(description="Moves at least every two seconds while the job runs.")
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    expires_at: dt.datetime | None = Field(
        description="When rows and report are deleted; known once it has ended."
    )
    generator: GeneratorUsed
    rows: int
    rows_written: int = Field(description="Over all replicates.")
    replicates: int
    seed: int
    reference_id: str | None
    evaluation: dict[str, Any]
    progress: Progress
    usage: Usage | None
    release: Release
    warnings: list[JobWarning]
    error: dict[str, Any] | None = Field(description="Why it failed: a problem object.")
    labels: dict[str, str]
    links: Links


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[Job]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")


class Estimate(BaseModel):
    """What the job would take, roughly: one worker that has nothing else to do."""

    seconds: float
    rows: int = Field(description="Over all replicates.")
    queue: Literal["quick", "heavy"]
    requests: int | None = Field(None, description="To a language model; null where none is asked.")
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = Field(None, description="Null also where no price is configured.")


class DryRun(BaseModel):
    """What would happen. Nothing is queued."""

    valid: Literal[True]
    warnings: list[JobWarning]
    repairs: list[dict[str, Any]] = Field(
        description="What cannot be had together, as asked against achieved; found by a fit on trial. Empty "
        "where the fit needs a real table or a language model: then the job's report says it."
    )
    estimate: Estimate
