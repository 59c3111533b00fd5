from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.datasets.reader import answer


@dataclass(frozen=True)
class Outcome:
    answer: dict[str, Any]
    parquet: Path

    @property
    def table(self) -> pa.Table:
        assert "error" not in self.answer, self.answer
        return pq.read_table(self.parquet)

    @property
    def faults(self) -> list[str]:
        return [fault["message"] for fault in self.answer.get("faults", [])]

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        assert "error" not in self.answer, self.answer
        return {field["name"]: field for field in self.answer["schema"]["fields"]}

    def column(self, name: str) -> list[Any]:
        return self.table.column(name).to_pylist()


Read = Callable[..., Outcome]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads bytes as the child process would, in this process."""
    count = 0

    def _read(content: bytes | str | Path, schema: dict[str, Any] | None = None, **limits: int) -> Outcome:
        nonlocal count
        count += 1
        folder = tmp_path / f"upload{count}"
        folder.mkdir()
        path = folder / "upload"
        if isinstance(content, Path):
            content = content.read_bytes()
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        request = {
            "path": str(path),
            "out": str(folder / "table.parquet"),
            "scratch": str(folder),
            "max_rows": 100_000,
            "max_columns": 1000,
            "max_memory": 0,
            "min_cell": 10,
            "nice": 0,
            "schema": schema,
        } | limits
        return Outcome(answer(json.dumps(request)), folder / "table.parquet")

    return _read
