"""What a report leaves out where rows were chosen together, so that the table has what was declared itself.

Such rows are not independent: they vary less than chance would have it, and an interval or a test that counts
on chance would mislead. Intervals of the real rows alone stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.evaluation.document import MetricResult

TESTS = frozenset({"study_protocol", "coefficient_overlap"})
"""Metrics that are made of tests or intervals of the synthetic rows."""

REASON = (
    "the rows were chosen together to have the declared statistics, and are not independent, which its tests "
    "or intervals take for granted"
)

_OF_REAL_ROWS = ("trtr_", "holdout_", "real_")
_FROM_CHANCE = frozenset({"interval", "low", "high", "p", "p_value"})
_IN_WORDS = re.compile(r",? 95 % interval [^).;]*(?:\.\d+[^).;]*)*")


def without_intervals(result: MetricResult) -> MetricResult:
    """Return a result without the intervals and tests that take the synthetic rows for independent."""
    details: Any = _left(result.details)
    return result.model_copy(
        update={"interval": None, "details": details, "reading": _IN_WORDS.sub("", result.reading)}
    )


def _left(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _left(item) for key, item in value.items() if not _counts_on_chance(key)}
    if isinstance(value, list):
        return [_left(item) for item in value]
    return value


def _counts_on_chance(key: str) -> bool:
    return key in _FROM_CHANCE or (key.endswith("_interval") and not key.startswith(_OF_REAL_ROWS))
