from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import app
from app.db import Base
from app.errors import InvalidInput, SynthwardError
from app.problem_objects import PROBLEM_TYPES, problem_of, status_of
from tests.api.conftest import BODY, Service, build

JSON = {"Content-Type": "application/json"}


def kinds(parent: type[SynthwardError] = SynthwardError) -> Iterator[type[SynthwardError]]:
    yield parent
    for kind in parent.__subclasses__():
        yield from kinds(kind)


def test_every_kind_of_error_has_a_status_and_a_page_that_says_what_to_do(local: Service) -> None:
    for module in pkgutil.iter_modules(app.__path__, "app."):
        if module.name not in ("app.cli", "app.demo"):
            importlib.import_module(module.name)
    found = set(kinds())
    assert set(PROBLEM_TYPES) <= found
    for kind in found:
        page = local.http.get(f"/problems/{kind.slug}")
        assert page.status_code == 200, kind
        assert kind.title in page.text.replace("&#x27;", "'") and "What to do" in page.text
        assert 400 <= status_of(kind.__new__(kind)) < 600
    own_slugs = [kind.slug for kind in found if "slug" in vars(kind)]
    assert len(own_slugs) == len(set(own_slugs)), "two kinds share a page"
    assert local.http.get("/problems/nothing").status_code == 404


def test_errors_of_the_domain_have_a_line_of_their_own() -> None:
    import app.errors

    named = {
        kind
        for kind in vars(app.errors).values()
        if isinstance(kind, type) and issubclass(kind, SynthwardError)
    }
    assert named <= set(PROBLEM_TYPES)


def test_a_problem_object_needs_no_web_framework() -> None:
    import subprocess
    import sys

    code = "import app.problem_objects, sys; sys.exit('fastapi' in sys.modules or 'starlette' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert problem_of(InvalidInput([]), instance="/v1/jobs")["errors"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "route-not-found"),
        ("GET", "/v1/jobs/job_x/events", 404, "route-not-found"),
        ("GET", "/v1/jobs/job_x/package", 404, "route-not-found"),
        ("GET", "/v1/jobs/", 404, "route-not-found"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("DELETE", "/v1/jobs", 405, "method-not-allowed"),
        ("PATCH", "/v1/jobs/job_x", 405, "method-not-allowed"),
        ("GET", "/v1/jobs/job_x/cancel", 405, "method-not-allowed"),
        ("POST", "/healthz", 405, "method-not-allowed"),
        ("TRACE", "/v1/jobs", 405, "method-not-allowed"),
    ],
)
def test_unknown_routes_and_methods_are_problems(
    local: Service, method: str, path: str, status: int, kind: str
) -> None:
    answer = local.http.request(method, path, follow_redirects=False)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    problem = answer.json()
    assert (problem["type"], problem["status"], problem["instance"]) == (f"/problems/{kind}", status, path)
    assert problem["title"] and problem["detail"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/job_x", "DELETE, GET, HEAD"),
        ("/v1/jobs/job_x/cancel", "POST"),
    ],
)
def test_allow_names_every_method_of_the_path(local: Service, path: str, allow: str) -> None:
    assert local.http.put(path).headers["allow"] == allow


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/plain"}, b"{}"),
        ({}, b"{}"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b"),
        ({"Content-Type": "application/json; charset=latin-1"}, b"{}"),
        ({**JSON, "Content-Encoding": "gzip"}, b"{}"),
    ],
)
def test_only_plain_json_in_utf_8_is_read(local: Service, headers: dict[str, str], body: bytes) -> None:
    answer = local.http.post("/v1/jobs", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Line 1, column 1"),
        (b'{"rows":\n  }', "Line 2, column 3"),
        (b'{"rows": NaN}', "NaN"),
        (b'{"rows": -Infinity}', "Infinity"),
        (b'{"rows": 1e999}', "too large"),
        (b'{"rows": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"rows": 1, "rows": 2}', "'rows' occurs twice"),
        (b'{"a": "\xff"}', "byte 8"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_not_json_is_said_with_its_place(local: Service, body: bytes, said: str) -> None:
    answer = local.http.post("/v1/jobs", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/malformed-json")
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" * 65 + b"]" * 65]
)
def test_a_body_that_is_nested_too_deeply_is_refused(local: Service, body: bytes) -> None:
    answer = local.http.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 422 and "deep" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud800"])
def test_text_that_no_database_keeps_is_named(service: Service, text: bytes) -> None:
    me = service.caller()
    body = b'{"generator": "marginals", "rows": 1, "labels": {"a": "' + text + b'"}}'
    answer = me.request("POST", "/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/labels/a"


@pytest.mark.parametrize("body", [b"[]", b"3", b'"x"', b"null", b"{}"])
def test_json_that_is_no_job_is_refused(local: Service, body: bytes) -> None:
    assert local.http.post("/v1/jobs", content=body, headers=JSON).status_code == 422


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_however_it_comes(
    new_database: Callable[[str], str], tmp_path: Path, declared: bool
) -> None:
    wired = build(new_database("sqlite"), tmp_path, no_auth=True, max_request_bytes=1024)
    read = []

    def blocks() -> Iterator[bytes]:
        for number in range(100):
            read.append(number)
            yield b" " * 512

    with wired.http:
        answer = wired.http.post("/v1/jobs", content=b" " * 51_200 if declared else blocks(), headers=JSON)
        assert wired.http.post("/v1/jobs", json=BODY).status_code == 202
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/request-too-large")


def test_the_unexpected_says_an_incident_that_the_log_carries_and_nothing_internal(
    new_database: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wired = build(new_database("sqlite"), tmp_path, no_auth=True)

    @wired.app.get("/test/bug")
    def bug() -> None:
        raise RuntimeError("the cell of patient 17")

    with wired.http:
        answer = wired.http.get("/test/bug")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    incident = answer.json()["detail"].rsplit(" ", 1)[1].rstrip(".")
    assert "RuntimeError" not in answer.text and "patient" not in answer.text
    (record,) = [record for record in caplog.records if incident in record.getMessage()]
    assert (
        record.levelno == logging.ERROR
        and "RuntimeError" in record.getMessage()
        and ":bug" in record.getMessage()
    )
    assert "patient" not in caplog.text


def test_a_database_that_is_away_is_503_and_worth_another_try(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    wired = build(new_database("sqlite"), tmp_path, no_auth=True)
    with wired.http:
        Base.metadata.drop_all(wired.engine)
        for answer in (wired.http.get("/v1/jobs"), wired.http.post("/v1/jobs", json=BODY)):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/service-unavailable")
            assert int(answer.headers["retry-after"]) > 0 and "table" not in answer.text
        assert wired.http.get("/readyz").json()["parts"]["database"]["ready"] is False
        assert wired.http.get("/healthz").status_code == 200
        assert wired.http.get("/metrics").status_code == 200


def test_every_answer_carries_the_headers_that_lock_it_up(local: Service) -> None:
    for path in ("/v1/jobs", "/nothing", "/docs", "/healthz"):
        headers = local.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
    assert local.http.get("/v1/jobs").headers["cache-control"] == "no-store"
