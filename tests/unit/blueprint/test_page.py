"""A blueprint on paper: two pages that a person can read and sign."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.blueprint.declare import declare
from app.blueprint.model import Blueprint
from app.blueprint.outcomes import Guessed, Settled, with_outcomes
from app.blueprint.page import blueprint_page
from app.schema.parse import parse_schema
from tests.unit.blueprint.test_blueprint_document import FLAGSHIP

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ADDED: dict[str, Any] = {
    **FLAGSHIP,
    "associations": [
        *FLAGSHIP["associations"],
        {"fields": ["sex", "diabetes"], "measure": "cramers_v", "value": 0.1,
         "given": {"age": {"minimum": 70}, "asa": [1, 2]}},
    ],
}  # fmt: skip


@functools.cache
def document() -> Blueprint:
    schema = parse_schema(ADDED)[0]
    settled = [
        Settled("/fields/1/statistics/mean", 71.2, 72.5, 31.7),
        Settled("/conditionals/0/statistics/mean", 158, 158.001, 0.1),
    ]
    given_way = [Settled("/fields/3/statistics/mean", 92.5, 70.8, 9.0)]
    provenance = {"/fields/5/statistics/median": "elicited", "/associations/0": "fitted"}
    return with_outcomes(
        declare(schema, provenance), schema, settled, [Guessed("/associations/4", -1)], given_way
    )


def page() -> str:
    return blueprint_page(document(), "job_7", "ab" * 32)


class Text(HTMLParser):
    """The words of a page, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words() -> str:
    reader = Text()
    reader.feed(page())
    assert reader.open == []
    return "|".join(reader.words)


def test_every_column_association_stratum_and_rule_is_on_it() -> None:
    text = words()
    for field in ADDED["fields"]:
        assert f"|{field['name']}|" in text, field["name"]
    for first, second in (item["fields"] for item in ADDED["associations"]):
        assert f"|{first} and {second}|" in text
    assert "|height_cm|sex is F|mean 158; sd 6.5|" in text
    assert "age at least 70 and asa is 1 or 2" in text
    assert ADDED["rules"][0] in text


def test_a_number_that_nobody_declared_is_marked_with_its_source() -> None:
    text = words()
    assert "mean 71.2" not in text and "mean 72.5*; sd 4.1" in text
    assert "median 6ᵉ" in text and "|0.46ᶠ|" in text and "|0 %ᵈ|" in text
    assert "mean 70.8ᵈ*" in text
    assert "|0.1 (negativeᵍ)|" in text


def test_repairs_and_guesses_are_told_in_words() -> None:
    text = words()
    assert "|age: mean|71.2|72.5|31.7|" in text
    assert "|weight_kg: mean|92.5|70.8|a default|" in text
    assert "|cramers v of sex and diabetes|negative|" in text
    assert "Of 2 statements the population that rows are drawn from has 1 within their tolerance" in text


def test_it_names_the_document_and_needs_nothing_from_elsewhere() -> None:
    assert "ab" * 32 in page() and "job_7" in page()
    assert not re.search(r"<script|<link|src=|url\(|https?:", page())


def test_what_comes_from_outside_is_escaped() -> None:
    schema = {"title": "<i>x</i>", "fields": [{"name": "<script>", "type": "string", "categories": ["<u>"]}]}
    written = blueprint_page(declare(parse_schema(schema)[0]), "job_7", "ab")
    assert not re.search("<script>|<i>|<u>", written)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_fourteen_columns_print_on_two_pages(tmp_path: Path) -> None:
    assert len(document().columns) == 14
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'u'}"]
    command += [f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer"]
    subprocess.run([*command, (tmp_path / "page.html").as_uri()], check=True, capture_output=True, timeout=60)
    printed = (tmp_path / "page.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b(?!s)", printed)) == 2
