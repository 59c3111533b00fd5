"""Errors as RFC 9457 problem objects: the one place where an error gets its HTTP status.

Knows no web framework. Workers use it too: a failed job carries a problem object in `error`.
`app.problems` answers requests with it.
"""

from __future__ import annotations

from typing import Any

from app import errors
from app.errors import InvalidInput, SynthwardError


class RouteNotFound(SynthwardError):
    """Nothing is served under this path."""

    slug = "route-not-found"
    title = "There is nothing under this path"


class MethodNotAllowed(SynthwardError):
    """The path exists and does not answer this method."""

    slug = "method-not-allowed"
    title = "The method is not allowed here"


class NotAcceptable(SynthwardError):
    """None of the formats that the caller accepts is offered."""

    slug = "not-acceptable"
    title = "None of the accepted formats is offered"


class RequestTooLarge(SynthwardError):
    """The body is larger than the configured limit."""

    slug = "request-too-large"
    title = "The request body is too large"


class UnsupportedMediaType(SynthwardError):
    """The body is of a type that the route does not read."""

    slug = "unsupported-media-type"
    title = "The body is of a type that is not read here"


class MalformedJson(SynthwardError):
    """The body is not JSON as RFC 8259 has it."""

    slug = "malformed-json"
    title = "The body is not valid JSON"


class BadRequest(SynthwardError):
    """The request breaks HTTP or a limit of it."""

    slug = "bad-request"
    title = "The request cannot be read"


class RangeNotSatisfiable(SynthwardError):
    """The asked range lies outside the file."""

    slug = "range-not-satisfiable"
    title = "The range lies outside the file"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.")
        self.size = size


class InternalError(SynthwardError):
    """Something unexpected happened; the incident id leads to it in the log."""

    slug = "internal-error"
    title = "Something unexpected went wrong"


class ProblemType:
    """What is said of a kind of error: its status, and what its reader can do.

    Parameters
    ----------
    status : int
        HTTP status.
    advice : str
        One or two sentences for the page at `/problems/<slug>`.
    """

    __slots__ = ("advice", "status")

    def __init__(self, status: int, advice: str) -> None:
        self.status, self.advice = status, advice


PROBLEM_TYPES: dict[type[SynthwardError], ProblemType] = {
    SynthwardError: ProblemType(500, "Ask again; if it stays, tell the operator when it happened."),
    errors.InvalidInput: ProblemType(
        422,
        "Each entry of `errors` names a place and the way out. A pointer leads into the JSON body that was "
        "sent; "
        "`/query/<name>`, `/path/<name>` and `/headers/<name>` name a parameter of the URL or a header. "
        "Correct all of them and send the request again; `?dry_run=true` checks a job without queueing it.",
    ),
    errors.JobNotFound: ProblemType(
        404,
        "Check the id, and that the key belongs to the owner who posted the job. Expired jobs are deleted.",
    ),
    errors.DatasetNotFound: ProblemType(
        404,
        "Check the id, and that the key belongs to the owner who uploaded it. Expired datasets are deleted.",
    ),
    errors.JobStillRunning: ProblemType(
        409,
        "Wait for the seconds in `Retry-After` and ask again, or post jobs with `Prefer: wait=20`. "
        "To be rid of a running job, cancel it first.",
    ),
    errors.JobHasNoData: ProblemType(
        409, "Read the job's `status` and `error`: they say why there are no rows. Post a new job."
    ),
    errors.JobHasNoReport: ProblemType(
        409, "Post the job with `evaluation.enabled` true. The job's `status` and `error` say how it ended."
    ),
    errors.JobHasNoBlueprint: ProblemType(
        409,
        "Use a generator that has one: `blueprint` does. The job's `status` and `error` say how it ended.",
    ),
    errors.RowsWithheld: ProblemType(
        403,
        "A release limit of the job was not kept or could not be measured. The job's `release.reasons` and "
        "its "
        "report say which. Change the generator, the schema or the limit, and post a new job.",
    ),
    errors.ArtifactExpired: ProblemType(
        410, "Post the same request with the same seed: a reproducible generator makes the same rows again."
    ),
    errors.ArtifactMissing: ProblemType(
        500,
        "The store lost or damaged a file. Tell the operator; posting the same request with the same seed "
        "makes "
        "the rows again.",
    ),
    errors.FormatCannotHoldRows: ProblemType(
        406, "Ask for `format=csv`, `parquet` or `jsonl`, or for fewer rows."
    ),
    errors.DatasetInUse: ProblemType(409, "Wait for the jobs that use it, or cancel them, then delete it."),
    errors.UploadTooLarge: ProblemType(
        413, "Send fewer rows or columns, or Parquet instead of CSV; the operator can raise the limit."
    ),
    errors.UploadUnreadable: ProblemType(
        422,
        "The problem names line and column. Save the table as UTF-8 CSV with one header line, or as Parquet.",
    ),
    errors.IdempotencyKeyReused: ProblemType(
        422, "Use a new Idempotency-Key for a new request; repeat a request with exactly the body it had."
    ),
    errors.IdempotencyKeyInProgress: ProblemType(
        409, "Wait a second and send the same request again: it will get the first one's answer."
    ),
    errors.NotAuthenticated: ProblemType(
        401, "Send `Authorization: Bearer <key>`. An operator makes keys with `synthward keys create`."
    ),
    errors.HostNotAllowed: ProblemType(
        403,
        "Without keys the service answers this machine only, by a loopback name and without a proxy. "
        "Run it with keys to be asked from elsewhere.",
    ),
    errors.RowShortfall: ProblemType(
        422,
        "The detail names the rule or constraint that too few candidates meet. Loosen it, or ask for fewer "
        "rows.",
    ),
    errors.GeneratorFailed: ProblemType(
        500,
        "Tell the operator the incident id; the log carries it. Another generator or other options may work "
        "meanwhile.",
    ),
    errors.ReferenceTooSmall: ProblemType(
        422,
        "Upload more rows, choose a smaller holdout, or choose a generator that learns from statistics "
        "alone.",
    ),
    errors.WorkerLost: ProblemType(
        500,
        "The processes that worked on the job kept dying. Tell the operator, and try fewer rows or columns.",
    ),
    errors.StorageFull: ProblemType(
        507, "Tell the operator; delete jobs and datasets that are no longer needed."
    ),
    errors.OutOfMemory: ProblemType(
        507,
        "Ask for fewer columns or levels, or a lighter generator; the operator can give the workers more "
        "memory.",
    ),
    errors.ServiceUnavailable: ProblemType(
        503, "Wait for the seconds in `Retry-After` and ask again. Use an Idempotency-Key when posting jobs."
    ),
    errors.ProviderError: ProblemType(
        502, "The detail says what the provider answered. The job's transcript has what was asked so far."
    ),
    errors.ProviderNotConfigured: ProblemType(
        422, "Choose a configured provider in `options.provider`, or have the operator configure one."
    ),
    errors.OutgoingCallsOff: ProblemType(
        422, "Choose a generator that asks no language model; the operator has set `SYNTHWARD_OFFLINE`."
    ),
    errors.ProviderUnavailable: ProblemType(
        503,
        "Post the job again later. Where it stays tell the operator: address, network, provider's status.",
    ),
    errors.ProviderRateLimited: ProblemType(
        503, "Post the job again later, or have the operator lower the provider's `CONCURRENCY`."
    ),
    errors.ProviderQuotaExhausted: ProblemType(
        502, "Tell the operator: the account at the provider needs credit, or another provider is needed."
    ),
    errors.ProviderRefusedKey: ProblemType(
        502, "Tell the operator: the provider's `API_KEY` is wrong, has expired or may not use the model."
    ),
    errors.ModelUnknown: ProblemType(
        502, "Tell the operator: the provider's `MODEL` or `BASE_URL` is misspelt, or the model is gone."
    ),
    errors.ProviderRefusedRequest: ProblemType(
        502, "Tell the operator what the detail says; another `MODE` of the provider, or model, may work."
    ),
    errors.PromptTooLong: ProblemType(
        502, "Shorten descriptions and lists of categories, or choose a model with a larger context window."
    ),
    errors.AnswerTruncated: ProblemType(
        502, "Choose a model that may answer longer, or send fewer columns. The transcript shows the answers."
    ),
    errors.AnswerRefused: ProblemType(
        502, "Look at descriptions and categories for what a model may decline, or choose another provider."
    ),
    errors.AnswerFiltered: ProblemType(
        502, "Look at descriptions and categories for what a filter may object to, or choose another one."
    ),
    errors.AnswerEmpty: ProblemType(502, "Post the job again, or choose another provider."),
    errors.AnswerInvalid: ProblemType(
        502, "Choose a more capable model. The transcript shows what was asked and what was answered."
    ),
    errors.BudgetReached: ProblemType(
        422,
        "Raise `options.max_tokens` or `options.max_cost_usd`, or ask for less; `?dry_run=true` estimates "
        "both. The job's transcript has the answers that were paid for.",
    ),
    errors.DeadlinePassed: ProblemType(
        503, "Post the job again later, ask for less, or have the operator raise the provider's `DEADLINE`."
    ),
    errors.JobHasNoTranscript: ProblemType(
        409, "Only jobs whose generator asks a language model have a transcript: `llm` does."
    ),
    RouteNotFound: ProblemType(404, "`/docs` lists every route."),
    MethodNotAllowed: ProblemType(405, "The `Allow` header names the methods that this path answers."),
    NotAcceptable: ProblemType(406, "Widen the `Accept` header, or name a `format` in the query."),
    RequestTooLarge: ProblemType(413, "Send a smaller document; the operator can raise the limit."),
    UnsupportedMediaType: ProblemType(
        415,
        "Send JSON with `Content-Type: application/json`, uncompressed and in UTF-8; files go as "
        "multipart/form-data.",
    ),
    MalformedJson: ProblemType(
        422,
        "The detail names line and column. Names within an object may not repeat, and NaN and Infinity are "
        "not JSON.",
    ),
    BadRequest: ProblemType(400, "The detail says what is wrong with the request."),
    RangeNotSatisfiable: ProblemType(
        416, "`Content-Range` tells the size of the file. Ask for one range within it, or leave `Range` out."
    ),
    InternalError: ProblemType(
        500, "It is not your fault. Tell the operator the incident id; the log carries it and what happened."
    ),
}
"""Every kind of error, its status and advice; a subclass without a line of its own has its parent's."""


def problem_type_of(kind: type[SynthwardError]) -> ProblemType:
    """Return the line of `PROBLEM_TYPES` that speaks for a class of errors."""
    return next(PROBLEM_TYPES[parent] for parent in kind.__mro__ if parent in PROBLEM_TYPES)


def status_of(error: SynthwardError) -> int:
    """Return the HTTP status of an error."""
    return problem_type_of(type(error)).status


def problem_of(error: SynthwardError, *, instance: str | None = None) -> dict[str, Any]:
    """Return the RFC 9457 problem object of an error.

    Parameters
    ----------
    error : SynthwardError
        What went wrong.
    instance : str, optional
        The path that was asked, or the job's; left out where None.

    Returns
    -------
    dict
        JSON-ready: `type` (a path), `title`, `status`, `detail`, and `instance` and `errors` if any.
    """
    problem: dict[str, Any] = {
        "type": f"/problems/{error.slug}",
        "title": error.title,
        "status": status_of(error),
        "detail": error.detail,
    }
    if instance is not None:
        problem["instance"] = instance
    if isinstance(error, InvalidInput):
        problem["errors"] = [{"pointer": fault.pointer, "message": fault.message} for fault in error.faults]
    return problem
