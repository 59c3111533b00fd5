"""Rows as files: rendered once by a child process, kept in the store, then served whole or in ranges."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from app.config import Settings
from app.db import now, reading, transaction
from app.errors import (
    ArtifactExpired,
    ArtifactMissing,
    Fault,
    FormatCannotHoldRows,
    InvalidInput,
    JobHasNoBlueprint,
    JobHasNoData,
    JobHasNoReport,
    JobNotFound,
    JobStillRunning,
    RowsWithheld,
    ServiceUnavailable,
    StorageFull,
    SynthwardError,
)
from app.jobs import repository
from app.jobs.repository import Artifact, JobRecord
from app.processes import without_secrets
from app.scratch import Scratch
from app.storage import ArtifactStore

Format = Literal["csv", "parquet", "jsonl", "xlsx"]

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
XLSX_ROWS = 1_048_575
"""Rows of a worksheet below its header."""

_FITTED = re.compile(rb'"source"\s*:\s*"fitted"')
_AT_ONCE = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which file of a job."""

    format: Format
    replicate: int
    spreadsheet: bool

    @property
    def name(self) -> str:
        """The artifact's name."""
        return f"rendered-{self.format}{'-spreadsheet' if self.spreadsheet else ''}"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file that can be served."""

    stored: Artifact
    filename: str
    media_type: str


def require_rows(job: JobRecord, wanted: Wanted) -> None:
    """Say why a job's rows cannot be given out.

    Raises
    ------
    JobStillRunning, JobHasNoData, ArtifactExpired, RowsWithheld, InvalidInput, FormatCannotHoldRows
        Whichever applies first.
    """
    if job.kind != "generation":
        raise JobHasNoData("This job judges a table and makes none: read its report.")
    if job.status in ("queued", "running"):
        raise JobStillRunning(f"The job is {job.status}; its rows can be had once it has succeeded.")
    if job.status != "succeeded":
        raise JobHasNoData(
            f"The job {'failed' if job.status == 'failed' else 'was cancelled'}; there are no rows."
        )
    _require_kept(job)
    if (job.release_decision or {}).get("decision") == "withheld":
        raise RowsWithheld("The rows are withheld; the job's `release.reasons` and its report say why.")
    if wanted.replicate > job.replicates:
        count = f"{job.replicates} replicate{'s' if job.replicates > 1 else ''}"
        raise InvalidInput([Fault("/query/replicate", f"The job has {count}, counted from 1.")])
    if wanted.format == "xlsx" and job.rows > XLSX_ROWS:
        raise FormatCannotHoldRows(f"A worksheet holds {XLSX_ROWS} rows, and each replicate has {job.rows}.")


def _require_kept(job: JobRecord) -> None:
    if job.expires_at is not None and job.expires_at <= now():
        raise ArtifactExpired("The job's rows and report were kept until `expires_at`, and then deleted.")


class Downloads:
    """Gives out what jobs have made. One for each process; its coroutines run on the event loop.

    At most two files are rendered at once, and the same file once: whoever else asks for it waits for that.
    """

    def __init__(self, engine: Engine, store: ArtifactStore, settings: Settings) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._rendering: dict[tuple[str, Wanted], asyncio.Task[Artifact]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def file(self, owner: str, job: JobRecord, wanted: Wanted) -> Rendered:
        """Return a file of a job's rows, rendering it where that has not been done.

        Parameters
        ----------
        owner : str
            Whose job it is.
        job : JobRecord
            A job whose rows can be given out (`require_rows`).
        wanted : Wanted
            Which file.

        Raises
        ------
        ArtifactMissing
            Where the stored rows are gone or damaged.
        """
        stored = await run_in_threadpool(self._kept, owner, job.id, wanted)
        if stored is None:
            stored = await self._rendered(owner, job, wanted)
        safe = "-spreadsheet" if wanted.spreadsheet else ""
        filename = f"synthward-{job.id}-r{wanted.replicate}-synthetic{safe}.{wanted.format}"
        return Rendered(stored, filename, MEDIA_TYPES[wanted.format])

    def chunks(self, stored: Artifact, start: int, stop: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` to `stop`; of a whole file the last block only where its "
        "sha256 is right."""
        blocks = self._store.chunks(stored.key, start, stop)
        return blocks if (start, stop) != (0, stored.bytes) else _checked(blocks, stored)

    def report(self, owner: str, job: JobRecord, name: Literal["report", "page"]) -> tuple[Artifact, bytes]:
        """Return a job's report: `report` is the JSON, `page` the HTML.

        Raises
        ------
        JobStillRunning, JobHasNoReport, ArtifactExpired, ArtifactMissing
            Whichever applies first.
        """
        if job.status in ("queued", "running"):
            raise JobStillRunning(f"The job is {job.status}; its report can be had once it has succeeded.")
        _require_kept(job)
        with reading(self._engine) as connection:
            found = repository.artifacts(connection, owner, job.id, name)
        if not found:
            reason = "it was not asked to evaluate" if job.status == "succeeded" else f"it has {job.status}"
            reason = "it was cancelled" if job.status == "cancelled" else reason
            raise JobHasNoReport(f"The job has no report: {reason}.")
        stored = found[0]
        return stored, b"".join(_checked(self._store.chunks(stored.key, 0, stored.bytes), stored))

    def blueprint(self, owner: str, job: JobRecord) -> tuple[Artifact, bytes]:
        """Return a job's blueprint, JSON. One with fitted numbers is withheld with the rows.

        Raises
        ------
        JobStillRunning, JobHasNoBlueprint, ArtifactExpired, ArtifactMissing, RowsWithheld
            Whichever applies first.
        """
        if job.status in ("queued", "running"):
            raise JobStillRunning(f"The job is {job.status}; its blueprint can be had once it has succeeded.")
        _require_kept(job)
        with reading(self._engine) as connection:
            found = repository.artifacts(connection, owner, job.id, "blueprint")
        if not found:
            ended = {"succeeded": "its generator has none", "cancelled": "it was cancelled"}
            reason = ended.get(job.status, f"it has {job.status}")
            raise JobHasNoBlueprint(f"The job has no blueprint: {reason}.")
        content = b"".join(_checked(self._store.chunks(found[0].key, 0, found[0].bytes), found[0]))
        if (job.release_decision or {}).get("decision") == "withheld" and _FITTED.search(content):
            raise RowsWithheld(
                "The blueprint has numbers that were learned from a real table, and is withheld with the "
                "rows; the job's `release.reasons` and its report say why."
            )
        return found[0], content

    def _kept(self, owner: str, job_id: str, wanted: Wanted) -> Artifact | None:
        with reading(self._engine) as connection:
            found = repository.artifacts(connection, owner, job_id, wanted.name, wanted.replicate)
        if not found:
            return None
        try:
            # One byte tells whether it is still there: a store's lifecycle rule may have taken it.
            for _ in self._store.chunks(found[0].key, 0, min(1, found[0].bytes)):
                pass
        except ArtifactMissing:
            return None
        return found[0]

    async def _rendered(self, owner: str, job: JobRecord, wanted: Wanted) -> Artifact:
        place = (job.id, wanted)
        task = self._rendering.get(place)
        if task is None:
            task = asyncio.create_task(self._render(owner, job, wanted))
            self._rendering[place] = task
            task.add_done_callback(lambda done: self._forget(place, done))
        return await asyncio.shield(task)  # a client that leaves does not end what others wait for

    def _forget(self, place: tuple[str, Wanted], task: asyncio.Task[Artifact]) -> None:
        self._rendering.pop(place, None)
        if not task.cancelled():
            task.exception()  # told to those who wait; nobody may be left

    async def _render(self, owner: str, job: JobRecord, wanted: Wanted) -> Artifact:
        async with self._slots:
            scratch = Scratch(self._settings.scratch_dir)
            try:
                work, parts = await run_in_threadpool(self._prepare, owner, job, wanted, scratch.path)
                target = scratch.path / f"rows.{wanted.format}"
                await _run_child(work, parts, target)
                return await run_in_threadpool(self._keep, owner, job, wanted, target)
            finally:
                scratch.remove()

    def _prepare(
        self, owner: str, job: JobRecord, wanted: Wanted, folder: Path
    ) -> tuple[dict[str, object], list[Path]]:
        with reading(self._engine) as connection:
            stored = repository.artifacts(connection, owner, job.id, "data", wanted.replicate)
            schema = repository.schema_document(connection, owner, job.id)
        if not stored or schema is None:
            raise ArtifactMissing("The job's rows are not in the store.")
        parts = []
        for number, part in enumerate(stored):
            path = folder / f"{number:06}.parquet"
            self._store.fetch(part.key, part.sha256, path)
            parts.append(path)
        work: dict[str, object] = {
            "schema": schema,
            "format": wanted.format,
            "spreadsheet": wanted.spreadsheet,
            "label": {
                "job_id": job.id,
                "seed": job.seed,
                "replicate": wanted.replicate,
                "generator": job.generator,
                "version": job.generator_version,
            },
        }
        return work, parts

    def _keep(self, owner: str, job: JobRecord, wanted: Wanted, path: Path) -> Artifact:
        safe = "-spreadsheet" if wanted.spreadsheet else ""
        put = self._store.put_file(f"jobs/{job.id}/rendered/{wanted.replicate}{safe}.{wanted.format}", path)
        stored = Artifact(put.key, put.sha256, put.bytes)
        with transaction(self._engine) as connection:
            kept = repository.add_artifact(connection, owner, job.id, wanted.name, wanted.replicate, stored)
        if not kept:
            self._store.delete_prefix(f"jobs/{job.id}/")
            raise JobNotFound("The job was deleted meanwhile.")
        return stored


def _checked(blocks: Iterator[bytes], stored: Artifact) -> Iterator[bytes]:
    # A block is held back until the next one is there, so that a damaged file is never served to its end.
    digest = hashlib.sha256()
    held = b""
    for block in blocks:
        digest.update(block)
        if held:
            yield held
        held = block
    if digest.hexdigest() != stored.sha256:
        raise ArtifactMissing("A stored file is damaged.")
    yield held


async def _run_child(work: dict[str, object], parts: list[Path], target: Path) -> None:
    """Render in a process of its own: pyarrow and its memory stay out of this one."""
    order = {**work, "parts": [str(part) for part in parts], "out": str(target)}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.formats",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a traceback's message could hold a cell
        env=without_secrets(),
    )
    try:
        answer, _ = await child.communicate(json.dumps(order).encode())
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode != 0:
        raise _told(answer, child.returncode)


def _told(answer: bytes, code: int | None) -> SynthwardError:
    kinds: tuple[type[SynthwardError], ...] = (FormatCannotHoldRows, StorageFull)
    try:
        error = json.loads(answer)["error"]
        kind = next(kind for kind in kinds if kind.slug == error["slug"])
    except (ValueError, KeyError, StopIteration):
        _log.error("rendering ended with code %s", code)
        return ServiceUnavailable("The file could not be made just now. Ask again, or for another format.")
    return kind(error["detail"])
