from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, insert

from app.config import Settings
from app.datasets import service
from app.datasets.child import Read, read_in_child
from app.datasets.models import DatasetRow
from app.datasets.receive import receive
from app.db import Base, connect, now, transaction
from app.errors import (
    DatasetInUse,
    DatasetNotFound,
    InvalidInput,
    StorageFull,
    SynthwardError,
    UploadTooLarge,
)
from app.jobs.models import JobRow
from app.json_body import parse_json
from app.main import create_app
from app.problem_objects import BadRequest, UnsupportedMediaType
from app.storage import FolderStore, Stored

EXAMPLE = Path(__file__).parents[3] / "examples" / "brain_cancer.csv"


class SilentQueue:
    """Takes every job and rings for none."""

    def send(self, job_id: str, queue: str) -> None: ...

    def ping(self) -> None: ...

    def workers(self) -> int:
        return 1


@dataclass(frozen=True)
class House:
    settings: Settings
    engine: Engine
    store: FolderStore
    root: Path

    @property
    def kept(self) -> list[Path]:
        return [path for path in (self.root / "artifacts").rglob("*") if path.is_file()]

    @property
    def scratch(self) -> list[Path]:
        return list((self.root / "scratch").rglob("*"))

    def client(self) -> TestClient:
        app = create_app(self.settings, engine=self.engine, store=self.store, queue=SilentQueue())  # type: ignore[arg-type]
        return TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))

    def add(self, name: str, owner: str = "anna") -> str:
        parquet = self.root / "table.parquet"
        parquet.write_bytes(b"rows")
        read = Read(parquet, 3, 2, {"fields": []}, ())
        return service.add(
            self.engine, self.store, self.settings, owner, name=name, sha256="ab" * 32, size=4, read=read
        ).id


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    settings = Settings(
        no_auth=True,
        scratch_dir=tmp_path / "scratch",
        max_upload_bytes=200_000,
        max_request_bytes=10_000,
        nice=0,
    )
    engine = connect(f"sqlite:///{tmp_path}/db.sqlite")
    Base.metadata.create_all(engine)
    yield House(settings, engine, FolderStore(tmp_path / "artifacts"), tmp_path)
    engine.dispose()


def _job(house: House, reference_id: str, status: str) -> None:
    values: dict[str, Any] = {column.name: None for column in JobRow.__table__.columns} | {
        "id": "job_1",
        "owner": "anna",
        "kind": "generation",
        "status": status,
        "queue": "quick",
        "created_at": now(),
        "updated_at": now(),
        "generator": "marginals",
        "generator_version": "1",
        "options": {},
        "schema_document": {},
        "rows": 1,
        "replicates": 1,
        "seed": 1,
        "reference_id": reference_id,
        "evaluation": {},
        "labels": {},
        "attempt": 0,
        "cancel_requested": False,
        "phase": "whole",
        "fraction": 0.0,
        "detail": "",
        "rows_written": 0,
        "sampled": False,
        "evaluate_failures": 0,
        "warnings": [],
    }
    with transaction(house.engine) as connection:
        connection.execute(insert(JobRow).values(**values))


# --- the service -----------------------------------------------------------------------------------------


def test_a_dataset_is_its_owner_s_alone(house: House) -> None:
    dataset = house.add("mine")
    assert service.get(house.engine, "anna", dataset).name == "mine"
    for act in (
        lambda: service.get(house.engine, "bob", dataset),
        lambda: service.delete(house.engine, house.store, "bob", dataset),
        lambda: service.get(house.engine, "anna", "ds_' or 1=1"),
        lambda: service.delete(house.engine, house.store, "anna", "../.."),
    ):
        with pytest.raises(DatasetNotFound):
            act()
    assert service.listed(house.engine, "bob", limit=10, cursor=None).items == ()


def test_pages_go_from_the_newest_to_the_oldest(house: House) -> None:
    ids = []
    for number in range(5):
        ids.append(house.add(str(number)))
        time.sleep(0.001)  # ids sort by the 1/16 ms
    seen, cursor = [], None
    for _ in range(3):
        page = service.listed(house.engine, "anna", limit=2, cursor=cursor)
        seen += [record.id for record in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == ids[::-1]
    with pytest.raises(InvalidInput):
        service.listed(house.engine, "anna", limit=2, cursor="no cursor")


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_dataset_that_a_job_needs_is_not_deleted(house: House, status: str) -> None:
    dataset = house.add("needed")
    _job(house, dataset, status)
    with pytest.raises(DatasetInUse):
        service.delete(house.engine, house.store, "anna", dataset)
    assert len(house.kept) == 1


def test_a_dataset_that_an_ended_job_used_is_deleted_with_its_rows(house: House) -> None:
    dataset = house.add("used")
    _job(house, dataset, "succeeded")
    service.delete(house.engine, house.store, "anna", dataset)
    assert house.kept == []
    with pytest.raises(DatasetNotFound):
        service.get(house.engine, "anna", dataset)


def test_it_expires_after_its_time(house: House) -> None:
    record = service.get(house.engine, "anna", house.add("x"))
    assert record.expires_at - record.created_at == dt.timedelta(days=30)


def test_nothing_is_kept_where_the_store_is_full(house: House) -> None:
    class FullStore(FolderStore):
        def put_file(self, key: str, path: Path) -> Stored:
            raise StorageFull("There is no room.")

    read = Read(house.root, 1, 1, {}, ())
    with pytest.raises(StorageFull):
        service.add(
            house.engine,
            FullStore(house.root),
            house.settings,
            "anna",
            name="x",
            sha256="ab",
            size=1,
            read=read,
        )
    assert service.listed(house.engine, "anna", limit=1, cursor=None).items == ()


def test_no_file_is_left_where_the_row_cannot_be_written(house: House) -> None:
    DatasetRow.__table__.drop(house.engine)  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="no such table"):
        house.add("x")
    assert house.kept == []


@pytest.mark.parametrize(
    ("fields", "filename", "name"),
    [
        ({}, "brain_cancer.csv", "brain_cancer"),
        ({}, "C:\\Users\\anna\\cohort 1.parquet", "cohort 1"),
        ({}, "../../etc/passwd", "passwd"),
        ({}, "", "unnamed"),
        ({"name": "Žofie".encode()}, "x.csv", "Žofie"),
        ({"name": b" "}, "x.csv", "x"),
    ],
)
def test_a_dataset_is_named_as_said_else_as_its_file(
    fields: dict[str, bytes], filename: str, name: str
) -> None:
    assert service.wish_of(fields, filename, parse_json=parse_json, max_fields=10).name == name


def test_faults_of_name_and_schema_are_named_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        service.wish_of(
            {"name": b"x" * 300, "schema": b'{"fields": [{"name": "a", "type": "wrong"}]}'},
            "",
            parse_json=parse_json,
            max_fields=10,
        )
    assert [fault.pointer for fault in caught.value.faults] == ["/name", "/schema/fields/0/type"]
    with pytest.raises(InvalidInput) as caught:
        service.wish_of({"schema": b"{"}, "", parse_json=parse_json, max_fields=10)
    assert caught.value.faults[0].pointer == "/schema"


# --- receiving -------------------------------------------------------------------------------------------


def _receive(
    path: Path,
    body: bytes,
    *,
    content_type: str = "multipart/form-data; boundary=cut",
    length: str = "",
    chunk: int = 7,
    max_bytes: int = 1000,
) -> Any:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), chunk):
            yield body[start : start + chunk]

    return asyncio.run(
        receive(
            stream(),
            content_type=content_type,
            content_length=length,
            path=path,
            max_bytes=max_bytes,
            max_field_bytes=200,
        )
    )


def _part(name: str, value: bytes, filename: str | None = None) -> bytes:
    tail = f'; filename="{filename}"' if filename else ""
    return f'--cut\r\nContent-Disposition: form-data; name="{name}"{tail}\r\n\r\n'.encode() + value + b"\r\n"


END = b"--cut--\r\n"


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_form_is_read_whatever_its_chunks(tmp_path: Path, chunk: int) -> None:
    content = b"a,b\r\n--cu\r\n\xff\x00"
    body = _part("name", b"mine") + _part("file", content, "t.csv") + _part("schema", b"{}") + END
    received = _receive(tmp_path / "f", body, chunk=chunk)
    assert received.path.read_bytes() == content
    assert received.sha256 == hashlib.sha256(content).hexdigest()
    assert (received.size, received.filename, received.fields) == (
        len(content),
        "t.csv",
        {"name": b"mine", "schema": b"{}"},
    )


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (_part("file", b"x" * 1001) + END, UploadTooLarge),
        (_part("schema", b"x" * 201) + END, InvalidInput),
        (_part("file", b"x") + _part("file", b"y") + END, InvalidInput),
        (_part("file", b"x") + _part("other", b"y") + END, InvalidInput),
        (_part("name", b"x") + END, InvalidInput),
        (_part("file", b"x"), BadRequest),
        (b"nonsense", BadRequest),
        (b"", BadRequest),
        (_part("file", b"x", "n" * 9000) + END, BadRequest),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, body: bytes, error: type[SynthwardError]) -> None:
    with pytest.raises(error):
        _receive(tmp_path / "f", body)


def test_a_declared_length_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(UploadTooLarge):
        _receive(tmp_path / "f", _part("file", b"x") + END, length="1000000")


def test_a_body_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(UploadTooLarge):
        _receive(tmp_path / "f", b"--cut\r\n" + b"x" * 200_000, chunk=5000)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/csv",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=cut",
        "multipart/form-data; boundary=" + "x" * 5000,
    ],
)
def test_another_content_type_is_refused(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        _receive(tmp_path / "f", b"", content_type=content_type)


# --- the child -------------------------------------------------------------------------------------------


def _alive_readers() -> list[str]:
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [line for line in found.stdout.splitlines() if "app.datasets.reader" in line]


def test_a_child_that_takes_too_long_is_killed(house: House, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(EXAMPLE.read_bytes())
    with pytest.raises(UploadTooLarge, match="took more than"):
        asyncio.run(read_in_child(path, None, house.settings, seconds=0.05))
    assert _alive_readers() == []


def test_a_child_whose_caller_leaves_is_killed(house: House, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(EXAMPLE.read_bytes())

    async def leave() -> None:
        task = asyncio.ensure_future(read_in_child(path, None, house.settings))
        await asyncio.sleep(0.1)
        assert len(_alive_readers()) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert _alive_readers() == []


def test_a_table_that_takes_too_much_memory_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text("a,b\n" + "".join(f"text number {i} of many,{i}\n" for i in range(400_000)))
    request = {
        "path": str(path),
        "out": str(tmp_path / "o"),
        "scratch": str(tmp_path),
        "max_rows": 10**6,
        "max_columns": 9,
        "max_memory": 700 << 20,
        "min_cell": 10,
        "nice": 0,
        "schema": None,
    }
    done = subprocess.run(
        [sys.executable, "-m", "app.datasets.reader"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
    )
    # It says so, or is ended in the midst, which whoever asked tells in the same way.
    assert done.returncode != 0 or json.loads(done.stdout)["error"] == "UploadTooLarge"
    assert "text number" not in done.stdout + done.stderr


def test_a_full_disk_beneath_the_reading_child_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text("a,b\n" + "123,456\n" * 50_000)
    request = {
        "path": str(path),
        "out": str(tmp_path / "o"),
        "scratch": str(tmp_path),
        "max_rows": 10**6,
        "max_columns": 9,
        "max_memory": 0,
        "min_cell": 10,
        "nice": 0,
        "schema": None,
    }
    done = subprocess.run(
        [sys.executable, "-m", "app.datasets.reader"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert json.loads(done.stdout)["error"] == "StorageFull"


# --- over HTTP -------------------------------------------------------------------------------------------


def _upload(client: TestClient, content: bytes, **data: str) -> httpx.Response:
    return client.post("/v1/datasets", files={"file": ("table.csv", io.BytesIO(content))}, data=data)


def test_an_upload_is_read_kept_listed_and_deleted(house: House) -> None:
    with house.client() as client:
        created = _upload(client, EXAMPLE.read_bytes(), name="brain")
        assert created.status_code == 201, created.text
        dataset = created.json()
        assert created.headers["location"] == f"/v1/datasets/{dataset['id']}"
        assert {
            "id",
            "name",
            "rows",
            "columns",
            "schema",
            "sha256",
            "created_at",
            "expires_at",
            "warnings",
        } <= set(dataset)
        assert (dataset["rows"], dataset["columns"], dataset["name"]) == (88, 8, "brain")
        assert dataset["sha256"] == hashlib.sha256(EXAMPLE.read_bytes()).hexdigest()
        assert [path.name for path in house.kept] == ["table.parquet"]
        assert pq.read_metadata(house.kept[0]).num_rows == 88
        assert house.scratch == []
        shown = client.get(created.headers["location"]).json()
        assert shown["attempts"] == 0
        assert shown["schema"] == dataset["schema"]
        assert [item["id"] for item in client.get("/v1/datasets").json()["items"]] == [dataset["id"]]
        assert client.delete(created.headers["location"]).status_code == 204
        assert client.get(created.headers["location"]).status_code == 404
        assert house.kept == []


def test_a_corrected_schema_is_taken_and_given_back(house: House) -> None:
    schema = {"fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "integer"}]}
    with house.client() as client:
        created = _upload(client, b"a,b\n1,2\n", schema=json.dumps(schema))
        assert created.json()["schema"] == schema
        refused = _upload(client, b"a,b\n1,x\n", schema=json.dumps(schema))
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"][0]["pointer"] == "/schema/fields/1"


@pytest.mark.parametrize(
    ("content", "data", "status"),
    [
        (b"a,b\n1\n", {}, 422),
        (b"", {}, 422),
        (b"a\n" + b"1\n" * 100_001, {}, 413),
        (b"a\n1\n", {"schema": "{"}, 422),
        (b"a\n1\n", {"surprise": "x"}, 422),
    ],
)
def test_what_cannot_be_kept_is_a_problem_and_leaves_nothing(
    house: House, content: bytes, data: dict[str, str], status: int
) -> None:
    with house.client() as client:
        answer = _upload(client, content, **data)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (house.kept, house.scratch) == ([], [])


def test_another_content_type_is_415(house: House) -> None:
    with house.client() as client:
        assert (
            client.post(
                "/v1/datasets", content=b"a,b\n1,2\n", headers={"content-type": "text/csv"}
            ).status_code
            == 415
        )


def test_more_uploads_than_readers_are_all_read(house: House) -> None:
    app = create_app(house.settings, engine=house.engine, store=house.store, queue=SilentQueue())  # type: ignore[arg-type]

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            answers = await asyncio.gather(
                *(client.post("/v1/datasets", files={"file": b"a,b\n1,2\n"}) for _ in range(3))
            )
        return [answer.status_code for answer in answers]

    assert asyncio.run(all_at_once()) == [201, 201, 201]


def test_the_child_is_ended_and_nothing_kept_where_the_client_leaves(house: House) -> None:
    app = create_app(house.settings, engine=house.engine, store=house.store, queue=SilentQueue())  # type: ignore[arg-type]
    body = _part("file", b"a,b\n1,2\n", "t.csv") + END
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/datasets",
        "raw_path": b"/v1/datasets",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"multipart/form-data; boundary=cut")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def come_and_go() -> None:
        async def incoming() -> dict[str, Any]:
            message = next(messages, None)
            if message is None:
                await asyncio.sleep(0.05)
                return {"type": "http.disconnect"}
            return message

        async def outgoing(_: Any) -> None: ...

        await app(scope, incoming, outgoing)  # type: ignore[arg-type]

    asyncio.run(come_and_go())
    assert _alive_readers() == []
    assert (house.kept, house.scratch) == ([], [])
    assert service.listed(house.engine, "local", limit=1, cursor=None).items == ()


def test_rows_that_a_killed_process_left_behind_go_with_the_next_upload(house: House) -> None:
    left = house.root / "scratch" / "synthward-work-of-the-dead"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    (left / "upload").write_text("name\na real person\n")
    os.utime(left, (0, 0))
    with house.client() as client:
        assert _upload(client, b"a,b\n1,2\n").status_code == 201
    assert house.scratch == []
