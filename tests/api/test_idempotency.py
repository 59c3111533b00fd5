from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.db import transaction
from app.errors import IdempotencyKeyInProgress, InvalidInput
from app.jobs.service import Accepted, JobService
from tests.api.conftest import BODY, Caller, Service, build


def keyed(caller: Caller, key: str, **changes: object) -> tuple[int, str | None, str | None]:
    answer = caller.post({**BODY, **changes}, headers={"Idempotency-Key": key})
    return answer.status_code, answer.headers.get("Idempotent-Replayed"), answer.json().get("id")


def test_the_same_key_and_body_get_the_first_answer_again(service: Service, me: Caller) -> None:
    first = me.post(BODY, headers={"Idempotency-Key": "k"})
    service.set_job(first.json()["id"], status="running")
    again = me.post(BODY, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in first.headers
    assert len(me.get("/v1/jobs").json()["items"]) == 1


def test_the_order_of_properties_does_not_make_another_body(me: Caller) -> None:
    assert (
        keyed(me, "k")[2]
        == me.post(dict(reversed(BODY.items())), headers={"Idempotency-Key": "k"}).json()["id"]
    )


def test_another_body_under_the_same_key_is_refused(me: Caller) -> None:
    keyed(me, "k")
    answer = me.post({**BODY, "rows": 6}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-key-reused")


def test_a_key_belongs_to_its_owner(service: Service, me: Caller) -> None:
    assert keyed(me, "k")[2] != keyed(service.caller(), "k")[2]


def test_a_refused_request_does_not_use_up_its_key(me: Caller) -> None:
    assert keyed(me, "k", rows=0)[0] == 422
    assert keyed(me, "k")[:2] == (202, None)


def test_a_deleted_jobs_answer_is_still_given(me: Caller) -> None:
    _, _, job_id = keyed(me, "k")
    me.request("DELETE", f"/v1/jobs/{job_id}")
    assert keyed(me, "k") == (202, "true", job_id)


def test_many_at_once_make_one_job(me: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: keyed(me, "k"), range(16)))
    assert {status for status, _, _ in answers} <= {202, 409}
    assert len({job_id for status, _, job_id in answers if status == 202}) == 1
    assert len(me.get("/v1/jobs").json()["items"]) == 1


def test_two_processes_make_one_job(service: Service, me: Caller) -> None:
    rung: list[tuple[str, str]] = []
    # Two services share nothing but the database, as two processes do.
    services = [
        JobService(service.engine, service.store, service.settings, lambda *ring: rung.append(ring))
        for _ in range(2)
    ]
    start = threading.Barrier(2)

    def submit(number: int) -> str:
        start.wait()
        return services[number].submit(me.owner, BODY, "k").job.id

    with ThreadPoolExecutor(2) as pool:
        ids = set(pool.map(submit, range(2)))
    assert len(ids) == len(rung) == 1


def test_the_second_is_told_while_the_first_is_being_accepted(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    wired = build(new_database("sqlite"), tmp_path)
    jobs = JobService(wired.engine, wired.store, wired.settings, lambda job_id, queue: None)

    def submit() -> Accepted:
        while True:
            try:
                return jobs.submit("me", BODY, "k")
            except IdempotencyKeyInProgress:
                time.sleep(0.003)  # it came while the other was being judged

    with ThreadPoolExecutor(1) as pool:
        with transaction(wired.engine):  # the first cannot commit while another writer holds the database
            first = pool.submit(submit)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    # Without the first in its way this one would wait for the database, too.
                    jobs.submit("me", {**BODY, "rows": 0}, "k")
                except IdempotencyKeyInProgress:
                    break
                except InvalidInput:
                    time.sleep(0.01)  # the first has not begun yet
            else:
                pytest.fail("the second was never told")
            assert not first.done()
        accepted = first.result()
        again = jobs.submit("me", BODY, "k")
        assert again.replayed and again.job.id == accepted.job.id


@pytest.mark.parametrize("key", ["", "x" * 256, "ümlaut"])
def test_a_key_that_cannot_be_one_is_named(me: Caller, key: str) -> None:
    answer = me.post(BODY, headers={"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/headers/idempotency-key"
