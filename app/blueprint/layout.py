"""JSON that a person can read: short things share a line, each column and statement begins its own."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 118


def lay_out(value: Any, indent: int = 0, lead: int = 0) -> str:
    """Return a JSON value as text.

    Parameters
    ----------
    indent : int
        Spaces before the lines that follow the first.
    lead : int
        Characters that stand before the value on its first line.
    """
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # The document is always opened: a table of two columns reads as one of twenty.
    if not value or not isinstance(value, dict | list) or (indent and lead + len(flat) + 3 <= WIDTH):
        return flat
    opened, closed = ("{", "}") if isinstance(value, dict) else ("[", "]")
    items = []
    pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in pairs:
        name = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
        items.append(name + lay_out(item, indent + 1, indent + 1 + len(name)))
    pad = "\n" + " " * (indent + 1)
    if indent and not any(item.startswith("{") for item in items):
        return opened + _filled(items, indent + 1) + closed
    return opened + pad + ("," + pad).join(items) + "\n" + " " * indent + closed


def _filled(items: list[str], indent: int) -> str:
    """Set items one after the other, as many as a line takes; one of several lines begins on its own."""
    lines: list[str] = []
    for position, item in enumerate(items):
        piece = item + ("," if position < len(items) - 1 else "")
        room = bool(lines) and "\n" not in lines[-1] and "\n" not in piece
        if room and indent + len(lines[-1]) + 1 + len(piece) <= WIDTH:
            lines[-1] += " " + piece
        else:
            lines.append(piece)
    return ("\n" + " " * indent).join(lines)
