"""The HTTP side as a process of its own, under uvicorn, on a free loopback port; without keys."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run it on a fresh SQLite database in a folder; gives its address."""
    port = free_port()
    environment = {
        **os.environ,
        "SYNTHWARD_DATABASE_URL": f"sqlite:///{folder / 'live.db'}",
        "SYNTHWARD_ARTIFACTS_URL": str(folder / "artifacts"),
        "SYNTHWARD_NO_AUTH": "true",
        "SYNTHWARD_LOG_LEVEL": "WARNING",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.api.live:from_environment"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"],
        env=environment, cwd=ROOT,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(base + "/healthz")
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < deadline, "the service did not start"
                time.sleep(0.05)
        yield base
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def from_environment() -> object:
    """Build the application around tables that are made here and a queue that only remembers."""
    import logging
    import sys as loaded

    from fastapi import Request

    import app.datasets.models
    import app.keys.models  # noqa: F401 - their tables
    from app import config, db
    from app.main import create_app

    class ForgetfulQueue:
        def send(self, job_id: str, queue: str) -> None: ...

        def ping(self) -> None: ...

        def workers_alive(self) -> bool:
            return True

    settings = config.load()
    logging.basicConfig(level=settings.log_level)
    engine = db.connect(settings.database_url.get_secret_value(), pool_size=10)
    db.Base.metadata.create_all(engine)
    application = create_app(settings, engine=engine, queue=ForgetfulQueue())

    @application.get("/test/modules", include_in_schema=False)
    async def modules(request: Request) -> list[str]:
        return sorted(loaded.modules)

    return application
