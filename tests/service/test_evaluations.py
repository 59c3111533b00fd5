"""A table that someone else made, judged by the running service."""

from __future__ import annotations

import csv
import io
import json
import random
from typing import Any

import httpx

from tests.service.conftest import EXAMPLES, post_job, upload

REAL = (EXAMPLES / "brain_cancer.csv").read_text(encoding="utf-8")


def columns_shuffled(seed: int) -> bytes:
    """The real table with each column permuted by itself: marginals stay, rows do not."""
    header, *rows = list(csv.reader(io.StringIO(REAL)))
    draw = random.Random(seed)
    columns = [draw.sample(column, len(column)) for column in zip(*rows, strict=True)]
    sink = io.StringIO()
    csv.writer(sink).writerows([header, *zip(*columns, strict=True)])
    return sink.getvalue().encode()


def judged(http: httpx.Client, **asked: Any) -> dict[str, Any]:
    job = ended(http, **asked)
    assert job["status"] == "succeeded", job
    return job


def ended(http: httpx.Client, **asked: Any) -> dict[str, Any]:
    answer = http.post("/v1/evaluations", json=asked, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_a_copy_is_found_and_a_shuffled_table_is_not_one(http: httpx.Client) -> None:
    reference = upload(http, REAL.encode()).json()["id"]
    shares = {}
    for name, content in (("copy", REAL.encode()), ("shuffled", columns_shuffled(3))):
        synthetic = upload(http, content).json()["id"]
        job = judged(http, synthetic_id=synthetic, reference_id=reference, seed=1)
        assert (job["kind"], job["rows"], job["rows_written"]) == ("evaluation", 88, 0)
        report = http.get(job["links"]["report"]).json()
        assert report["job"]["kind"] == "evaluation" and report["reference"]["trained_on"] is None
        assert "uploaded to be judged" in report["summary"][0]
        found = {metric["name"]: metric for metric in report["metrics"]}
        shares[name] = found["identical_match_share"]["value"]
        page = http.get(job["links"]["report"], params={"format": "html"})
        assert page.status_code == 200 and page.text.startswith("<!DOCTYPE html>")
        assert http.get(f"/v1/jobs/{job['id']}/data").status_code == 409
    assert shares["shuffled"] < 0.05 < 0.6 < shares["copy"]  # 70 % of the copy's rows are in the train part


def test_a_holdout_of_its_own_leaves_the_whole_reference_to_train(http: httpx.Client) -> None:
    lines = REAL.splitlines(keepends=True)
    train, holdout = "".join(lines[:61]), lines[0] + "".join(lines[61:])
    reference, held = (upload(http, text.encode()).json()["id"] for text in (train, holdout))
    schema = http.get(f"/v1/datasets/{reference}").json()["schema"]
    job = judged(http, synthetic_id=held, reference_id=reference, holdout_id=held, schema=schema)
    report = http.get(job["links"]["report"]).json()
    assert (report["reference"]["train_rows"], report["reference"]["holdout_rows"]) == (60, 28)
    for metric in report["metrics"]:
        if metric["name"] in ("ks_complement", "tv_complement"):
            # The holdout in the synthetic table's place is what a perfect generator is.
            assert metric["value"] == metric["baseline"]


def test_a_table_that_the_schema_cannot_hold_fails_the_job_without_a_cell(http: httpx.Client) -> None:
    reference = upload(http, REAL.encode()).json()["id"]
    header, first, *_ = REAL.splitlines()
    cells = first.split(",")
    cells[header.split(",").index('"gtv"')] = "zebra"
    synthetic = upload(http, (header + "\n" + (",".join(cells) + "\n") * 3).encode()).json()["id"]
    job = ended(http, synthetic_id=synthetic, reference_id=reference)
    assert job["status"] == "failed"
    assert "synthetic table" in str(job["error"]) and "zebra" not in str(job["error"])
    assert http.get(job["links"]["report"]).status_code == 409


def test_a_job_of_this_service_and_its_download_judged_again_agree(http: httpx.Client) -> None:
    dataset = upload(http, REAL.encode()).json()
    made = post_job(
        http,
        {
            "generator": {"name": "marginals", "options": {"fit": True}},
            "rows": 200,
            "seed": 7,
            "reference_id": dataset["id"],
        },
    )
    rows = http.get(f"/v1/jobs/{made['id']}/data?format=csv").content
    synthetic = upload(http, rows, schema=json.dumps(dataset["schema"])).json()
    job = judged(http, synthetic_id=synthetic["id"], reference_id=dataset["id"], seed=7)
    reports = [http.get(f"/v1/jobs/{item['id']}/report").json() for item in (made, job)]
    by_name = [{metric["name"]: metric.get("value") for metric in report["metrics"]} for report in reports]
    assert by_name[0] == by_name[1]
