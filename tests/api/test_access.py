from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import reading
from app.errors import InvalidInput
from app.keys.models import KeyRow
from app.keys.service import KeyRing, create_key, list_keys, revoke_key
from tests.api.conftest import BODY, Caller, Service, build


def test_without_a_key_there_is_nothing_but_health_and_reference(service: Service) -> None:
    paths = [path for path in service.http.get("/openapi.json").json()["paths"] if path.startswith("/v1")]
    for path in paths:
        answer = service.http.get(path.replace("{job_id}", "job_x").replace("{dataset_id}", "ds_x"))
        if answer.status_code != 405:
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["type"] == "/problems/not-authenticated"
    assert service.http.post("/v1/jobs", json=BODY).status_code == 401
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/problems/invalid-input"):
        assert service.http.get(path).status_code == 200, path


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer sw_wrong", "Bearer sw_" + "0" * 27 + "_" + "0" * 64],
)
def test_what_is_no_key_is_refused(service: Service, header: str) -> None:
    assert service.http.get("/v1/jobs", headers={"Authorization": header}).status_code == 401


def test_a_right_id_with_a_wrong_secret_is_refused(service: Service, me: Caller) -> None:
    forged = me.secret[:-1] + ("0" if me.secret[-1] != "0" else "1")
    assert service.http.get("/v1/jobs", headers={"Authorization": f"Bearer {forged}"}).status_code == 401
    assert service.http.get("/v1/jobs", headers={"Authorization": f"bearer {me.secret}"}).status_code == 200


def test_keys_of_one_owner_see_the_same_jobs(service: Service, me: Caller) -> None:
    job = me.job()
    _, other = create_key(service.engine, "second", me.owner)
    answer = service.http.get("/v1/jobs", headers={"Authorization": f"Bearer {other}"})
    assert [item["id"] for item in answer.json()["items"]] == [job["id"]]


def test_the_secret_is_not_stored(service: Service) -> None:
    key_id, secret = create_key(service.engine, "x")
    with reading(service.engine) as connection:
        row = connection.execute(select(KeyRow.__table__).where(KeyRow.id == key_id)).mappings().one()
    assert all(secret not in str(value) and secret[-64:] not in str(value) for value in row.values())
    assert key_id in {record.id for record in list_keys(service.engine)}


def test_a_revoked_key_is_refused_once_it_is_forgotten(service: Service) -> None:
    key_id, secret = create_key(service.engine, "x")
    ring = KeyRing(service.engine, ttl=0.0)
    assert ring.authenticate(secret).owner
    assert revoke_key(service.engine, key_id) and not revoke_key(service.engine, key_id)
    assert ring.remembered(secret) is None
    with pytest.raises(Exception, match="revoked"):
        ring.authenticate(secret)


def test_use_is_noted_once_a_minute_not_with_every_request(service: Service, me: Caller) -> None:
    ring = KeyRing(service.engine, ttl=0.0)
    ring.authenticate(me.secret)

    def noted() -> object:
        with reading(service.engine) as connection:
            return connection.execute(
                select(KeyRow.last_used_at).where(KeyRow.owner == me.owner)
            ).scalar_one()

    first = noted()
    ring.authenticate(me.secret)
    assert first is not None and noted() == first


def test_a_key_needs_a_name(service: Service) -> None:
    with pytest.raises(InvalidInput):
        create_key(service.engine, "", "o" * 41)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:80", "127.8.9.1"]
)
def test_without_keys_loopback_names_are_answered(local: Service, host: str) -> None:
    assert local.http.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "10.0.0.1"},
        {"Host": "[::2]"},
        {"Host": "user@127.0.0.1"},
        {"Host": ""},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Port": "443"},
        {"CF-Connecting-IP": "203.0.113.9"},
        {"X-Forwarded-Host": "localhost"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_without_keys_nobody_else_is_answered(local: Service, headers: dict[str, str]) -> None:
    for path in ("/v1/jobs", "/healthz", "/docs", "/nothing"):
        answer = local.http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/host-not-allowed"), path


def test_without_keys_another_machine_is_not_answered(local: Service) -> None:
    from fastapi.testclient import TestClient

    other = TestClient(local.app, base_url="http://127.0.0.1", client=("192.0.2.7", 1))
    assert other.get("/v1/jobs").status_code == 403


def test_metrics_are_for_this_machine_or_a_key(service: Service, me: Caller) -> None:
    job = me.job()
    me.get(job["links"]["self"])
    text = service.http.get("/metrics").text
    assert 'synthward_jobs{status="queued"}' in text and 'synthward_queue_length{queue="quick"}' in text
    assert 'route="/v1/jobs/{job_id}"' in text and job["id"] not in text
    away = {"Host": "synthward.example"}
    assert service.http.get("/metrics", headers=away).status_code == 401
    assert me.get("/metrics", headers=away).status_code == 200


def test_readiness_names_each_part_and_its_state(new_database: Callable[[str], str], tmp_path: Path) -> None:
    wired = build(new_database("sqlite"), tmp_path)
    wired.queue.answers, wired.queue.has_workers = False, False
    with wired.http:
        answer = wired.http.get("/readyz")
    assert answer.status_code == 503 and answer.json()["status"] == "not ready"
    states = {name: part["ready"] for name, part in answer.json()["parts"].items()}
    assert states == {"database": True, "broker": False, "store": True, "worker": False}


def test_neither_bodies_nor_keys_nor_queries_get_into_the_log(
    service: Service, me: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    me.post({**BODY, "labels": {"secretlabel": "secretvalue"}})
    me.post({**BODY, "rows": "secretvalue"})
    me.get("/v1/jobs?label=secretlabel:secretvalue")
    me.get("/v1/secretpath")
    me.get("/v1/jobs/x%0a2026-01-01%20forged%20line%1b[31m%00")
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("app"))
    assert "POST /v1/jobs 202" in own
    assert "secret" not in own and me.secret not in caplog.text
    assert "forged" not in own and "\x1b" not in own and "\x00" not in own
