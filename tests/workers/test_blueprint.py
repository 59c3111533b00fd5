"""A blueprint is kept with its job: on both databases, by one worker and by several, withheld rows or not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.workers.house import House

SCHEMA: dict[str, Any] = {
    "fields": [
        {"name": "x", "type": "number", "decimals": 2, "statistics": {"mean": 10, "sd": 2}},
        {"name": "y", "type": "number", "decimals": 2, "statistics": {"mean": 0, "sd": 1}},
    ],
    "associations": [{"fields": ["x", "y"], "measure": "pearson", "value": 0.5}],
}


@pytest.fixture
def house(either_house: House) -> House:
    return either_house


def blueprint_of(house: House, job_id: str) -> dict[str, Any]:
    (stored,) = house.artifacts(job_id, "blueprint")
    with house.store.open(stored.key) as file:
        document: dict[str, Any] = json.load(file)
    return document


def test_the_blueprint_is_stored_with_the_job_and_told_in_its_report(house: House) -> None:
    evaluation = {"enabled": True, "holdout": 0.3}
    job = house.wait(
        house.post(rows=100, generator="blueprint", schema_document=SCHEMA, evaluation=evaluation)
    )
    assert job.status == "succeeded", job.error
    document = blueprint_of(house, job.id)
    assert [column["name"] for column in document["columns"]] == ["x", "y"]
    (report,) = house.artifacts(job.id, "report")
    with house.store.open(report.key) as file:
        population = json.load(file)["population"]
    assert population["statements"] == population["as_asked"] == len(document["outcomes"]) == 5


def test_one_blueprint_serves_all_shards_and_the_report(house: House) -> None:
    evaluation = {"enabled": True, "holdout": 0.3}
    job = house.wait(
        house.post(
            rows=150_000, replicates=2, queue="heavy", generator="blueprint", schema_document=SCHEMA,
            evaluation=evaluation,
        )
    )  # fmt: skip
    assert job.status == "succeeded", job.error
    assert [place[:2] for place in house.bytes_of(job.id)] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert len(blueprint_of(house, job.id)["outcomes"]) == 5
    (report,) = house.artifacts(job.id, "report")
    with house.store.open(report.key) as file:
        assert json.load(file)["population"]["statements"] == 5


def test_statements_that_cannot_hold_together_end_a_job_that_is_to_fail_and_leave_no_file(
    house: House,
) -> None:
    both = [{"fields": ["x", "y"], "measure": measure, "value": value}
            for measure, value in (("pearson", 0.9), ("spearman", -0.9))]  # fmt: skip
    job = house.wait(
        house.post(
            generator="blueprint",
            schema_document={**SCHEMA, "associations": both},
            options={"on_infeasible": "fail"},
        )
    )
    assert job.status == "failed"
    faults = job.error["errors"]
    assert any(fault["pointer"].startswith("/schema/associations/") for fault in faults)
    moved = [float(re.findall(r"([0-9.]+) tolerances away", fault["message"])[0]) for fault in faults]
    assert moved == sorted(moved, reverse=True) and moved[-1] > 1
    assert "was asked and" in faults[0]["message"]
    assert house.files(job.id) == []
