import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ports import free_port
from tests.workers.house import PATIENCE, PLUGINS, ROOT, SCHEMA, wait_for


class Service:
    """A `synthward serve` on a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.said = folder.parent / f"said-{self.port}"
        self.log = folder.parent / f"log-{self.port}"
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(self.port), "--workers", "1"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNTHWARD_")}
        environment |= {"PYTHONPATH": f"{PLUGINS}{os.pathsep}{ROOT}", "SYNTHWARD_LEASE": "2"}
        with self.said.open("wb") as said, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(folder), *options],
                env=environment,
                stdout=said,
                stderr=log,
                cwd=ROOT,
            )

    def ready(self) -> "Service":
        assert wait_for(lambda: "answers at" in self.said.read_text()), self.log.read_text()
        return self

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    running: list[Service] = []

    def start(*options: str) -> Service:
        running.append(Service(tmp_path / "data", *options))
        return running[-1]

    yield start
    for service in running:
        if service.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.stop()
            service.process.kill()
            service.process.wait()


SLOW = {
    "schema": SCHEMA,
    "generator": {"name": "slowpoke", "options": {"fit_seconds": 2.0}},
    "rows": 20,
    "seed": 3,
    "evaluation": {"enabled": False},
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_stops_cleanly_and_the_next_start_goes_on(serve: Any, number: int) -> None:
    first = serve("--no-auth").ready()
    status, job = first.ask("POST", "/v1/jobs", SLOW)
    assert status == 202, job
    assert wait_for(lambda: first.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] != "queued")
    family = first.family()
    assert first.stop(number) == 0, first.log.read_text()
    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []

    second = serve("--no-auth").ready()
    ended = []
    assert wait_for(
        lambda: (
            ended.append(second.ask("GET", f"/v1/jobs/{job['id']}")[1]) or ended[-1]["status"] == "succeeded"
        )
    )
    assert ended[-1]["rows_written"] == 20


def test_a_serve_that_is_killed_leaves_no_process_and_loses_no_job(serve: Any) -> None:
    first = serve("--no-auth").ready()
    _, job = first.ask("POST", "/v1/jobs", SLOW)
    assert wait_for(lambda: first.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] != "queued")
    family = first.family()
    first.process.kill()
    first.process.wait()
    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    second = serve("--no-auth").ready()
    assert wait_for(lambda: second.ask("GET", f"/v1/jobs/{job['id']}")[1]["status"] == "succeeded")


def test_a_part_that_dies_is_started_again(serve: Any) -> None:
    service = serve("--no-auth").ready()
    for part in psutil.Process(service.process.pid).children():
        part.kill()
    assert wait_for(lambda: _answers(service))
    status, job = service.ask("POST", "/v1/jobs", SLOW, Prefer="wait=60")
    assert (status, job["status"]) == (200, "succeeded")


def test_a_second_serve_on_the_folder_is_refused(serve: Any) -> None:
    first = serve("--no-auth").ready()
    second = serve("--no-auth")
    assert second.process.wait(PATIENCE) == 2
    assert "Another `synthward serve`" in second.log.read_text()
    assert _answers(first)


def test_a_port_that_is_taken_is_said_at_once(serve: Any, tmp_path: Path) -> None:
    taken = serve("--no-auth").ready().port
    command = [
        sys.executable,
        "-m",
        "app.cli",
        "serve",
        "--port",
        str(taken),
        "--data-dir",
        str(tmp_path / "b"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT)
    assert ended.returncode == 2
    assert f"127.0.0.1:{taken} cannot be listened on" in ended.stderr
    assert ended.stdout == ""


def test_the_first_start_prints_one_key_once_and_it_opens_the_service(serve: Any) -> None:
    first = serve().ready()
    assert wait_for(lambda: "API key" in first.said.read_text())
    (key,) = re.findall(r"API key, shown only now: (\S+)", first.said.read_text())
    assert first.ask("GET", "/v1/jobs")[0] == 401
    assert first.ask("GET", "/v1/jobs", Authorization=f"Bearer {key}")[0] == 200
    assert key not in first.log.read_text()
    first.stop()
    second = serve().ready()
    time.sleep(0.2)
    assert "API key" not in second.said.read_text()
    assert second.ask("GET", "/v1/jobs", Authorization=f"Bearer {key}")[0] == 200


def test_nobody_else_on_the_machine_can_read_the_data_folder(serve: Any, tmp_path: Path) -> None:
    service = serve("--no-auth").ready()
    body = {"schema": SCHEMA, "generator": "marginals", "rows": 3}
    status, job = service.ask("POST", "/v1/jobs", body, Prefer="wait=60")
    assert (status, job["status"]) == (200, "succeeded")
    found = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert any("artifacts" in path.parts and path.is_file() for path in found)
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_no_auth_needs_a_loopback_host(serve: Any) -> None:
    service = serve("--no-auth", "--host", "0.0.0.0")
    assert service.process.wait(PATIENCE) == 2
    assert "loopback" in service.log.read_text()


def _answers(service: Service) -> bool:
    try:
        return service.ask("GET", "/healthz")[0] == 200
    except OSError:
        return False
