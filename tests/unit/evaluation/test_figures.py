from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from app.evaluation.html.figures import draw_all

MATRIX = {
    "kind": "matrix", "title": "Pairs", "labels": ["a", "b <i>", "$x$"],
    "real": [[None, 0.5, -0.1], [0.5, None, 0.2], [-0.1, 0.2, None]],
    "synthetic": [[None, 0.1, 0.0], [0.1, None, 0.2], [0.0, 0.2, None]],
    "difference": [[None, -0.4, 0.1], [-0.4, None, 0.0], [0.1, 0.0, None]],
}  # fmt: skip
CURVE = {
    "kind": "curve", "title": "ROC", "x_label": "false-positive rate", "y_label": "true-positive rate",
    "lines": [{"name": "TSTR", "x": [0.0, 0.2, 1.0], "y": [0.0, 0.7, 1.0]}],
}  # fmt: skip
INTERVALS = {
    "kind": "intervals", "title": "Advantages",
    "rows": [{"name": "linked", "value": 0.1, "low": -0.1, "high": 0.3, "baseline": 0.0},
             {"name": "none", "value": None, "low": None, "high": None, "baseline": None}],
}  # fmt: skip
BARS = {"kind": "bars", "title": "F1", "rows": [{"name": "majority", "value": 0.7, "baseline": 0.774}]}


def metric(*pictures: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"title": "A metric", "details": {"pictures": list(pictures)}}]


@pytest.mark.parametrize("picture", [MATRIX, CURVE, INTERVALS, BARS])
def test_every_kind_is_drawn_as_svg_with_a_text_and_without_scripts(picture: dict[str, Any]) -> None:
    (drawn,) = draw_all(metric(picture))
    root = ET.fromstring(drawn.svg)
    assert root.get("role") == "img" and picture["title"] in (root.get("aria-label") or "")
    assert "<script" not in drawn.svg and "<style" not in drawn.svg and "<metadata" not in drawn.svg
    assert not re.search(r'href="(?!#|data:)', drawn.svg)


def test_the_same_picture_gives_the_same_bytes() -> None:
    first, second = (draw_all(metric(MATRIX, CURVE, INTERVALS, BARS)) for _ in range(2))
    assert first == second


def test_ids_of_several_pictures_do_not_collide() -> None:
    drawn = draw_all(metric(CURVE, CURVE, MATRIX, MATRIX))
    ids = [found for picture in drawn for found in re.findall(r'\sid="([^"]+)"', picture.svg)]
    assert ids and len(ids) == len(set(ids))
    for picture in drawn:
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', picture.svg)) <= set(ids)


def test_names_are_shown_as_they_are() -> None:
    (drawn,) = draw_all(metric(MATRIX))
    assert "b &lt;i&gt;" in drawn.svg and "$x$" in drawn.svg


def test_the_text_says_what_is_furthest_apart() -> None:
    (drawn,) = draw_all(metric(MATRIX))
    assert "Furthest apart: a and b &lt;i&gt;, by -0.40" in drawn.svg


def test_what_shows_nothing_or_is_not_known_is_left_out() -> None:
    ends = CURVE | {"lines": [{"name": "TSTR", "x": [0.0, 1.0], "y": [0.0, 1.0]}]}
    unknown = {"kind": "pie", "title": "Pie", "rows": [{"name": "a", "value": 1.0}]}
    assert draw_all([*metric(ends, unknown, BARS | {"rows": []}), {"title": "none", "details": {}}]) == []


def test_300_columns_take_no_more_room_than_a_raster() -> None:
    grid = [[(row - column) / 300 for column in range(300)] for row in range(300)]
    large = {"kind": "matrix", "title": "Pairs", "labels": [f"c{place}" for place in range(300)],
             "real": grid, "synthetic": grid, "difference": grid}  # fmt: skip
    (drawn,) = draw_all(metric(large))
    assert len(drawn.svg) < 400_000


def test_beyond_the_room_of_a_page_pictures_are_named_only() -> None:
    rows = [{"name": f"a rather long name {place}", "value": 0.1, "low": 0.0, "high": 0.2, "baseline": 0.0}
            for place in range(40)]  # fmt: skip
    drawn = draw_all(metric(*([INTERVALS | {"rows": rows}] * 5)), room=100_000)
    assert len(drawn) == 5 and drawn[0].svg and not drawn[-1].svg
    assert sum(len(picture.svg) for picture in drawn) <= 100_000
