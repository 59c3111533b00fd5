from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from app.db import reading
from app.jobs.models import JobLabelRow, JobRow
from tests.api.conftest import BODY, FLAGSHIP, SMALL, Caller, Service


def pointers(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["pointer"] for error in answer.json()["errors"]]


def count(service: Service, owner: str) -> int:
    with reading(service.engine) as connection:
        return connection.execute(select(func.count()).where(JobRow.owner == owner)).scalar_one()


def test_a_job_is_committed_rung_for_and_answered_with_202(service: Service, me: Caller) -> None:
    answer = me.post({**BODY, "seed": 7, "labels": {"request": "DAR-1"}})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert service.queue.rung[-1] == (job["id"], "quick")
    assert (job["status"], job["seed"], job["rows"], job["replicates"]) == ("queued", 7, 5, 1)
    assert job["generator"] == {
        "name": "marginals",
        "options": {"fit": False},
        "version": job["generator"]["version"],
    }
    assert job["release"] == {"decision": "not_assessed", "reasons": []}
    assert me.get(job["links"]["self"]).json() == job
    with reading(service.engine) as connection:
        row = connection.execute(
            select(JobRow.schema_document, JobRow.queue, JobRow.attempt).where(JobRow.id == job["id"])
        ).one()
        label = connection.execute(
            select(JobLabelRow.value).where(JobLabelRow.job_id == job["id"])
        ).scalar_one()
    assert row == (SMALL, "quick", 0) and label == "DAR-1"


def test_a_drawn_seed_is_recorded_and_fits_every_json_reader(me: Caller) -> None:
    seeds = {me.job()["seed"] for _ in range(5)}
    assert len(seeds) == 5  # two equal draws of 53 bits: about 1 in 10^15
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_a_lost_ring_does_not_lose_the_job(service: Service, me: Caller) -> None:
    service.queue.answers = False
    try:
        answer = me.post(BODY)
    finally:
        service.queue.answers = True
    assert answer.status_code == 202
    assert me.get(answer.headers["location"]).json()["status"] == "queued"


def test_big_jobs_go_to_the_heavy_queue(service: Service, me: Caller) -> None:
    job = me.job(rows=250_000, replicates=2)
    assert service.queue.rung[-1] == (job["id"], "heavy")


def test_one_answer_names_every_fault_and_nothing_is_queued(service: Service, me: Caller) -> None:
    body = {
        "schema": {
            "fields": [{"name": "age", "type": "integer", "constraints": {"minimum": 90, "maximum": 65}}],
            "rules": ["agee > 3"],
        },
        "generator": {"name": "marginals", "options": {"fitt": True}},
        "rows": 0,
        "seed": -1,
        "replicates": "two",
        "evaluation": {"holdout": 1.0, "depht": "core"},
        "release": {"max_identical_match_share": 2},
        "labels": {"a:b": "x", "c": 3},
        "reference_id": "ds_nothing",
        "colour": "red",
    }
    found = pointers(me.post(body))
    for start in (
        "/schema/fields/0/constraints", "/schema/rules/0", "/generator/options/fitt", "/rows", "/seed",
        "/replicates", "/evaluation/holdout", "/evaluation/depht", "/labels/a:b", "/labels/c",
        "/release/max_identical_match_share", "/reference_id", "/colour",
    ):  # fmt: skip
        assert any(pointer.startswith(start) for pointer in found), (start, found)
    assert count(service, me.owner) == 0


def test_what_is_wrong_in_one_property_does_not_hide_what_is_wrong_in_another(me: Caller) -> None:
    body = {
        **BODY,
        "rows": 10**12,
        "seed": -1,
        "labels": {"a:b": "c"},
        "evaluation": {"target": "nothing", "holdout": 5, "sensitive": ["sexx"]},
        "release": {"max_identical_match_share": 7, "max_singling_out_advantage": 0.1},
    }
    assert set(pointers(me.post(body))) >= {
        "/rows", "/seed", "/evaluation/target", "/evaluation/holdout", "/evaluation/sensitive/0",
        "/release/max_identical_match_share", "/release/max_singling_out_advantage",
    }  # fmt: skip


def test_to_fit_without_a_real_table_is_refused(me: Caller) -> None:
    generator = {"name": "marginals", "options": {"fit": True}}
    answer = me.post({**BODY, "generator": generator})
    assert pointers(answer) == ["/generator/options/fit"]
    assert "reference_id" in answer.json()["errors"][0]["message"]


def test_what_is_no_boolean_is_told_in_plain_words(me: Caller) -> None:
    generator = {"name": "marginals", "options": {"fit": "ja"}}
    answer = me.post({**BODY, "generator": generator})
    assert answer.json()["errors"] == [
        {"pointer": "/generator/options/fit", "message": "This must be true or false."}
    ]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"seed": 2**53}, "/seed"),
        ({"seed": 7.0}, "/seed"),
        ({"seed": True}, "/seed"),
        ({"seed": "7"}, "/seed"),
        ({"rows": True}, "/rows"),
        ({"rows": 10_000_001}, "/rows"),
        ({"replicates": 101}, "/replicates"),
        ({"replicates": 0}, "/replicates"),
        ({"webhook_url": "https://portal.example/"}, "/webhook_url"),
        ({"generator": "marginal"}, "/generator"),
        ({"generator": {"name": "nothing"}}, "/generator/name"),
        ({"generator": {}}, "/generator/name"),
        ({"generator": 3}, "/generator"),
        ({"schema": None}, "/schema"),
        ({"schema": []}, "/schema"),
        ({"schema": {"fields": []}}, "/schema/fields"),
        ({"evaluation": {"target": "nothing"}}, "/evaluation/target"),
        ({"evaluation": {"group": "nothing"}}, "/evaluation/group"),
        ({"evaluation": {"quasi_identifiers": ["age", "nothing"]}}, "/evaluation/quasi_identifiers/1"),
        ({"evaluation": {"sensitive": ["nothing"]}}, "/evaluation/sensitive/0"),
        ({"evaluation": {"holdout": 0}}, "/evaluation/holdout"),
        ({"evaluation": {"depth": "deep"}}, "/evaluation/depth"),
        ({"release": {}}, "/release"),
        ({"release": {"max_identical_match_share": -1}}, "/release/max_identical_match_share"),
        ({"release": {"max_identical_match_share": 0.0}}, "/release/max_identical_match_share"),
        (
            {"release": {"max_singling_out_advantage": 0.1}, "evaluation": {"enabled": False}},
            "/evaluation/enabled",
        ),
        ({"labels": {f"l{number}": "x" for number in range(21)}}, "/labels"),
        ({"labels": {"k" * 101: "x"}}, "/labels/" + "k" * 101),
        ({"labels": {"k": "v" * 201}}, "/labels/k"),
        ({"labels": {"": "v"}}, "/labels/"),
    ],
)
def test_a_fault_is_named_where_it_is(local: Service, change: dict[str, Any], pointer: str) -> None:
    answer = local.http.post("/v1/jobs", json={**BODY, **change})
    assert pointer in pointers(answer)
    assert all(len(error["message"]) > 10 for error in answer.json()["errors"])


def test_the_closest_generator_is_proposed(local: Service) -> None:
    answer = local.http.post("/v1/jobs", json={**BODY, "generator": "marginalls"})
    assert "`marginals`" in answer.json()["errors"][0]["message"]


def test_a_table_that_cannot_have_that_many_rows_is_refused_at_the_door(local: Service) -> None:
    schema = {
        "fields": [{"name": "id", "type": "string", "constraints": {"unique": True, "pattern": "[0-9]{2}"}}]
    }
    found = pointers(local.http.post("/v1/jobs", json={**BODY, "schema": schema, "rows": 101}))
    assert any(pointer.startswith("/schema/fields/0") for pointer in found)


def test_a_table_that_is_to_have_the_statistics_itself_is_small(local: Service) -> None:
    generator = {"name": "blueprint", "options": {"match": "sample"}}
    refused = local.http.post("/v1/jobs", json={**BODY, "generator": generator, "rows": 5001})
    assert pointers(refused) == ["/rows"] and "5,000" in refused.json()["errors"][0]["message"]
    taken = local.http.post("/v1/jobs", json={**BODY, "generator": generator, "rows": 5000})
    assert taken.status_code == 202


def test_what_is_not_honoured_is_said_once_for_each_statement(local: Service) -> None:
    job = local.http.post("/v1/jobs", json={**BODY, "schema": FLAGSHIP}).json()
    said = [warning["pointer"] for warning in job["warnings"]]
    expected = [f"/schema/associations/{number}" for number in range(len(FLAGSHIP["associations"]))]
    expected += [f"/schema/conditionals/{number}" for number in range(len(FLAGSHIP["conditionals"]))]
    assert [pointer for pointer in said if pointer in expected] == expected
    assert len(said) == len(set(said))


def test_unknown_properties_of_the_schema_are_kept_and_named(local: Service) -> None:
    job = local.http.post("/v1/jobs", json={**BODY, "schema": {**SMALL, "colour": "red"}}).json()
    assert any(warning["pointer"] == "/schema/colour" for warning in job["warnings"])


@pytest.mark.parametrize(
    ("limit", "rows", "said"),
    [(0.05, 243, "244 rows"), (0.0, 100_000, "No table is large enough"), (0.0005, 100_000, "0.00077")],
)
def test_a_limit_that_the_table_is_too_small_for_is_refused_with_the_rows_it_needs(
    me: Caller, limit: float, rows: int, said: str
) -> None:
    body = {**BODY, "reference_id": me.dataset(rows=rows), "release": {"max_singling_out_advantage": limit}}
    answer = me.post(body)
    assert pointers(answer) == ["/release/max_singling_out_advantage"]
    assert said in answer.json()["errors"][0]["message"]


def test_a_limit_that_the_table_is_large_enough_for_is_taken_without_a_warning(me: Caller) -> None:
    limit = {"max_singling_out_advantage": 0.05}
    answer = me.post({**BODY, "reference_id": me.dataset(rows=244), "release": limit})
    assert answer.status_code == 202, answer.text
    assert not [item for item in answer.json()["warnings"] if item["pointer"].startswith("/release")]


def test_a_limit_on_singling_out_needs_a_real_table(local: Service) -> None:
    answer = local.http.post("/v1/jobs", json={**BODY, "release": {"max_singling_out_advantage": 0.05}})
    assert pointers(answer) == ["/release/max_singling_out_advantage"]


def test_without_a_schema_the_references_is_taken_and_its_use_counted(service: Service, me: Caller) -> None:
    from app.datasets.models import DatasetRow

    dataset = me.dataset()
    body = {"generator": {"name": "marginals", "options": {"fit": True}}, "rows": 9, "reference_id": dataset}
    answer = me.post({**body, "release": {"max_identical_match_share": 0.0}, "evaluation": {"target": "sex"}})
    assert answer.status_code == 202, answer.text
    with reading(service.engine) as connection:
        assert (
            connection.execute(select(DatasetRow.attempts).where(DatasetRow.id == dataset)).scalar_one() == 1
        )
        row = connection.execute(select(JobRow).where(JobRow.id == answer.json()["id"])).mappings().one()
    assert [field["name"] for field in row["schema_document"]["fields"]] == ["age", "sex"]
    assert row["release_limits"] == {"max_identical_match_share": 0.0}


def test_a_field_that_the_reference_lacks_is_named(me: Caller) -> None:
    body = {**BODY, "reference_id": me.dataset(("age", "sexx"))}
    answer = me.post(body)
    assert pointers(answer) == ["/schema/fields/1/name"]
    assert "'sexx'" in answer.json()["errors"][0]["message"]


def test_a_reference_of_one_row_or_of_another_owner_is_refused(service: Service, me: Caller) -> None:
    assert pointers(me.post({**BODY, "reference_id": me.dataset(rows=1)})) == ["/reference_id"]
    assert pointers(me.post({**BODY, "reference_id": service.caller().dataset()})) == ["/reference_id"]


def test_a_reference_that_serves_nothing_is_said(me: Caller) -> None:
    job = me.job(reference_id=me.dataset(), evaluation={"enabled": False})
    assert [warning["pointer"] for warning in job["warnings"]] == ["/reference_id"]


def test_a_dry_run_judges_estimates_and_stores_nothing(service: Service, me: Caller) -> None:
    answer = me.post({**BODY, "rows": 1000}, "/v1/jobs?dry_run=true", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 200
    assert answer.json()["valid"] is True and answer.json()["repairs"] == []
    assert answer.json()["estimate"]["seconds"] > 0
    assert count(service, me.owner) == 0
    assert "Idempotent-Replayed" not in me.post(BODY, headers={"Idempotency-Key": "k"}).headers
    assert pointers(me.post({**BODY, "rows": 0}, "/v1/jobs?dry_run=true")) == ["/rows"]


def test_a_dry_run_counts_the_training_of_a_network(me: Caller) -> None:
    """A quarter of a minute for a small table (10 and 13 s on two busy cores), more for more epochs."""

    def seconds(**options: Any) -> float:
        asked = {
            "generator": {"name": "ctgan", "options": options},
            "rows": 100,
            "reference_id": me.dataset(),
        }
        found: float = me.post(asked, "/v1/jobs?dry_run=true").json()["estimate"]["seconds"]
        return found

    assert 4 < seconds(epochs=1) < seconds() < 60
    assert seconds(epochs=100_000) > 500


def test_a_dry_run_says_what_fitting_would_say(me: Caller) -> None:
    fields = [{"name": "x", "type": "number"}, {"name": "y", "type": "string", "categories": ["a", "b"]}]
    answer = me.post({**BODY, "schema": {"fields": fields}}, "/v1/jobs?dry_run=true").json()
    assert [warning["pointer"] for warning in answer["warnings"]] == ["/schema/fields/0", "/schema/fields/1"]


def test_a_dry_run_says_what_would_be_repaired_furthest_first(me: Caller) -> None:
    fields = [{"name": name, "type": "number", "statistics": {"mean": 0, "sd": 1}} for name in "abc"]
    associations = [
        {"fields": list(pair), "measure": "pearson", "value": value}
        for pair, value in (("ab", 0.9), ("bc", 0.9), ("ac", -0.9))
    ]
    body = {"schema": {"fields": fields, "associations": associations}, "generator": "blueprint", "rows": 5}
    repairs = me.post(body, "/v1/jobs?dry_run=true").json()["repairs"]
    moved = [repair["moved"] for repair in repairs]
    assert len(moved) >= 3 and moved == sorted(moved, reverse=True)
    assert all(repair["at"].startswith("/") and repair["asked"] != repair["achieved"] for repair in repairs)


def test_a_dry_run_finds_a_rule_that_no_row_can_meet(me: Caller) -> None:
    schema = {**SMALL, "rules": ["age > 200"]}
    answer = me.post({**BODY, "schema": schema}, "/v1/jobs?dry_run=true")
    assert answer.status_code == 200
    (said,) = [warning["message"] for warning in answer.json()["warnings"] if warning["pointer"] == "/schema"]
    assert said.startswith("The job would fail.") and "age > 200" in said


def test_a_dry_run_refuses_what_the_generator_would_refuse_in_the_job(me: Caller) -> None:
    ambiguous = {"name": "id", "type": "string", "constraints": {"unique": True, "pattern": r"a?a?\d"}}
    answer = me.post({**BODY, "schema": {"fields": [ambiguous]}}, "/v1/jobs?dry_run=true")
    assert (answer.status_code, pointers(answer)) == (422, ["/schema/fields/0/constraints/pattern"])


def test_a_dry_run_of_what_learns_from_a_real_table_is_not_tried(me: Caller) -> None:
    body = {"reference_id": me.dataset(), "generator": {"name": "marginals", "options": {"fit": True}}}
    answer = me.post({**body, "rows": 5}, "/v1/jobs?dry_run=true")
    assert (answer.status_code, answer.json()["repairs"]) == (200, [])


def test_a_misspelt_dry_run_does_not_queue(service: Service, me: Caller) -> None:
    answer = me.post(BODY, "/v1/jobs?dryrun=true")
    assert pointers(answer) == ["/query/dryrun"]
    assert "'dry_run'" in answer.json()["errors"][0]["message"]
    assert count(service, me.owner) == 0


def test_a_changed_schema_is_not_taken_for_one_that_was_parsed_before(local: Service) -> None:
    first = {"fields": [{"name": "a", "type": "integer", "constraints": {"minimum": 1}}]}
    other = {"fields": [{"name": "a", "type": "integer", "constraints": {"minimum": True}}]}
    assert local.http.post("/v1/jobs", json={**BODY, "schema": first}).status_code == 202
    assert local.http.post("/v1/jobs", json={**BODY, "schema": other}).status_code == 422
