"""Reads and writes of jobs by the HTTP side, always scoped by owner. Transactions are the caller's.

What workers write while a job runs is in `app.jobs.leases`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from app.datasets.models import DatasetRow
from app.jobs.models import ArtifactRow, IdempotencyRow, JobLabelRow, JobRow
from app.jobs.schemas import ENDED, Status


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known of a job once it is accepted."""

    id: str
    owner: str
    kind: str
    queue: Literal["quick", "heavy"]
    generator: str
    generator_version: str
    options: dict[str, Any]
    schema_document: dict[str, Any]
    rows: int
    replicates: int
    seed: int
    reference_id: str | None
    evaluation: dict[str, Any]
    release_limits: dict[str, Any] | None
    labels: dict[str, str]
    warnings: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is shown: all but its schema, which can be large, and the workers' own columns."""

    id: str
    kind: str
    status: Status
    created_at: dt.datetime
    updated_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    expires_at: dt.datetime | None
    generator: str
    generator_version: str
    options: dict[str, Any]
    rows: int
    replicates: int
    seed: int
    reference_id: str | None
    evaluation: dict[str, Any]
    labels: dict[str, str]
    stage: str | None
    fraction: float
    detail: str
    eta_seconds: float | None
    rows_written: int
    warnings: list[dict[str, str]]
    usage: dict[str, Any] | None
    release_decision: dict[str, Any] | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file of a job."""

    key: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of a real table without reading it."""

    id: str
    rows: int
    schema_document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first request with an Idempotency-Key was, and what it was answered."""

    body_sha256: str
    job_id: str
    answer: dict[str, Any]


_SHOWN = [getattr(JobRow, name) for name in JobRecord.__dataclass_fields__]


def _record(row: Row[Any]) -> JobRecord:
    return JobRecord(**row._mapping)


def add(connection: Connection, job: NewJob, at: dt.datetime) -> None:
    """Store a job as queued, with its labels."""
    connection.execute(
        insert(JobRow),
        [
            {
                "id": job.id,
                "owner": job.owner,
                "kind": job.kind,
                "status": "queued",
                "queue": job.queue,
                "created_at": at,
                "updated_at": at,
                "generator": job.generator,
                "generator_version": job.generator_version,
                "options": job.options,
                "schema_document": job.schema_document,
                "rows": job.rows,
                "replicates": job.replicates,
                "seed": job.seed,
                "reference_id": job.reference_id,
                "evaluation": job.evaluation,
                "release_limits": job.release_limits,
                "labels": job.labels,
                "rung_at": at,
                "warnings": job.warnings,
            }
        ],
    )
    if job.labels:
        labels = [{"job_id": job.id, "key": key, "value": value} for key, value in job.labels.items()]
        connection.execute(insert(JobLabelRow), labels)


def find(connection: Connection, owner: str, job_id: str) -> JobRecord | None:
    """Return a job of the owner's; None where there is none."""
    row = connection.execute(select(*_SHOWN).where(JobRow.id == job_id, JobRow.owner == owner)).one_or_none()
    return None if row is None else _record(row)


def page(
    connection: Connection,
    owner: str,
    *,
    status: Status | None,
    generator: str | None,
    labels: Sequence[tuple[str, str]],
    before: str | None,
    limit: int,
) -> list[JobRecord]:
    """Return jobs of the owner's, newest first, that meet every filter; `before` is the last id seen."""
    statement = select(*_SHOWN).where(JobRow.owner == owner)
    if status is not None:
        statement = statement.where(JobRow.status == status)
    if generator is not None:
        statement = statement.where(JobRow.generator == generator)
    for key, value in labels:
        statement = statement.where(
            exists().where(
                JobLabelRow.job_id == JobRow.id, JobLabelRow.key == key, JobLabelRow.value == value
            )
        )
    if before is not None:
        statement = statement.where(JobRow.id < before)
    rows = connection.execute(statement.order_by(JobRow.id.desc()).limit(limit))
    return [_record(row) for row in rows]


def ended(connection: Connection, job_ids: Collection[str]) -> set[str]:
    """Return those of the jobs that have ended or are no longer there. Ids were scoped when waiting began."""
    statement = select(JobRow.id).where(JobRow.id.in_(job_ids), JobRow.status.not_in(ENDED))
    return set(job_ids) - set(connection.execute(statement).scalars())


def cancel_queued(
    connection: Connection, owner: str, job_id: str, at: dt.datetime, expires_at: dt.datetime
) -> bool:
    """End a job that no worker has claimed; False where one has, or it has ended."""
    statement = (
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.owner == owner, JobRow.status == "queued")
        .values(
            status="cancelled", cancel_requested=True, finished_at=at, updated_at=at, expires_at=expires_at
        )
    )
    return connection.execute(statement).rowcount == 1


def request_cancel(connection: Connection, owner: str, job_id: str) -> bool:
    """Ask the worker of a running job to stop; False where the job is not running."""
    statement = (
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.owner == owner, JobRow.status == "running")
        .values(cancel_requested=True)
    )
    return connection.execute(statement).rowcount == 1


def remove(connection: Connection, owner: str, job_id: str) -> bool:
    """Delete a job that is not running, with all that hangs on it; False where nothing was deleted."""
    statement = delete(JobRow).where(JobRow.id == job_id, JobRow.owner == owner, JobRow.status != "running")
    return connection.execute(statement).rowcount == 1


def artifacts(
    connection: Connection, owner: str, job_id: str, name: str, replicate: int = 0
) -> list[Artifact]:
    """Return the parts of a stored thing of a job, in order."""
    statement = (
        select(ArtifactRow.key, ArtifactRow.sha256, ArtifactRow.bytes)
        .join(JobRow, JobRow.id == ArtifactRow.job_id)
        .where(
            JobRow.owner == owner,
            ArtifactRow.job_id == job_id,
            ArtifactRow.name == name,
            ArtifactRow.replicate == replicate,
        )
        .order_by(ArtifactRow.part)
    )
    return [Artifact(*row) for row in connection.execute(statement)]


def schema_document(connection: Connection, owner: str, job_id: str) -> dict[str, Any] | None:
    """Return the schema of a job; None where there is no such job."""
    statement = select(JobRow.schema_document).where(JobRow.id == job_id, JobRow.owner == owner)
    return connection.execute(statement).scalar_one_or_none()


def add_artifact(
    connection: Connection, owner: str, job_id: str, name: str, replicate: int, stored: Artifact
) -> bool:
    """Record a stored file of a job; False where the job is no longer there."""
    if (
        connection.execute(select(JobRow.id).where(JobRow.id == job_id, JobRow.owner == owner)).first()
        is None
    ):
        return False
    forget_artifact(connection, job_id, name, replicate)
    connection.execute(
        insert(ArtifactRow).values(
            job_id=job_id,
            name=name,
            replicate=replicate,
            part=0,
            key=stored.key,
            sha256=stored.sha256,
            bytes=stored.bytes,
        )
    )
    return True


def forget_artifact(connection: Connection, job_id: str, name: str, replicate: int) -> None:
    """Take back the record of a stored file."""
    connection.execute(
        delete(ArtifactRow).where(
            ArtifactRow.job_id == job_id, ArtifactRow.name == name, ArtifactRow.replicate == replicate
        )
    )


def reference(connection: Connection, owner: str, dataset_id: str, at: dt.datetime) -> Reference | None:
    """Return a dataset of the owner's that has not expired; None where there is none."""
    row = connection.execute(
        select(DatasetRow.id, DatasetRow.rows, DatasetRow.schema_document).where(
            DatasetRow.id == dataset_id, DatasetRow.owner == owner, DatasetRow.expires_at > at
        )
    ).one_or_none()
    return None if row is None else Reference(*row)


def count_attempt(connection: Connection, owner: str, dataset_id: str) -> bool:
    """Count that a job uses the dataset, and hold it until the transaction ends; False where it is gone."""
    statement = (
        update(DatasetRow)
        .where(DatasetRow.id == dataset_id, DatasetRow.owner == owner)
        .values(attempts=DatasetRow.attempts + 1)
    )
    return connection.execute(statement).rowcount == 1


def hold(connection: Connection, owner: str, dataset_id: str) -> bool:
    """Keep a dataset from being deleted until the transaction ends; False where it is gone."""
    statement = select(DatasetRow.id).where(DatasetRow.id == dataset_id, DatasetRow.owner == owner)
    return connection.execute(statement.with_for_update()).first() is not None


def first_answer(connection: Connection, owner: str, key: str) -> FirstAnswer | None:
    """Return the first answer to a request with this Idempotency-Key; None where there was none."""
    row = connection.execute(
        select(IdempotencyRow.body_sha256, IdempotencyRow.job_id, IdempotencyRow.answer).where(
            IdempotencyRow.owner == owner, IdempotencyRow.key == key
        )
    ).one_or_none()
    return None if row is None else FirstAnswer(*row)


def keep_answer(connection: Connection, owner: str, key: str, first: FirstAnswer, at: dt.datetime) -> None:
    """Keep the first answer; IntegrityError where another process was first."""
    connection.execute(
        insert(IdempotencyRow).values(
            owner=owner,
            key=key,
            body_sha256=first.body_sha256,
            job_id=first.job_id,
            answer=first.answer,
            created_at=at,
        )
    )


def count_by_status(connection: Connection) -> list[tuple[str, str, int]]:
    """Return (status, queue, number of jobs), over all owners: for the operator's metrics."""
    statement = select(JobRow.status, JobRow.queue, func.count()).group_by(JobRow.status, JobRow.queue)
    return [(status, queue, number) for status, queue, number in connection.execute(statement)]
