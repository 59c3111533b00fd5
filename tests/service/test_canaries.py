"""Planted persons, through the whole service: what only one of them has stays in the upload's own store.

Looked at are the inferred schema, its description for publishing, answers, errors, reports, pages, packages,
blueprints and the log of all processes.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import httpx

from tests.service.conftest import Service, post_job, upload
from tests.unit.evaluation.test_canaries import CANARIES, people


def as_csv(seed: int) -> bytes:
    frame = people(seed)
    frame["at"] = (frame["at"] + frame["seen"]).dt.strftime("%H:%M:%S")
    frame["seen"] = frame["seen"].dt.strftime("%Y-%m-%d")
    frame["dead"] = frame["dead"].map({True: "true", False: "false"})
    return frame.to_csv(index=False).encode()


def canaries_in(text: str) -> set[str]:
    return {canary for canary in CANARIES if re.search(rf"(?<![\d.]){re.escape(canary)}(?!\d)", text)}


def told_of(http: httpx.Client, job: dict[str, Any]) -> dict[str, str]:
    """Return everything that can be had of a job but its rows, as text."""
    found = {"job": json.dumps(job, ensure_ascii=False)}
    links = job["links"]
    for name, path in (
        ("report", f"{links['report']}?format=json"), ("page", f"{links['report']}?format=html"),
        ("blueprint", links.get("blueprint") or ""), ("events", links.get("events") or ""),
    ):  # fmt: skip
        if path:
            found[name] = http.get(path).text
    if job["links"].get("package"):
        with zipfile.ZipFile(io.BytesIO(http.get(job["links"]["package"]).content)) as package:
            for name in package.namelist():
                if not name.endswith(".csv"):
                    found[f"package: {name}"] = package.read(name).decode("utf-8")
    return found


def test_what_one_person_has_is_in_no_answer_and_no_log(service: Service, http: httpx.Client) -> None:
    assert canaries_in(as_csv(1).decode()) >= {"Zanzibar", "98713", "CANARY", "Quokka", "1871-03-09"}
    answers = [upload(http, as_csv(seed)) for seed in (1, 2)]
    assert [answer.status_code for answer in answers] == [201, 201], answers[0].text
    real, copy = (answer.json()["id"] for answer in answers)
    told = {"upload": answers[0].text, "dataset": http.get(f"/v1/datasets/{real}").text}
    described = http.post(f"/v1/datasets/{real}/describe", json={"target": "dead"})
    told["description"] = described.text
    named = {"target": "dead", "quasi_identifiers": ["age", "seen"], "sensitive": ["dose"]}
    for name, options in (("marginals", {"fit": True}), ("ctgan", {"epochs": 2})):
        body = {"generator": {"name": name, "options": options}, "rows": 300, "seed": 3, "reference_id": real}
        job = post_job(http, body | {"evaluation": named})
        assert job["status"] == "succeeded", job
        told |= {f"{name} {what}": text for what, text in told_of(http, job).items()}
    answer = http.post(
        "/v1/evaluations", json={"synthetic_id": copy, "reference_id": real, "evaluation": named}
    )
    judged = answer.json()
    while judged["status"] in ("queued", "running"):
        judged = http.get(f"/v1/jobs/{judged['id']}").json()
    assert judged["status"] == "succeeded", judged
    told |= {f"judged {what}": text for what, text in told_of(http, judged).items()}
    # Errors: a schema that the cells do not fit, and a file that breaks in the middle.
    schema = {"fields": [{"name": name, "type": "integer"} for name in ("age", "finding", "note", "code")]}
    failed = post_job(http, {"schema": schema, "generator": "ctgan", "rows": 9, "reference_id": real})
    told["failed"] = json.dumps(failed, ensure_ascii=False)
    assert failed["status"] == "failed"
    told["refused"] = upload(http, as_csv(1) + b'"Zanzibar fever,98713\n').text
    told["log"] = service.log.read_text(encoding="utf-8")
    found = {place: canaries for place, text in told.items() if (canaries := canaries_in(text))}
    assert not found
    assert {"judged page", "ctgan report", "marginals page", "description"} <= set(told)
