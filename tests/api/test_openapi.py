from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.api.conftest import BODY, Caller, Service


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    answer: dict[str, Any] = service.http.get("/openapi.json").json()
    return answer


def conforms(document: dict[str, Any], name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    Draft202012Validator(schema).validate(value)


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_example_request_runs(me: Caller, document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 3
    for example in body["examples"].values():
        conforms(document, "JobRequest", example["value"])
        answer = me.post(example["value"])
        assert answer.status_code == 202, answer.text
        conforms(document, "Job", answer.json())


def test_every_example_answer_fits_its_schema(document: dict[str, Any]) -> None:
    shown = 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            conforms(document, name, example)
            shown += 1
    assert shown >= 4


def test_answers_fit_the_schemas_that_are_told(me: Caller, document: dict[str, Any]) -> None:
    job = me.finished()
    conforms(document, "Job", me.get(job["links"]["self"]).json())
    conforms(document, "JobPage", me.get("/v1/jobs").json())
    conforms(document, "DryRun", me.post(BODY, "/v1/jobs?dry_run=true").json())
    conforms(document, "Generators", me.get("/v1/generators").json())
    conforms(document, "Ready", me.get("/readyz").json())
    conforms(document, "Problem", me.post({}).json())


def test_every_operation_tells_its_problems(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["tags"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert set(response["content"]) == {"application/problem+json"}, (method, path, status)
            if path.startswith("/v1"):
                assert "401" in operation["responses"] and operation["security"], (method, path)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    told = set(document["paths"]["/v1/jobs/{job_id}/data"]["get"]["responses"])
    assert told >= {"200", "206", "304", "403", "404", "406", "409", "410", "416", "422"}


def test_links_lead_from_a_new_job_to_every_operation_on_it(document: dict[str, Any]) -> None:
    linked = document["paths"]["/v1/jobs"]["post"]["responses"]["202"]["links"].values()
    operations = {
        operation["operationId"]
        for path, methods in document["paths"].items()
        if path.startswith("/v1/jobs/")
        for operation in methods.values()
    }
    assert {link["operationId"] for link in linked} == operations


def test_what_is_not_built_is_absent(me: Caller, document: dict[str, Any]) -> None:
    assert not any(re.search("events|package|webhook", path) for path in document["paths"])
    assert "webhook_url" not in document["components"]["schemas"]["JobRequest"]["properties"]
    assert set(me.job()["links"]) == {"self", "cancel", "data", "report", "blueprint", "transcript"}


def test_the_reference_page_needs_nothing_from_elsewhere(service: Service) -> None:
    assert service.http.get("/", follow_redirects=False).headers["location"] == "/docs"
    page = service.http.get("/docs")
    assert not re.search(r"(src|href)=[\"'](https?:)?//", page.text)
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(assets) == 4
    for asset in assets:
        assert service.http.get(asset).status_code == 200, asset
    assert service.http.get("/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
    assert service.http.get("/docs/..%2fLICENSE").status_code == 404


def test_generators_are_described_with_their_options(me: Caller) -> None:
    (marginals,) = [item for item in me.get("/v1/generators").json()["items"] if item["name"] == "marginals"]
    assert marginals["available"] is True and marginals["why_not"] is None
    assert (
        marginals["needs_reference"] is False
        and marginals["options"]["properties"]["fit"]["default"] is False
    )
    assert "associations" not in marginals["honours"]
    assert me.get("/v1/generators?colour=red").status_code == 422
