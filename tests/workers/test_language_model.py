"""Jobs that ask a language model, through a real worker: receipts, usage, kills, and what stays at home."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert

from app.config import LlmProvider
from app.datasets.models import DatasetRow
from app.db import now, transaction
from app.generators.llm.client import BREAKS_AFTER
from app.ids import new_id
from tests.fake_provider import Reaction, fails, says, serving
from tests.workers.asking import open_house, stored, transcript
from tests.workers.house import Broker, House, wait_for

SCHEMA: dict[str, Any] = {
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 18, "maximum": 99}},
        {"name": "sex", "type": "string", "categories": ["F", "M"]},
        {"name": "weight", "type": "number", "decimals": 1},
        {"name": "note", "type": "string"},
    ]
}
ROWS = {"strategy": "rows", "provider": "fake"}


class Patients:
    """Writes rows; what it does with the n-th request may be changed."""

    def __init__(self) -> None:
        self.lock, self.asked, self.instead = threading.Lock(), 0, dict[int, Reaction]()

    def __call__(self, request: dict[str, Any]) -> Reaction:
        with self.lock:
            self.asked += 1
            number = self.asked
        if number in self.instead:
            return self.instead[number]
        prompt = request["messages"][1]["content"]
        first, last = map(int, re.findall(r"write rows (\d+) to (\d+)", prompt)[0])
        part = int(re.findall(r"\(part (\d+)\)", prompt)[0])
        return says({"rows": [
            {"age": 18 + row % 80, "sex": "FM"[row % 2], "weight": 50 + part + row / 10}
            for row in range(first, last + 1)
        ]})  # fmt: skip


def ask(house: House, rows: int = 120, **changes: Any) -> str:
    return house.post(rows, **({"generator": "llm", "options": ROWS, "schema_document": SCHEMA} | changes))


def test_rows_usage_and_receipts_of_a_job(tmp_path: Path, broker: Broker) -> None:
    with serving(Patients()) as fake, open_house(tmp_path, broker, fake) as house:
        job = house.wait(ask(house))
        assert job.status == "succeeded", job.error
        assert job.rows_written == 120
        receipts = transcript(house, job.id)
        assert len(receipts) == len(fake.requests) == job.usage["requests"] == 3
        assert job.usage["prompt_tokens"] == 300 and job.usage["completion_tokens"] == 60
        assert job.usage["cost_usd"] == pytest.approx((300 * 10 + 60 * 100) / 1e6)


def test_a_worker_killed_while_it_asks_pays_for_no_answer_twice(tmp_path: Path, broker: Broker) -> None:
    with serving(Patients()) as fake, open_house(tmp_path, broker, fake) as house:
        undisturbed = house.wait(ask(house, 200))
        asked = len(fake.requests)
        patients = Patients()
        fake.script = patients
        hanging = says({"rows": []})
        hanging.delay = 4.0
        patients.instead = {3: hanging}
        fake.requests.clear()
        job_id = ask(house, 200)
        assert wait_for(lambda: patients.asked == 3), house.tail()
        house.kill("child")
        job = house.wait(job_id)
        assert job.status == "succeeded" and job.attempt == 2, job.error
        prompts = [request["messages"][1]["content"] for request in fake.requests]
        assert len(prompts) == asked + 1 and len(set(prompts)) == asked, (
            "one was asked twice, unanswered before"
        )
        assert job.usage["requests"] == undisturbed.usage["requests"] == asked
        assert house.bytes_of(job_id) == house.bytes_of(undisturbed.id)


def test_a_job_that_fails_keeps_its_receipts_and_says_what_to_do(tmp_path: Path, broker: Broker) -> None:
    patients = Patients()
    patients.instead = {2: fails(401, "Incorrect API key provided: sk-secret-of-ours")}
    with serving(patients) as fake, open_house(tmp_path, broker, fake) as house:
        job = house.wait(ask(house))
        assert job.status == "failed" and job.error["type"] == "/problems/provider-refused-key"
        receipts = transcript(house, job.id)
        assert [receipt["error"] and receipt["error"]["type"] for receipt in receipts] == [
            None, "/problems/provider-refused-key",
        ]  # fmt: skip
        assert job.usage["requests"] == 1
        assert wait_for(lambda: all("/transcript/" in key for key in house.files(job.id)))
        everything = json.dumps(receipts) + json.dumps(job.error) + house.log.read_text()
        assert "sk-secret" not in everything


def test_a_provider_that_keeps_failing_is_left_alone_by_the_next_jobs_too(
    tmp_path: Path, broker: Broker
) -> None:
    with (
        serving(lambda _request: fails(500, retry_after="0")) as fake,
        open_house(tmp_path, broker, fake) as house,
    ):
        jobs = [house.wait(ask(house)) for _ in range(4)]
        assert {job.error["type"] for job in jobs} == {"/problems/provider-unavailable"}
        assert [("left alone" in job.error["detail"]) for job in jobs] == [False, True, True, True]
        assert len(fake.requests) == BREAKS_AFTER


def test_the_budget_stops_a_job(tmp_path: Path, broker: Broker) -> None:
    with serving(Patients()) as fake, open_house(tmp_path, broker, fake) as house:
        job = house.wait(ask(house, 400, options=ROWS | {"max_tokens": 4700}))
        assert job.status == "failed" and job.error["type"] == "/problems/budget-reached"
        assert 0 < job.usage["prompt_tokens"] + job.usage["completion_tokens"] <= 4700
        assert len(fake.requests) == job.usage["requests"]


def test_a_cancelled_job_stops_while_the_model_is_silent(tmp_path: Path, broker: Broker) -> None:
    silent = says({"rows": []})
    silent.delay = 60.0
    with serving(lambda _request: silent) as fake, open_house(tmp_path, broker, fake) as house:
        job_id = ask(house)
        assert wait_for(lambda: len(fake.requests) > 0), house.tail()
        house.cancel(job_id)
        assert house.wait(job_id).status == "cancelled"
        assert wait_for(lambda: not house.files(job_id))


def test_offline_nothing_goes_out(tmp_path: Path, broker: Broker) -> None:
    with serving(Patients()) as fake:
        provider = LlmProvider(base_url=fake.base_url, model="fake-1")
        house = House(tmp_path, broker, llm={"fake": provider}, offline=True)
        house.start()
        try:
            job = house.wait(ask(house))
        finally:
            house.close()
    assert job.error["type"] == "/problems/outgoing-calls-off"
    assert not fake.requests


CANARIES: dict[str, Any] = {"weight": 77.7123456, "note": "CANARY-NOTE"}


def upload(house: House) -> str:
    """A real table, each column with a value of its own that nobody else has."""
    rows = 60
    columns: dict[str, list[Any]] = {
        "age": [40 + row % 20 for row in range(rows)], "sex": ["FM"[row % 2] for row in range(rows)],
        "weight": [60.5 + row / 4 for row in range(rows)], "note": [f"secret {row}" for row in range(rows)],
    }  # fmt: skip
    columns["weight"][7] = CANARIES["weight"]
    columns["note"] = [f"{CANARIES['note']}-{row}" for row in range(rows)]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    dataset_id = new_id("ds")
    stored = house.store.put_bytes(f"datasets/{dataset_id}/table.parquet", sink.getvalue())
    with transaction(house.engine) as connection:
        connection.execute(
            insert(DatasetRow).values(
                id=dataset_id, owner="o", name="t", rows=rows, columns=4, schema_document=SCHEMA,
                sha256=hashlib.sha256(sink.getvalue()).hexdigest(), key=stored.key, key_sha256=stored.sha256,
                bytes=stored.bytes, attempts=0, created_at=now(), expires_at=now() + dt.timedelta(days=1),
            )
        )  # fmt: skip
    return dataset_id


def test_a_real_table_serves_evaluation_and_is_found_in_nothing_else(tmp_path: Path, broker: Broker) -> None:
    with serving(Patients()) as fake, open_house(tmp_path, broker, fake) as house:
        evaluation = {"enabled": True, "depth": "core", "target": "sex", "group": None, "holdout": 0.3,
                      "quasi_identifiers": [], "sensitive": []}  # fmt: skip
        job = house.wait(ask(house, reference_id=upload(house), evaluation=evaluation))
        assert job.status == "succeeded", (job.error, house.tail())
        assert house.artifacts(job.id, "report"), "it was judged by the real table"
        sent = json.dumps(fake.requests)
        kept = house.store.keys("jobs/")
        everything = b""
        for key in kept:
            with house.store.open(key) as file:
                everything += file.read()
        written = pq.read_table(io.BytesIO(stored(house, job.id, "data"))).to_pylist()
        record = repr(job)
        for secret in ("CANARY-NOTE", "77.7123456", "secret "):
            assert secret not in sent, secret
            assert secret.encode() not in everything, secret
            assert secret not in house.log.read_text() + record, secret
            assert secret not in repr(written), secret
