"""What can be done with datasets, in the domain's words."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from sqlalchemy import Engine

from app.config import Settings
from app.datasets import repository
from app.datasets.child import Read
from app.datasets.repository import DatasetRecord
from app.db import now, reading, transaction
from app.errors import DatasetInUse, DatasetNotFound, Fault, InvalidInput, SynthwardError
from app.ids import new_id
from app.schema.parse import parse_schema
from app.storage import ArtifactStore

_DATASET_ID = re.compile(r"ds_[0-9a-z]{20,37}")
_MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """What came with a file: a name, the caller's schema document, checked, and the schema's warnings."""

    name: str
    schema: dict[str, Any] | None
    warnings: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Datasets, newest first, and the cursor of the next page."""

    items: tuple[DatasetRecord, ...]
    next_cursor: str | None


def wish_of(
    fields: dict[str, bytes], filename: str, *, parse_json: Callable[[bytes], Any], max_fields: int
) -> Wish:
    """Read the small parts of an upload; `parse_json` is the door's own strict parser.

    Raises
    ------
    InvalidInput
        With all faults of `name` and `schema`; pointers begin with the part's name.
    """
    faults: list[Fault] = []
    name = _name_of(fields.get("name"), filename, faults)
    schema: dict[str, Any] | None = None
    warnings: tuple[Fault, ...] = ()
    raw = fields.get("schema", b"")
    if raw.strip():
        try:
            document = parse_json(raw)
            parsed = parse_schema(document, max_fields=max_fields)
            schema, warnings = document, tuple(fault.under("/schema") for fault in parsed[1])
        except InvalidInput as error:
            faults += [fault.under("/schema") for fault in error.faults]
        except SynthwardError as error:
            faults.append(Fault("/schema", f"This is not JSON: {error.detail}"))
    if faults:
        raise InvalidInput(faults)
    return Wish(name, schema, warnings)


def _name_of(raw: bytes | None, filename: str, faults: list[Fault]) -> str:
    if raw is None or not raw.strip():
        # A browser may send a whole path; of this only the last part is anybody's business.
        stem = PurePosixPath(PureWindowsPath(filename).name).stem
        printable = "".join(letter for letter in stem if letter.isprintable())
        return printable[:_MOST_NAME].strip() or "unnamed"
    name = raw.decode("utf-8", errors="replace").strip()
    if len(name) > _MOST_NAME or not name.isprintable():
        faults.append(Fault("/name", f"A name has at most {_MOST_NAME} printable characters."))
    return name


def add(
    engine: Engine,
    store: ArtifactStore,
    settings: Settings,
    owner: str,
    *,
    name: str,
    sha256: str,
    size: int,
    read: Read,
) -> DatasetRecord:
    """Keep a table that was read: first its file, then its row.

    Parameters
    ----------
    owner : str
        Whose it is.
    name : str
        For people.
    sha256 : str
        Of the uploaded file.
    size : int
        Its bytes.
    read : Read
        What the child made of it.

    Raises
    ------
    StorageFull, ServiceUnavailable
        Where the store has no room or does not answer; nothing is kept then.
    """
    created = now()
    dataset_id = new_id("ds")
    folder = f"datasets/{dataset_id}/"
    stored = store.put_file(folder + "table.parquet", read.parquet)
    record = DatasetRecord(
        id=dataset_id,
        owner=owner,
        name=name,
        rows=read.rows,
        columns=read.columns,
        schema_document=read.schema,
        sha256=sha256,
        key=stored.key,
        key_sha256=stored.sha256,
        bytes=size,
        attempts=0,
        created_at=created,
        expires_at=created + dt.timedelta(seconds=settings.dataset_ttl),
    )
    try:
        with transaction(engine) as connection:
            repository.add(connection, record)
    except BaseException:
        store.delete_prefix(folder)
        raise
    return record


def get(engine: Engine, owner: str, dataset_id: str) -> DatasetRecord:
    """Return a dataset; raise DatasetNotFound where there is none of the owner's."""
    with reading(engine) as connection:
        record = repository.find(connection, owner, dataset_id) if _is_id(dataset_id) else None
    if record is None:
        raise _not_found()
    return record


def listed(engine: Engine, owner: str, *, limit: int, cursor: str | None) -> Page:
    """Return the owner's datasets, newest first.

    Raises
    ------
    InvalidInput
        Where the cursor is none that a page gave.
    """
    before = None if cursor is None else _id_of(cursor)
    if cursor is not None and before is None:
        raise InvalidInput(
            [Fault("/query/cursor", "This is not a cursor: give `next_cursor` of the page before, as it is.")]
        )
    with reading(engine) as connection:
        records = repository.page(connection, owner, before=before, limit=limit + 1)
    shown = tuple(records[:limit])
    return Page(shown, _cursor(shown[-1].id) if len(records) > limit else None)


def delete(engine: Engine, store: ArtifactStore, owner: str, dataset_id: str) -> None:
    """Delete a dataset and its rows.

    Raises
    ------
    DatasetNotFound
        Where there is none of the owner's.
    DatasetInUse
        Where a job that has not ended needs it.
    """
    with transaction(engine) as connection:
        if not _is_id(dataset_id) or not repository.lock(connection, owner, dataset_id):
            raise _not_found()
        if repository.is_in_use(connection, dataset_id):
            raise DatasetInUse("A job that has not ended needs this dataset. Wait for it, or cancel it.")
        repository.remove(connection, dataset_id)
    # After the commit: a row without its file would be a dataset that cannot be read.
    store.delete_prefix(f"datasets/{dataset_id}/")


def _not_found() -> DatasetNotFound:
    return DatasetNotFound("There is no dataset of this id among yours; it may have expired.")


def _is_id(text: str) -> bool:
    return _DATASET_ID.fullmatch(text) is not None


def _cursor(dataset_id: str) -> str:
    return base64.urlsafe_b64encode(dataset_id.encode()).decode().rstrip("=")


def _id_of(cursor: str) -> str | None:
    try:
        dataset_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return dataset_id if _is_id(dataset_id) else None
