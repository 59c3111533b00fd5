"""Schemathesis against the running service: what it does is what its OpenAPI document says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.conftest import Service

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance", "response_headers_conformance",
)  # fmt: skip


@pytest.mark.slow
def test_whatever_is_sent_the_answer_is_one_that_the_document_names(service: Service, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{service.base}/openapi.json",
        "--header", f"Authorization: Bearer {service.key}", "--checks", ",".join(CHECKS),
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "25",
        "--generation-database", "none", "--seed", "7", "--request-timeout", "70", "--no-color",
    ]  # fmt: skip
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "Stateful" in run.stdout
    assert "incident" not in service.log.read_text()
