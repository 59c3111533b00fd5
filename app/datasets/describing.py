"""What a caller may ask of `POST /v1/datasets/{id}/describe`, and the child that answers it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from app.config import Settings
from app.datasets.child import READ_SECONDS, ask_child
from app.datasets.repository import DatasetRecord
from app.errors import Fault, InvalidInput, UploadTooLarge
from app.faults import faults_of
from app.scratch import Scratch
from app.storage import ArtifactStore

_MEMORY_FLOOR = 4 << 30  # address space, not resident memory
_MEMORY_PER_BYTE = 60  # of the compressed table: correlations hold it several times


class DescribeRequest(BaseModel):
    """What is to be said of a dataset."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"target": "status", "min_cell": 10, "holdout": 0.3}, {}]},
    )

    target: str | None = Field(
        None,
        max_length=255,
        description="The outcome: each column is also told at each of its levels, where it has at most ten.",
    )
    group: str | None = Field(
        None, max_length=255, description="The column that names the person, where one has several rows."
    )
    min_cell: int | None = Field(
        None, ge=2, le=1_000_000, description="Say nothing of fewer persons; not below the service's own."
    )
    holdout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Leave out the rows that a job with the same `holdout`, `target` and `group` keeps back.",
    )


def read_request(document: Any, settings: Settings) -> DescribeRequest:
    """Read a request; raise InvalidInput with every fault."""
    try:
        request = DescribeRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(faults_of(error)) from None
    if request.min_cell is not None and request.min_cell < settings.min_cell:
        raise InvalidInput(
            [Fault("/min_cell", f"This service says nothing of fewer than {settings.min_cell} persons.")]
        )
    return request


async def describe_in_child(
    record: DatasetRecord,
    request: DescribeRequest,
    store: ArtifactStore,
    settings: Settings,
    *,
    seconds: float = READ_SECONDS,
) -> dict[str, Any]:
    """Return the schema that may be published of a dataset.

    Raises
    ------
    InvalidInput
        Where a column is unknown or the table has too few rows.
    UploadTooLarge
        Where it takes too long or too much memory.
    """
    scratch = Scratch(settings.scratch_dir)
    try:
        path = scratch.path / "table.parquet"
        await run_in_threadpool(store.fetch, record.key, record.key_sha256, path)
        answer = await ask_child(
            "app.datasets.describer",
            {
                "path": str(path),
                "schema": record.schema_document,
                "sha256": record.sha256,
                "min_cell": request.min_cell or settings.min_cell,
                "target": request.target,
                "group": request.group,
                "holdout": request.holdout or 0.0,
                "nice": settings.nice,
                "max_memory": _MEMORY_FLOOR + _MEMORY_PER_BYTE * path.stat().st_size,
            },
            seconds=seconds,
        )
    except UploadTooLarge as error:
        raise UploadTooLarge(
            f"{len(record.schema_document['fields'])} columns take more time or memory to describe than the "
            "service gives: upload those that matter, or use `synthward describe`, which has no such limit."
        ) from error
    finally:
        scratch.remove()
    schema: dict[str, Any] = answer["schema"]
    return schema
