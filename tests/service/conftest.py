"""A real service, started as an operator would: `synthward serve` with keys, on a free loopback port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass
class Service:
    """A running `synthward serve`, and what a caller needs to talk to it."""

    data_dir: Path
    options: tuple[str, ...] = ("--workers", "2")
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    key: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.data_dir.with_suffix(".log")

    def start(self) -> Service:
        self.port = free_port()
        command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir), *self.options],
                stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **self.environment},
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"serve ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}"
                )
            try:
                if httpx.get(self.base + "/readyz", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        else:
            raise AssertionError(f"serve was not ready within 60 s:\n{self.log.read_text()[-3000:]}")
        found = re.search(r"\bsw_\w+", self.log.read_text())
        self.key = self.key or (found.group() if found else "")
        return self

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"} if key or self.key else {}
        return httpx.Client(base_url=self.base, headers=headers, timeout=90)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service") / "data").start()
    yield running
    running.stop()


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def post_job(http: httpx.Client, body: dict[str, Any], wait: int = 60, **headers: str) -> dict[str, Any]:
    """Post a job, wait for its end, and return it."""
    answer = http.post("/v1/jobs", json=body, headers={"Prefer": f"wait={wait}", **headers})
    assert answer.status_code in (200, 202), answer.text
    job: dict[str, Any] = answer.json()
    deadline = time.monotonic() + 120
    while job["status"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    return job


def upload(http: httpx.Client, content: bytes, name: str = "table.csv", **form: str) -> httpx.Response:
    return http.post("/v1/datasets", files={"file": (name, content, "text/csv")}, data=form)
