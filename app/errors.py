"""What can go wrong, in the domain's own words. Knows no HTTP: `app.problems` gives each word its status.

Each class carries a `slug` (the last part of its problem type, `/problems/<slug>`) and a `title`; an
instance carries the `detail`, which says what happened and what the reader can do about it. Neither may
hold a cell of a real table, a key, or a path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: where it is, what is wrong, and the way out.

    Parameters
    ----------
    pointer : str
        JSON pointer (RFC 6901) into the document that the caller sent, `""` for the whole document.
    message : str
        What is wrong and what would be right.
    """

    pointer: str
    message: str

    def under(self, prefix: str) -> Fault:
        """Return the same fault, seen from a document that holds this one at `prefix`."""
        return Fault(prefix + self.pointer, self.message)


def pointer(*parts: str | int) -> str:
    """Build a JSON pointer (RFC 6901) from its unescaped parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


class SynthwardError(Exception):
    """Base of everything that Synthward raises on purpose."""

    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidInput(SynthwardError):
    """The caller's document has faults; all that can be found at once are named."""

    slug = "invalid-input"
    title = "The input is not valid"

    def __init__(self, faults: Iterable[Fault], detail: str | None = None) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(
            detail or f"{count} {'fault' if count == 1 else 'faults'} found; each is named in `errors`."
        )


class JobNotFound(SynthwardError):
    """No such job, or another owner's."""

    slug = "job-not-found"
    title = "There is no such job"


class DatasetNotFound(SynthwardError):
    """No such dataset, or another owner's."""

    slug = "dataset-not-found"
    title = "There is no such dataset"


class JobStillRunning(SynthwardError):
    """The job has not ended yet, and what was asked for needs an ended one."""

    slug = "job-still-running"
    title = "The job has not ended yet"


class JobHasNoData(SynthwardError):
    """The job ended without rows: it failed or was cancelled."""

    slug = "job-has-no-data"
    title = "The job has no rows"


class JobHasNoReport(SynthwardError):
    """The job was not asked to evaluate, or ended before the report was made."""

    slug = "job-has-no-report"
    title = "The job has no report"


class JobHasNoBlueprint(SynthwardError):
    """The job's generator has no blueprint, or it ended before there was one."""

    slug = "job-has-no-blueprint"
    title = "The job has no blueprint"


class RowsWithheld(SynthwardError):
    """The release stage decided against giving the rows out."""

    slug = "rows-withheld"
    title = "The rows are withheld"


class ArtifactExpired(SynthwardError):
    """What was stored has passed its time and was deleted."""

    slug = "expired"
    title = "This has expired and was deleted"


class ArtifactMissing(SynthwardError):
    """What the database says is stored is not in the store, or is not what was stored."""

    slug = "artifact-missing"
    title = "A stored file is missing or damaged"


class FormatCannotHoldRows(SynthwardError):
    """The asked format has a limit that the table exceeds."""

    slug = "format-cannot-hold-rows"
    title = "The format cannot hold this many rows"


class DatasetInUse(SynthwardError):
    """A job that has not ended needs the dataset."""

    slug = "dataset-in-use"
    title = "A job is using the dataset"


class UploadTooLarge(SynthwardError):
    """The upload exceeds a configured limit."""

    slug = "upload-too-large"
    title = "The upload is too large"


class UploadUnreadable(InvalidInput):
    """The uploaded file cannot be read as a table; says line and column, never the cell."""

    slug = "upload-unreadable"
    title = "The file cannot be read as a table"


class IdempotencyKeyReused(SynthwardError):
    """The same Idempotency-Key came with another body."""

    slug = "idempotency-key-reused"
    title = "The Idempotency-Key was used with another body"


class IdempotencyKeyInProgress(SynthwardError):
    """The first request with this Idempotency-Key is still being accepted."""

    slug = "idempotency-key-in-progress"
    title = "The first request with this Idempotency-Key is still being accepted"


class NotAuthenticated(SynthwardError):
    """No key, or one that is not known."""

    slug = "not-authenticated"
    title = "A valid API key is needed"


class HostNotAllowed(SynthwardError):
    """The service runs without keys and was asked under a name that is not this machine's."""

    slug = "host-not-allowed"
    title = "Without keys only this machine may ask"


class RowShortfall(SynthwardError):
    """Fewer rows than asked for could be made.

    Parameters
    ----------
    asked, made : int
        Row counts.
    why : str
        The rule or constraint that is to blame, and what the caller can change.
    """

    slug = "row-shortfall"
    title = "Not all rows could be made"

    def __init__(self, asked: int, made: int, why: str) -> None:
        super().__init__(f"{asked} rows were asked for and {made} could be made: {why}")
        self.asked, self.made, self.why = asked, made, why

    def __reduce__(self) -> tuple[type[RowShortfall], tuple[int, int, str]]:
        """Survive the way between processes."""
        return type(self), (self.asked, self.made, self.why)


class GeneratorFailed(SynthwardError):
    """A generator stopped with an error that is not the caller's."""

    slug = "generator-failed"
    title = "The generator failed"


class ReferenceTooSmall(SynthwardError):
    """The reference has too few rows for what was asked."""

    slug = "reference-too-small"
    title = "The reference has too few rows"


class WorkerLost(SynthwardError):
    """The job's workers died as often as is tolerated."""

    slug = "worker-lost"
    title = "The job's workers were lost"


class StorageFull(SynthwardError):
    """The store has no room."""

    slug = "storage-full"
    title = "There is no room to store the result"


class OutOfMemory(SynthwardError):
    """The job's process was ended for want of memory."""

    slug = "out-of-memory"
    title = "The job ran out of memory"


class ServiceUnavailable(SynthwardError):
    """A part that the service needs does not answer; asking again later may work."""

    slug = "service-unavailable"
    title = "A part of the service does not answer"


class ProviderError(SynthwardError):
    """A language model could not be asked, or what it answered could not be used."""

    slug = "provider-failed"
    title = "The language model could not be asked"

    def __reduce__(self) -> tuple[type[ProviderError], tuple[str]]:
        """Survive the way between processes."""
        return type(self), (self.detail,)


class ProviderNotConfigured(ProviderError):
    """The job names a provider that the configuration does not have."""

    slug = "provider-not-configured"
    title = "The language model is not configured"


class OutgoingCallsOff(ProviderError):
    """The operator has switched every outgoing call off."""

    slug = "outgoing-calls-off"
    title = "Outgoing calls are switched off"


class ProviderUnavailable(ProviderError):
    """The provider does not answer, or answers with errors of its own, again and again."""

    slug = "provider-unavailable"
    title = "The language model's provider does not answer"


class ProviderRateLimited(ProviderError):
    """The provider asks to wait longer than the job may take."""

    slug = "provider-rate-limited"
    title = "The language model's provider asks to wait"


class ProviderQuotaExhausted(ProviderError):
    """The account at the provider has nothing left to spend."""

    slug = "provider-quota-exhausted"
    title = "The account at the language model's provider is exhausted"


class ProviderRefusedKey(ProviderError):
    """The provider does not accept the configured key."""

    slug = "provider-refused-key"
    title = "The language model's provider refuses the key"


class ModelUnknown(ProviderError):
    """The provider has no such model, or no such address."""

    slug = "model-unknown"
    title = "The provider does not know the language model"


class ProviderRefusedRequest(ProviderError):
    """The provider refuses the request itself, also in the plainest form that we can send."""

    slug = "provider-refused-request"
    title = "The language model's provider refuses the request"


class PromptTooLong(ProviderError):
    """The prompt does not fit the model's context window."""

    slug = "prompt-too-long"
    title = "The prompt is too long for the language model"


class AnswerTruncated(ProviderError):
    """The model's answers end before they are complete."""

    slug = "answer-truncated"
    title = "The language model's answer was cut off"


class AnswerRefused(ProviderError):
    """The model declines to answer."""

    slug = "answer-refused"
    title = "The language model declined to answer"


class AnswerFiltered(ProviderError):
    """The provider's content filter withheld the answer or the prompt."""

    slug = "answer-filtered"
    title = "The provider's content filter withheld the answer"


class AnswerEmpty(ProviderError):
    """The provider answers without an answer in it."""

    slug = "answer-empty"
    title = "The language model's answer was empty"


class AnswerInvalid(ProviderError):
    """The model's answers are not what was asked for, also when told so."""

    slug = "answer-invalid"
    title = "The language model's answers cannot be read"


class BudgetReached(ProviderError):
    """The job's own limit of tokens or cost does not allow the next request."""

    slug = "budget-reached"
    title = "The job's budget is reached"


class DeadlinePassed(ProviderError):
    """The language model took longer than a job may ask it."""

    slug = "deadline-passed"
    title = "The language model took too long"


class JobHasNoTranscript(SynthwardError):
    """The job's generator asks no language model."""

    slug = "job-has-no-transcript"
    title = "The job has no transcript"
