"""When a model counts as unsure about a statement: its answers lie apart, or it says so itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

APART = 0.75
"""Standard deviation of the answers from which they lie apart, on their pooling scale or in sd."""
APART_CORRELATIONS = 0.3
"""The same for correlations, on Fisher's scale."""


def doubt_of(origin: Mapping[str, Any]) -> str | None:
    """Return in words why a statement is doubtful; None where it is not.

    Parameters
    ----------
    origin : mapping
        How a statement came about: `spread` on `scale`, and how `sure` the model said it was, each time.
    """
    spread, scale = origin.get("spread"), origin.get("scale")
    if spread is not None and spread >= (APART_CORRELATIONS if scale == "fisher z" else APART):
        return f"its answers differ by a standard deviation of {spread:.2g} ({scale})"
    said = [word for word in origin.get("sure") or () if word]
    if said and 2 * said.count("low") > len(said):
        return "it says so itself"
    return None
