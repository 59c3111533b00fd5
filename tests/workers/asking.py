"""A house whose worker may ask a fake language model, and what is left of a job that asked."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from app.config import LlmProvider
from app.jobs.transcript import folder
from tests.fake_provider import FakeProvider
from tests.workers.house import Broker, House

EVALUATED: dict[str, Any] = {
    "enabled": True, "depth": "core", "target": None, "group": None, "holdout": 0.3,
    "quasi_identifiers": [], "sensitive": [],
}  # fmt: skip


@contextlib.contextmanager
def open_house(tmp_path: Path, broker: Broker, fake: FakeProvider, **changes: Any) -> Iterator[House]:
    provider = LlmProvider.model_validate(
        {"base_url": fake.base_url, "model": "fake-1", "api_key": "sk-secret-of-ours", "concurrency": 1,
         "prompt_price": 10.0, "completion_price": 100.0} | changes
    )  # fmt: skip
    house = House(tmp_path, broker, llm={"fake": provider}, max_attempts=5)
    house.start()
    try:
        yield house
    finally:
        house.close()


def transcript(house: House, job_id: str) -> list[dict[str, Any]]:
    found = []
    for key in sorted(house.store.keys(folder(job_id))):
        with house.store.open(key) as file:
            found.append(json.loads(file.read()))
    return found


def stored(house: House, job_id: str, name: str) -> bytes:
    """The bytes of a job's only artifact of that name."""
    (row,) = house.artifacts(job_id, name)
    with house.store.open(row.key) as file:
        data: bytes = file.read()
    return data


def rows_of(house: House, job_id: str, replicate: int = 1) -> pd.DataFrame:
    (row,) = [row for row in house.artifacts(job_id) if row.replicate == replicate]
    with house.store.open(row.key) as file:
        return pq.read_table(io.BytesIO(file.read())).to_pandas()
