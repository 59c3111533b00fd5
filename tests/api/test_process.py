from __future__ import annotations

import http.client
from pathlib import Path

import httpx
import psutil

from tests.api.conftest import BODY, FLAGSHIP, ROOT
from tests.api.live import running

HEAVY = {"torch", "ctgan", "sklearn", "scipy", "pandas", "matplotlib"}


def test_after_all_requests_the_process_is_small_and_has_no_numerics(tmp_path: Path) -> None:
    with running(tmp_path) as base, httpx.Client(base_url=base, timeout=30) as http:
        upload = http.post(
            "/v1/datasets", files={"file": ("t.csv", (ROOT / "examples" / "brain_cancer.csv").read_bytes())}
        )
        assert upload.status_code == 201, upload.text
        reference = {"generator": "marginals", "rows": 5, "reference_id": upload.json()["id"]}
        jobs = [
            http.post("/v1/jobs", json=body).json()
            for body in (BODY, {**BODY, "schema": FLAGSHIP}, reference)
        ]
        http.post("/v1/jobs?dry_run=true", json=BODY)
        described = http.post(f"/v1/datasets/{upload.json()['id']}/describe", json={"target": "status"})
        assert described.status_code == 200, described.text
        http.post("/v1/jobs", json={**BODY, "rows": 0})
        for job in jobs:
            for path in filter(None, job["links"].values()):
                http.get(path)
            http.post(job["links"]["cancel"])
            http.delete(job["links"]["self"])
        for path in (
            "/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/generators", "/v1/jobs",
            "/v1/datasets", f"/v1/datasets/{upload.json()['id']}", "/nothing", "/problems/invalid-input",
        ):  # fmt: skip
            assert http.get(path, follow_redirects=True).status_code in (200, 404), path
        http.delete(f"/v1/datasets/{upload.json()['id']}")
        loaded = {name.partition(".")[0] for name in http.get("/test/modules").json()}
        listening = [
            c for c in psutil.net_connections("tcp") if c.laddr and str(c.laddr.port) == base.split(":")[-1]
        ]
        (process,) = {c.pid for c in listening if c.status == psutil.CONN_LISTEN}
        assert psutil.Process(process).memory_info().rss < 150e6
    assert loaded & HEAVY == set()


def test_a_connection_outlives_a_head_request(tmp_path: Path) -> None:
    with running(tmp_path) as base:
        connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=10)
        for path, status in (("/healthz", 200), ("/v1/jobs/job_nobody_has", 404)):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, b"")
            assert int(answer.headers["Content-Length"]) > 0
            assert connection.sock is not None
            connection.request("GET", "/healthz")  # the server has not hung up
            assert connection.getresponse().read()
        connection.close()
