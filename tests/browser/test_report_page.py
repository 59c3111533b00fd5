"""The report's page in a real browser: axe finds no violation, it prints, and it fits a telephone."""

from __future__ import annotations

import functools
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import axe_core_python
import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import Tables
from app.evaluation.document import JobFacts, ReferenceFacts
from app.evaluation.html import render_page
from app.evaluation.report import evaluate, release_decision
from app.schema.check import check_frame
from app.schema.parse import parse_schema

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(axe_core_python.__file__).with_name("axe.min.js")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH"),
]

FIELDS: tuple[dict[str, Any], ...] = (
    {"type": "boolean"},
    {"type": "integer", "unit": "years"},
    {"type": "number", "decimals": 2},
    {"type": "string", "categories": ["none", "some, more than before", "severe"]},
    {"type": "date"},
)


def patients(fields: list[dict[str, Any]], rows: int, seed: int) -> pd.DataFrame:
    """People whose columns all follow one hidden severity."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=rows)
    columns: dict[str, Any] = {}
    for field in fields:
        value = severity + rng.normal(size=rows)
        absent = rng.random(rows) < 0.1
        match field["type"]:
            case "boolean":
                column = pd.array(value > 0.5, dtype="boolean")
            case "integer":
                column = pd.array((60 + 10 * value).round().astype(int), dtype="Int64")
            case "number":
                column = pd.Series(value.round(2))
            case "date":
                column = pd.Series(np.datetime64("2020-01-01") + (100 * value).astype("timedelta64[D]"))
                column = column.astype("datetime64[s]")
            case _:
                column = pd.Series(
                    pd.Categorical.from_codes(np.digitize(value, [0, 1]), categories=field["categories"])
                )
        column = pd.Series(column)
        column[absent] = (
            None if column.dtype == "category" else pd.NA if column.dtype.name[0] in "Ib" else np.nan
        )
        columns[field["name"]] = column
    return pd.DataFrame(columns)


@functools.cache
def page(count: int) -> str:
    fields = [FIELDS[place % 5] | {"name": f"column {place}"} for place in range(count)]
    schema, _ = parse_schema({"title": f"A table of {count} columns", "fields": fields})
    train, holdout, *replicates = (
        patients(fields, rows, seed) for rows, seed in ((400, 2), (170, 3), (300, 1), (300, 4))
    )
    report = evaluate(
        Tables(
            schema, tuple(replicates), train, holdout, target="column 0",
            quasi_identifiers=("column 1", "column 3"), sensitive=("column 2",),
            conformance=check_frame(schema, pd.concat(replicates, ignore_index=True)),
        ),
        job=JobFacts(id="job_1", generator="marginals", seed=7, rows=300, replicates=2),
        reference=ReferenceFacts(id="ds_1", attempts=3, train_rows=400, holdout_rows=170, trained_on=True),
        warnings=[{"pointer": "/associations", "message": "not honoured"}],
    )  # fmt: skip
    return render_page(
        report.with_release(release_decision(report, {"max_identical_match_share": 0.0})).as_json()
    )


def browse(path: Path, *options: str) -> str:
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-rules=MAP * ~NOTFOUND",
        *options,
    ]
    ended = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=900, check=True)
    return ended.stdout


@pytest.mark.parametrize("count", [5, 40, 300])
def test_axe_finds_nothing_to_complain_of(count: int, tmp_path: Path) -> None:
    run = """
        const said = document.createElement("pre"); said.id = "said";
        axe.run(document).then(found => {
          said.textContent = JSON.stringify({
            passes: found.passes.length,
            violations: found.violations.map(
              item => [item.id, item.nodes.map(node => node.html).slice(0, 3)])});
          document.body.append(said); });
    """
    path = tmp_path / "page.html"
    path.write_text(
        page(count).replace("</body>", f"<script>{AXE.read_text()}</script><script>{run}</script></body>")
    )
    shown = browse(path, "--virtual-time-budget=120000", "--dump-dom")
    (said,) = re.findall(r'<pre id="said">(.*?)</pre>', shown, re.DOTALL)
    found = json.loads(html.unescape(said))
    assert found["violations"] == []
    assert found["passes"] > 20  # it did run; 300 columns take minutes


@pytest.mark.parametrize("count", [5, 40, 300])
def test_the_page_is_small_and_fits_a_telephone(count: int, tmp_path: Path) -> None:
    assert len(page(count).encode()) < 3_000_000
    assert "Replicates side by side" in page(count), "the longest of pages"
    measure = "<script>document.title = document.documentElement.scrollWidth + ' wide'</script></body>"
    path = tmp_path / "page.html"
    path.write_text(page(count).replace("</body>", measure))
    shown = browse(path, "--window-size=500,900", "--dump-dom")
    (width,) = re.findall(r"<title>(\d+) wide</title>", shown)
    assert int(width) <= 500  # wide tables scroll by themselves


def test_the_page_prints(tmp_path: Path) -> None:
    path, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(page(5))
    browse(path, f"--print-to-pdf={printed}")
    pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert 2 <= pages <= 25
