"""Small pictures of distributions, drawn as inline SVG: synthetic filled, real as a line or a tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from itertools import pairwise
from typing import Any

WIDTH = 240
HEIGHT = 56
SCALE = 13
LINE = 14
LABEL = 118


def draw(column: Mapping[str, Any], written: Callable[[float], str] = "{:g}".format) -> str:
    """Draw a column of the report; empty where it has no picture.

    Parameters
    ----------
    column : mapping
        `ColumnSummary` as JSON.
    written : callable
        Writes the ends of the column's scale.
    """
    picture = column["picture"]
    if picture is None:
        return ""
    if not picture["edges"]:
        return _levels(column["name"], picture)
    return _bins(column["name"], picture, written)


def _bins(name: str, picture: Mapping[str, Any], written: Callable[[float], str]) -> str:
    edges, synthetic, train = picture["edges"], picture["synthetic"], picture["train"]
    widths = [right - left for left, right in pairwise(edges)]
    span = edges[-1] - edges[0]
    # Heights are densities: a merged bin is wide, not tall.
    heights = [part / width for part, width in zip(synthetic, widths, strict=True)]
    real = [part / width for part, width in zip(train, widths, strict=True)] if train else []
    tallest = max([*heights, *real, 1e-300])
    at = [WIDTH * (edge - edges[0]) / span for edge in edges]
    bars = "".join(
        f'<rect x="{left:.1f}" y="{HEIGHT * (1 - height / tallest):.1f}" width="{right - left:.1f}" '
        f'height="{HEIGHT * height / tallest:.1f}"/>'
        for left, right, height in zip(at, at[1:], heights, strict=False)
        if height > 0
    )
    line = ""
    if real:
        steps = [f"M{at[0]:.1f},{HEIGHT}"]
        for left, right, height in zip(at, at[1:], real, strict=False):
            y = HEIGHT * (1 - height / tallest)
            steps.append(f"L{left:.1f},{y:.1f}L{right:.1f},{y:.1f}")
        steps.append(f"L{at[-1]:.1f},{HEIGHT}")
        line = f'<path d="{"".join(steps)}"/>'
    title = _title(name, "histogram", bool(real))
    ends = (
        f'<text class="start" x="0" y="{HEIGHT + SCALE}">{escape(written(edges[0]))}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + SCALE}">{escape(written(edges[-1]))}</text>'
    )
    return _svg(
        title,
        HEIGHT + SCALE + 4,
        f'<g class="s">{bars}</g><g class="r">{line}</g><path class="axis" d="M0,{HEIGHT}H{WIDTH}"/>{ends}',
    )


def _levels(name: str, picture: Mapping[str, Any]) -> str:
    levels, synthetic, train = picture["levels"], picture["synthetic"], picture["train"]
    longest = max([*synthetic, *(train or ()), 1e-300])
    room = WIDTH - LABEL - 2
    parts: list[str] = []
    for place, (level, part) in enumerate(zip(levels, synthetic, strict=True)):
        top = place * LINE
        parts.append(f'<text x="{LABEL - 5}" y="{top + 10.5}">{escape(_short(level))}</text>')
        parts.append(
            f'<rect x="{LABEL}" y="{top + 2}" width="{room * part / longest:.1f}" height="{LINE - 4}"/>'
        )
        if train:
            at = LABEL + room * train[place] / longest
            parts.append(f'<path class="tick" d="M{at:.1f},{top}v{LINE}"/>')
    title = _title(name, "shares of levels", bool(train))
    return _svg(title, len(levels) * LINE, f'<g class="s">{"".join(parts)}</g>')


def _short(level: str) -> str:
    return level if len(level) <= 17 else level[:16] + "…"


def _title(name: str, what: str, real: bool) -> str:
    return f"{name}: {what}; synthetic filled" + (", real as a line" if real else "")


def _svg(title: str, height: int, body: str) -> str:
    label = escape(title, quote=True)
    return (
        f'<svg class="small" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{label}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
