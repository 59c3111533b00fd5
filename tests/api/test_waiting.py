from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import BODY, Caller, Service, build
from tests.api.live import running


def end_soon(service: Service, me: Caller, after: float = 0.2) -> threading.Thread:
    """Let the newest job of the caller's succeed in a moment."""

    def end() -> None:
        deadline = time.monotonic() + 60
        while not (items := me.get("/v1/jobs").json()["items"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after)
        service.set_job(items[0]["id"], status="succeeded", fraction=1.0)

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_the_answer_is_held_until_the_job_ends(service: Service, me: Caller) -> None:
    begin = time.monotonic()
    thread = end_soon(service, me)
    answer = me.post(BODY, headers={"Prefer": "wait=60"})
    thread.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=60"
    assert time.monotonic() - begin < 55, "the end of the job, not of the minute, was waited for"


def test_when_the_seconds_are_over_the_job_goes_on(me: Caller) -> None:
    begin = time.monotonic()
    answer = me.post(BODY, headers={"Prefer": "respond-async, wait=1"})
    assert time.monotonic() - begin > 0.9
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=1" and answer.headers["location"]


def test_the_answer_tells_how_far_the_job_is_when_the_seconds_are_over(service: Service, me: Caller) -> None:
    def start() -> None:
        while not (items := me.get("/v1/jobs").json()["items"]):
            time.sleep(0.01)
        service.set_job(items[0]["id"], status="running", fraction=0.5)

    thread = threading.Thread(target=start)
    thread.start()
    answer = me.post(BODY, headers={"Prefer": "wait=1"})
    thread.join()
    assert (answer.status_code, answer.json()["status"], answer.json()["progress"]["fraction"]) == (
        202,
        "running",
        0.5,
    )


@pytest.mark.parametrize("prefer", ["wait=soon", "wait=-1", "wait=1.5", "wait", "return=minimal", "xwait=5"])
def test_a_preference_that_cannot_be_read_is_ignored(me: Caller, prefer: str) -> None:
    answer = me.post(BODY, headers={"Prefer": prefer})
    assert answer.status_code == 202 and "preference-applied" not in answer.headers


@pytest.mark.parametrize("asked", ["9999", "9" * 30, "0" * 30 + "60"])
def test_nobody_waits_longer_than_the_service_allows(
    new_database: Callable[[str], str], tmp_path: Path, asked: str
) -> None:
    wired = build(new_database("sqlite"), tmp_path, no_auth=True, max_wait=0.0)
    with wired.http:
        answer = wired.http.post("/v1/jobs", json=BODY, headers={"Prefer": f"wait={asked}"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0")


def test_a_repeated_request_can_wait_too(service: Service, me: Caller) -> None:
    headers = {"Idempotency-Key": "k", "Prefer": "wait=20"}
    thread = end_soon(service, me)
    first = me.post(BODY, headers=headers)
    thread.join()
    again = me.post(BODY, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json() and again.headers["Idempotent-Replayed"] == "true"


def test_five_hundred_waiting_clients_do_not_slow_the_others_and_leave_nothing_behind(tmp_path: Path) -> None:
    asyncio.run(_five_hundred(tmp_path))


async def _five_hundred(folder: Path) -> None:
    limits = httpx.Limits(max_connections=600, max_keepalive_connections=600)
    with running(folder) as base:
        async with (
            httpx.AsyncClient(base_url=base, limits=limits, timeout=60) as waiting,
            httpx.AsyncClient(base_url=base, timeout=60) as other,
        ):
            tasks = [
                asyncio.create_task(waiting.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=60"}))
                for _ in range(500)
            ]
            assert await _clients_that_wait(other, 500)
            path = (await other.post("/v1/jobs", json=BODY)).headers["location"]
            # A thread for each client would leave none for the others, who would wait for a minute.
            # How long they take beside 500 that wait is measured by `benchmarks/http_load.py`.
            for _ in range(100):
                assert (await other.get(path)).status_code == 200
            assert await _clients_that_wait(other, 500), "all wait on"
            jobs = (await other.get("/v1/jobs?limit=200")).json()["items"]
            for job in jobs[:20]:
                await other.post(job["links"]["cancel"])
            done, _ = await asyncio.wait(tasks, timeout=50, return_when=asyncio.FIRST_COMPLETED)
            assert done and all(task.result().status_code == 200 for task in done)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await waiting.aclose()
            assert await _clients_that_wait(other, 0)


async def _clients_that_wait(client: httpx.AsyncClient, count: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if f"synthward_waiting_clients {float(count)}" in (await client.get("/metrics")).text:
            return True
        await asyncio.sleep(0.1)
    return False
