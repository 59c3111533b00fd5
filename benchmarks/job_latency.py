"""How long a job waits and takes: enqueue to start, POST to succeeded, cancel to stopped; the child's cost.

Runs `synthward serve` on a folder of its own and posts jobs one after the other over one connection.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from app import config
from workers.slot import Child

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "examples" / "neurosurgery.schema.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1000)
    parsed = parser.parse_args()
    children()
    with (
        tempfile.TemporaryDirectory(prefix="synthward-bench-") as folder,
        serving(Path(folder)) as connection,
    ):
        body = {
            "schema": SCHEMA,
            "generator": "marginals",
            "rows": parsed.rows,
            "seed": 7,
            "evaluation": {"enabled": False},
        }
        for _ in range(5):
            run(connection, body)
        figures = [run(connection, body | {"seed": 8 + i}) for i in range(parsed.jobs)]
        print(f"{parsed.jobs} jobs of {parsed.rows} rows by marginals, without evaluation, one at a time:")
        show("created → started (aim: median ≤ 25 ms)", [figure[0] for figure in figures])
        show("started → finished", [figure[1] for figure in figures])
        show(
            "POST → succeeded, as the client sees it (aim: median ≤ 150 ms)",
            [figure[2] for figure in figures],
        )
        large = body | {"rows": 5_000_000}
        for when, done in (("as its shards are shared out", 0), ("as the first are made", 1)):
            stops = [cancel(connection, large | {"seed": 8 + i}, done) for i in range(5)]
            show(f"cancel → cancelled, 5,000,000 rows, {when} (asked: ≤ 5000 ms)", stops)


def children() -> None:
    """What a cold child costs before it takes its first order, and what an order costs a warm one."""
    colds, warms = [], []
    for _ in range(5):
        began = time.perf_counter()
        child = Child(config.load().model_copy(update={"log_level": "CRITICAL"}))
        child.first_answer()
        colds.append((time.perf_counter() - began) * 1e3)
        for _ in range(20):
            began = time.perf_counter()
            child.order({"do": "nothing"})  # refused, by a full round trip
            child.first_answer()
            warms.append((time.perf_counter() - began) * 1e3)
        resident = child.resident / 2**20
        child.end(0.0)
    print(f"child process: {resident:.0f} MB resident when warm")
    show("cold: spawn → ready", colds)
    show("warm: order → answer", warms)


def show(name: str, milliseconds: list[float]) -> None:
    ordered = sorted(milliseconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(f"  {name}: median {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms")


def run(connection: http.client.HTTPConnection, body: dict[str, Any]) -> tuple[float, float, float]:
    began = time.perf_counter()
    headers = {"Content-Type": "application/json", "Prefer": "wait=20"}
    connection.request("POST", "/v1/jobs", json.dumps(body), headers)
    response = connection.getresponse()
    job = json.load(response)
    seen = (time.perf_counter() - began) * 1e3
    if job.get("status") != "succeeded":
        raise SystemExit(f"{response.status}: {job}")
    created, started, finished = (
        datetime.fromisoformat(job[name]).timestamp() * 1e3
        for name in ("created_at", "started_at", "finished_at")
    )
    return started - created, finished - started, seen


def cancel(connection: http.client.HTTPConnection, body: dict[str, Any], least: int) -> float:
    """Cancel a job that makes its rows and has made at least so many; return the milliseconds it took."""

    def ask(method: str, path: str, sent: str | None = None) -> dict[str, Any]:
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.load(connection.getresponse())
        return answer

    path = ask("POST", "/v1/jobs", json.dumps(body))["links"]["self"]
    while (job := ask("GET", path))["progress"]["stage"] == "fit" or job["rows_written"] < least:
        time.sleep(0.02)
    began = time.perf_counter()
    ask("POST", f"{path}/cancel")
    while (status := ask("GET", path)["status"]) == "running":
        time.sleep(0.02)
    if status != "cancelled":
        raise SystemExit(f"a cancelled job is {status}")
    return (time.perf_counter() - began) * 1e3


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[http.client.HTTPConnection]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "app.cli", "serve", "--no-auth", "--workers", "1", "--port", str(port)]
    began = time.perf_counter()
    service = subprocess.Popen(
        [*command, "--data-dir", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert service.stdout is not None
        service.stdout.readline()
        print(f"serve: ready in {time.perf_counter() - began:.1f} s (aim: under 6 s)")
        yield http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(20)


if __name__ == "__main__":
    main()
