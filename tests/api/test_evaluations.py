from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.datasets.models import DatasetRow
from app.db import now, reading
from app.jobs import leases
from tests.api.conftest import SMALL, Caller, Service

PATH = "/v1/evaluations"


def body(me: Caller, **changes: Any) -> dict[str, Any]:
    return {"synthetic_id": me.dataset(rows=500), "reference_id": me.dataset()} | changes


def told(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["message"] for error in answer.json()["errors"]}


def test_an_evaluation_is_a_job_that_names_its_tables(service: Service, me: Caller) -> None:
    asked = body(me, holdout_id=me.dataset(), seed=7, labels={"request": "DAR-1"})
    answer = me.post(asked, PATH)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["status"], job["rows"], job["replicates"]) == ("evaluation", "queued", 500, 1)
    assert job["generator"]["name"] == "uploaded"
    assert job["generator"]["options"] == {
        "synthetic_id": asked["synthetic_id"],
        "holdout_id": asked["holdout_id"],
    }
    assert (job["reference_id"], job["seed"], job["warnings"]) == (asked["reference_id"], 7, [])
    assert job["links"]["data"] is None
    assert answer.headers["location"] == job["links"]["self"] and "retry-after" in answer.headers
    assert service.queue.rung[-1] == (job["id"], "quick")
    assert me.get("/v1/jobs?label=request:DAR-1").json()["items"] == [job]


def test_full_depth_goes_to_the_heavy_queue(service: Service, me: Caller) -> None:
    job = me.post(body(me, evaluation={"depth": "full", "target": "sex"}), PATH).json()
    assert service.queue.rung[-1] == (job["id"], "heavy")


def test_without_a_holdout_a_warning_says_what_that_means(me: Caller) -> None:
    (warning,) = me.post(body(me), PATH).json()["warnings"]
    assert warning["pointer"] == "/holdout_id" and "no yardstick" in warning["message"]


def test_the_reference_counts_the_attempt_and_the_judged_table_does_not(service: Service, me: Caller) -> None:
    asked = body(me)
    for _ in range(2):
        me.post(asked, PATH)
    with reading(service.engine) as connection:
        attempts = dict(tuple(row) for row in connection.execute(select(DatasetRow.id, DatasetRow.attempts)))
    assert (attempts[asked["reference_id"]], attempts[asked["synthetic_id"]]) == (2, 0)


@pytest.mark.parametrize("status", ["queued", "running", "succeeded", "failed"])
def test_there_are_no_rows_to_wait_for(service: Service, me: Caller, status: str) -> None:
    job = me.post(body(me), PATH).json()
    service.set_job(job["id"], status=status)
    answer = me.get(f"/v1/jobs/{job['id']}/data")
    assert answer.status_code == 409 and "retry-after" not in answer.headers
    assert answer.json()["type"] == "/problems/job-has-no-data"


def test_a_holdout_that_is_the_reference_is_refused(me: Caller) -> None:
    asked = body(me)
    faults = told(me.post(asked | {"holdout_id": asked["reference_id"]}, PATH))
    assert set(faults) == {"/holdout_id"} and "kept back" in str(faults)


@pytest.mark.parametrize("name", ["synthetic_id", "reference_id", "holdout_id"])
def test_no_table_can_be_deleted_while_it_is_judged(service: Service, me: Caller, name: str) -> None:
    asked = body(me, holdout_id=me.dataset())
    job = me.post(asked, PATH).json()
    path = f"/v1/datasets/{asked[name]}"
    for status in ("queued", "running"):
        service.set_job(job["id"], status=status)
        assert me.request("DELETE", path).status_code == 409
    assert not leases.delete_dataset(service.engine, asked[name])
    service.set_job(job["id"], status="succeeded", finished_at=now())
    assert me.request("DELETE", path).status_code == 204


def test_one_answer_names_every_fault(me: Caller) -> None:
    asked = {
        "synthetic_id": "ds_nothing",
        "holdout_id": me.dataset(("age",)),
        "schema": SMALL,
        "evaluation": {"enabled": False, "target": "agee"},
        "release": {"max_identical_match_share": 0.0},
        "rows": 3,
    }
    found = told(me.post(asked, PATH))
    assert set(found) == {
        "/reference_id", "/synthetic_id", "/schema/fields/1/name", "/evaluation/enabled",
        "/evaluation/target", "/release", "/rows",
    }  # fmt: skip
    assert "holdout" in found["/schema/fields/1/name"] and "'age'" in found["/evaluation/target"]


def test_a_table_without_a_column_of_the_reference_is_refused_with_the_way_out(me: Caller) -> None:
    asked = body(me, synthetic_id=me.dataset(("age", "sexx")))
    message = told(me.post(asked, PATH))["/synthetic_id"]
    assert "'sex'" in message and "'sexx'" in message and "schema" in message


def test_the_tables_of_another_owner_are_not_there(service: Service, me: Caller) -> None:
    other = service.caller()
    asked = {"synthetic_id": other.dataset(), "reference_id": other.dataset(), "holdout_id": other.dataset()}
    assert set(told(me.post(asked, PATH))) == {"/synthetic_id", "/reference_id", "/holdout_id"}


def test_the_same_key_gets_the_first_answer_again(service: Service, me: Caller) -> None:
    asked, headers = body(me), {"Idempotency-Key": "once"}
    first, again = me.post(asked, PATH, headers=headers), me.post(asked, PATH, headers=headers)
    assert first.json() == again.json() and again.headers["idempotent-replayed"] == "true"
    assert me.post({**asked, "seed": 3}, PATH, headers=headers).status_code == 422


def test_a_dry_run_judges_and_queues_nothing(service: Service, me: Caller) -> None:
    before = len(service.queue.rung)
    answer = me.post(body(me), PATH + "?dry_run=true")
    assert answer.status_code == 200 and answer.json()["valid"] is True
    assert len(service.queue.rung) == before
    assert me.get("/v1/jobs").json()["items"] == []


def test_the_answer_can_be_held_until_the_job_ends(me: Caller) -> None:
    answer = me.post(body(me), PATH, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202 and answer.headers["preference-applied"] == "wait=0"
    assert me.get(PATH).status_code == 405
