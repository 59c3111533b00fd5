"""What the HTTP side says of datasets."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_EXAMPLE: dict[str, Any] = {
    "id": "ds_1hz3k0c5m7e9q2w4r6t8y1a3sdf",
    "name": "brain_cancer",
    "rows": 88,
    "columns": 8,
    "schema": {
        "fields": [
            {
                "name": "sex",
                "type": "string",
                "categories": ["Female", "Male"],
                "constraints": {"required": True},
            },
            {
                "name": "ki",
                "type": "integer",
                "constraints": {"required": True, "minimum": 40, "maximum": 100},
            },
        ],
        "missingValues": ["", "NA"],
    },
    "sha256": "6b0c1f0f3c2a7f2c0c5b7f5d7a2b0a4b8f4e6f1c9d3e5a7b9c1d3f5a7b9c1d3f",
    "attempts": 0,
    "created_at": "2026-03-02T09:30:00Z",
    "expires_at": "2026-04-01T09:30:00Z",
}


class DatasetWarning(BaseModel):
    """Something the uploader should know: where in the upload or the schema, and what."""

    pointer: str
    message: str


class Dataset(BaseModel):
    """An uploaded table. Its rows are never given out."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    name: str
    rows: int
    columns: int
    schema_document: dict[str, Any] = Field(
        alias="schema",
        description="As sent with the upload, else inferred within the disclosure rules. Correct it and post "
        "it as a job's `schema`, or with the file again.",
    )
    sha256: str = Field(description="Of the uploaded file.")
    attempts: int = Field(description="How many jobs were made with this table as their reference.")
    created_at: dt.datetime
    expires_at: dt.datetime


class DatasetCreated(Dataset):
    """An uploaded table, and what should be known of how it was read."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                _EXAMPLE | {"warnings": [{"pointer": "/file", "message": "The file is not UTF-8; …"}]}
            ]
        }
    )

    warnings: list[DatasetWarning]


class DatasetPage(BaseModel):
    """Datasets, newest first."""

    items: list[Dataset]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null on the last page.")
