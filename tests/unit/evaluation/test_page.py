from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from app.evaluation.base import Tables
from app.evaluation.document import JobFacts, ReferenceFacts
from app.evaluation.html import error, named, number, render_page, scaled, share
from app.evaluation.report import evaluate, release_decision
from app.schema.check import check_frame
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

VOID = {"meta", "br", "rect", "path", "link", "img"}


class Outline(HTMLParser):
    """Collects what an accessible page is judged by."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unclosed: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def document(
    schema: TableSchema, synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame
) -> dict[str, Any]:
    report = evaluate(
        Tables(schema, (synthetic,), train, holdout, conformance=check_frame(schema, synthetic)),
        job=JobFacts(id="job_1", generator="marginals", seed=7, rows=4000),
        reference=ReferenceFacts(id="ds_1", attempts=3, train_rows=600, holdout_rows=250, trained_on=True),
        warnings=[{"pointer": "/associations", "message": "<b>not honoured</b>"}],
    )
    return report.with_release(release_decision(report, {"max_identical_match_share": 0.0})).as_json()


@pytest.fixture(scope="module")
def outline(document: dict[str, Any]) -> Outline:
    parser = Outline()
    parser.feed(render_page(document))
    return parser


def test_every_element_is_closed(outline: Outline) -> None:
    assert not outline.open and not outline.unclosed


def test_headings_go_down_one_level_at_a_time(outline: Outline) -> None:
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(
        after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False)
    )


def test_tables_have_captions_and_their_headings_a_scope(outline: Outline) -> None:
    assert outline.count("table") == outline.count("caption") > 3
    assert all("scope" in attributes for tag, attributes in outline.tags if tag == "th")


def test_pictures_have_a_text(outline: Outline) -> None:
    pictures = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert sum(attributes["class"] == "small" for attributes in pictures if "class" in attributes) == 7
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)


def test_ids_are_unique_and_labels_point_to_them(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in outline.tags if "aria-labelledby" in a} <= set(ids)


def test_the_page_needs_no_script_and_no_network(outline: Outline) -> None:
    assert outline.count("script") == outline.count("link") == outline.count("img") == 0
    assert not any(name in ("src", "href") for _, attributes in outline.tags for name in attributes)
    assert ("html", {"lang": "en"}) in outline.tags


def test_the_page_says_what_matters(document: dict[str, Any]) -> None:
    page = render_page(document)
    assert "Synthetic data" in page
    for sentence in document["summary"]:
        assert sentence in page
    assert "✓ released" in page
    assert "What was not measured, and why" in page


def test_what_comes_from_outside_is_escaped(document: dict[str, Any]) -> None:
    assert "&lt;b&gt;not honoured&lt;/b&gt;" in render_page(document)
    name = '<script>alert("x")</script>`<i>`'
    schema, _ = parse_schema(
        {"title": name, "fields": [{"name": name, "type": "string", "categories": [name, "b"], "unit": name}]}
    )
    frame = pd.DataFrame({name: pd.Categorical([name, "b"] * 20, categories=[name, "b"])})
    report = evaluate(
        Tables(schema, (frame,), frame, frame, conformance=check_frame(schema, frame)),
        job=JobFacts(id=name, generator=name, seed=1, rows=40, labels={name: name}, options={"x": name}),
    )
    page = render_page(report.as_json())
    assert "<script" not in page and "<i>" not in page


def test_300_columns_stay_under_3_megabytes() -> None:
    rng = np.random.default_rng(1)
    levels = [f"level {number}" for number in range(12)]
    fields: list[dict[str, Any]] = []
    columns: dict[str, Any] = {}
    for place in range(150):
        shares = dict.fromkeys(levels, 1 / 12)
        category = {"name": f"category {place}", "type": "string", "categories": levels}
        fields.append(category | {"statistics": {"proportions": shares}})
        columns[f"category {place}"] = pd.Categorical(rng.choice(levels, 400), categories=levels)
        bounds = {"minimum": -10, "maximum": 10}
        number_field = {"name": f"number {place}", "type": "number", "decimals": 2, "constraints": bounds}
        fields.append(number_field | {"statistics": {"mean": 0, "sd": 1}})
        columns[f"number {place}"] = rng.normal(size=400).round(2)
    schema, frame = parse_schema({"fields": fields})[0], pd.DataFrame(columns)
    report = evaluate(
        Tables(schema, (frame,), frame, frame, conformance=check_frame(schema, frame)),
        job=JobFacts(id="job_1", generator="g", seed=1, rows=400),
    )
    page = render_page(report.as_json())
    assert page.count('<svg class="small"') == 300
    assert len(page.encode()) < 3_000_000
    assert "The first 200 of 2100" in page


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(None), "–"),
        (number(0), "0"),
        (number(-1234.5), "−1,234"),
        (number(0.012345), "0.0123"),
        (number(3.2e-9), "3.2e−9"),
        (share(0.0001), "<0.1 %"),
        (share(0.0), "0.0 %"),
        (scaled(18262.0, "date"), "2020-01-01"),
        (scaled(3661.0, "time"), "01:01:01"),
        (scaled(1e300, "date"), scaled(1e300, "number")),
        (error(0.012, "share"), "1.20 points"),
        (error(2.0, "date"), "2 days"),
        (str(named("`a<b` is <1")), "<code>a&lt;b</code> is &lt;1"),
    ],
)
def test_figures_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected


def test_the_page_says_when_it_was_asked_for_and_that_rows_without_a_limit_can_be_had(
    document: dict[str, Any],
) -> None:
    job = document["job"] | {"created_at": "2026-03-01T09:05:07.123456+00:00"}
    release = {"decision": "not_assessed", "reasons": ["no release limit was asked for"]}
    page = render_page(document | {"job": job, "release": release})
    assert "2026-03-01 09:05 UTC" in page
    assert "no release limit was asked for: they can be downloaded" in page


def test_copies_are_not_vouched_for(document: dict[str, Any]) -> None:
    privacy = document["verdicts"]["privacy"] | {"level": "not_met"}
    page = render_page(document | {"verdicts": document["verdicts"] | {"privacy": privacy}})
    assert "no row of this table is the record of a person" not in page
    assert "Not to be given out" in page


def test_an_uploaded_table_is_not_vouched_for(document: dict[str, Any]) -> None:
    assert "no row of this table is the record of a person" in render_page(document)
    page = render_page(document | {"job": document["job"] | {"kind": "evaluation"}})
    assert "no row of this table is the record of a person" not in page
    assert "uploaded as synthetic" in page and "Are the rows given out?" not in page


def test_every_figure_stands_with_its_meaning_its_yardstick_and_its_parts(document: dict[str, Any]) -> None:
    page = render_page(document)
    for metric in document["metrics"]:
        if metric["dimension"] in ("fidelity", "privacy", "utility"):
            assert metric["meaning"] and str(escape(metric["title"])) in page
    assert "Column by column" in page and "four checks" in page and "Table 1" in page


def test_the_same_report_gives_the_same_page(document: dict[str, Any]) -> None:
    assert render_page(document) == render_page(document)
