"""The report as one self-contained page: `render_page` turns the JSON document into HTML."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.evaluation.html.drawing import draw
from app.evaluation.html.figures import draw_all

SHOWN_STATEMENTS = 200
"""Checks and declared statistics that the page lists, the worst first; the JSON report holds all."""

SHOWN_PARTS = 25
"""Rows of the table behind any other figure."""

TOLD = frozenset({"adherence", "declared_statistics", "ks_complement", "tv_complement"})
"""Metrics whose tables the page shows in a form of their own."""

WORDS = {
    "met": "✓ met",
    "attention": "! needs attention",
    "not_met": "✗ not met",
    "not_measured": "– not measured",
    "not_applicable": "– for you to judge",
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
    pictures = [
        {"title": drawn.title, "metric": drawn.metric, "note": drawn.note, "svg": Markup(drawn.svg)}
        for drawn in draw_all(report["metrics"])
    ]
    template = _environment().get_template("page.html.jinja")
    return template.render(
        report=report,
        metrics=metrics,
        scores=scores,
        checks=checks,
        pictures=pictures,
        uploaded=report["job"]["kind"] == "evaluation",
        undrawn=[column for column in report["columns"] if not column["picture"]],
        shown=SHOWN_STATEMENTS,
        parts=SHOWN_PARTS,
        told=TOLD,
        words=WORDS,
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
        figure=figure,
        decimals=decimals,
        heads=heads,
        numeric=numeric,
        cell=cell,
        said=said,
        stated=stated,
        titled=titled,
        ranged=ranged,
        sized=sized,
        as_kind=as_kind,
        p_value=p_value,
        drawn=lambda column: Markup(draw(column, lambda end: scaled(end, column["type"]))),
    )
    return environment


def named(statement: str) -> Markup:
    """Set the `names` of a statement in a fixed-width face."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(statement))))


def decimals(value: float | None, places: int) -> str:
    """Write a number with so many decimals."""
    return "–" if value is None else f"{value:.{places}f}".replace("-", "−")


def figure(value: float | None, metric: Mapping[str, Any]) -> str:
    """Write the figure of a metric: a share of rows in per cent, else a number."""
    if value is not None and metric["name"].endswith("_share"):
        return share(value)
    return decimals(value, 3) if value is None or abs(value) < 10 else number(value, 4)


def heads(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of a table's rows that hold something to show, in the order of their first row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [
        name
        for name in names
        if all(not isinstance(row.get(name), dict | list) or _numbers(row[name]) for row in rows)
        and any(row.get(name) not in (None, "") for row in rows)
    ]


def numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a table's column holds numbers."""
    values = [row.get(name) for row in rows if row.get(name) is not None]
    return all(
        _numbers(value) or (isinstance(value, int | float) and not isinstance(value, bool))
        for value in values
    )


def titled(name: str) -> str:
    """Write the key of a table's rows as the head of a column."""
    return "yardstick" if name == "baseline" else name.replace("_", " ")


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int | float) for item in value)


def cell(value: Any, name: str = "") -> str:
    """Write a cell of a table of unknown content; `name` is the key that it stands under."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return (" to " if "interval" in name else "; ").join(map(cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    return number(value, 3) if isinstance(value, float) else str(value)


def as_kind(value: float | None, kind: str, digits: int = 3) -> str:
    """Write a statistic of the study's protocol: a share in per cent, a correlation with decimals."""
    if value is None:
        return "–"
    if kind == "proportion":
        return share(value)
    return (
        decimals(value, digits if digits > 2 else 3) if kind == "correlation" else number(value, digits + 1)
    )


def ranged(test: Mapping[str, Any], side: str) -> str:
    """Write one side of a comparison with its interval."""
    ends = test[f"{side}_interval"]
    value = as_kind(test[side], test["kind"])
    return f"{value} ({' to '.join(as_kind(end, test['kind']) for end in ends)})" if ends else value


def sized(test: Mapping[str, Any]) -> str:
    """Write the size of a difference: of shares in percentage points."""
    if test["size"] is not None and test["kind"] == "proportion":
        return f"{100 * test['size']:+.1f} points".replace("-", "−")
    return decimals(test["size"], 3)


def p_value(p: float | None) -> str:
    """Write a p-value as journals do."""
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def said(row: Mapping[str, Any], side: str) -> str:
    """Write a cell of Table 1."""
    values = row[side]
    if values is None:
        return str(row.get(f"{side}_note") or "–")
    if row["scale"] == "count":
        return f"{values[0]:,.0f} ({share(values[1])})"
    shown = [scaled(value, row["scale"]) for value in values]
    if row["statistic"] == "mean (sd)":
        return (
            f"{shown[0]} ({error(values[1], row['spread_scale']) if row['scale'] != 'number' else shown[1]})"
        )
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for people: so many significant digits, none of the whole part lost."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return text.replace("-", "−").replace("e−0", "e−")


def stated(value: float | str | None) -> str:
    """Write a number of a blueprint; its dates and times are written already."""
    return value if isinstance(value, str) else number(value, 4)


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
