"""The larger pictures of the page, drawn by matplotlib as inline SVG from `details.pictures` of metrics.

Matplotlib is imported when the first picture is drawn: only processes that write pages pay for it. The same
picture gives the same bytes: no date, no ids but those that are referred to.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FILL, SOFT = "#1c1c1c", "#2f6690", "#6b6b6b"
# Lines differ in dash and marker too: the page is printed in black and white, and read without colour.
LINES = (("#2f6690", "-", "o"), ("#b3541e", "--", "s"), ("#3b7a57", "-.", "^"), ("#6b3fa0", ":", "D"),
         ("#1c1c1c", (0, (5, 1)), "v"), ("#8a6d00", (0, (1, 1)), "x"))  # fmt: skip
MOST_LABELS = 40
"""A matrix of more columns is drawn without their names."""
MOST_ROWS = 40
"""Intervals or bars in one picture; the first are drawn."""
MOST_BYTES = 1_500_000
"""Of all pictures together; what would go beyond is left out, and the page says so."""

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and scaled
    "svg.hashsalt": "synthward",
    "svg.image_inline": True,
    "font.size": 9.0,
    "font.family": "DejaVu Sans",  # carried by matplotlib itself: the layout is the same on every machine
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # a column may be called $x$
    "figure.dpi": 72.0,
}
_IDS = re.compile(r'\sid="([^"]+)"')
_REFERENCES = re.compile(r'(url\(#|href="#)([^)"]+)')
_REST = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.S)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that is ready for the page.

    Parameters
    ----------
    title : str
        What it shows.
    metric : str
        Title of the metric that it belongs to.
    note : str
        How to read it, where that is not plain.
    svg : str
        Empty where the page had no room left.
    """

    title: str
    metric: str
    note: str
    svg: str


def draw_all(metrics: Iterable[Mapping[str, Any]], room: int = MOST_BYTES) -> list[Drawn]:
    """Draw every picture of the metrics of a report, in order.

    Parameters
    ----------
    metrics : iterable of mapping
        `MetricResult` as JSON; `details.pictures` is a list of objects with a `kind` and a `title`.
    room : int
        Characters that all pictures may take together.

    Returns
    -------
    list of Drawn
        Pictures of an unknown kind, or with nothing to show, are left out.
    """
    found: list[Drawn] = []
    for metric in metrics:
        for picture in (metric.get("details") or {}).get("pictures") or ():
            drawing = _KINDS.get(picture.get("kind"))
            if drawing is None or not _shows(picture):
                continue
            svg = _drawn(drawing, picture, len(found)) if room > 0 else ""
            room -= len(svg)
            note = picture.get("note", "")
            found.append(Drawn(picture["title"], metric["title"], note, svg if room > 0 else ""))
    return found


def _shows(picture: Mapping[str, Any]) -> bool:
    if picture["kind"] == "curve":  # two points are the ends, which every curve has
        return any(len(line["x"]) > 2 for line in picture["lines"])
    if picture["kind"] == "matrix":
        cells = (cell for name in ("real", "difference") for row in picture.get(name) or () for cell in row)
        return len(picture["labels"]) > 1 and any(cell is not None for cell in cells)
    return bool(picture["rows"])


def _drawn(
    drawing: Callable[[Figure, Mapping[str, Any]], str], picture: Mapping[str, Any], place: int
) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(facecolor="none")
        canvas = FigureCanvasSVG(figure)
        text = drawing(figure, picture)
        sink = io.StringIO()
        # Not `savefig`, which draws everything twice.
        canvas.print_svg(sink, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return _inlined(sink.getvalue(), f"p{place}-", f"{picture['title']}. {text}")


def _inlined(svg: str, prefix: str, text: str) -> str:
    """Make a file's SVG a part of a page: no ids that collide, no style that leaks, and a text."""
    svg = _REST.sub("", svg)
    used = {name for _, name in _REFERENCES.findall(svg)}
    svg = _IDS.sub(lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", svg)
    svg = _REFERENCES.sub(lambda found: f"{found[1]}{prefix}{found[2]}", svg)
    svg = re.sub(r"\n\s*", "\n", svg).strip()
    head, rest = svg.split(">", 1)
    label = escape(text, quote=True)
    return f'{head} role="img" aria-label="{label}"><title>{escape(text)}</title>{rest}'


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the upper left corner of a figure that has its size.

    A layout engine that measures every text takes longer than the drawing; and readers' fonts are not those
    that it would measure with.
    """
    whole_width, whole_height = figure.get_size_inches()
    place = (
        left / whole_width,
        1 - (top + height) / whole_height,
        width / whole_width,
        height / whole_height,
    )
    axes: Axes = figure.add_axes(place)
    return axes


def _wide(texts: Iterable[str]) -> float:
    """Return inches for the longest of some texts: capitals of DejaVu Sans are 0.7 em wide, letters 0.6."""
    return 0.12 + max((0.078 * len(text) + 0.014 * sum(map(str.isupper, text)) for text in texts), default=0)


def _matrix(figure: Figure, picture: Mapping[str, Any]) -> str:
    import numpy as np

    labels = [_short(str(label)) for label in picture["labels"]]
    panels = [(name, picture[name]) for name in ("real", "synthetic", "difference") if picture.get(name)]
    count = len(labels)
    named = count <= MOST_LABELS
    side = min(max(0.17 * count, 1.5), 5.6) if named else 3.0
    names = _wide(labels) if named else 0.15
    title, scale = 0.35, 0.75
    down = len(panels) > 1 and count > 16 and named  # long names need the page's width
    high = title + side + names
    figure.set_size_inches(
        (names + side + scale, len(panels) * high) if down else (names + len(panels) * (side + scale), high)
    )
    worst = ""
    for place, (name, values) in enumerate(panels):
        left, top = (names, place * high + title) if down else (names + place * (side + scale), title)
        axis = _axes(figure, left, top, side, side)
        grid = np.array(
            [[np.nan if cell is None else cell for cell in row] for row in values], dtype=np.float64
        )
        shown = grid[np.isfinite(grid)]
        if name == "difference":
            limit = max(float(np.abs(shown).max()) if len(shown) else 0.0, 0.1 * picture.get("most", 1))
            image = axis.imshow(grid, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
            worst = _furthest(grid, picture["labels"])
        elif len(shown) and shown.min() < 0:
            image = axis.imshow(grid, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
        else:
            image = axis.imshow(
                grid, cmap="Blues", vmin=0, vmax=picture.get("most", 1), interpolation="nearest"
            )
        axis.set_facecolor("#d9d9d9")
        axis.set_title(name if name != "difference" else "synthetic − real")
        places, ticks = (range(count), labels) if named else (range(0), [])
        axis.set_xticks(places, ticks, rotation=90)
        axis.set_yticks(places, ticks if down or not place else [""] * len(ticks))
        axis.tick_params(length=0)
        figure.colorbar(image, cax=_axes(figure, left + side + 0.08, top + 0.15 * side, 0.1, 0.7 * side))
    shown_names = ", ".join(name for name, _ in panels)
    return f"Heat maps of {count} columns: {shown_names}. Grey cells were not measured.{worst}"


def _furthest(grid: Any, labels: list[str]) -> str:
    import numpy as np

    if not np.isfinite(grid).any():
        return ""
    row, column = np.unravel_index(np.nanargmax(np.abs(grid)), grid.shape)
    return f" Furthest apart: {labels[row]} and {labels[column]}, by {grid[row, column]:+.2f}."


def _curve(figure: Figure, picture: Mapping[str, Any]) -> str:
    named = {line["name"] for line in picture["lines"]}
    legend = _wide([*(_short(name, 48) for name in named), "guessing"]) + 0.4
    figure.set_size_inches(5.2 + legend, 4.1)
    axis = _axes(figure, 0.7, 0.15, 4.4, 3.4)
    if "false" in picture["x_label"].lower() and "guessing" not in named:
        axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)), label="guessing")
    for place, line in enumerate(picture["lines"]):
        colour, dash, marker = LINES[place % len(LINES)]
        every = max(1, len(line["x"]) // 8)
        axis.plot(line["x"], line["y"], color=colour, linestyle=dash, marker=marker, markevery=every,
                  markersize=4, linewidth=1.6, label=_short(line["name"], 48))  # fmt: skip
    axis.set_xlabel(picture["x_label"])
    axis.set_ylabel(picture["y_label"])
    axis.grid(color="#e3e3e3", linewidth=0.6)
    figure.legend(loc="upper left", bbox_to_anchor=(5.15 / (5.2 + legend), 0.98), frameon=False, fontsize=8.5)
    names = ", ".join(line["name"] for line in picture["lines"])
    return f"{picture['y_label']} against {picture['x_label']}, for {names}."


def _intervals(figure: Figure, picture: Mapping[str, Any]) -> str:
    rows = picture["rows"][:MOST_ROWS]
    axis = _rows_of(figure, rows)
    for place, row in enumerate(rows):
        if row.get("value") is None:
            continue
        if row.get("low") is not None and row.get("high") is not None:
            axis.plot([row["low"], row["high"]], [place, place], color=FILL, linewidth=2.2)
        axis.plot([row["value"]], [place], "o", color=FILL, markersize=6)
    _baselines(figure, axis, rows, picture.get("mark", "yardstick"))
    return _said(rows, picture)


def _bars(figure: Figure, picture: Mapping[str, Any]) -> str:
    rows, origin = picture["rows"][:MOST_ROWS], picture.get("origin", 0.0)
    axis = _rows_of(figure, rows, origin)
    lengths = [(origin if row.get("value") is None else row["value"]) - origin for row in rows]
    axis.barh(range(len(rows)), lengths, left=origin, color=FILL, height=0.62)
    _baselines(figure, axis, rows, picture.get("mark", "yardstick"))
    return _said(rows, picture)


def _rows_of(figure: Figure, rows: list[Mapping[str, Any]], origin: float = 0.0) -> Axes:
    names = [_short(str(row["name"]), 44) for row in rows]
    left, high = _wide(names), 0.27 * len(rows)
    figure.set_size_inches(7.8, 0.7 + high)
    axis = _axes(figure, left, 0.35, 7.6 - left, high)
    axis.set_yticks(range(len(rows)), names)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.axvline(origin, color=SOFT, linewidth=0.8)
    axis.grid(axis="x", color="#e3e3e3", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    return axis


def _baselines(figure: Figure, axis: Axes, rows: list[Mapping[str, Any]], label: str) -> None:
    for place, row in enumerate(rows):
        if row.get("baseline") is not None:
            axis.plot(
                [row["baseline"]] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.8, label=label
            )
            label = "_"  # the legend names the first
    if label == "_":
        figure.legend(loc="upper right", frameon=False, fontsize=8.5, borderaxespad=0.1)


def _said(rows: list[Mapping[str, Any]], picture: Mapping[str, Any]) -> str:
    more = len(picture["rows"]) - len(rows)
    said = []
    for row in rows[:12]:
        value = "not measured" if row.get("value") is None else f"{row['value']:.3g}"
        if row.get("low") is not None and row.get("high") is not None:
            value += f" ({row['low']:.3g} to {row['high']:.3g})"
        said.append(f"{row['name']} {value}")
    left = len(rows) - len(said) + more
    return "; ".join(said) + (f"; and {left} more" if left else "") + "."


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


_KINDS: dict[Any, Callable[[Figure, Mapping[str, Any]], str]] = {
    "matrix": _matrix,
    "curve": _curve,
    "intervals": _intervals,
    "bars": _bars,
}
