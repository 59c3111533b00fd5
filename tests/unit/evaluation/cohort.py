"""A made cohort whose columns of every type hang together, to plant known faults in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.base import Tables
from app.schema.frames import conform
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

FIELDS: list[dict[str, Any]] = [
    {"name": "age", "type": "integer"},
    {"name": "marker", "type": "number", "decimals": 2},
    {"name": "sex", "type": "string", "categories": ["F", "M"]},
    {"name": "grade", "type": "integer", "categories": [1, 2, 3], "categoriesOrdered": True},
    {"name": "site", "type": "string", "categories": ["north", "south", "east"]},
    {"name": "ward", "type": "string", "categories": ["a", "b", "c", "d"]},
    {"name": "seen", "type": "date"},
]
SCHEMA: TableSchema = parse_schema({"fields": FIELDS})[0]


def cohort(n: int, seed: int) -> pd.DataFrame:
    """Draw n independent persons; `marker` misses in the south, `ward` follows `site`."""
    rng = np.random.default_rng(seed)
    frail = rng.normal(size=n)
    site = rng.integers(0, 3, n)
    ward = np.where(rng.random(n) < 0.7, site, rng.integers(0, 4, n))
    marker = np.round(np.exp(0.5 * frail + 0.3 * site + 0.5 * rng.normal(size=n)), 2)
    frame = pd.DataFrame(
        {
            "age": np.round(60 + 8 * frail + 6 * rng.normal(size=n)).astype(np.int64),
            "marker": np.where((site == 1) & (rng.random(n) < 0.4), np.nan, marker),
            "sex": np.where(rng.random(n) < 1 / (1 + np.exp(-frail)), "F", "M"),
            "grade": 1 + np.digitize(frail + rng.normal(size=n), [-0.5, 1.0]),
            "site": np.array(["north", "south", "east"], dtype=object)[site],
            "ward": np.array(["a", "b", "c", "d"], dtype=object)[ward],
            "seen": (np.datetime64("2020-01-01") + rng.integers(0, 400, n)).astype("datetime64[s]"),
        }
    )
    return conform(frame, SCHEMA)


def permuted(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the same columns, each in an order of its own."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: frame[name].array[rng.permutation(len(frame))] for name in frame.columns})


def held_against(*synthetic: pd.DataFrame, n: int = 700, held: int = 300, **more: Any) -> Tables:
    """Return tables whose real parts are drawn from the cohort."""
    return Tables(SCHEMA, synthetic, train=cohort(n, 101), holdout=cohort(held, 102), **more)
