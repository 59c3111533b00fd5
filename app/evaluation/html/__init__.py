"""The report as one self-contained page: `render_page` turns the JSON document into HTML."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.evaluation.html.drawing import draw

SHOWN_STATEMENTS = 200
"""Checks and declared statistics that the page lists, the worst first; the JSON report holds all."""

WORDS = {
    "met": "✓ met",
    "attention": "! needs attention",
    "not_met": "✗ not met",
    "not_measured": "– not measured",
    "released": "✓ released",
    "withheld": "✗ withheld",
    "not_assessed": "– not assessed",
}


def render_page(report: Mapping[str, Any]) -> str:
    """Render a report.

    Parameters
    ----------
    report : mapping
        `ReportDocument.as_json()`.

    Returns
    -------
    str
        HTML, readable without scripts and without a network.
    """
    metrics = {metric["name"]: metric for metric in report["metrics"]}
    scores: dict[str, Any] = {}
    for name in ("ks_complement", "tv_complement"):
        for row in metrics.get(name, {}).get("details", {}).get("table", []):
            scores[row["column"]] = row
    checks = metrics.get("adherence", {}).get("details", {}).get("table", [])
    # What is broken first, and the dull "is of type" last: with 300 columns the page shows but a part.
    checks = sorted(checks, key=lambda row: (-row["broken"], row["pointer"].endswith("/type")))
    template = _environment().get_template("page.html.jinja")
    return template.render(
        report=report, metrics=metrics, scores=scores, checks=checks, shown=SHOWN_STATEMENTS, words=WORDS
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        share=share,
        scaled=scaled,
        error=error,
        named=named,
        drawn=lambda column: Markup(draw(column)),
    )
    return environment


def named(statement: str) -> Markup:
    """Set the `names` of a statement in a fixed-width face."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(statement))))


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for people: so many significant digits, none of the whole part lost."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return text.replace("-", "−").replace("e−0", "e−")


def share(value: float | None) -> str:
    """Write a share in per cent; one that is small but not 0 is not written as 0."""
    if value is None:
        return "–"
    percent = 100 * value
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def scaled(value: float | None, scale: str) -> str:
    """Write a statistic on its scale (`Statement.scale`)."""
    if value is None:
        return "–"
    epoch = dt.datetime(1970, 1, 1)
    try:
        if scale == "date":
            return f"{epoch + dt.timedelta(days=value):%Y-%m-%d}"
        if scale == "datetime":
            return f"{epoch + dt.timedelta(days=value):%Y-%m-%d %H:%M}"
        if scale == "time":
            return f"{epoch + dt.timedelta(seconds=value):%H:%M:%S}"
    except OverflowError:
        return number(value, 4)
    return share(value) if scale == "share" else number(value, 4)


def error(value: float | None, scale: str) -> str:
    """Write a standard error: on a scale of dates it is a length in days, of times in seconds."""
    if value is None:
        return "–"
    if scale == "share":
        return f"{100 * value:.2f} points"
    unit = {"date": " days", "datetime": " days", "days": " days", "time": " s", "seconds": " s"}.get(
        scale, ""
    )
    return f"{number(value, 2)}{unit}"
