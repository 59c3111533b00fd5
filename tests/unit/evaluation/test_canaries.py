"""Planted persons: nothing that only one of them has is found in the report or on the page."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import Depth, Tables
from app.evaluation.document import JobFacts, ReferenceFacts
from app.evaluation.html import render_page
from app.evaluation.report import evaluate
from app.schema.check import check_frame
from app.schema.parse import parse_schema

ROWS = 400
LEVELS = ["none", "mild", "severe", "Zanzibar fever"]
DOCUMENT: dict[str, Any] = {
    "primaryKey": "id",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "age", "type": "integer"},
        {"name": "dose", "type": "number", "decimals": 3},
        {"name": "finding", "type": "string", "categories": LEVELS},
        {"name": "code", "type": "integer", "categories": [1, 2, 7139]},
        {"name": "seen", "type": "date"},
        {"name": "at", "type": "time"},
        {"name": "note", "type": "string"},
        {"name": "dead", "type": "boolean"},
    ],
}
CANARIES = (
    "Zanzibar", "7139", "CANARY", "98713", "98,713", "-4417.137", "−4417.137", "4,417", "1871-03-09", "1871",
    "2871-03-09", "2871", "Quokka", "04:44:41",
)  # fmt: skip
"""One of each column's, as JSON or the page would write it; digits within a longer number are chance."""


def people(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 90, ROWS)
    dose = rng.normal(50, 10, ROWS).round(3)
    seen = np.datetime64("2020-01-01") + rng.integers(0, 900, ROWS).astype("timedelta64[D]")
    finding = rng.integers(0, 3, ROWS)
    code = rng.integers(1, 3, ROWS)
    at = rng.integers(8 * 3600, 16 * 3600, ROWS)
    note = np.array(["seen again"] * ROWS, dtype=object)
    identity = np.array([f"P-{seed}-{number:04}" for number in range(ROWS)], dtype=object)
    age[0], dose[1], finding[2], code[3] = 98713, -4417.137, 3, 7139
    seen[4], seen[5], at[6] = (
        np.datetime64("1871-03-09"),
        np.datetime64("2871-03-09"),
        4 * 3600 + 44 * 60 + 41,
    )
    note[7], identity[8] = "has a Quokka", "CANARY-1"
    return pd.DataFrame(
        {
            "id": pd.array(identity, dtype="string[pyarrow]"),
            "age": pd.array(age, dtype="Int64"),
            "dose": dose,
            "finding": pd.Categorical.from_codes(finding, LEVELS),
            "code": pd.array(code, dtype="Int64"),
            "seen": seen.astype("datetime64[s]"),
            "at": at.astype("timedelta64[s]"),
            "note": pd.array(note, dtype="string[pyarrow]"),
            "dead": pd.array(rng.random(ROWS) < 0.3, dtype="boolean"),
        }
    )


@pytest.mark.parametrize("depth", ["core"])
def test_what_one_person_has_is_nowhere_even_where_the_rows_are_a_copy(depth: Depth) -> None:
    schema, _ = parse_schema(DOCUMENT)
    train, holdout = people(1), people(2)
    report = evaluate(
        Tables(
            schema, (train.copy(),), train, holdout, target="dead",
            quasi_identifiers=("age", "finding", "seen"), sensitive=("code", "dose"),
            conformance=check_frame(schema, train), depth=depth,
        ),
        job=JobFacts(id="job_1", generator="copy", seed=3, rows=ROWS),
        reference=ReferenceFacts(id="ds_1", attempts=1, train_rows=ROWS, holdout_rows=ROWS, trained_on=True),
    )  # fmt: skip
    assert [item.name for item in report.metrics if item.status == "failed"] == []
    document = report.as_json()
    # What the caller declares is the caller's: the levels stand in no statement of this schema.
    for place, text in (
        ("report", json.dumps(document, ensure_ascii=False)),
        ("page", render_page(document)),
    ):
        found = {canary for canary in CANARIES if re.search(rf"(?<![\d.]){re.escape(canary)}(?!\d)", text)}
        assert not found, (place, found)
