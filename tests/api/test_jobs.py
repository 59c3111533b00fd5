from __future__ import annotations

import pytest
from sqlalchemy import func, select

from app.db import now, reading
from app.jobs.models import ArtifactRow, JobLabelRow
from tests.api.conftest import BODY, Caller, Service


def listed(caller: Caller, **query: object) -> list[str]:
    answer = caller.get("/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["items"]]


def test_jobs_are_listed_newest_first_and_page_by_page(me: Caller) -> None:
    made = [me.job()["id"] for _ in range(7)]
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = me.get("/v1/jobs", params={"limit": 3, **cursor}).json()
        found += [job["id"] for job in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == made[::-1]
    assert me.get("/v1/jobs", params={"limit": 7}).json()["next_cursor"] is None


def test_every_filter_has_to_be_met(service: Service, me: Caller) -> None:
    both = me.job(labels={"study": "a", "site": "x:1"})["id"]
    one = me.job(labels={"study": "a"})["id"]
    none = me.job()["id"]
    service.set_job(one, status="failed")
    assert listed(me, label="study:a") == [one, both]
    assert listed(me, label=["study:a", "site:x:1"]) == [both]
    assert listed(me, status="failed") == [one]
    assert listed(me, status="queued") == [none, both]
    assert listed(me, generator="marginals", label="study:a", status="queued") == [both]
    assert listed(me, generator="ctgan") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/query/limit"),
        ("limit=201", "/query/limit"),
        ("limit=ten", "/query/limit"),
        ("status=done", "/query/status"),
        ("label=nocolon", "/query/label"),
        ("label=a%00:b", "/query/label"),
        ("generator=%00", "/query/generator"),
        ("cursor=%00", "/query/cursor"),
        ("cursor=Zm9v", "/query/cursor"),
        ("cursor=é", "/query/cursor"),
        ("colour=red", "/query/colour"),
    ],
)
def test_a_faulty_filter_is_named(service: Service, me: Caller, query: str, pointer: str) -> None:
    answer = me.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_one_answer_names_every_faulty_parameter_the_unknown_ones_too(me: Caller) -> None:
    answer = me.get("/v1/jobs?limit=none&status=x&foo=1&cursor=a&cursor=b")
    assert answer.status_code == 422
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {
        "/query/limit", "/query/status", "/query/foo", "/query/cursor",
    }  # fmt: skip
    assert me.get("/v1/jobs?label=a:1&label=b:2").status_code == 200


def test_what_belongs_to_another_owner_is_not_there(service: Service, me: Caller) -> None:
    job = me.finished()
    stranger = service.caller()
    for method, path in (
        ("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/data"), ("GET", "/report"),
    ):  # fmt: skip
        answer = stranger.request(method, f"/v1/jobs/{job['id']}{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/job-not-found"), path
    assert listed(stranger) == []
    assert listed(me) == [job["id"]]


@pytest.mark.parametrize(
    "job_id", ["job_nothing", "job_" + "0" * 27, "%00", "job_%00", "..", "ünï", "x" * 5000]
)
def test_an_id_that_is_none_is_404(me: Caller, job_id: str) -> None:
    assert me.get(f"/v1/jobs/{job_id}/data").status_code == 404


def test_a_queued_job_that_is_cancelled_has_ended(me: Caller) -> None:
    job = me.job()
    answer = me.post(path=job["links"]["cancel"])
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.json()["finished_at"] and answer.json()["expires_at"]
    again = me.post(path=job["links"]["cancel"])
    assert (again.status_code, again.json()) == (200, answer.json())


def test_a_running_job_is_asked_to_stop_and_an_ended_one_stays(service: Service, me: Caller) -> None:
    from app.jobs.models import JobRow

    job = me.job()
    service.set_job(job["id"], status="running", started_at=now())
    assert me.request("DELETE", job["links"]["self"]).status_code == 409
    answer = me.post(path=job["links"]["cancel"])
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    with reading(service.engine) as connection:
        assert (
            connection.execute(select(JobRow.cancel_requested).where(JobRow.id == job["id"])).scalar_one()
            is True
        )
    service.set_job(job["id"], status="succeeded")
    answer = me.post(path=job["links"]["cancel"])
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_deleted_job_is_gone_with_all_that_was_made_for_it(service: Service, me: Caller) -> None:
    job = me.finished(labels={"a": "b"})
    assert me.get(f"{job['links']['data']}?format=csv").status_code == 200  # renders a file, too
    assert service.store.keys(f"jobs/{job['id']}/")
    answer = me.request("DELETE", job["links"]["self"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert service.store.keys(f"jobs/{job['id']}/") == []
    with reading(service.engine) as connection:
        for table in (ArtifactRow, JobLabelRow):
            assert connection.execute(select(func.count()).where(table.job_id == job["id"])).scalar_one() == 0
    assert me.get(job["links"]["self"]).status_code == 404
    assert me.request("DELETE", job["links"]["self"]).status_code == 404


def test_a_queued_job_can_be_deleted(me: Caller) -> None:
    job = me.job()
    assert me.request("DELETE", job["links"]["self"]).status_code == 204
    assert listed(me) == []


def test_a_failed_jobs_problem_is_shown(service: Service, me: Caller) -> None:
    from app.errors import RowShortfall
    from app.problem_objects import problem_of

    job = me.job()
    service.set_job(job["id"], status="failed", error=problem_of(RowShortfall(5, 3, "the rule `a > b`")))
    error = me.get(job["links"]["self"]).json()["error"]
    assert error["type"] == "/problems/row-shortfall" and "a > b" in error["detail"]
    assert service.http.get(error["type"]).status_code == 200


def test_every_link_of_a_job_answers(me: Caller) -> None:
    job = me.finished()
    for name, path in job["links"].items():
        if name in ("transcript", "blueprint"):
            assert path is None, "columns of their own need neither a language model nor a blueprint"
            continue
        assert me.request("POST" if name == "cancel" else "GET", path).status_code == 200, name


def test_a_body_that_was_not_asked_for_does_no_harm(me: Caller) -> None:
    job = me.job()
    assert me.request("POST", job["links"]["cancel"], json=BODY).status_code == 202
