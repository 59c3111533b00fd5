from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.datasets import describe_files
from app.datasets.describing import DescribeRequest, describe_in_child
from app.datasets.repository import DatasetRecord
from app.db import Base, connect, now
from app.errors import UploadTooLarge
from app.main import create_app
from app.schema.parse import parse_schema
from app.storage import FolderStore

EXAMPLE = Path(__file__).parents[3] / "examples" / "brain_cancer.csv"
CANARY = "XQZCANARY"


class SilentQueue:
    """Takes every job and rings for none."""

    def send(self, job_id: str, queue: str) -> None: ...

    def ping(self) -> None: ...

    def workers(self) -> int:
        return 1


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(no_auth=True, scratch_dir=tmp_path / "scratch", nice=0)
    engine = connect(f"sqlite:///{tmp_path}/db.sqlite")
    Base.metadata.create_all(engine)
    app = create_app(
        settings,
        engine=engine,
        store=FolderStore(tmp_path / "artifacts"),
        queue=SilentQueue(),  # type: ignore[arg-type]
    )
    yield TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))
    engine.dispose()


def upload(client: TestClient, content: bytes, **fields: str) -> dict[str, Any]:
    answer = client.post("/v1/datasets", files={"file": ("t.csv", content)}, data=fields)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def planted(rows: int = 240) -> bytes:
    """A table with a canary, a singleton or an extreme in every column."""
    rng = np.random.default_rng(5)
    lines = ["id,sex,stage,age,weight,seen,note,died"]
    for row in range(rows):
        died = rng.random() < 0.4
        cells = [
            f"K{row:05d}",
            rng.choice(["F", "M"]),
            rng.choice(["I", "II"]),
            str(round(rng.normal(60, 9) + 5 * died)),
            f"{rng.normal(75, 11):.1f}",
            f"2021-{rng.integers(1, 13):02d}-{rng.integers(1, 28):02d}",
            f"text {row}",
            "yes" if died else "no",
        ]
        if row == 100:
            cells = [
                CANARY + "1",
                CANARY + "2",
                CANARY + "3",
                "127",
                "888.8",
                "1917-11-23",
                CANARY + "4",
                "no",
            ]
        lines.append(",".join(cells))
    return "\n".join(lines).encode()


PLANTED = (CANARY, "127", "888.8", "1917", "K00")


def test_a_description_can_be_posted_as_a_job_s_schema(client: TestClient) -> None:
    dataset = upload(client, EXAMPLE.read_bytes())
    answer = client.post(f"/v1/datasets/{dataset['id']}/describe", json={"target": "status"})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    schema, warnings = parse_schema(document)
    assert schema.names == tuple(field["name"] for field in dataset["schema"]["fields"]) and not warnings
    assert document["associations"] and document["conditionals"]
    assert document["described"]["min_cell"] == 10
    job = {"schema": document, "generator": "blueprint", "rows": 10}
    assert client.post("/v1/jobs", json=job).status_code == 202


def test_nothing_planted_leaves_in_the_description_or_in_a_refusal(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = upload(client, planted())
    path = f"/v1/datasets/{dataset['id']}/describe"
    answers = [
        client.post(path, json=body)
        for body in ({"target": "died"}, {}, {"target": "stage", "holdout": 0.5}, {"target": CANARY[:3]})
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422]
    for answer in answers:
        assert not [word for word in PLANTED if word in answer.text]
    assert not [word for word in PLANTED if word in caplog.text]


def test_what_is_asked_wrongly_is_named(client: TestClient) -> None:
    dataset = upload(client, EXAMPLE.read_bytes())
    path = f"/v1/datasets/{dataset['id']}/describe"
    for body, at in (
        ({"target": "nobody"}, "/target"),
        ({"group": "nobody"}, "/group"),
        ({"min_cell": 4}, "/min_cell"),
        ({"holdout": 1.5}, "/holdout"),
        ({"cell": 12}, "/cell"),
        ({"min_cell": 60}, ""),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422, body
        assert [error["pointer"] for error in answer.json()["errors"]] == [at]
    assert client.post("/v1/datasets/ds_nobody/describe", json={}).status_code == 404


def test_a_holdout_is_left_out(client: TestClient) -> None:
    dataset = upload(client, EXAMPLE.read_bytes())
    path = f"/v1/datasets/{dataset['id']}/describe"
    whole, train = (client.post(path, json=body).json() for body in ({}, {"holdout": 0.3}))
    assert whole["fields"] != train["fields"]
    assert train["described"]["holdout"] == 0.3


def test_rows_of_few_persons_are_few_persons(client: TestClient) -> None:
    lines = ["patient_id,age"] + [f"P{row % 6},{50 + row % 40}" for row in range(240)]
    dataset = upload(client, "\n".join(lines).encode())
    answer = client.post(f"/v1/datasets/{dataset['id']}/describe", json={})
    assert answer.status_code == 422  # six persons


def test_the_command_line_says_the_same(
    client: TestClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = upload(client, EXAMPLE.read_bytes())
    over_http = client.post(f"/v1/datasets/{dataset['id']}/describe", json={"target": "status"}).json()
    assert describe_files.main([str(EXAMPLE), "--target", "status"]) == 0
    assert json.loads(capsys.readouterr().out) == over_http


def test_the_command_line_says_where_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "no" / "x.json"
    assert describe_files.main([str(EXAMPLE), "--output", str(nowhere)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_command_line_refuses_in_words(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(planted())
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "describe", str(table), "--target", "nobody"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "/target" in done.stderr and not done.stdout
    assert not [word for word in PLANTED if word in done.stderr]


def test_what_takes_too_long_to_describe_says_what_to_do(tmp_path: Path) -> None:
    store, table = FolderStore(tmp_path / "artifacts"), tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3]}), table)
    stored = store.put_file("datasets/a.parquet", table)
    moment = now()
    record = DatasetRecord(
        "ds_a", "me", "a", 3, 1, {"fields": [{"name": "a", "type": "integer"}]}, stored.sha256,
        "datasets/a.parquet", stored.sha256, stored.bytes, 0, moment, moment,
    )  # fmt: skip
    settings = Settings(scratch_dir=tmp_path / "scratch")
    asked = describe_in_child(record, DescribeRequest(), store, settings, seconds=0.01)
    with pytest.raises(UploadTooLarge, match="`synthward describe`"):
        asyncio.run(asked)
