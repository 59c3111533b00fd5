"""What all fidelity metrics promise beyond the contract: sizes, persons, seeds, and nobody given away."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import Score
from app.evaluation.registry import METRICS
from app.evaluation.report import run
from app.schema.parse import parse_schema
from tests.unit.evaluation.cohort import FIELDS, cohort, held_against

FIDELITY = [metric() for metric in METRICS if metric.dimension == "fidelity"]
each = pytest.mark.parametrize("metric", FIDELITY, ids=lambda metric: metric.name)


@each
def test_with_200_train_and_80_holdout_rows_it_is_measured(metric: Any) -> None:
    score = metric.measure(held_against(cohort(200, 5), n=200, held=80))
    assert isinstance(score, Score), score
    assert score.baseline is not None
    assert all(
        size <= {"train": 200, "holdout": 80, "synthetic": 200}[part]
        for part, size in metric.measured_from.items()
    )


@each
def test_the_same_seed_gives_the_same_figures(metric: Any) -> None:
    tables = held_against(cohort(200, 5), n=200, held=80, seed=9)
    assert metric.measure(tables) == metric.measure(tables)


@each
def test_persons_with_several_rows_are_understood(metric: Any) -> None:
    schema = parse_schema({"fields": [*FIELDS, {"name": "person", "type": "integer"}]})[0]

    def visits(n: int, seed: int) -> pd.DataFrame:
        frame = cohort(n, seed).loc[np.repeat(np.arange(n), 3)].reset_index(drop=True)
        return frame.assign(person=pd.array(np.repeat(np.arange(n), 3), dtype="Int64"))

    tables = held_against(visits(100, 5), group="person")
    tables = replace(tables, schema=schema, train=visits(200, 6), holdout=visits(80, 7))
    score = metric.measure(tables)
    assert isinstance(score, Score), score
    columns = json.dumps([row.get("column", "") for row in score.details["table"]])
    # SDMetrics' two single-column scores look at every column.
    assert "person" not in columns or metric.name in ("ks_complement", "missingness")


@each
def test_no_rare_level_extreme_or_single_value_is_told(metric: Any) -> None:
    names = ["north", "south", "east", "canary-level"]
    fields = [
        field | {"categories": names} if field["name"] == "site" else field
        for field in [*FIELDS, {"name": "id", "type": "string", "constraints": {"unique": True}}]
    ]
    schema = parse_schema({"fields": fields})[0]

    def planted(frame: pd.DataFrame, canaries: bool) -> pd.DataFrame:
        frame = frame.assign(site=frame["site"].cat.set_categories(names))
        frame["id"] = pd.array([f"plain-{place}" for place in range(len(frame))], dtype="string[pyarrow]")
        if canaries:
            frame.loc[0, "site"] = "canary-level"
            frame.loc[0, "id"] = "canary-id"
            frame.loc[0, "age"] = 987654
            frame.loc[0, "marker"] = 9876.54
            frame.loc[0, "seen"] = pd.Timestamp("1911-11-11")
        return frame

    tables = held_against(planted(cohort(200, 5), False))
    tables = replace(
        tables, schema=schema, train=planted(cohort(400, 6), True), holdout=planted(cohort(200, 7), True)
    )
    result = run(metric, tables)
    assert result.status == "measured", result.reason
    told = result.model_dump_json()
    for canary in ("canary", "987654", "9876.54", "1911-11-11", "-21236"):
        assert canary not in told, canary
