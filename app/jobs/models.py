"""Tables of jobs, their labels, shards, artifacts and idempotency keys."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    and_,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column
from sqlalchemy.sql import ColumnElement

from app.db import Base, Json, UtcDateTime


class JobRow(Base):
    """One job. `status` only moves forward: queued → running → succeeded | failed | cancelled.

    `attempt` counts claims; whoever writes for an attempt names it, so that a late dead one changes nothing.
    `sampled` is set once rows are recorded, after which a failing evaluation no longer costs them.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(12))
    queue: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime())
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime())
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime())
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime())
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime())

    # What was asked, complete: defaults filled in, the seed drawn.
    generator: Mapped[str] = mapped_column(String(100))
    generator_version: Mapped[str] = mapped_column(String(60))
    options: Mapped[dict[str, Any]] = mapped_column(Json)
    schema_document: Mapped[dict[str, Any]] = mapped_column(Json)
    rows: Mapped[int] = mapped_column(BigInteger)
    replicates: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    evaluation: Mapped[dict[str, Any]] = mapped_column(Json)
    release_limits: Mapped[dict[str, Any] | None] = mapped_column(Json)
    labels: Mapped[dict[str, str]] = mapped_column(Json)

    # How it goes
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime())
    lease_holder: Mapped[str | None] = mapped_column(String(100))
    rung_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime())
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    phase: Mapped[str] = mapped_column(String(12), default="whole")  # whole | shards | finish
    stage: Mapped[str | None] = mapped_column(String(12))
    fraction: Mapped[float] = mapped_column(default=0.0)
    detail: Mapped[str] = mapped_column(Text, default="")
    eta_seconds: Mapped[float | None] = mapped_column()
    rows_written: Mapped[int] = mapped_column(BigInteger, default=0)
    sampled: Mapped[bool] = mapped_column(default=False)
    evaluate_failures: Mapped[int] = mapped_column(Integer, default=0)
    warnings: Mapped[list[dict[str, str]]] = mapped_column(Json)
    usage: Mapped[dict[str, Any] | None] = mapped_column(Json)
    release_decision: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)

    __table_args__ = (
        Index("ix_jobs_owner_id", "owner", "id"),
        Index("ix_jobs_status_updated_at", "status", "updated_at"),
        Index("ix_jobs_reference_id", "reference_id"),
        Index("ix_jobs_expires_at", "expires_at"),
    )


def needed(dataset_id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Return whether a job that has not ended needs a dataset, as a condition on its id.

    Generations name only their reference; evaluations name the judged table and a holdout in their options.
    """
    judges = and_(
        JobRow.kind == "evaluation",
        or_(*(JobRow.options[name].as_string() == dataset_id for name in ("synthetic_id", "holdout_id"))),
    )
    names = or_(JobRow.reference_id == dataset_id, judges)
    return select(JobRow.id).where(JobRow.status.in_(("queued", "running")), names).exists()


class JobLabelRow(Base):
    """A label of a job, for filtering."""

    __tablename__ = "job_labels"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[str] = mapped_column(String(200))

    __table_args__ = (Index("ix_job_labels_key_value", "key", "value"),)


class ShardRow(Base):
    """A shard of a large job: claimed, made and marked done like a small job of its own."""

    __tablename__ = "shards"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    replicate: Mapped[int] = mapped_column(Integer, primary_key=True)  # from 1
    number: Mapped[int] = mapped_column(Integer, primary_key=True)  # from 0
    rows: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(12))  # waiting | running | done
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_until: Mapped[dt.datetime | None] = mapped_column(UtcDateTime())
    lease_holder: Mapped[str | None] = mapped_column(String(100))


class ArtifactRow(Base):
    """A stored file of a job. `name`: data, checks, report, page, model; `part` orders the parts of one."""

    __tablename__ = "artifacts"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(40))
    replicate: Mapped[int] = mapped_column(Integer, default=0)
    part: Mapped[int] = mapped_column(Integer, default=0)
    key: Mapped[str] = mapped_column(String(300))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (UniqueConstraint("job_id", "name", "replicate", "part"),)


class IdempotencyRow(Base):
    """The first answer to a request that carried an Idempotency-Key."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(String(40))
    answer: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime())

    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)
