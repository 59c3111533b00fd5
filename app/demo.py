"""`make demo`: one real run of the whole service on real input, then how to do the same by hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
OUTPUT = ROOT / "demo-output"
PATIENCE = 300.0


def main() -> int:
    """Run the demo; return the exit status."""
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="synthward-demo-") as folder, serving(Path(folder)) as base:
        print(f"Synthward answers at {base} (API, workers, sweeper and broker run embedded).\n")

        print("1. A real table: 88 patients with primary brain tumours (examples/brain_cancer.csv).")
        dataset = upload(base, EXAMPLES / "brain_cancer.csv")
        print(f"   uploaded as {dataset['id']}: {dataset['rows']} rows, {dataset['columns']} columns")
        print("   training CTGAN, as long as it takes, on the 70 % that are not held out …")
        tumours = run_job(
            base,
            {
                "generator": "ctgan",
                "rows": 1000,
                "seed": 7,
                "reference_id": dataset["id"],
                "evaluation": {
                    "target": "status",
                    "holdout": 0.3,
                    "quasi_identifiers": ["sex", "diagnosis", "loc"],
                    "sensitive": ["ki"],
                },
                "labels": {"demo": "brain_cancer"},
            },
        )
        keep(base, tumours, "brain_cancer")

        print("\n2. No data at all: the flagship schema's declared statistics (neurosurgery.schema.json).")
        schema = json.loads((EXAMPLES / "neurosurgery.schema.json").read_text(encoding="utf-8"))
        cohort = run_job(
            base,
            {
                "schema": schema,
                "generator": "blueprint",
                "rows": 1390,
                "seed": 7,
                "labels": {"demo": "neurosurgery"},
            },
        )
        keep(base, cohort, "neurosurgery")

    print(
        "\nThe same by hand. Start the service with `make serve`, which prints a key; then, in another shell:"
    )
    print(HAND)
    return 0


HAND = """
  auth="Authorization: Bearer sw_…"   # the key that `make serve` printed
  at=http://127.0.0.1:8000/v1
  curl -sH "$auth" -F file=@examples/brain_cancer.csv $at/datasets
  curl -sH "$auth" -H 'Content-Type: application/json' -H 'Prefer: wait=20' $at/jobs -d '{"rows": 1000,
       "reference_id": "ds_…", "generator": "ctgan"}'
  curl -sH "$auth" -OJ "$at/jobs/job_…/data?format=csv"

Every route, with examples that run: http://127.0.0.1:8000/docs
"""


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """Run `synthward serve` on a free loopback port for the length of the block; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    log = OUTPUT / "service.log"
    command = [sys.executable, "-m", "app.cli", "serve", "--no-auth", "--workers", "2"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)]
    with log.open("wb") as sink:
        service = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT, env=dict(os.environ)
        )
        try:
            wait_until_ready(base, service, log)
            yield base
        finally:
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(20)
            except subprocess.TimeoutExpired:
                service.kill()


def wait_until_ready(base: str, service: subprocess.Popen[bytes], log: Path) -> None:
    """Return once every part of the service answers."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise SystemExit(f"The service ended at its start; its log is {shown(log)}.")
        try:
            call(base, "GET", "/readyz")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"The service was not ready after {PATIENCE:.0f} s; its log is {shown(log)}.")


def call(
    base: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Make one request and return the body of its answer."""
    request = urllib.request.Request(base + path, data=body, method=method, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # always loopback
        content: bytes = answer.read()
    return content


def upload(base: str, path: Path) -> dict[str, Any]:
    """Upload a CSV file as a dataset."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n'
    body = (
        head.encode()
        + b"Content-Type: text/csv\r\n\r\n"
        + path.read_bytes()
        + f"\r\n--{boundary}--\r\n".encode()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer: dict[str, Any] = json.loads(call(base, "POST", "/v1/datasets", body, kind))
    return answer


def run_job(base: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Post a job and return it once it has ended."""
    headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
    job: dict[str, Any] = json.loads(call(base, "POST", "/v1/jobs", json.dumps(request).encode(), headers))
    deadline = time.monotonic() + PATIENCE
    while job["status"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.5)
        job = json.loads(call(base, "GET", f"/v1/jobs/{job['id']}"))
    if job["status"] != "succeeded":
        raise SystemExit(
            f"The job {job['status']}: {(job.get('error') or {}).get('detail', 'no answer in time')}"
        )
    for warning in job["warnings"]:
        print(f"   note {warning['pointer']}: {warning['message']}")
    return job


def keep(base: str, job: Mapping[str, Any], name: str) -> None:
    """Download rows and report of an ended job, and say what the report found."""
    path = f"/v1/jobs/{job['id']}"
    rows, report, page = (
        OUTPUT / f"{name}-synthetic.csv",
        OUTPUT / f"{name}-report.json",
        OUTPUT / f"{name}-report.html",
    )
    rows.write_bytes(call(base, "GET", f"{path}/data?format=csv"))
    report.write_bytes(call(base, "GET", f"{path}/report?format=json"))
    page.write_bytes(call(base, "GET", f"{path}/report?format=html"))
    document = json.loads(report.read_bytes())
    for sentence in document["summary"]:
        print(f"   {sentence}")
    for question, verdict in document["verdicts"].items():
        print(f"   {question:<24} {verdict['level'].replace('_', ' ')}")
    absent: dict[str, list[str]] = {}
    for metric in document["metrics"]:
        if metric.get("value") is None:
            absent.setdefault(metric.get("reason") or "", []).append(metric["name"])
        else:
            print(f"   {metric['name']:<24} {figure(metric)}")
    for reason, names in absent.items():
        print(f"   {f'{len(names)} not measured':<24} {reason}")
    print(f"   rows    {shown(rows)} ({job['rows_written']} rows)")
    print(f"   report  {shown(page)} (and {shown(report)})")
    if job["links"]["blueprint"] is not None:
        blueprint = OUTPUT / f"{name}-blueprint.json"
        blueprint.write_bytes(call(base, "GET", job["links"]["blueprint"]))
        print(f"   how they are distributed, to read and sign: {shown(blueprint)}")


def figure(metric: Mapping[str, Any]) -> str:
    """Write a metric's figure with its yardstick."""
    baseline = metric.get("baseline")
    beside = "" if baseline is None else f"   (a perfect generator: {baseline:.3f})"
    return f"{metric['value']:.3f}{beside}"


def shown(path: Path) -> str:
    """Write a path relative to the project."""
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
