"""A small clinical schema with every kind of declaration, and tables of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.schema.parse import parse_schema
from app.schema.table import TableSchema

DOCUMENT: dict[str, Any] = {
    "title": "Made patients",
    "primaryKey": "id",
    "fields": [
        {"name": "id", "type": "string", "constraints": {"pattern": "P-[0-9]{5}"}},
        {"name": "age", "type": "integer", "unit": "years", "statistics": {"mean": 60, "sd": 10, "min": 20}},
        {"name": "weight kg", "type": "number", "decimals": 1, "statistics": {"quantiles": {"0.5": 70}}},
        {"name": "sex", "type": "string", "categories": ["F", "M"],
         "statistics": {"proportions": {"F": 0.5, "M": 0.5}}},
        {"name": "smoker", "type": "boolean",
         "statistics": {"missing": 0.1, "proportions": {"true": 0.3, "false": 0.7}}},
        {"name": "stage", "type": "integer", "categories": [1, 2, 3], "categoriesOrdered": True},
        {"name": "pregnant", "type": "boolean", "relevant": "sex == 'F'", "statistics": {"missing": 0.0}},
        {"name": "seen", "type": "date", "statistics": {"mean": "2020-07-01"}},
        {"name": "Bemerkung", "type": "string"},
    ],
    "associations": [
        {"fields": ["age", "weight kg"], "measure": "pearson", "value": 0.0},
        {"fields": ["age", "stage"], "measure": "spearman", "value": 0.0},
        {"fields": ["sex", "smoker"], "measure": "odds_ratio", "value": 1.0},
        {"fields": ["sex", "stage"], "measure": "cramers_v", "value": 0.0},
        {"fields": ["stage", "weight kg"], "measure": "correlation_ratio", "value": 0.0},
    ],
    "conditionals": [
        {"field": "weight kg", "given": {"sex": "F", "age": {"minimum": 50}},
         "statistics": {"mean": 70, "sd": 12}},
    ],
}  # fmt: skip


def patients(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    female = rng.random(n) < 0.5
    smoker = pd.array(rng.random(n) < 0.3, dtype="boolean")
    smoker[rng.random(n) < 0.1] = pd.NA
    pregnant = pd.array(rng.random(n) < 0.1, dtype="boolean")
    pregnant[~female] = pd.NA
    return pd.DataFrame(
        {
            "id": pd.array(
                [f"P-{number:05d}" for number in rng.permutation(99_999)[:n]], dtype="string[pyarrow]"
            ),
            "age": pd.array(rng.normal(60, 10, n).round().astype(int), dtype="Int64"),
            "weight kg": rng.normal(70, 12, n).round(1),
            "sex": pd.Categorical(np.where(female, "F", "M"), categories=["F", "M"]),
            "smoker": smoker,
            "stage": pd.array(rng.integers(1, 4, n), dtype="Int64"),
            "pregnant": pregnant,
            "seen": (np.datetime64("2020-01-01") + rng.integers(0, 365, n)).astype("datetime64[s]"),
            "Bemerkung": pd.array(["frei"] * n, dtype="string[pyarrow]"),
        }
    )


@pytest.fixture(scope="session")
def schema() -> TableSchema:
    return parse_schema(DOCUMENT)[0]


@pytest.fixture(scope="session")
def synthetic() -> pd.DataFrame:
    return patients(4000, 1)


@pytest.fixture(scope="session")
def train() -> pd.DataFrame:
    return patients(600, 2)


@pytest.fixture(scope="session")
def holdout() -> pd.DataFrame:
    return patients(250, 3)
