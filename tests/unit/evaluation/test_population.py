"""What a report tells of the blueprint, and what it leaves out where rows were chosen together."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from app.blueprint.declare import declare
from app.blueprint.outcomes import Guessed, Settled, with_outcomes
from app.evaluation.base import Tables
from app.evaluation.document import JobFacts, ReportDocument
from app.evaluation.html import render_page
from app.evaluation.population import in_words, population_facts
from app.evaluation.report import evaluate
from app.schema.parse import parse_schema
from tests.unit.evaluation.cohort import cohort, held_against
from tests.unit.evaluation.conftest import DOCUMENT

UNSIGNED = {
    **DOCUMENT,
    "associations": [
        *DOCUMENT["associations"],
        {"fields": ["sex", "weight kg"], "measure": "pearson", "value": 0.1,
         "given": {"stage": [1, 2], "smoker": True}},
    ],
}  # fmt: skip


@functools.cache
def blueprint() -> dict[str, Any]:
    schema = parse_schema(UNSIGNED)[0]
    settled = [
        Settled("/fields/1/statistics/mean", 60, 60.01, 0.1),
        Settled("/fields/7/statistics/mean", 18_444, 18_474, 30.0, "a rule moves it"),
        Settled("/associations/0/value", 0.0, 0.05, 2.5),
        Settled("/conditionals/0/statistics/sd", 12, float("nan"), float("nan")),
    ]
    given_way = [Settled("/fields/2/statistics/sd", 10.0, 14.0, 9.0)]
    told = with_outcomes(declare(schema), schema, settled, [Guessed("/associations/3", -1)], given_way)
    document: dict[str, Any] = json.loads(told.to_json())
    return document


def test_statements_are_told_furthest_first_with_their_reasons() -> None:
    facts = population_facts(blueprint())
    assert (facts.statements, facts.as_asked) == (4, 1)
    assert [item.statement for item in facts.table] == [
        "mean of seen",
        "pearson of age and weight kg",
        "mean of age",
        "sd of weight kg where sex is F and age is at least 50",
    ]
    moved, *_, unmeasured = facts.table
    assert (unmeasured.achieved, unmeasured.moved) == (None, None)
    assert (moved.asked, moved.achieved, moved.reason) == ("2020-07-01", "2020-07-31", "a rule moves it")


def test_defaults_that_gave_way_and_guessed_directions_are_told_apart() -> None:
    facts = population_facts(blueprint())
    (default,) = facts.defaults
    assert (default.statement, default.achieved, default.moved) == ("sd of weight kg", 14.0, None)
    (guess,) = facts.guesses
    assert (guess.statement, guess.value) == ("Cramér's V of sex and stage", -1)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("/columns/3/marginal/proportions/value/F", "share of F in sex"),
        ("/columns/2/marginal/quantiles/value/0.5", "0.5 quantile of weight kg"),
        ("/columns/4/missing/value", "missing share of smoker"),
        ("/dependence/5/value", "pearson of sex and weight kg where stage is 1 or 2 and smoker is true"),
        ("/elsewhere", "/elsewhere"),
    ],
)
def test_a_pointer_is_put_into_words(at: str, words: str) -> None:
    assert in_words(blueprint(), at) == words


def report_on(tables: Tables, blueprint: dict[str, Any] | None = None) -> ReportDocument:
    job = JobFacts(id="job_1", generator="blueprint", seed=1, rows=300)
    return evaluate(tables, job=job, blueprint=blueprint)


def judged(**more: Any) -> Tables:
    named: dict[str, Any] = {"target": "sex", "quasi_identifiers": ("age", "site"), "sensitive": ("grade",)}
    return held_against(cohort(300, 5), **named, **more)


@functools.cache
def chosen() -> ReportDocument:
    return report_on(judged(depth="full", independent=False))


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_rows_that_are_not_independent_get_no_interval_and_no_test_of_their_own() -> None:
    report = chosen()
    assert not report.independent
    assert {metric.name for metric in report.metrics if metric.interval is not None} == set()
    for metric in report.metrics:
        if metric.status != "measured":
            assert metric.status == "not_measured", metric.name
            continue
        assert "interval" not in metric.reading, metric.name
        left = {key for key in keys(metric.details) if "interval" in key or key in ("low", "high", "p")}
        assert left <= {"trtr_interval", "holdout_interval", "real_interval"}, metric.name
    assert "not independent" in (report.metric("coefficient_overlap").reason or "")
    assert "not independent" in (report.metric("study_protocol").reason or "")


def test_independent_rows_keep_their_intervals() -> None:
    report = report_on(judged())
    assert report.independent
    assert report.metric("tstr").interval is not None and "95 % interval" in report.metric("tstr").reading
    assert report.metric("coefficient_overlap").status == "measured"


def test_the_page_says_that_they_are_not_independent() -> None:
    page = render_page(chosen().as_json())
    assert "These rows are not independent of one another." in page
    assert "95 % interval −" not in page


def test_the_page_lists_statements_repairs_and_guesses() -> None:
    page = render_page(report_on(judged(), blueprint()).as_json())
    told = ("What the blueprint holds", "✗ repaired", "2020-07-31", "Defaults that gave way")
    for text in (*told, "Guessed directions", "guessed negative"):
        assert text in page, text
    assert page.index("mean of seen") < page.index("pearson of age and weight kg")
