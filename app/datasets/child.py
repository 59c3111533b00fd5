"""Runs the reading child and takes its answer: bounded in time, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import errors
from app.config import Settings
from app.errors import Fault, InvalidInput, SynthwardError, UploadTooLarge
from app.processes import without_secrets

READ_SECONDS = 300.0
"""Most time that reading one upload may take."""

_MEMORY_FLOOR = 4 << 30  # address space, not resident memory: libraries reserve freely
_MEMORY_PER_BYTE = 12
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Read:
    """What the child found.

    Parameters
    ----------
    parquet : Path
        The typed table.
    rows, columns : int
        Its shape.
    schema : dict
        The caller's document, else the inferred one.
    warnings : tuple of Fault
        What the uploader should know.
    """

    parquet: Path
    rows: int
    columns: int
    schema: dict[str, Any]
    warnings: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The fields of `app.datasets.reader.Request`, which is not imported here: it brings pyarrow."""

    path: str
    out: str
    scratch: str
    max_rows: int
    max_columns: int
    max_memory: int
    min_cell: int
    nice: int
    schema: dict[str, Any] | None


async def read_in_child(
    path: Path, schema: dict[str, Any] | None, settings: Settings, *, seconds: float = READ_SECONDS
) -> Read:
    """Read an uploaded file in a process of its own; intermediate files go beside it.

    Parameters
    ----------
    path : Path
        The file, alone in its folder.
    schema : dict or None
        The caller's schema document, found valid before.
    settings : Settings
        Limits, `min_cell`, `nice`.
    seconds : float
        After these the child is killed. It is killed as well where this call is cancelled.

    Raises
    ------
    UploadUnreadable, UploadTooLarge, InvalidInput
        As the child says.
    RuntimeError
        Where the child has a bug; type and place are logged, and no cell.
    """
    parquet = path.with_name("table.parquet")
    asked = _Asked(
        path=str(path),
        out=str(parquet),
        scratch=str(path.parent),
        max_rows=settings.max_upload_rows,
        max_columns=settings.max_upload_columns,
        max_memory=_MEMORY_FLOOR + _MEMORY_PER_BYTE * path.stat().st_size,
        min_cell=settings.min_cell,
        nice=settings.nice,
        schema=schema,
    )
    answer = await ask_child("app.datasets.reader", dataclasses.asdict(asked), seconds=seconds)
    return _read_of(answer, parquet)


async def ask_child(module: str, asked: dict[str, Any], *, seconds: float = READ_SECONDS) -> dict[str, Any]:
    """Ask a child one thing, JSON in and out, and return its answer.

    Raises
    ------
    UploadTooLarge
        Where it takes longer than `seconds`, or is ended for want of memory.
    SynthwardError
        As the child says.
    RuntimeError
        Where the child has a bug; type and place are logged, and no cell.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=without_secrets(), start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate(json.dumps(asked).encode())
    except TimeoutError:
        raise UploadTooLarge(
            f"Reading the table took more than {seconds:.0f} s; send fewer rows or columns, or send Parquet."
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if process.returncode != 0 or not output:
        _log.error("the reading child ended with %s", process.returncode)
        raise UploadTooLarge(
            "The process that read the table was ended, most likely for want of memory; send fewer "
            "rows or columns."
        )
    answer: dict[str, Any] = json.loads(output)
    if "error" in answer:
        raise _error_of(answer)
    return answer


def _read_of(answer: dict[str, Any], parquet: Path) -> Read:
    warnings = tuple(Fault(item["pointer"], item["message"]) for item in answer["warnings"])
    return Read(parquet, answer["rows"], answer["columns"], answer["schema"], warnings)


def _error_of(answer: dict[str, Any]) -> Exception:
    kind = getattr(errors, answer["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, SynthwardError)):
        _log.error("the reading child failed: %s", answer["detail"])
        return RuntimeError("the reading child failed")
    if issubclass(kind, InvalidInput):
        faults = [Fault(item["pointer"], item["message"]) for item in answer["faults"]]
        return kind(faults, answer["detail"])
    return kind(answer["detail"])
