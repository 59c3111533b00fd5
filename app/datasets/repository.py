"""Reads and writes the table of datasets; every function takes a connection of a transaction."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from app.datasets.models import DatasetRow
from app.jobs.models import needed


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A row of the table; see `DatasetRow` for what each column holds."""

    id: str
    owner: str
    name: str
    rows: int
    columns: int
    schema_document: dict[str, Any]
    sha256: str
    key: str
    key_sha256: str
    bytes: int
    attempts: int
    created_at: dt.datetime
    expires_at: dt.datetime


_COLUMNS = tuple(getattr(DatasetRow, name) for name in DatasetRecord.__dataclass_fields__)


def add(connection: Connection, record: DatasetRecord) -> None:
    """Store a dataset."""
    values = {name: getattr(record, name) for name in DatasetRecord.__dataclass_fields__}
    connection.execute(insert(DatasetRow).values(**values))


def find(connection: Connection, owner: str, dataset_id: str) -> DatasetRecord | None:
    """Return the owner's dataset of that id."""
    row = connection.execute(
        select(*_COLUMNS).where(DatasetRow.id == dataset_id, DatasetRow.owner == owner)
    ).one_or_none()
    return None if row is None else DatasetRecord(*row)


def page(connection: Connection, owner: str, *, before: str | None, limit: int) -> list[DatasetRecord]:
    """Return datasets of the owner's, newest first; `before` is the last id seen."""
    statement = select(*_COLUMNS).where(DatasetRow.owner == owner)
    if before is not None:
        statement = statement.where(DatasetRow.id < before)
    rows = connection.execute(statement.order_by(DatasetRow.id.desc()).limit(limit))
    return [DatasetRecord(*row) for row in rows]


def lock(connection: Connection, owner: str, dataset_id: str) -> bool:
    """Keep others from naming the dataset until the transaction ends; False where it is not there.

    A job that names it meanwhile waits at its foreign key, and is refused once the row is gone.
    """
    row = connection.execute(
        select(DatasetRow.id).where(DatasetRow.id == dataset_id, DatasetRow.owner == owner).with_for_update()
    ).one_or_none()
    return row is not None


def is_in_use(connection: Connection, dataset_id: str) -> bool:
    """Whether a job that has not ended needs the dataset."""
    return bool(connection.scalar(select(needed(dataset_id))))


def remove(connection: Connection, dataset_id: str) -> None:
    """Delete the row; ended jobs forget which dataset they used."""
    connection.execute(delete(DatasetRow).where(DatasetRow.id == dataset_id))
