"""Tables whose truth is known: a made population to draw from, public tables to split, and planted faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.base import Tables
from app.schema.check import check_frame
from app.schema.frames import conform
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

SITES = ["north", "south", "east", "west"]
STAGES = ["I", "II", "III"]
TARGET = "relapse"
KEYS = ("age", "sex", "weight")
SENSITIVE = ("stage",)

FIELDS: list[dict[str, Any]] = [
    {"name": "age", "type": "integer", "statistics": {"mean": 60, "sd": 11}},
    {"name": "weight", "type": "number", "decimals": 1, "statistics": {"mean": 75}},
    {"name": "marker", "type": "number", "decimals": 2, "statistics": {"missing": 0.08}},
    {"name": "stay", "type": "integer"},
    {"name": "seen", "type": "date"},
    {"name": "sex", "type": "string", "categories": ["F", "M"],
     "statistics": {"proportions": {"F": 0.55, "M": 0.45}}},
    {"name": "site", "type": "string", "categories": SITES,
     "statistics": {"proportions": {"north": 0.4, "south": 0.3, "east": 0.2, "west": 0.1}}},
    {"name": "stage", "type": "string", "categories": STAGES, "categoriesOrdered": True},
    {"name": "smoker", "type": "boolean"},
    {"name": TARGET, "type": "boolean"},
]  # fmt: skip
SCHEMA: TableSchema = parse_schema({"fields": FIELDS})[0]

NARROW = ("age", "stay", "sex", "site", "stage", "smoker", TARGET)
"""Few columns with few values: real persons equal one another."""


def draw(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw independent persons: numbers, dates and categories that hang together, some missing values."""
    frail, build = rng.normal(size=n), rng.normal(size=n)
    female = rng.random(n) < 0.55
    site = rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1])
    smoker = rng.random(n) < np.where(female, 0.2, 0.35)
    stage = np.digitize(0.8 * frail + 0.6 * rng.normal(size=n) + 0.3 * smoker, [-0.2, 0.8])
    marker = np.exp(1 + 0.4 * frail + 0.3 * stage + 0.4 * rng.normal(size=n))
    odds = -1 + 0.9 * (stage - 1) + 0.5 * frail + 0.7 * smoker + 0.3 * (site == 3)
    return conform(
        pd.DataFrame(
            {
                "age": np.round(60 + 8 * frail + 7.55 * rng.normal(size=n)).astype(np.int64),
                "weight": np.round(75 + 7 * build + np.where(female, -5.4, 6.6), 1),
                "marker": np.where(rng.random(n) < 0.08, np.nan, np.round(marker, 2)),
                "stay": 1 + rng.poisson(np.exp(1.2 + 0.3 * frail + 0.2 * stage)),
                "seen": np.datetime64("2021-01-01", "s")
                + rng.integers(0, 730, n).astype("timedelta64[D]").astype("timedelta64[s]"),
                "sex": np.where(female, "F", "M"),
                "site": np.array(SITES, dtype=object)[site],
                "stage": np.array(STAGES, dtype=object)[stage],
                "smoker": smoker,
                TARGET: rng.random(n) < 1 / (1 + np.exp(-odds)),
            }
        ),
        SCHEMA,
    )


def tables(
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    *synthetic: pd.DataFrame,
    seed: int = 0,
    schema: TableSchema = SCHEMA,
    target: str = TARGET,
) -> Tables:
    """Put the parts together, with everything named that a metric may ask for."""
    made = schema is SCHEMA
    return Tables(
        schema,
        synthetic,
        train=train,
        holdout=holdout,
        target=target,
        quasi_identifiers=KEYS if made else (),
        sensitive=SENSITIVE if made else (),
        seed=seed,
        conformance=check_frame(schema, synthetic[0]),
    )


def public(name: str) -> tuple[TableSchema, pd.DataFrame, str]:
    """Return a public table of scikit-learn: schema, rows, target."""
    from sklearn.datasets import load_breast_cancer, load_diabetes

    if name == "breast_cancer":
        loaded = load_breast_cancer(as_frame=True)
        frame, target = loaded.data.iloc[:, :10].astype("float64"), "malignant"
        frame[target] = pd.array(loaded.target.to_numpy() == 0, dtype="boolean")
    else:
        loaded = load_diabetes(as_frame=True, scaled=False)
        frame, target = loaded.frame.astype("float64"), "target"
    fields = [
        {"name": column, "type": "boolean" if column == "malignant" else "number"} for column in frame.columns
    ]
    return parse_schema({"fields": fields})[0], frame, target


def with_copies(
    synthetic: pd.DataFrame, train: pd.DataFrame, share: float, rng: np.random.Generator, *, jitter: float
) -> pd.DataFrame:
    """Replace the first rows by copies of a share of the train rows, numbers moved by `jitter` sd."""
    copied = train.head(round(share * len(train))).copy()
    for name in ("weight", "marker"):
        moved = copied[name] + jitter * train[name].std() * rng.normal(size=len(copied))
        copied[name] = moved if jitter else copied[name]
    rest = synthetic.iloc[len(copied) :]
    return conform(pd.concat([copied, rest], ignore_index=True), SCHEMA)


def permuted(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Permute every column by itself: the marginals stay, the associations go."""
    return pd.DataFrame(
        {name: frame[name].take(rng.permutation(len(frame))).reset_index(drop=True) for name in frame.columns}
    )


def shifted(frame: pd.DataFrame, name: str, by: float) -> pd.DataFrame:
    """Shift a column of numbers by so many standard deviations."""
    return frame.assign(**{name: frame[name] + by * frame[name].std()})
