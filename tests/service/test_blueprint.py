"""Declared statistics become rows that have them, over HTTP: no data, no model, no training."""

from __future__ import annotations

import copy
import io
import json

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.service.conftest import EXAMPLES, Service, post_job

FLAGSHIP = json.loads((EXAMPLES / "neurosurgery.schema.json").read_text(encoding="utf-8"))
MANY = 40_000
CHANCE = 5.0
"""Standard errors: with some 60 figures, one in a hundred thousand runs would go beyond by chance."""


def rows_of(http: httpx.Client, job: dict, replicate: int = 1) -> pd.DataFrame:
    answer = http.get(f"/v1/jobs/{job['id']}/data", params={"format": "parquet", "replicate": replicate})
    assert answer.status_code == 200, answer.text
    return pd.read_parquet(io.BytesIO(answer.content))


def made(http: httpx.Client, schema: dict, rows: int, **more: object) -> dict:
    body = {"schema": schema, "rows": rows, "seed": 7, "evaluation": {"enabled": False}, **more}
    job = post_job(http, {"generator": "blueprint", **body})
    assert job["status"] == "succeeded", job
    return job


@pytest.fixture(scope="module")
def flagship(service: Service) -> tuple[dict, pd.DataFrame]:
    with service.client() as http:
        job = made(http, FLAGSHIP, MANY)
        return job, rows_of(http, job)


def test_means_and_deviations_are_those_declared(flagship: tuple[dict, pd.DataFrame]) -> None:
    _, rows = flagship
    for name, mean, sd in (("age", 71.2, 4.1), ("bmi", 26.1, 4.1), ("los_days", 6.9, 4.1)):
        values = rows[name].astype(float)
        assert abs(values.mean() - mean) < 0.01 * sd + CHANCE * sd / np.sqrt(MANY), name
        assert abs(np.log(values.std() / sd)) < 0.02 + CHANCE * 1.5 / np.sqrt(2 * MANY), name


def test_associations_are_those_declared(flagship: tuple[dict, pd.DataFrame]) -> None:
    _, rows = flagship
    for association in FLAGSHIP["associations"]:
        first, second = (rows[name].astype(float) for name in association["fields"])
        found = first.corr(second, method="spearman")
        assert abs(found - association["value"]) < 0.02 + CHANCE / np.sqrt(MANY), association


def test_no_woman_is_taller_than_her_declared_height_allows(flagship: tuple[dict, pd.DataFrame]) -> None:
    _, rows = flagship
    women = rows.loc[rows["sex"] == "F", "height_cm"]
    men = rows.loc[rows["sex"] == "M", "height_cm"]
    # The study's tables drew height between 140 and 200 whatever the sex: one woman in 80 was over 199 cm.
    assert (women > 190).mean() < 1e-4
    assert abs(women.mean() - 158) < 0.3 and abs(men.mean() - 171) < 0.3


def test_nobody_is_under_the_age_of_inclusion_and_stays_are_whole_days(
    flagship: tuple[dict, pd.DataFrame],
) -> None:
    _, rows = flagship
    assert rows["age"].min() >= 65
    assert str(rows["los_days"].dtype).lower() == "int64" and rows["los_days"].min() >= 1


def test_no_mass_piles_up_on_a_bound(flagship: tuple[dict, pd.DataFrame]) -> None:
    _, rows = flagship
    for name, low, high in (("height_cm", 135, 200), ("weight_kg", 35, 150), ("bmi", 17.7, 40.0)):
        assert ((rows[name] - low).abs() < 1e-9).mean() < 0.002, name
        assert ((rows[name] - high).abs() < 1e-9).mean() < 0.002, name
    # The study's ages: 5.7 % on one clipped value beyond what its neighbours had.
    counts = rows["age"].value_counts(normalize=True).sort_index()
    assert counts.iloc[0] < counts.iloc[1:4].max() + 0.03


def test_replicates_share_no_draws(http: httpx.Client) -> None:
    job = made(http, FLAGSHIP, 2000, replicates=2)
    first, second = rows_of(http, job, 1), rows_of(http, job, 2)
    for name in ("height_cm", "weight_kg", "bmi"):
        assert abs(np.corrcoef(first[name], second[name])[0, 1]) < CHANCE / np.sqrt(2000), name
        assert (first[name].to_numpy() == second[name].to_numpy()).mean() < 0.05


def test_each_replicate_has_the_declared_joint_structure(http: httpx.Client) -> None:
    # The study's tables: one association of any size in 45 pairs, between 0.17 and 0.85 from run to run.
    job = made(http, FLAGSHIP, 4000, replicates=3)
    tables = [rows_of(http, job, replicate) for replicate in (1, 2, 3)]
    strong = [one for one in FLAGSHIP["associations"] if abs(one["value"]) >= 0.15]
    assert len(strong) >= 3
    for association in strong:
        first, second = association["fields"]
        found = [
            table[first].astype(float).corr(table[second].astype(float), method="spearman")
            for table in tables
        ]
        assert np.abs(np.array(found) - association["value"]).max() < 0.02 + CHANCE / np.sqrt(4000), found


def test_a_blueprint_posted_back_makes_the_same_rows_and_edited_it_makes_what_the_edit_says(
    http: httpx.Client,
) -> None:
    job = made(http, FLAGSHIP, 3000)
    answer = http.get(job["links"]["blueprint"])
    assert answer.status_code == 200 and answer.headers["etag"]
    document = answer.json()
    assert document["blueprint"] == "1" and len(document["columns"]) == len(FLAGSHIP["fields"])
    again = made(http, FLAGSHIP, 3000, generator={"name": "blueprint", "options": {"blueprint": document}})
    pd.testing.assert_frame_equal(rows_of(http, job), rows_of(http, again))
    edited = copy.deepcopy(document)
    (age,) = [column for column in edited["columns"] if column["name"] == "age"]
    age["marginal"]["mean"]["value"] = 75.0
    other = made(http, FLAGSHIP, 3000, generator={"name": "blueprint", "options": {"blueprint": edited}})
    assert abs(rows_of(http, other)["age"].mean() - 75.0) < CHANCE * 4.1 / np.sqrt(3000)


def test_what_cannot_hold_together_is_told_or_refused(http: httpx.Client) -> None:
    fields = [
        {"name": name, "type": "number", "decimals": 2, "statistics": {"mean": 0, "sd": 1}} for name in "abc"
    ]
    schema = {
        "fields": fields,
        "associations": [
            {"fields": ["a", "b"], "measure": "pearson", "value": 0.9},
            {"fields": ["b", "c"], "measure": "pearson", "value": 0.9},
            {"fields": ["a", "c"], "measure": "pearson", "value": -0.9},
        ],
    }
    job = made(http, schema, 500)
    repairs = http.get(job["links"]["blueprint"]).json()["repairs"]
    assert repairs and repairs == sorted(repairs, key=lambda one: -one["moved"])
    assert all(one["asked"] != one["achieved"] for one in repairs)
    assert any(warning["pointer"].startswith("/schema/associations/") for warning in job["warnings"])
    refused = post_job(
        http,
        {
            "schema": schema, "rows": 500, "evaluation": {"enabled": False},
            "generator": {"name": "blueprint", "options": {"on_infeasible": "fail"}},
        },
    )  # fmt: skip
    assert refused["status"] == "failed"
    assert {fault["pointer"].split("/")[2] for fault in refused["error"]["errors"]} == {"associations"}


def test_a_job_without_a_blueprint_says_so(http: httpx.Client) -> None:
    job = post_job(
        http, {"schema": FLAGSHIP, "generator": "marginals", "rows": 5, "evaluation": {"enabled": False}}
    )
    assert job["links"]["blueprint"] is None
    answer = http.get(f"/v1/jobs/{job['id']}/blueprint")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-has-no-blueprint")


def test_a_small_table_has_the_statistics_itself_and_its_report_states_no_interval(
    http: httpx.Client,
) -> None:
    generator = {"name": "blueprint", "options": {"match": "sample"}}
    body = {"schema": FLAGSHIP, "rows": 139, "seed": 7, "generator": generator}
    job = post_job(http, body)
    assert job["status"] == "succeeded", job
    rows = rows_of(http, job)
    # Drawn at random, 139 rows would miss a mean by 0.35 or so, and a rank correlation by 0.08.
    assert abs(rows["age"].mean() - 71.2) < 0.05 and abs(rows["bmi"].mean() - 26.1) < 0.05
    for association in FLAGSHIP["associations"]:
        first, second = (rows[name].astype(float) for name in association["fields"])
        assert abs(first.corr(second, method="spearman") - association["value"]) < 0.025, association
    report = http.get(job["links"]["report"]).json()
    assert report["independent"] is False
    assert all(metric["interval"] is None for metric in report["metrics"])


def test_the_report_tells_every_statement_of_the_blueprint_furthest_first(http: httpx.Client) -> None:
    fields = [
        {"name": name, "type": "number", "decimals": 2, "statistics": {"mean": 0, "sd": 1}} for name in "abc"
    ]
    schema = {
        "fields": [*fields, {"name": "group", "type": "boolean"}],
        "associations": [
            {"fields": ["a", "b"], "measure": "pearson", "value": 0.9},
            {"fields": ["b", "c"], "measure": "pearson", "value": 0.9},
            {"fields": ["a", "c"], "measure": "pearson", "value": -0.9},
            {"fields": ["group", "a"], "measure": "correlation_ratio", "value": 0.3},
        ],
    }
    job = post_job(http, {"schema": schema, "rows": 500, "seed": 7, "generator": "blueprint"})
    population = http.get(job["links"]["report"]).json()["population"]
    assert population["statements"] == 10 and population["as_asked"] < 10
    moved = [item["moved"] for item in population["table"]]
    assert moved == sorted(moved, reverse=True) and moved[0] > 1
    assert {"pearson of a and b", "pearson of b and c"} & {
        one["statement"] for one in population["table"][:3]
    }
    assert [guess["statement"] for guess in population["guesses"]] == ["correlation ratio of group and a"]
    page = http.get(job["links"]["report"], params={"format": "html"}).text
    assert "What the blueprint holds" in page and "Guessed directions" in page
