"""What workers write of jobs, shards and artifacts: claims with a lease, and writes by their holder alone.

A write names the claim's holder, which no two claims share, and the attempt's number: a late dead attempt
changes nothing. Times are this machine's clock; workers' clocks must agree within a fraction of the lease.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row
from sqlalchemy.sql import ColumnElement

from app.config import Settings
from app.datasets.models import DatasetRow
from app.db import now, reading, transaction
from app.jobs.models import ArtifactRow, IdempotencyRow, JobRow, ShardRow, needed
from app.queue import QueueName

JOBS: Table = JobRow.__table__  # type: ignore[assignment]
SHARDS: Table = ShardRow.__table__  # type: ignore[assignment]
ARTIFACTS: Table = ArtifactRow.__table__  # type: ignore[assignment]
DATASETS: Table = DatasetRow.__table__  # type: ignore[assignment]
IDEMPOTENCY: Table = IdempotencyRow.__table__  # type: ignore[assignment]

UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Reference:
    """An uploaded table of a job: where its Parquet lies, and what its holdout depends on."""

    id: str
    key: str
    key_sha256: str
    sha256: str
    schema_document: dict[str, Any]
    attempts: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a job asks for: the part of its row that never changes."""

    id: str
    kind: str
    created_at: str
    labels: dict[str, str]
    generator: str
    generator_version: str
    options: dict[str, Any]
    schema_document: dict[str, Any]
    rows: int
    replicates: int
    seed: int
    evaluation: dict[str, Any]
    release_limits: dict[str, Any] | None
    reference_id: str | None
    reference: Reference | None
    synthetic: Reference | None = None
    holdout: Reference | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job, as long as it is renewed."""

    work: Work
    attempt: int
    holder: str
    queue: QueueName
    phase: str
    sampled: bool
    evaluate_failures: int
    cancel_requested: bool
    warnings: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class ShardClaim:
    """The right to make one shard of a large job."""

    work: Work
    replicate: int
    number: int
    rows: int
    attempt: int
    holder: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file of a job, as it is recorded."""

    name: str
    key: str
    sha256: str
    bytes: int
    replicate: int = 0
    part: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How a job goes: `fraction` of the whole job (0 … 1)."""

    stage: str
    fraction: float
    detail: str = ""
    eta_seconds: float | None = None
    rows_written: int = 0
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ring:
    """A job that is to be rung for: `shards` where its shards wait, else the job itself."""

    job_id: str
    queue: QueueName
    shards: int = 0


class LeaseLost(Exception):
    """Another attempt took over, or the job has ended: nothing more may be written for this claim."""


def holder_name() -> str:
    """Return a name for a claim that no other claim has."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(8)}"


# Claiming and renewing ----------------------------------------------------------------------------


def claim(engine: Engine, job_id: str, *, lease: float) -> Claim | None:
    """Claim a job that waits, or whose last claim was not renewed.

    Returns
    -------
    Claim or None
        None where there is nothing to do: no such job, ended, someone's, or its shards are being made.
        What was claimed may have been cancelled, or tried too often: the claim says so.
    """
    moment = now()
    with transaction(engine) as connection:
        row = connection.execute(
            select(JOBS).where(JOBS.c.id == job_id, _claimable(moment)).with_for_update()
        ).one_or_none()
        if row is None:
            return None
        holder = holder_name()
        connection.execute(
            update(JOBS)
            .where(JOBS.c.id == job_id)
            .values(
                status="running",
                attempt=row.attempt + 1,
                lease_holder=holder,
                lease_until=moment + dt.timedelta(seconds=lease),
                started_at=row.started_at or moment,
                updated_at=moment,
                stage=row.stage or ("evaluate" if row.kind == "evaluation" else "fit"),
            )
        )
        return Claim(
            work=_work(connection, row),
            attempt=row.attempt + 1,
            holder=holder,
            queue=row.queue,
            phase=row.phase,
            sampled=row.sampled,
            evaluate_failures=row.evaluate_failures,
            cancel_requested=row.cancel_requested,
            warnings=tuple(row.warnings),
        )


def _claimable(moment: dt.datetime) -> ColumnElement[bool]:
    lapsed = or_(JOBS.c.lease_until.is_(None), JOBS.c.lease_until <= moment)
    return or_(JOBS.c.status == "queued", and_(JOBS.c.status == "running", JOBS.c.phase != "shards", lapsed))


def _work(connection: Connection, row: Row[Any]) -> Work:
    judged = row.options if row.kind == "evaluation" else {}
    return Work(
        id=row.id,
        kind=row.kind,
        created_at=row.created_at.isoformat(),
        labels=row.labels,
        generator=row.generator,
        generator_version=row.generator_version,
        options=row.options,
        schema_document=row.schema_document,
        rows=row.rows,
        replicates=row.replicates,
        seed=row.seed,
        evaluation=row.evaluation,
        release_limits=row.release_limits,
        reference_id=row.reference_id,
        reference=_dataset(connection, row.reference_id),
        synthetic=_dataset(connection, judged.get("synthetic_id")),
        holdout=_dataset(connection, judged.get("holdout_id")),
    )


def _dataset(connection: Connection, dataset_id: str | None) -> Reference | None:
    if dataset_id is None:
        return None
    found = connection.execute(select(DATASETS).where(DATASETS.c.id == dataset_id)).one_or_none()
    if found is None:
        return None
    return Reference(
        found.id, found.key, found.key_sha256, found.sha256, found.schema_document, found.attempts
    )


def renew(engine: Engine, held: Claim, progress: Progress, *, lease: float) -> bool:
    """Renew a claim and say how it goes; return whether the job is to be cancelled.

    Raises
    ------
    LeaseLost
        Where the claim is void.
    """
    moment = now()
    with transaction(engine) as connection:
        row = connection.execute(
            update(JOBS)
            .where(_held(held))
            .values(
                lease_until=moment + dt.timedelta(seconds=lease),
                updated_at=moment,
                stage=progress.stage,
                fraction=_never_less(JOBS.c.fraction, progress.fraction),
                detail=progress.detail,
                eta_seconds=progress.eta_seconds,
                rows_written=_never_less(JOBS.c.rows_written, progress.rows_written),
                **({} if progress.usage is None else {"usage": progress.usage}),
            )
            .returning(JOBS.c.cancel_requested)
        ).one_or_none()
    if row is None:
        raise LeaseLost
    return bool(row.cancel_requested)


def cancel_requested(engine: Engine, job_id: str) -> bool:
    """Whether the job is to be cancelled."""
    with reading(engine) as connection:
        return bool(connection.scalar(select(JOBS.c.cancel_requested).where(JOBS.c.id == job_id)))


def _held(held: Claim) -> ColumnElement[bool]:
    return and_(
        JOBS.c.id == held.work.id,
        JOBS.c.status == "running",
        JOBS.c.lease_holder == held.holder,
        JOBS.c.attempt == held.attempt,
    )


def _never_less(column: ColumnElement[Any], value: float) -> ColumnElement[Any]:
    return case((column < value, value), else_=column)


# Outcomes of a claim ------------------------------------------------------------------------------


def record_sampled(
    engine: Engine, held: Claim, artifacts: Sequence[Artifact], warnings: Sequence[dict[str, str]]
) -> None:
    """Record the rows before they are evaluated; raise LeaseLost where the claim is void."""
    moment = now()
    with transaction(engine) as connection:
        _write(
            connection,
            held,
            sampled=True,
            rows_written=sum(item.rows or 0 for item in artifacts),
            warnings=_joined(held.warnings, warnings),
            stage="store",
            updated_at=moment,
        )
        _replace_artifacts(connection, held.work.id, artifacts)


def succeed(
    engine: Engine,
    held: Claim,
    artifacts: Sequence[Artifact],
    *,
    warnings: Sequence[dict[str, str]],
    release: dict[str, Any],
    job_ttl: float,
) -> None:
    """End a job well, with its last artifacts; raise LeaseLost where the claim is void."""
    rows = sum(item.rows or 0 for item in artifacts if item.name == "data")
    values: dict[str, Any] = {"warnings": _joined(held.warnings, warnings), "release_decision": release}
    if rows:
        values |= {"sampled": True, "rows_written": rows}
    with transaction(engine) as connection:
        _end(connection, held, "succeeded", job_ttl, stage="release", fraction=1.0, detail="", **values)
        _replace_artifacts(connection, held.work.id, artifacts)
        connection.execute(
            delete(ARTIFACTS).where(ARTIFACTS.c.job_id == held.work.id, ARTIFACTS.c.name == "model")
        )


def fail(engine: Engine, held: Claim, problem: dict[str, Any], *, job_ttl: float) -> None:
    """End a job badly; its rows, if any, are forgotten. Raise LeaseLost where the claim is void."""
    with transaction(engine) as connection:
        _end(connection, held, "failed", job_ttl, error=problem)
        _forget_files(connection, held.work.id)


def cancelled(engine: Engine, held: Claim, *, job_ttl: float) -> None:
    """End a job as its owner asked; raise LeaseLost where the claim is void."""
    with transaction(engine) as connection:
        _end(connection, held, "cancelled", job_ttl, rows_written=0, sampled=False)
        _forget_files(connection, held.work.id)


def give_back(engine: Engine, held: Claim) -> None:
    """End a claim in good order: the job goes on at once elsewhere, and the attempt does not count."""
    moment = now()
    with transaction(engine) as connection:
        _write(connection, held, attempt=held.attempt - 1, lease_until=moment, lease_holder=None)


def give_up(engine: Engine, held: Claim, *, pause: float, evaluating: bool) -> None:
    """End a claim whose process died; the attempt counts, the job is free again after `pause` seconds."""
    moment = now()
    failures = held.evaluate_failures + (1 if evaluating else 0)
    with transaction(engine) as connection:
        _write(
            connection,
            held,
            lease_until=moment + dt.timedelta(seconds=pause),
            lease_holder=None,
            evaluate_failures=failures,
        )


def share_out(
    engine: Engine,
    held: Claim,
    fitted: Sequence[Artifact],
    shards: Sequence[tuple[int, int, int]],
    warnings: Sequence[Any],
) -> None:
    """Record what was fitted (the model, its blueprint) and the shards that any worker may now make.

    A shard is (replicate, number, rows).
    """
    moment = now()
    with transaction(engine) as connection:
        _write(
            connection,
            held,
            phase="shards",
            stage="sample",
            attempt=held.attempt - 1,
            lease_until=None,
            lease_holder=None,
            updated_at=moment,
            rung_at=moment,
            warnings=_joined(held.warnings, warnings),
        )
        _replace_artifacts(connection, held.work.id, fitted)
        connection.execute(delete(SHARDS).where(SHARDS.c.job_id == held.work.id))
        connection.execute(
            insert(SHARDS),
            [
                {
                    "job_id": held.work.id,
                    "replicate": r,
                    "number": n,
                    "rows": rows,
                    "status": "waiting",
                    "attempt": 0,
                }
                for r, n, rows in shards
            ],
        )


def _write(connection: Connection, held: Claim, **values: Any) -> None:
    if connection.execute(update(JOBS).where(_held(held)).values(**values)).rowcount != 1:
        raise LeaseLost


def _end(connection: Connection, held: Claim, status: str, job_ttl: float, **values: Any) -> None:
    moment = now()
    _write(
        connection,
        held,
        status=status,
        finished_at=moment,
        updated_at=moment,
        expires_at=moment + dt.timedelta(seconds=job_ttl),
        lease_until=None,
        eta_seconds=None,
        **values,
    )
    connection.execute(delete(SHARDS).where(SHARDS.c.job_id == held.work.id))


def _replace_artifacts(connection: Connection, job_id: str, artifacts: Iterable[Artifact]) -> None:
    rows = [
        {
            "job_id": job_id,
            "name": item.name,
            "replicate": item.replicate,
            "part": item.part,
            "key": item.key,
            "sha256": item.sha256,
            "bytes": item.bytes,
            "rows": item.rows,
        }
        for item in artifacts
    ]
    if not rows:
        return
    names = {item["name"] for item in rows}
    connection.execute(delete(ARTIFACTS).where(ARTIFACTS.c.job_id == job_id, ARTIFACTS.c.name.in_(names)))
    connection.execute(insert(ARTIFACTS), rows)


def _forget_files(connection: Connection, job_id: str) -> None:
    connection.execute(delete(ARTIFACTS).where(ARTIFACTS.c.job_id == job_id))
    connection.execute(delete(SHARDS).where(SHARDS.c.job_id == job_id))


def _joined(old: Sequence[dict[str, str]], new: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Add what is new: an attempt that is made again finds the same warnings again."""
    joined = list(old)
    joined.extend(item for item in new if item not in joined)
    return joined


# What a worker reads ------------------------------------------------------------------------------


def artifacts(engine: Engine, job_id: str, name: str) -> list[Artifact]:
    """Return a job's artifacts of that name, in the order of replicates and parts."""
    columns = (ARTIFACTS.c.replicate, ARTIFACTS.c.part)
    with reading(engine) as connection:
        found = connection.execute(
            select(ARTIFACTS).where(ARTIFACTS.c.job_id == job_id, ARTIFACTS.c.name == name).order_by(*columns)
        ).all()
    return [
        Artifact(row.name, row.key, row.sha256, row.bytes, row.replicate, row.part, row.rows) for row in found
    ]


def has_ended_so(engine: Engine, held: Claim) -> bool:
    """Whether this very claim has ended the job: its commit arrived although the answer was lost."""
    with reading(engine) as connection:
        row = connection.execute(
            select(JOBS.c.status, JOBS.c.lease_holder, JOBS.c.attempt).where(JOBS.c.id == held.work.id)
        ).one_or_none()
    return row is not None and row.status not in UNFINISHED and row.lease_holder == held.holder


def shard_is_done(engine: Engine, held: ShardClaim) -> bool:
    """Whether this very claim has finished its shard: its commit arrived although the answer was lost."""
    with reading(engine) as connection:
        row = connection.execute(
            select(SHARDS.c.status, SHARDS.c.lease_holder).where(
                *_same_shard(held.work.id, held.replicate, held.number)
            )
        ).one_or_none()
    return row is not None and row.status == "done" and row.lease_holder == held.holder


# Shards -------------------------------------------------------------------------------------------


def claim_shard(engine: Engine, job_id: str, *, lease: float) -> ShardClaim | None:
    """Claim the next shard that waits, or whose last claim was not renewed; None where there is none.

    Nor of a job that is to be cancelled: each worker that began one again would keep it from its end.
    """
    moment = now()
    free = or_(
        SHARDS.c.status == "waiting",
        and_(SHARDS.c.status == "running", SHARDS.c.lease_until <= moment),
    )
    with transaction(engine) as connection:
        job = connection.execute(
            select(JOBS).where(JOBS.c.id == job_id, JOBS.c.status == "running", JOBS.c.phase == "shards")
        ).one_or_none()
        if job is None or job.cancel_requested:
            return None
        shard = connection.execute(
            select(SHARDS)
            .where(SHARDS.c.job_id == job_id, free)
            .order_by(SHARDS.c.replicate, SHARDS.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if shard is None:
            return None
        holder = holder_name()
        connection.execute(
            update(SHARDS)
            .where(*_same_shard(job_id, shard.replicate, shard.number))
            .values(
                status="running",
                attempt=shard.attempt + 1,
                lease_holder=holder,
                lease_until=moment + dt.timedelta(seconds=lease),
            )
        )
        done, total = _count_shards(connection, job_id)
        return ShardClaim(
            work=_work(connection, job),
            replicate=shard.replicate,
            number=shard.number,
            rows=shard.rows,
            attempt=shard.attempt + 1,
            holder=holder,
            done=done,
            total=total,
        )


def renew_shard(engine: Engine, held: ShardClaim, *, lease: float) -> bool:
    """Renew a shard's claim; return whether the job is to be cancelled; raise LeaseLost where it is void."""
    moment = now()
    with transaction(engine) as connection:
        # The job's row before the shard's, here and wherever both are written: no two can block each other.
        row = connection.execute(
            update(JOBS)
            .where(JOBS.c.id == held.work.id, JOBS.c.status == "running", JOBS.c.phase == "shards")
            .values(updated_at=moment)
            .returning(JOBS.c.cancel_requested)
        ).one_or_none()
        if row is None:
            raise LeaseLost
        _write_shard(connection, held, lease_until=moment + dt.timedelta(seconds=lease))
    return bool(row.cancel_requested)


def finish_shard(
    engine: Engine, held: ShardClaim, artifact: Artifact, *, fraction: tuple[float, float]
) -> bool:
    """Record a shard; return whether it was the last one, so that the job can be finished.

    Parameters
    ----------
    fraction : (float, float)
        Where the sample stage begins and ends on the job's progress.

    Raises
    ------
    LeaseLost
        Where the claim is void.
    """
    moment = now()
    with transaction(engine) as connection:
        # The job's row first: it makes those who finish at the same time count one after the other.
        job = connection.execute(
            select(JOBS.c.id)
            .where(JOBS.c.id == held.work.id, JOBS.c.status == "running", JOBS.c.phase == "shards")
            .with_for_update()
        ).one_or_none()
        if job is None:
            raise LeaseLost
        _write_shard(connection, held, status="done", lease_until=None)
        _replace_part(connection, held.work.id, artifact)
        done, total = _count_shards(connection, held.work.id)
        last = done == total
        begin, end = fraction
        values: dict[str, Any] = {
            "updated_at": moment,
            "stage": "sample",
            "detail": f"{done} of {total} shards",
            "fraction": _never_less(JOBS.c.fraction, begin + (end - begin) * done / total),
            "rows_written": JOBS.c.rows_written + held.rows,
        }
        if last:
            values |= {
                "phase": "finish",
                "sampled": True,
                "lease_until": moment,
                "rung_at": moment,
                "stage": "store",
            }
            values["rows_written"] = held.work.rows * held.work.replicates
        connection.execute(update(JOBS).where(JOBS.c.id == held.work.id).values(**values))
    return last


def give_back_shard(engine: Engine, held: ShardClaim) -> None:
    """End a shard's claim in good order; the attempt does not count."""
    with transaction(engine) as connection:
        _write_shard(connection, held, status="waiting", attempt=held.attempt - 1, lease_until=None)


def give_up_shard(engine: Engine, held: ShardClaim) -> None:
    """End a shard's claim whose process died; the attempt counts."""
    with transaction(engine) as connection:
        _write_shard(connection, held, status="waiting", lease_until=None)


def fail_sharing(engine: Engine, held: ShardClaim, problem: dict[str, Any], *, job_ttl: float) -> None:
    """End a job badly because a shard of it cannot be made; raise LeaseLost where the claim is void."""
    moment = now()
    with transaction(engine) as connection:
        ended = connection.execute(
            update(JOBS)
            .where(JOBS.c.id == held.work.id, JOBS.c.status == "running", JOBS.c.phase == "shards")
            .values(
                status="failed",
                error=problem,
                finished_at=moment,
                updated_at=moment,
                eta_seconds=None,
                rows_written=0,
                expires_at=moment + dt.timedelta(seconds=job_ttl),
            )
        )
        if ended.rowcount != 1:
            raise LeaseLost
        _write_shard(connection, held, lease_until=None)
        _forget_files(connection, held.work.id)


def settle_cancelled(engine: Engine, job_id: str, *, job_ttl: float) -> bool:
    """End a job that is to be cancelled once nobody works on it; return whether it was ended here."""
    moment = now()
    with transaction(engine) as connection:
        row = connection.execute(
            select(JOBS.c.lease_until)
            .where(JOBS.c.id == job_id, JOBS.c.status == "running", JOBS.c.cancel_requested)
            .with_for_update()
        ).one_or_none()
        if row is None or (row.lease_until is not None and row.lease_until > moment):
            return False
        busy = connection.scalar(
            select(func.count())
            .select_from(SHARDS)
            .where(SHARDS.c.job_id == job_id, SHARDS.c.status == "running", SHARDS.c.lease_until > moment)
        )
        if busy:
            return False
        connection.execute(
            update(JOBS)
            .where(JOBS.c.id == job_id)
            .values(
                status="cancelled",
                finished_at=moment,
                updated_at=moment,
                rows_written=0,
                sampled=False,
                eta_seconds=None,
                lease_until=None,
                expires_at=moment + dt.timedelta(seconds=job_ttl),
            )
        )
        _forget_files(connection, job_id)
    return True


def _same_shard(job_id: str, replicate: int, number: int) -> tuple[ColumnElement[bool], ...]:
    return SHARDS.c.job_id == job_id, SHARDS.c.replicate == replicate, SHARDS.c.number == number


def _write_shard(connection: Connection, held: ShardClaim, **values: Any) -> None:
    written = connection.execute(
        update(SHARDS)
        .where(
            *_same_shard(held.work.id, held.replicate, held.number),
            SHARDS.c.status == "running",
            SHARDS.c.lease_holder == held.holder,
            SHARDS.c.attempt == held.attempt,
        )
        .values(**values)
    )
    if written.rowcount != 1:
        raise LeaseLost


def _replace_part(connection: Connection, job_id: str, artifact: Artifact) -> None:
    connection.execute(
        delete(ARTIFACTS).where(
            ARTIFACTS.c.job_id == job_id,
            ARTIFACTS.c.name == artifact.name,
            ARTIFACTS.c.replicate == artifact.replicate,
            ARTIFACTS.c.part == artifact.part,
        )
    )
    connection.execute(
        insert(ARTIFACTS),
        {
            "job_id": job_id, "name": artifact.name, "replicate": artifact.replicate, "part": artifact.part,
            "key": artifact.key, "sha256": artifact.sha256, "bytes": artifact.bytes, "rows": artifact.rows,
        },
    )  # fmt: skip


def _count_shards(connection: Connection, job_id: str) -> tuple[int, int]:
    done = func.sum(case((SHARDS.c.status == "done", 1), else_=0))
    row = connection.execute(select(done, func.count()).where(SHARDS.c.job_id == job_id)).one()
    return int(row[0] or 0), int(row[1])


# What the sweeper asks and writes -----------------------------------------------------------------


def unheard(engine: Engine, *, older_than: float, limit: int = 500) -> list[Ring]:
    """Return queued jobs, oldest first, that were last rung for more than `older_than` seconds ago."""
    before = now() - dt.timedelta(seconds=older_than)
    quiet = or_(JOBS.c.rung_at.is_(None), JOBS.c.rung_at <= before)
    with reading(engine) as connection:
        found = connection.execute(
            select(JOBS.c.id, JOBS.c.queue)
            .where(JOBS.c.status == "queued", quiet)
            .order_by(JOBS.c.id)
            .limit(limit)
        ).all()
    return [Ring(row.id, row.queue) for row in found]


def abandoned(engine: Engine, *, older_than: float, limit: int = 500) -> list[Ring]:
    """Return running jobs whose claim, or the claims of whose waiting shards, nobody holds any more.

    Those rung for within `older_than` seconds are left out.
    """
    moment = now()
    before = moment - dt.timedelta(seconds=older_than)
    quiet = or_(JOBS.c.rung_at.is_(None), JOBS.c.rung_at <= before)
    lapsed = or_(JOBS.c.lease_until.is_(None), JOBS.c.lease_until <= moment)
    with reading(engine) as connection:
        jobs = connection.execute(
            select(JOBS.c.id, JOBS.c.queue)
            .where(JOBS.c.status == "running", JOBS.c.phase != "shards", lapsed, quiet)
            .order_by(JOBS.c.id)
            .limit(limit)
        ).all()
        free = or_(
            SHARDS.c.status == "waiting", and_(SHARDS.c.status == "running", SHARDS.c.lease_until <= moment)
        )
        sharing = connection.execute(
            select(JOBS.c.id, JOBS.c.queue, func.count())
            .join(SHARDS, SHARDS.c.job_id == JOBS.c.id)
            .where(JOBS.c.status == "running", JOBS.c.phase == "shards", quiet, free)
            .group_by(JOBS.c.id, JOBS.c.queue)
            .limit(limit)
        ).all()
    return [Ring(row.id, row.queue) for row in jobs] + [Ring(row[0], row[1], int(row[2])) for row in sharing]


def note_rung(engine: Engine, job_ids: Sequence[str]) -> None:
    """Remember that these jobs were rung for just now."""
    if job_ids:
        with transaction(engine) as connection:
            connection.execute(update(JOBS).where(JOBS.c.id.in_(job_ids)).values(rung_at=now()))


def to_be_cancelled(engine: Engine, limit: int = 500) -> list[str]:
    """Return running jobs that are to be cancelled and that nobody holds."""
    moment = now()
    with reading(engine) as connection:
        return list(
            connection.scalars(
                select(JOBS.c.id)
                .where(
                    JOBS.c.status == "running",
                    JOBS.c.cancel_requested,
                    or_(JOBS.c.lease_until.is_(None), JOBS.c.lease_until <= moment),
                )
                .limit(limit)
            )
        )


def touch_sharing(engine: Engine) -> None:
    """Move `updated_at` of jobs whose shards wait for a worker, as promised to those who look."""
    moment = now()
    with reading(engine) as connection:
        stale = JOBS.c.updated_at <= moment - dt.timedelta(seconds=1)
        sharing = and_(JOBS.c.status == "running", JOBS.c.phase == "shards", stale)
        if not connection.scalar(select(func.count()).select_from(JOBS).where(sharing)):
            return
    with transaction(engine) as connection:
        connection.execute(update(JOBS).where(sharing).values(updated_at=moment))


def expired_jobs(engine: Engine, limit: int = 100) -> list[str]:
    """Return jobs that have expired and still have artifacts; see `files_gone`."""
    has_files = select(ARTIFACTS.c.id).where(ARTIFACTS.c.job_id == JOBS.c.id).exists()
    with reading(engine) as connection:
        return list(
            connection.scalars(select(JOBS.c.id).where(JOBS.c.expires_at <= now(), has_files).limit(limit))
        )


def files_gone(engine: Engine, job_id: str) -> None:
    """Forget the artifacts of a job whose files were deleted."""
    with transaction(engine) as connection:
        connection.execute(delete(ARTIFACTS).where(ARTIFACTS.c.job_id == job_id))


def recorded_keys(engine: Engine, job_id: str) -> frozenset[str]:
    """Return the keys of all recorded artifacts of a job."""
    with reading(engine) as connection:
        return frozenset(connection.scalars(select(ARTIFACTS.c.key).where(ARTIFACTS.c.job_id == job_id)))


def ended_untidily(engine: Engine, since: dt.datetime, until: dt.datetime) -> list[str]:
    """Return jobs that ended in (since, until] and may have left files that nobody recorded."""
    untidy = or_(JOBS.c.attempt > 1, JOBS.c.phase != "whole", JOBS.c.status != "succeeded")
    with reading(engine) as connection:
        return list(
            connection.scalars(
                select(JOBS.c.id).where(JOBS.c.finished_at > since, JOBS.c.finished_at <= until, untidy)
            )
        )


def outlived_jobs(engine: Engine, settings: Settings, limit: int = 100) -> list[str]:
    """Return jobs that expired so long ago that their rows may go, too."""
    before = now() - dt.timedelta(seconds=settings.job_ttl)
    with reading(engine) as connection:
        return list(connection.scalars(select(JOBS.c.id).where(JOBS.c.expires_at <= before).limit(limit)))


def delete_job(engine: Engine, job_id: str) -> None:
    """Delete a job's row and all that hangs on it."""
    with transaction(engine) as connection:
        connection.execute(delete(JOBS).where(JOBS.c.id == job_id, JOBS.c.status.not_in(UNFINISHED)))


def expired_datasets(engine: Engine, limit: int = 100) -> list[tuple[str, str]]:
    """Return (id, key) of datasets that have expired and that no unfinished job uses."""
    used = needed(DatasetRow.id)
    with reading(engine) as connection:
        found = connection.execute(
            select(DATASETS.c.id, DATASETS.c.key).where(DATASETS.c.expires_at <= now(), ~used).limit(limit)
        ).all()
    return [(row.id, row.key) for row in found]


def delete_dataset(engine: Engine, dataset_id: str) -> bool:
    """Delete a dataset's row unless a job began to use it; return whether it is gone."""
    with transaction(engine) as connection:
        unused = ~needed(dataset_id)
        return connection.execute(delete(DATASETS).where(DATASETS.c.id == dataset_id, unused)).rowcount == 1


def forget_idempotency(engine: Engine, settings: Settings) -> None:
    """Delete the memory of requests that are older than promised."""
    old = IDEMPOTENCY.c.created_at <= now() - dt.timedelta(seconds=settings.idempotency_ttl)
    with reading(engine) as connection:
        if not connection.scalar(select(func.count()).select_from(IDEMPOTENCY).where(old)):
            return
    with transaction(engine) as connection:
        connection.execute(delete(IDEMPOTENCY).where(old))
