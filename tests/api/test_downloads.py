from __future__ import annotations

import csv
import datetime as dt
import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db import now
from tests.api.conftest import Caller, Service


def test_the_rows_are_the_parts_in_order_and_say_that_they_are_synthetic(me: Caller) -> None:
    job = me.finished(rows=7, seed=11, replicates=2)
    answer = me.get(f"{job['links']['data']}?format=csv")
    assert answer.status_code == 200, answer.text
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["age"]) for row in rows] == [19 + row for row in range(7)]
    assert (
        answer.headers["content-disposition"]
        == f'attachment; filename="synthward-{job["id"]}-r1-synthetic.csv"'
    )
    assert answer.headers["synthward-synthetic"] == "true" and answer.headers["synthward-seed"] == "11"
    assert answer.headers["content-type"].startswith("text/csv")
    assert int(answer.headers["content-length"]) == len(answer.content)
    second = me.get(f"{job['links']['data']}?format=csv&replicate=2")
    assert (
        second.text.splitlines()[1].startswith("20,")
        and "-r2-synthetic.csv" in second.headers["content-disposition"]
    )


def test_every_format_can_be_had_by_query_and_by_accept(me: Caller) -> None:
    job = me.finished()
    for name, media_type, begin in (
        ("csv", "text/csv", b"age,sex\n"),
        ("jsonl", "application/x-ndjson", b"{"),
        ("parquet", "application/vnd.apache.parquet", b"PAR1"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", b"PK"),
    ):
        asked = me.get(f"{job['links']['data']}?format={name}")
        accepted = me.get(
            job["links"]["data"], headers={"Accept": f"image/png, {media_type};q=0.5, text/html"}
        )
        assert asked.status_code == 200, asked.text
        assert asked.content == accepted.content and asked.content.startswith(begin)
        assert asked.headers["content-type"].startswith(media_type)
        assert asked.headers["content-disposition"].endswith(f'-synthetic.{name}"')
    refused = me.get(job["links"]["data"], headers={"Accept": "image/png, text/csv;q=0"})
    assert (refused.status_code, refused.json()["type"]) == (406, "/problems/not-acceptable")
    assert (
        me.get(job["links"]["data"], headers={"Accept": "*/*"}).headers["content-type"].startswith("text/csv")
    )


def test_spreadsheets_get_a_file_of_their_own(me: Caller) -> None:
    job = me.finished()
    plain = me.get(f"{job['links']['data']}?format=csv")
    safe = me.get(f"{job['links']['data']}?format=csv&spreadsheet=true")
    assert safe.content.startswith(b"\xef\xbb\xbf") and not plain.content.startswith(b"\xef\xbb\xbf")
    assert safe.headers["etag"] != plain.headers["etag"]


def test_a_file_is_rendered_once(service: Service, me: Caller) -> None:
    job = me.finished(rows=40)
    path = f"{job['links']['data']}?format=csv"
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: me.get(path), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({(answer.headers["etag"], answer.content) for answer in answers}) == 1
    rendered = [key for key in service.store.keys(f"jobs/{job['id']}/") if "/rendered/" in key]
    assert rendered == [f"jobs/{job['id']}/rendered/1.csv"]


def test_ranges_and_validators_follow_rfc_9110(me: Caller) -> None:
    path = f"{me.finished(rows=50)['links']['data']}?format=csv"
    whole = me.get(path)
    size, tag = len(whole.content), whole.headers["etag"]
    assert tag.startswith('"') and whole.headers["accept-ranges"] == "bytes"

    def part(spec: str, **headers: str) -> tuple[int, bytes, str | None]:
        answer = me.get(path, headers={"Range": spec, **headers})
        return answer.status_code, answer.content, answer.headers.get("content-range")

    assert part("bytes=0-9") == (206, whole.content[:10], f"bytes 0-9/{size}")
    assert part("bytes=10-") == (206, whole.content[10:], f"bytes 10-{size - 1}/{size}")
    assert part("bytes=-5") == (206, whole.content[-5:], f"bytes {size - 5}-{size - 1}/{size}")
    assert part("bytes=5-999999")[:2] == (206, whole.content[5:])
    assert part("bytes=10-", **{"If-Range": tag})[0] == 206
    assert part("bytes=10-", **{"If-Range": '"other"'})[:2] == (200, whole.content)
    for ignored in ("bytes=5-2", "bytes=0-1,3-4", "rows=0-1", "bytes=-"):
        assert part(ignored)[:2] == (200, whole.content), ignored
    for beyond in (f"bytes={size}-", "bytes=-0"):
        answer = me.get(path, headers={"Range": beyond})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
        assert answer.json()["type"] == "/problems/range-not-satisfiable"
    for validator in (tag, "*", f'"other", W/{tag}'):
        same = me.get(path, headers={"If-None-Match": validator})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert me.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    head = me.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(size) and head.headers["etag"] == tag


@pytest.mark.parametrize(
    ("values", "status", "kind", "again"),
    [
        ({"status": "queued"}, 409, "job-still-running", True),
        ({"status": "running"}, 409, "job-still-running", True),
        ({"status": "failed"}, 409, "job-has-no-data", False),
        ({"status": "cancelled"}, 409, "job-has-no-data", False),
        ({"kind": "evaluation"}, 409, "job-has-no-data", False),
        ({"release_decision": {"decision": "withheld", "reasons": ["x"]}}, 403, "rows-withheld", False),
        ({"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, 410, "expired", False),
    ],
)
def test_why_there_are_no_rows_is_said(
    service: Service, me: Caller, values: dict[str, object], status: int, kind: str, again: bool
) -> None:
    job = me.finished()
    service.set_job(job["id"], **values)
    answer = me.get(job["links"]["data"])
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert ("retry-after" in answer.headers) is again


def test_a_job_of_millions_is_no_worksheet(service: Service, me: Caller) -> None:
    job = me.finished()
    service.set_job(job["id"], rows=1_048_576)
    answer = me.get(f"{job['links']['data']}?format=xlsx")
    assert (answer.status_code, answer.json()["type"]) == (406, "/problems/format-cannot-hold-rows")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("replicate=2", "/query/replicate"),
        ("replicate=0", "/query/replicate"),
        ("format=sas", "/query/format"),
    ],
)
def test_a_faulty_parameter_is_named(me: Caller, query: str, pointer: str) -> None:
    answer = me.get(f"{me.finished()['links']['data']}?{query}")
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer


def test_a_rendered_file_that_was_lost_is_made_again(service: Service, me: Caller) -> None:
    job = me.finished()
    path = f"{job['links']['data']}?format=csv"
    first = me.get(path)
    service.store.delete_prefix(f"jobs/{job['id']}/rendered/")
    assert me.get(path).content == first.content


def test_damaged_or_missing_rows_are_a_problem_and_never_served(service: Service, me: Caller) -> None:
    job = me.finished()
    service.store.put_bytes(f"jobs/{job['id']}/a1/data-1-1", b"not what was stored")
    answer = me.get(f"{job['links']['data']}?format=jsonl")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/artifact-missing")
    service.store.delete_prefix(f"jobs/{job['id']}/")
    assert me.get(f"{job['links']['data']}?format=csv").json()["type"] == "/problems/artifact-missing"
    assert me.get(job["links"]["report"]).json()["type"] == "/problems/artifact-missing"


def test_the_report_is_json_or_one_locked_up_page_and_stays_where_rows_are_withheld(me: Caller) -> None:
    job = me.finished("withheld")
    report = me.get(job["links"]["report"])
    assert (report.status_code, report.json()) == (200, {"metrics": []})
    page = me.get(f"{job['links']['report']}?format=html")
    assert page.text.startswith("<!doctype html>") and page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "script-src" not in page.headers["content-security-policy"]
    assert (
        me.get(job["links"]["report"], headers={"If-None-Match": report.headers["etag"]}).status_code == 304
    )
    assert json.loads(me.get(job["links"]["self"]).text)["release"]["decision"] == "withheld"


def test_a_blueprint_is_withheld_with_the_rows_where_it_was_learned(service: Service, me: Caller) -> None:
    for source, decision, status in (
        ("fitted", "withheld", 403),
        ("fitted", "released", 200),
        ("declared", "withheld", 200),
    ):
        job = me.finished(decision)
        document = {"columns": [{"name": "age", "marginal": {"mean": {"value": 60, "source": source}}}]}
        service.store_artifact(job["id"], "blueprint", json.dumps(document).encode())
        answer = me.get(f"/v1/jobs/{job['id']}/blueprint")
        assert answer.status_code == status, (source, decision)
        if status == 200:
            assert answer.json() == document and answer.headers["etag"]
        else:
            assert answer.json()["type"] == "/problems/rows-withheld" and "fitted" not in answer.text


def test_a_blueprint_can_be_had_as_a_page_that_is_locked_up(service: Service, me: Caller) -> None:
    job = me.finished()
    column = {"name": "<b>age</b>", "marginal": {"mean": {"value": 60, "source": "declared"}}}
    service.store_artifact(
        job["id"], "blueprint", json.dumps({"blueprint": "1", "columns": [column]}).encode()
    )
    page = me.get(f"/v1/jobs/{job['id']}/blueprint?format=html")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "&lt;b&gt;age&lt;/b&gt;" in page.text and "<b>age" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    document = me.get(f"/v1/jobs/{job['id']}/blueprint")
    assert document.headers["etag"].strip('"') in page.text, "the page says which document it shows"
    assert page.headers["etag"] != document.headers["etag"]
    other = me.finished()
    service.store_artifact(other["id"], "blueprint", b'{"of": "a form of its own"}')
    answer = me.get(f"/v1/jobs/{other['id']}/blueprint?format=html")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-has-no-blueprint")


def test_why_there_is_no_report_is_said(service: Service, me: Caller) -> None:
    job = me.job()
    assert me.get(job["links"]["report"]).json()["type"] == "/problems/job-still-running"
    service.set_job(job["id"], status="succeeded", finished_at=now())
    answer = me.get(job["links"]["report"])
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/job-has-no-report")
    assert "retry-after" not in answer.headers
