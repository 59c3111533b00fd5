"""Reads and writes of the table of API keys. Transactions are the caller's."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Connection, insert, or_, select, update

from app.keys.models import KeyRow


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as stored: everything but the secret, which nobody keeps."""

    id: str
    owner: str
    name: str
    hash: str
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


_COLUMNS = (
    KeyRow.id,
    KeyRow.owner,
    KeyRow.name,
    KeyRow.hash,
    KeyRow.created_at,
    KeyRow.last_used_at,
    KeyRow.revoked_at,
)


def add(connection: Connection, record: KeyRecord) -> None:
    """Store a new key."""
    connection.execute(
        insert(KeyRow).values(
            id=record.id,
            owner=record.owner,
            name=record.name,
            hash=record.hash,
            created_at=record.created_at,
            last_used_at=record.last_used_at,
            revoked_at=record.revoked_at,
        )
    )


def find(connection: Connection, key_id: str) -> KeyRecord | None:
    """Return the key of that id, revoked or not; None where there is none."""
    row = connection.execute(select(*_COLUMNS).where(KeyRow.id == key_id)).one_or_none()
    return None if row is None else KeyRecord(*row)


def all_keys(connection: Connection) -> list[KeyRecord]:
    """Return every key, oldest first."""
    return [KeyRecord(*row) for row in connection.execute(select(*_COLUMNS).order_by(KeyRow.id))]


def revoke(connection: Connection, key_id: str, at: dt.datetime) -> bool:
    """Mark a key as revoked; False where there is none, or it was revoked before."""
    statement = update(KeyRow).where(KeyRow.id == key_id, KeyRow.revoked_at.is_(None)).values(revoked_at=at)
    return connection.execute(statement).rowcount == 1


def touch(connection: Connection, key_id: str, at: dt.datetime, unless_since: dt.datetime) -> None:
    """Note that a key was used, unless that was noted at or after `unless_since`."""
    stale = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at < unless_since)
    connection.execute(update(KeyRow).where(KeyRow.id == key_id, stale).values(last_used_at=at))
