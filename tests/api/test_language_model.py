"""Jobs that ask a language model, at the door: providers, limits, estimates, the transcript."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import LlmProvider
from app.jobs.transcript import folder
from tests.api.conftest import FLAGSHIP, SMALL, Service, build

PROVIDER = LlmProvider(
    base_url="http://127.0.0.1:9/v1", model="m", prompt_price=2.0, completion_price=8.0, api_key="sk-secret"
)  # type: ignore[arg-type]
LLM: dict[str, Any] = {"schema": SMALL, "generator": "llm", "rows": 5}


def rows_by_hand(**options: Any) -> dict[str, Any]:
    return {"name": "llm", "options": {"strategy": "rows"} | options}


@pytest.fixture
def asking(new_database: Callable[[str], str], tmp_path: Path) -> Iterator[Service]:
    wired = build(new_database("sqlite"), tmp_path, llm={"gpt": PROVIDER})
    with wired.http:
        yield wired


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {item["pointer"]: item["message"] for item in answer.json()["errors"]}


def test_without_a_provider_the_answer_says_what_to_set(me: Any) -> None:
    found = faults(me.post(LLM))
    assert "SYNTHWARD_LLM__NAME__BASE_URL" in found["/generator/options/provider"]


def test_offline_no_language_model_is_accepted(new_database: Callable[[str], str], tmp_path: Path) -> None:
    wired = build(new_database("sqlite"), tmp_path, llm={"gpt": PROVIDER}, offline=True)
    with wired.http:
        found = faults(wired.caller().post(LLM))
    assert "SYNTHWARD_OFFLINE" in found["/generator/options/provider"]


def test_a_provider_is_chosen_by_name_never_by_address(asking: Service) -> None:
    me = asking.caller()
    found = faults(me.post(LLM | {"generator": {"name": "llm", "options": {"provider": "http://evil/v1"}}}))
    assert "Configured are: gpt" in found["/generator/options/provider"]
    assert "/generator/options/base_url" in faults(
        me.post(LLM | {"generator": {"name": "llm", "options": {"base_url": "http://evil/v1"}}})
    )


def test_the_job_names_its_provider_and_links_its_transcript(asking: Service) -> None:
    job = asking.caller().job(**LLM)
    assert job["generator"]["options"]["provider"] == "gpt"
    assert job["links"]["transcript"] == f"/v1/jobs/{job['id']}/transcript"
    assert "sk-secret" not in json.dumps(job)


def test_many_rows_one_by_one_are_refused_with_their_cost_and_the_better_way(asking: Service) -> None:
    found = faults(asking.caller().post(LLM | {"generator": rows_by_hand(), "rows": 100_000}))
    said = found["/generator/options/strategy"]
    assert "tokens and $" in said and "blueprint" in said


def test_a_dry_run_estimates_tokens_and_cost(asking: Service) -> None:
    me = asking.caller()
    small = me.post(LLM | {"schema": FLAGSHIP}, "/v1/jobs?dry_run=true").json()["estimate"]
    large = me.post(LLM | {"schema": FLAGSHIP, "rows": 10_000_000}, "/v1/jobs?dry_run=true").json()[
        "estimate"
    ]
    tokens = small["prompt_tokens"] + small["completion_tokens"]
    assert tokens == large["prompt_tokens"] + large["completion_tokens"], "the same for any number of rows"
    assert 5_000 < tokens < 60_000
    assert small["cost_usd"] == pytest.approx(
        (2 * small["prompt_tokens"] + 8 * small["completion_tokens"]) / 1e6
    )
    by_hand = LLM | {"schema": FLAGSHIP, "generator": rows_by_hand(), "rows": 200}
    assert me.post(by_hand, "/v1/jobs?dry_run=true").json()["estimate"]["requests"] >= 8
    plain = me.post(LLM | {"generator": "marginals"}, "/v1/jobs?dry_run=true").json()["estimate"]
    assert plain["requests"] is None and plain["cost_usd"] is None


def test_a_limit_below_the_estimate_is_warned_of(asking: Service) -> None:
    answer = asking.caller().post(LLM | {"generator": {"name": "llm", "options": {"max_tokens": 100}}})
    assert answer.status_code == 202
    assert any(item["pointer"] == "/generator/options/max_tokens" for item in answer.json()["warnings"])


def test_a_limit_of_cost_needs_a_price(new_database: Callable[[str], str], tmp_path: Path) -> None:
    free = LlmProvider(base_url="http://127.0.0.1:9/v1", model="m")
    wired = build(new_database("sqlite"), tmp_path, llm={"local": free})
    body = LLM | {"generator": {"name": "llm", "options": {"max_cost_usd": 1.0}}}
    with wired.http:
        assert "PROMPT_PRICE" in faults(wired.caller().post(body))["/generator/options/max_cost_usd"]


def test_a_real_tables_inferred_schema_is_not_told_to_a_model(asking: Service) -> None:
    me = asking.caller()
    body = {"generator": "llm", "rows": 5, "reference_id": me.dataset()}
    assert "schema of your own" in faults(me.post(body))["/schema"]
    assert me.post(body | {"schema": SMALL}).status_code == 202, "to judge by, it may be named"


def receipt(number: int) -> bytes:
    return json.dumps({"id": f"{number}", "purpose": "columns 1", "answer": {"text": "{}"}}).encode()


def test_the_transcript_is_its_owners_in_order_while_running_and_after(asking: Service) -> None:
    me, other = asking.caller(), asking.caller()
    job = me.job(**LLM)
    path = f"/v1/jobs/{job['id']}/transcript"
    assert me.get(path).json() == []
    for number in (2, 1, 3):
        asking.store.put_bytes(f"{folder(job['id'])}2026010{number}.json", receipt(number))
    assert [item["id"] for item in me.get(path).json()] == ["1", "2", "3"]
    lines = me.get(path, params={"format": "jsonl"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == ["1", "2", "3"]
    assert other.get(path).status_code == 404
    assert me.get(path, params={"format": "xml"}).status_code == 422


def test_it_is_deleted_with_the_job(asking: Service) -> None:
    me = asking.caller()
    job = me.job(**LLM)
    asking.store.put_bytes(f"{folder(job['id'])}1.json", receipt(1))
    asking.set_job(job["id"], status="failed")
    assert me.request("DELETE", f"/v1/jobs/{job['id']}").status_code == 204
    assert not asking.store.keys(folder(job["id"]))
    assert me.get(f"/v1/jobs/{job['id']}/transcript").status_code == 404


def test_a_job_that_asks_no_model_has_none(asking: Service) -> None:
    me = asking.caller()
    job = me.job()
    assert job["links"]["transcript"] is None
    answer = me.get(f"/v1/jobs/{job['id']}/transcript")
    assert answer.status_code == 409 and answer.json()["type"] == "/problems/job-has-no-transcript"
