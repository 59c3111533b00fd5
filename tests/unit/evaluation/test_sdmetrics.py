"""Where SDMetrics defines the same score, ours is equal."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.fidelity import ks_complement, tv_complement
from app.evaluation.registry import METRICS
from app.schema.parse import parse_schema

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
    from sdmetrics.single_column import KSComplement, TVComplement

CLOSE = 1e-6  # both compute in double precision; sums are taken in another order
LEVELS = ["a", "b", "c", "d"]


def table(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=rows)
    number = hidden + rng.normal(size=rows)
    number[rng.random(rows) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "x": number.round(2),
            "y": (10 * hidden + 5 * rng.normal(size=rows)).round(),
            "z": rng.exponential(size=rows),
            "g": pd.Categorical.from_codes(np.digitize(hidden, [-1, 0, 1]), LEVELS),
            "h": pd.Categorical.from_codes(rng.integers(0, 3, rows), LEVELS),
        }
    )


FIELDS = [
    {"name": "x", "type": "number", "decimals": 2},
    {"name": "y", "type": "number"},
    {"name": "z", "type": "number"},
    {"name": "g", "type": "string", "categories": LEVELS},
    {"name": "h", "type": "string", "categories": LEVELS},
]
REAL, MADE = table(500, 1), table(700, 2)


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_ks_complement_of_a_column(name: str) -> None:
    ours = ks_complement(*(frame[name].dropna().to_numpy() for frame in (REAL, MADE)))
    assert ours == pytest.approx(KSComplement.compute(REAL[name], MADE[name]), abs=CLOSE)


@pytest.mark.parametrize("name", ["g", "h"])
def test_tv_complement_of_a_column(name: str) -> None:
    ours = tv_complement(*(frame[name].cat.codes.to_numpy().astype(np.int64) for frame in (REAL, MADE)))
    theirs = TVComplement.compute(*(frame[name].astype(str) for frame in (REAL, MADE)))
    assert ours == pytest.approx(theirs, abs=CLOSE)


def measured(name: str) -> Score:
    (metric,) = [metric for metric in METRICS if metric.name == name]
    schema, _ = parse_schema({"fields": FIELDS})
    found = metric().measure(Tables(schema, (MADE,), REAL, REAL))
    assert not isinstance(found, NotMeasured), found.reason
    return found


def pairs(score: Score) -> list[tuple[str, str, float]]:
    rows: Any = score.details["table"]
    return [(row["first"], row["second"], row["value"]) for row in rows if row["value"] is not None]


def test_correlation_similarity_of_each_pair() -> None:
    found = pairs(measured("correlation_similarity"))
    assert len(found) == 3
    for first, second, ours in found:
        both = [frame[[first, second]].dropna() for frame in (REAL, MADE)]
        theirs = CorrelationSimilarity.compute(*both, coefficient="Pearson")
        assert ours == pytest.approx(theirs, abs=CLOSE)


def test_contingency_similarity_of_each_pair() -> None:
    ((first, second, ours),) = pairs(measured("contingency_similarity"))
    theirs = ContingencySimilarity.compute(*(frame[[first, second]].astype(str) for frame in (REAL, MADE)))
    assert ours == pytest.approx(theirs, abs=CLOSE)


def test_headlines_are_the_means_of_the_columns_scores() -> None:
    for name, columns, theirs in (
        ("ks_complement", ["x", "y", "z"], KSComplement),
        ("tv_complement", ["g", "h"], TVComplement),
    ):
        frames = [frame.astype({"g": str, "h": str}) for frame in (REAL, MADE)]
        scores = [theirs.compute(*(frame[column] for frame in frames)) for column in columns]
        assert measured(name).value == pytest.approx(np.mean(scores), abs=CLOSE)
