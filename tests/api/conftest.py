"""The HTTP side alone, on both databases; the queue only remembers, and a hand plays the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, insert, update

import app.datasets.models
import app.keys.models  # noqa: F401 - their tables
from app import db, ids
from app.config import Settings
from app.datasets.models import DatasetRow
from app.db import Base, now, transaction
from app.errors import ServiceUnavailable
from app.jobs.models import ArtifactRow, JobRow
from app.keys.service import create_key
from app.main import create_app
from app.storage import ArtifactStore, open_store

ROOT = Path(__file__).parents[2]
FLAGSHIP = json.loads((ROOT / "examples" / "neurosurgery.schema.json").read_text(encoding="utf-8"))
SMALL: dict[str, Any] = {
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 18, "maximum": 90}},
        {"name": "sex", "type": "string", "categories": ["F", "M"]},
    ]
}
BODY: dict[str, Any] = {"schema": SMALL, "generator": "marginals", "rows": 5}


@dataclass
class RememberingQueue:
    """Appends what was rung for."""

    rung: list[tuple[str, str]] = field(default_factory=list)
    answers: bool = True
    has_workers: bool = True

    def send(self, job_id: str, queue: str) -> None:
        self.ping()
        self.rung.append((job_id, queue))

    def ping(self) -> None:
        if not self.answers:
            raise ServiceUnavailable("The broker does not answer.")

    def workers_alive(self) -> bool:
        return self.has_workers


@dataclass
class Service:
    """A wired application, and the hands that play operator and worker."""

    app: FastAPI
    http: TestClient
    engine: Engine
    store: ArtifactStore
    queue: RememberingQueue
    settings: Settings

    def caller(self) -> Caller:
        """Someone new, with a key."""
        owner = ids.new_id("own")
        _, secret = create_key(self.engine, "test", owner)
        return Caller(self, owner, secret)

    def set_job(self, job_id: str, **values: Any) -> None:
        with transaction(self.engine) as connection:
            connection.execute(update(JobRow).where(JobRow.id == job_id).values(**values))

    def store_artifact(self, job_id: str, name: str, data: bytes, replicate: int = 0, part: int = 0) -> str:
        stored = self.store.put_bytes(f"jobs/{job_id}/a1/{name}-{replicate}-{part}", data)
        with transaction(self.engine) as connection:
            connection.execute(
                insert(ArtifactRow).values(
                    job_id=job_id, name=name, replicate=replicate, part=part,
                    key=stored.key, sha256=stored.sha256, bytes=stored.bytes,
                )
            )  # fmt: skip
        return stored.key


@dataclass
class Caller:
    """Someone with a key."""

    service: Service
    owner: str
    secret: str

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret}", **more.pop("headers", {})}
        return self.service.http.request(method, path, headers=headers, follow_redirects=False, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, body: Any = None, path: str = "/v1/jobs", **more: Any) -> httpx.Response:
        return self.request("POST", path, **({} if body is None else {"json": body}), **more)

    def job(self, **changes: Any) -> dict[str, Any]:
        """An accepted job."""
        answer = self.post({**BODY, **changes})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def finished(self, decision: str = "not_assessed", **changes: Any) -> dict[str, Any]:
        """A job that a worker has made rows and a report for: two parts in each replicate."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        job = self.job(**changes)
        half = job["rows"] // 2
        for replicate in range(1, job["replicates"] + 1):
            for part, (begin, end) in enumerate(((0, half), (half, job["rows"]))):
                table = pa.table(
                    {
                        "age": pa.array(
                            [18 + (row + replicate) % 70 for row in range(begin, end)], pa.int64()
                        ),
                        "sex": pa.array(["FM"[row % 2] for row in range(begin, end)]).dictionary_encode(),
                    }
                )
                sink = pa.BufferOutputStream()
                pq.write_table(table, sink)
                self.service.store_artifact(job["id"], "data", sink.getvalue().to_pybytes(), replicate, part)
        self.service.store_artifact(job["id"], "report", b'{"metrics": []}')
        self.service.store_artifact(job["id"], "page", b"<!doctype html><title>report</title>")
        self.service.set_job(
            job["id"], status="succeeded", started_at=now(), finished_at=now(), sampled=True, fraction=1.0,
            rows_written=job["rows"] * job["replicates"],
            release_decision={"decision": decision, "reasons": ["why"]},
        )  # fmt: skip
        return job

    def dataset(self, names: tuple[str, ...] = ("age", "sex"), rows: int = 88) -> str:
        """An uploaded table, as far as the HTTP side of jobs sees it."""
        dataset_id = ids.new_id("ds")
        fields = [field for field in SMALL["fields"] if field["name"] in names]
        fields += [{"name": name, "type": "string"} for name in names if name not in ("age", "sex")]
        with transaction(self.service.engine) as connection:
            connection.execute(
                insert(DatasetRow).values(
                    id=dataset_id, owner=self.owner, name="t", rows=rows, columns=len(names),
                    schema_document={"fields": fields}, sha256="0" * 64, key=f"datasets/{dataset_id}",
                    key_sha256="0" * 64, bytes=1, attempts=0, created_at=now(),
                    expires_at=now().replace(year=now().year + 1),
                )
            )  # fmt: skip
        return dataset_id


def build(database_url: str, folder: Path, **changes: Any) -> Service:
    """Wire an application around a database that gets its tables here."""
    settings = Settings(
        database_url=database_url, artifacts_url=str(folder / "artifacts"), scratch_dir=folder, **changes
    )
    engine = db.connect(database_url, pool_size=10)
    Base.metadata.create_all(engine)
    store, queue = open_store(str(folder / "artifacts")), RememberingQueue()
    application = create_app(settings, engine=engine, store=store, queue=queue)
    client = TestClient(
        application,
        base_url="http://127.0.0.1:8000",
        client=("127.0.0.1", 50000),
        raise_server_exceptions=False,
    )
    return Service(application, client, engine, store, queue, settings)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest,
    new_database: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    wired = build(new_database(request.param), tmp_path_factory.mktemp("api"))
    with wired.http:
        yield wired


@pytest.fixture
def me(service: Service) -> Caller:
    return service.caller()


@pytest.fixture
def local(new_database: Callable[[str], str], tmp_path: Path) -> Iterator[Service]:
    """Without keys, on SQLite, for what does not depend on the database."""
    wired = build(new_database("sqlite"), tmp_path, no_auth=True)
    with wired.http:
        yield wired
