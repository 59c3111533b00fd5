"""What can be done with jobs: submit, look at, list, cancel, delete. Knows no FastAPI and no Celery."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import functools
import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from app import ids
from app.config import Settings
from app.db import now, reading, transaction
from app.errors import (
    ArtifactExpired,
    Fault,
    IdempotencyKeyInProgress,
    IdempotencyKeyReused,
    InvalidInput,
    JobHasNoTranscript,
    JobNotFound,
    JobStillRunning,
    ServiceUnavailable,
)
from app.generators import registry
from app.generators.base import learns
from app.generators.registry import UnknownGenerator
from app.jobs import repository
from app.jobs.checking import Order, SchemaCache, check
from app.jobs.judging import check_evaluation, judged_tables
from app.jobs.repository import FirstAnswer, JobRecord, NewJob, Reference
from app.jobs.schemas import (
    ENDED,
    DryRun,
    Estimate,
    GeneratorUsed,
    Job,
    JobPage,
    JobWarning,
    Links,
    Progress,
    Release,
    Stage,
    Status,
)
from app.jobs.transcript import Receipts
from app.rehearsal import Rehearsed
from app.storage import ArtifactStore

Ring = Callable[[str, Literal["quick", "heavy"]], None]
"""Rings for a job (its id and queue); raises ServiceUnavailable where the broker does not answer."""

Judge = Callable[[str, Any], Order]
"""Judges the request of an owner: what is to be done, complete; raises InvalidInput."""

_log = logging.getLogger(__name__)
_JOB_ID = re.compile(r"job_[0-9a-z]{20,36}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a submission, and whether it is the first one given again."""

    job: Job
    replayed: bool


class JobService:
    """Jobs of one process's callers; every method is told whose.

    Parameters
    ----------
    engine : Engine
        The database.
    store : ArtifactStore
        Where rows and reports lie.
    settings : Settings
        For limits and lifetimes.
    ring : callable
        Rings for a job that was committed.
    """

    def __init__(self, engine: Engine, store: ArtifactStore, settings: Settings, ring: Ring) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._ring = ring
        self._schemas = SchemaCache(settings.max_fields)
        self._accepting: set[tuple[str, str]] = set()
        self._accepting_lock = threading.Lock()

    def submit(self, owner: str, document: Any, idempotency_key: str | None = None) -> Accepted:
        """Accept a job that makes a table: judge the request, commit the row, then ring.

        Parameters
        ----------
        owner : str
            Whose job it is.
        document : JSON value
            The body of the request.
        idempotency_key : str, optional
            Makes a repeated request get the first one's answer.

        Raises
        ------
        InvalidInput
            With every fault of the request.
        IdempotencyKeyReused, IdempotencyKeyInProgress
            Where the key came with another body, or the first request is still being accepted.
        """
        return self._submit(owner, document, idempotency_key, self._check)

    def submit_evaluation(self, owner: str, document: Any, idempotency_key: str | None = None) -> Accepted:
        """Accept a job that judges an uploaded table. Parameters and errors are those of `submit`."""
        return self._submit(owner, document, idempotency_key, self._check_evaluation)

    def _submit(self, owner: str, document: Any, idempotency_key: str | None, judge: Judge) -> Accepted:
        if idempotency_key is None:
            return Accepted(self._accept(owner, judge(owner, document), None, ""), replayed=False)
        digest = hashlib.sha256(
            json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
        # Looked for before and after coming alone: replays of an accepted request never wait for one another.
        first = self._first_answer(owner, idempotency_key, digest)
        if first is not None:
            return Accepted(first, replayed=True)
        with self._alone(owner, idempotency_key):
            first = self._first_answer(owner, idempotency_key, digest)
            if first is None:
                try:
                    order = judge(owner, document)
                    return Accepted(self._accept(owner, order, idempotency_key, digest), replayed=False)
                except IntegrityError:
                    # Another process was first, and has committed by now.
                    first = self._first_answer(owner, idempotency_key, digest)
                    if first is None:
                        raise
        return Accepted(first, replayed=True)

    def judge(self, owner: str, document: Any) -> Order:
        """Judge a request; nothing is stored. Raises as `submit` does."""
        return self._check(owner, document)

    def judge_evaluation(self, owner: str, document: Any) -> Order:
        """Judge a request for an evaluation; nothing is stored. Raises as `submit` does."""
        return self._check_evaluation(owner, document)

    def get(self, owner: str, job_id: str) -> Job:
        """Return a job; JobNotFound where the owner has none of that id."""
        return job_of(self.record(owner, job_id))

    def find(self, owner: str, job_id: str) -> Job | None:
        """Return a job; None where the owner has none of that id."""
        with reading(self._engine) as connection:
            record = repository.find(connection, owner, job_id)
        return None if record is None else job_of(record)

    def record(self, owner: str, job_id: str) -> JobRecord:
        """Return a job as it is stored; JobNotFound where the owner has none of that id."""
        if _JOB_ID.fullmatch(job_id) is None:
            raise _not_found()
        with reading(self._engine) as connection:
            record = repository.find(connection, owner, job_id)
        if record is None:
            raise _not_found()
        return record

    def receipts(self, owner: str, job_id: str) -> Iterator[bytes]:
        """Return what a job has asked a language model, and its answers: a JSON object each, oldest first.

        Raises
        ------
        JobNotFound, JobHasNoTranscript, ArtifactExpired
        """
        record = self.record(owner, job_id)
        if not asks_model(record.generator):
            raise JobHasNoTranscript("The job's generator asks no language model.")
        if record.expires_at is not None and record.expires_at <= now():
            raise ArtifactExpired("The job's transcript was kept until `expires_at`, and then deleted.")
        return Receipts(self._store, job_id).read()

    def page(
        self,
        owner: str,
        *,
        status: Status | None = None,
        generator: str | None = None,
        labels: Sequence[str] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return jobs that meet every filter, newest first; a label is `key:value`."""
        faults: list[Fault] = []
        pairs = []
        for label in labels:
            key, colon, value = label.partition(":")
            if not colon or not key or "\x00" in label:
                faults.append(Fault("/query/label", "A label filter is `key:value`."))
            pairs.append((key, value))
        before = None if cursor is None else _id_of(cursor)
        if cursor is not None and before is None:
            faults.append(
                Fault(
                    "/query/cursor", "This is not a cursor: give `next_cursor` of the page before, as it is."
                )
            )
        if generator is not None and "\x00" in generator:
            faults.append(Fault("/query/generator", "There is no generator of this name."))
        if faults:
            raise InvalidInput(faults)
        with reading(self._engine) as connection:
            records = repository.page(
                connection,
                owner,
                status=status,
                generator=generator,
                labels=pairs,
                before=before,
                limit=limit + 1,
            )
        shown = records[:limit]
        more = len(records) > limit
        return JobPage(
            items=[job_of(record) for record in shown], next_cursor=_cursor(shown[-1].id) if more else None
        )

    def cancel(self, owner: str, job_id: str) -> tuple[Job, bool]:
        """Cancel a job: a queued one ends at once, a running one is asked to stop, an ended one stays.

        Returns
        -------
        (Job, bool)
            The job, and whether it had ended before.
        """
        self.record(owner, job_id)
        moment = now()
        with transaction(self._engine) as connection:
            expires_at = moment + dt.timedelta(seconds=self._settings.job_ttl)
            stops = repository.cancel_queued(
                connection, owner, job_id, moment, expires_at
            ) or repository.request_cancel(connection, owner, job_id)
        return self.get(owner, job_id), not stops

    def delete(self, owner: str, job_id: str) -> None:
        """Delete a job with all that was made for it.

        Raises
        ------
        JobNotFound
            Where the owner has no such job.
        JobStillRunning
            Where a worker is at it.
        """
        record = self.record(owner, job_id)
        if record.status in ENDED:
            # The files go first: where the store fails, the job stays and can be deleted again.
            self._store.delete_prefix(f"jobs/{job_id}/")
        with transaction(self._engine) as connection:
            removed = repository.remove(connection, owner, job_id)
        if not removed:
            self.record(owner, job_id)
            raise JobStillRunning("The job is running: cancel it, then delete it.")

    def _check(self, owner: str, document: Any) -> Order:
        return check(
            document, lambda dataset_id: self._reference(owner, dataset_id), self._settings, self._schemas
        )

    def _check_evaluation(self, owner: str, document: Any) -> Order:
        return check_evaluation(
            document, lambda dataset_id: self._reference(owner, dataset_id), self._settings, self._schemas
        )

    def _reference(self, owner: str, dataset_id: str) -> Reference | None:
        if re.fullmatch(r"ds_[0-9a-z]{20,36}", dataset_id) is None:
            return None
        with reading(self._engine) as connection:
            return repository.reference(connection, owner, dataset_id, now())

    def _accept(self, owner: str, order: Order, idempotency_key: str | None, digest: str) -> Job:
        moment = now()
        new = _new_job(owner, order)
        job = _queued_job(new, moment)
        with transaction(self._engine) as connection:
            # The datasets were seen by a transaction of its own: one may be gone by now.
            if new.reference_id is not None and not repository.count_attempt(
                connection, owner, new.reference_id
            ):
                raise _deleted("/reference_id")
            for name, dataset_id in sorted(judged_tables(order).items()):
                if not repository.hold(connection, owner, dataset_id):
                    raise _deleted(f"/{name}")
            repository.add(connection, new, moment)
            if idempotency_key is not None:
                first = FirstAnswer(digest, new.id, job.model_dump(mode="json"))
                repository.keep_answer(connection, owner, idempotency_key, first, moment)
        try:
            self._ring(new.id, new.queue)
        except ServiceUnavailable:
            _log.warning("job %s is queued but the broker did not answer; the sweeper rings again", new.id)
        return job

    def _first_answer(self, owner: str, key: str, digest: str) -> Job | None:
        with reading(self._engine) as connection:
            first = repository.first_answer(connection, owner, key)
        if first is None:
            return None
        if first.body_sha256 != digest:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used with another body. Use a new key for a new request."
            )
        return Job.model_validate(first.answer)

    @contextmanager
    def _alone(self, owner: str, key: str) -> Iterator[None]:
        # Requests of this process meet here, those of other processes at the unique row.
        with self._accepting_lock:
            if (owner, key) in self._accepting:
                raise IdempotencyKeyInProgress("Send it again in a second to get the first request's answer.")
            self._accepting.add((owner, key))
        try:
            yield
        finally:
            self._accepting.discard((owner, key))


def _not_found() -> JobNotFound:
    return JobNotFound("There is no job of this id. It may have been deleted, or belong to another owner.")


def _deleted(place: str) -> InvalidInput:
    return InvalidInput([Fault(place, "The dataset was deleted a moment ago. Upload it again.")])


def can_be_rehearsed(order: Order) -> bool:
    """Whether a fit can be tried without a job: from declarations alone, by no model that costs money."""
    if order.kind != "generation":
        return False
    generator = registry.load(order.generator)
    asks = generator.capabilities.uses_llm or order.judged is not None
    if asks:
        return False
    options = generator.Options.model_validate(order.options)
    return not learns(generator(options), options)


def dry_run_of(order: Order, rehearsed: Rehearsed) -> DryRun:
    """Say what would become of an order."""
    told = dict.fromkeys((*order.warnings, *rehearsed.warnings))
    warnings = [JobWarning(pointer=fault.pointer, message=fault.message) for fault in told]
    return DryRun(valid=True, warnings=warnings, repairs=list(rehearsed.repairs), estimate=_estimate(order))


def _queue(order: Order) -> Literal["quick", "heavy"]:
    return "heavy" if order.heavy else "quick"


def _estimate(order: Order) -> Estimate:
    # Orders of magnitude on one core: 0.1 s for a job at all, 2 million cells a second, and a report on the
    # first 200,000 rows of each replicate at 20 ms a column.
    cells = order.rows * order.replicates * len(order.schema.fields)
    seconds = 0.1 + order.learning + cells / 2e6
    if order.evaluation.enabled:
        seconds += 0.3 + 0.02 * len(order.schema.fields) * order.replicates
    judged = order.judged
    asked = (
        {}
        if judged is None
        else {
            "requests": judged.requests,
            "prompt_tokens": judged.prompt_tokens,
            "completion_tokens": judged.completion_tokens,
            "cost_usd": judged.cost_usd,
        }
    )
    return Estimate.model_validate(
        {"seconds": round(seconds, 2), "rows": order.rows * order.replicates, "queue": _queue(order)} | asked
    )


def _new_job(owner: str, order: Order) -> NewJob:
    return NewJob(
        id=ids.new_id("job"),
        owner=owner,
        kind=order.kind,
        queue=_queue(order),
        generator=order.generator,
        generator_version=order.version,
        options=order.options,
        schema_document=dict(order.schema.document),
        rows=order.rows,
        replicates=order.replicates,
        seed=order.seed,
        reference_id=order.reference_id,
        evaluation=order.evaluation.model_dump(),
        release_limits=None if order.release is None else order.release.model_dump(exclude_none=True),
        labels=order.labels,
        warnings=[{"pointer": fault.pointer, "message": fault.message} for fault in order.warnings],
    )


def _queued_job(new: NewJob, moment: dt.datetime) -> Job:
    return job_of(
        JobRecord(
            id=new.id,
            kind=new.kind,
            status="queued",
            created_at=moment,
            updated_at=moment,
            started_at=None,
            finished_at=None,
            expires_at=None,
            generator=new.generator,
            generator_version=new.generator_version,
            options=new.options,
            rows=new.rows,
            replicates=new.replicates,
            seed=new.seed,
            reference_id=new.reference_id,
            evaluation=new.evaluation,
            labels=new.labels,
            stage=None,
            fraction=0.0,
            detail="",
            eta_seconds=None,
            rows_written=0,
            warnings=new.warnings,
            usage=None,
            release_decision=None,
            error=None,
        )
    )


def job_of(record: JobRecord) -> Job:
    """Return a stored job as it is shown."""
    path = f"/v1/jobs/{record.id}"
    return Job.model_validate(
        {
            "id": record.id,
            "kind": record.kind,
            "status": record.status,
            "created_at": record.created_at,
            "updated_at": record.updated_at,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
            "expires_at": record.expires_at,
            "generator": GeneratorUsed.model_construct(
                name=record.generator, options=record.options, version=record.generator_version
            ),
            "rows": record.rows,
            "rows_written": record.rows_written,
            "replicates": record.replicates,
            "seed": record.seed,
            "reference_id": record.reference_id,
            "evaluation": record.evaluation,
            "progress": Progress.model_construct(
                stage=cast(Stage | None, record.stage),  # only stages are ever written
                fraction=record.fraction,
                detail=record.detail,
                eta_seconds=record.eta_seconds,
            ),
            "usage": record.usage,
            "release": Release.model_validate(record.release_decision or _NOT_ASSESSED),
            "warnings": record.warnings,
            "error": record.error,
            "labels": record.labels,
            "links": Links.model_construct(
                self=path,
                cancel=f"{path}/cancel",
                data=f"{path}/data" if record.kind == "generation" else None,
                report=f"{path}/report",
                blueprint=f"{path}/blueprint" if has_blueprint(record.generator, record.options) else None,
                transcript=f"{path}/transcript" if asks_model(record.generator) else None,
            ),
        }
    )


@functools.cache
def asks_model(generator: str) -> bool:
    """Whether a generator asks a language model; no, where it is not installed any more."""
    try:
        return registry.load(generator).capabilities.uses_llm
    except UnknownGenerator:
        return False


def has_blueprint(generator: str, options: Mapping[str, Any]) -> bool:
    """Whether a job of a generator has a blueprint; no, where it is not installed any more."""
    try:
        loaded = registry.load(generator)
    except UnknownGenerator:
        return False
    depends = getattr(loaded, "has_blueprint", None)
    return loaded.capabilities.has_blueprint and (depends is None or depends(options))


_NOT_ASSESSED = {"decision": "not_assessed", "reasons": []}


def _cursor(job_id: str) -> str:
    return base64.urlsafe_b64encode(job_id.encode()).decode().rstrip("=")


def _id_of(cursor: str) -> str | None:
    try:
        job_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return job_id if _JOB_ID.fullmatch(job_id) else None
