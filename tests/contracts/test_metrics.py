"""What every registered metric promises. A metric that is not classified here fails."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import app.evaluation
from app.evaluation.base import Metric, NotMeasured, Score, Tables
from app.evaluation.document import JobFacts
from app.evaluation.registry import ABSENT, METRICS
from app.evaluation.report import evaluate, run
from app.schema.check import check_frame
from app.schema.parse import parse_schema
from app.schema.table import TableSchema


@dataclass(frozen=True)
class Promise:
    """What a metric says where the synthetic table, the train part and the holdout are one and the same."""

    same_table: float | None
    """None: whatever the yardstick is."""
    ideal: float


PROMISES = {
    "adherence": Promise(same_table=1.0, ideal=1.0),
    "declared_statistics": Promise(same_table=1.0, ideal=1.0),
    "ks_complement": Promise(same_table=1.0, ideal=1.0),
    "tv_complement": Promise(same_table=1.0, ideal=1.0),
    "wasserstein_in_sd": Promise(same_table=0.0, ideal=0.0),
    "missingness": Promise(same_table=1.0, ideal=1.0),
    "level_coverage": Promise(same_table=1.0, ideal=1.0),
    "c2st": Promise(same_table=0.5, ideal=0.5),
    "subgroup_similarity": Promise(same_table=1.0, ideal=1.0),
    "study_protocol": Promise(same_table=1.0, ideal=1.0),
    "association_similarity": Promise(same_table=1.0, ideal=1.0),
    "correlation_similarity": Promise(same_table=1.0, ideal=1.0),
    "contingency_similarity": Promise(same_table=1.0, ideal=1.0),
    "tstr": Promise(same_table=None, ideal=1.0),
    "coefficient_overlap": Promise(same_table=1.0, ideal=1.0),
    # The train part itself is the worst that privacy can get.
    "identical_match_share": Promise(same_table=1.0, ideal=0.0),
    "repeated_row_share": Promise(same_table=0.0, ideal=0.0),
    "near_match_share": Promise(same_table=1.0, ideal=0.0),
    "dcr_share": Promise(same_table=0.5, ideal=0.0),
    "nndr_share": Promise(same_table=0.5, ideal=0.0),
    "membership_inference": Promise(same_table=0.5, ideal=0.0),
    # Where holdout and train are one table, an attack gains nothing on either.
    "singling_out_advantage": Promise(same_table=0.0, ideal=-1.0),
    "linkability": Promise(same_table=0.0, ideal=-1.0),
    "attribute_inference": Promise(same_table=0.0, ideal=-1.0),
    "replicated_uniques": Promise(same_table=None, ideal=0.0),
    "disco": Promise(same_table=None, ideal=0.0),
}

every_metric = pytest.mark.parametrize("metric", [cls() for cls in METRICS], ids=lambda metric: metric.name)


def defined_metrics() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(app.evaluation.__path__, "app.evaluation."):
        loaded = importlib.import_module(module.name)
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if cls.__module__ == module.name and "name" in vars(cls) and hasattr(cls, "measure"):
                yield cls


FIELDS: list[dict[str, Any]] = [
    {"name": "größe", "type": "number", "decimals": 1, "constraints": {"minimum": 0},
     "statistics": {"mean": 170, "sd": 10, "quantiles": {"0.5": 170}, "missing": 0.0}},
    {"name": "年齢 (lambda)", "type": "integer", "statistics": {"mean": 50}},
    {"name": "sexe", "type": "string", "categories": ["féminin", "男"],
     "statistics": {"proportions": {"féminin": 0.5, "男": 0.5}}},
    {"name": "class", "type": "boolean", "statistics": {"missing": 0.0}},
    {"name": "day", "type": "date"},
]  # fmt: skip
ASSOCIATIONS: list[dict[str, Any]] = [
    {"fields": ["größe", "年齢 (lambda)"], "measure": "pearson", "value": 0.0},
    {"fields": ["größe", "class"], "measure": "spearman", "value": 0.0},
    {"fields": ["sexe", "class"], "measure": "odds_ratio", "value": 1.0},
    {"fields": ["sexe", "class"], "measure": "cramers_v", "value": 0.0},
    {"fields": ["sexe", "größe"], "measure": "correlation_ratio", "value": 0.0},
]
SCHEMA: TableSchema = parse_schema({"fields": FIELDS, "associations": ASSOCIATIONS})[0]


def people(n: int) -> pd.DataFrame:
    """Balanced by design, so that what is declared holds exactly: nothing here depends on a seed."""
    place = np.arange(n)
    spread = np.array([-1.5, -0.5, 0.5, 1.5]) * 8.94
    return pd.DataFrame(
        {
            "größe": np.round(170 + spread[place % 4] + (place // 64) % 3 - 1, 1),
            "年齢 (lambda)": pd.array(50 + (place // 4) % 4 * 2 - 3, dtype="Int64"),
            "sexe": pd.Categorical(
                np.where((place // 16) % 2 == 0, "féminin", "男"), categories=["féminin", "男"]
            ),
            "class": pd.array((place // 32) % 2 == 0, dtype="boolean"),
            "day": (np.datetime64("2020-01-01") + place).astype("datetime64[s]"),
        }
    )


def of(frame: pd.DataFrame, schema: TableSchema = SCHEMA, real: pd.DataFrame | None = None) -> Tables:
    real = frame if real is None else real
    return Tables(
        schema,
        (frame,),
        train=real,
        holdout=real,
        target="class",
        quasi_identifiers=("größe", "sexe"),
        sensitive=("class",),
        conformance=check_frame(schema, frame),
    )


def emptied(frame: pd.DataFrame) -> pd.DataFrame:
    gone = frame.copy()
    for name in gone.columns:
        gone[name] = pd.Series([None] * len(gone), index=gone.index).astype(gone[name].dtype)
    return gone


ODD_TABLES = {
    "no row": people(0),
    "one row": people(1),
    "two rows": people(2),
    "all missing": emptied(people(40)),
    "constant": people(1).iloc[[0] * 40].reset_index(drop=True),
    "nine rows": people(9),
}


def test_every_metric_that_is_defined_is_registered_and_classified() -> None:
    assert set(defined_metrics()) == set(METRICS)
    assert {cls.name for cls in METRICS} == set(PROMISES)
    names = [cls.name for cls in METRICS] + [name for name, *_ in ABSENT]
    assert len(names) == len(set(names))


@every_metric
def test_direction_and_bounds_agree_with_the_ideal(metric: Metric) -> None:
    assert isinstance(metric, Metric)
    assert metric.dimension in ("conformance", "fidelity", "utility", "privacy")
    assert metric.needs <= {"train", "holdout", "target", "conformance"}
    assert metric.depth in ("core", "full")
    assert set(metric.measured_from) <= {"train", "holdout", "synthetic"}
    low, high = metric.bounds
    assert low < high
    assert PROMISES[metric.name].ideal == (high if metric.higher_is_better else low)


@every_metric
def test_the_same_table_against_itself(metric: Metric) -> None:
    score = metric.measure(of(people(192 * 4)))
    assert isinstance(score, Score), score
    promised = PROMISES[metric.name].same_table
    assert score.value == pytest.approx(score.baseline if promised is None else promised, abs=1e-12)
    if metric.needs & {"train"} or metric.name == "repeated_row_share":
        assert score.baseline == score.value


@every_metric
@pytest.mark.parametrize("synthetic", ODD_TABLES)
@pytest.mark.parametrize("real", ["no row", "one row", "all missing", "constant", "nine rows"])
def test_odd_tables_give_a_finite_figure_or_a_reason(metric: Metric, synthetic: str, real: str) -> None:
    result = run(metric, of(ODD_TABLES[synthetic], real=ODD_TABLES[real]))
    assert result.status != "failed", result.reason
    if result.value is None:
        assert result.reason
        return
    low, high = metric.bounds
    assert low <= result.value <= high
    for figure in (*(result.interval or ()), *([] if result.baseline is None else [result.baseline])):
        assert math.isfinite(figure) and low <= figure <= high
    json.dumps(result.details, allow_nan=False)


@every_metric
def test_what_it_needs_and_does_not_get_is_a_reason(metric: Metric) -> None:
    bare = Tables(SCHEMA, (people(50),))
    result = run(metric, bare)
    assert (result.status == "not_measured") == bool(metric.needs), result
    assert result.reason or not metric.needs


@every_metric
def test_the_order_of_columns_changes_nothing(metric: Metric) -> None:
    made, real = people(100), people(64)
    schema = parse_schema({"fields": FIELDS[::-1], "associations": ASSOCIATIONS})[0]
    straight = metric.measure(of(made, real=real))
    turned = metric.measure(of(made[made.columns[::-1]], schema, real[real.columns[::-1]]))
    assert isinstance(straight, Score) and isinstance(turned, Score)
    assert turned.value == pytest.approx(straight.value, abs=1e-12)
    assert turned.baseline == pytest.approx(straight.baseline, abs=1e-12)


# repeated_row_share looks at the first rows, as many as the train part has: rows are exchangeable, not these.
@pytest.mark.parametrize(
    "metric", [cls() for cls in METRICS if cls.name != "repeated_row_share"], ids=lambda m: m.name
)
def test_the_order_of_rows_changes_nothing(metric: Metric) -> None:
    made, real = people(96), people(64)
    shuffled = made.sample(frac=1, random_state=1).reset_index(drop=True)
    straight, mixed = metric.measure(of(made, real=real)), metric.measure(of(shuffled, real=real))
    assert isinstance(straight, Score) and isinstance(mixed, Score)
    assert mixed.value == pytest.approx(straight.value, abs=1e-12)


@every_metric
def test_nothing_is_changed_in_the_tables(metric: Metric) -> None:
    made, real = people(80), people(64)
    tables = of(made.copy(), real=real.copy())
    metric.measure(tables)
    pd.testing.assert_frame_equal(tables.synthetic[0], made)
    assert tables.train is not None
    pd.testing.assert_frame_equal(tables.train, real)


AVERAGED = {"tstr", "coefficient_overlap"}
"""Measured on each replicate, as its user would, and averaged; the others on all rows together."""


@pytest.mark.parametrize("metric", [cls() for cls in METRICS if cls.name in AVERAGED], ids=lambda m: m.name)
def test_two_replicates_of_the_same_rows_are_measured_as_one(metric: Metric) -> None:
    tables = of(people(128))
    once, twice = metric.measure(tables), metric.measure(replace(tables, synthetic=tables.synthetic * 2))
    assert isinstance(once, Score) and isinstance(twice, Score)
    assert twice.value == pytest.approx(once.value)


@pytest.mark.parametrize(
    "metric", [cls() for cls in METRICS if cls.name not in AVERAGED], ids=lambda m: m.name
)
def test_replicates_are_measured_together(metric: Metric) -> None:
    made = people(128)
    tables = of(made)
    split = replace(tables, synthetic=(made.head(64), made.tail(64)))
    together, apart = metric.measure(tables), metric.measure(split)
    assert isinstance(together, Score) and isinstance(apart, Score)
    assert apart.value == pytest.approx(together.value)


@every_metric
def test_it_says_what_it_found_in_a_sentence(metric: Metric) -> None:
    score = metric.measure(of(people(64)))
    assert isinstance(score, Score)
    assert score.reading.endswith(".")
    assert "aggregate" in score.details


@pytest.mark.parametrize("synthetic", ODD_TABLES)
@pytest.mark.parametrize("real", ["no row", "one row", "all missing", "constant", "nine rows"])
def test_odd_tables_give_a_whole_report(synthetic: str, real: str) -> None:
    report = evaluate(
        of(ODD_TABLES[synthetic], real=ODD_TABLES[real]),
        job=JobFacts(id="job_1", generator="g", seed=1, rows=1),
    )
    text = json.dumps(report.as_json(), allow_nan=False)
    assert "NaN" not in text


def test_a_score_cannot_hold_what_is_not_a_number() -> None:
    for figures in (
        {"value": math.nan},
        {"value": 1.0, "baseline": math.inf},
        {"value": 1.0, "interval": (0, math.nan)},
    ):
        with pytest.raises(ValueError, match="finite"):
            Score(**figures)  # type: ignore[arg-type]


def test_absence_is_a_value_of_its_own() -> None:
    assert NotMeasured("why").reason == "why"
