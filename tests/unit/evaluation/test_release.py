"""The release gate acts on the upper end of an interval, and fails closed."""

from __future__ import annotations

from typing import Any

import pytest

from app.evaluation.document import (
    Disclosure,
    JobFacts,
    MetricResult,
    ReportDocument,
    Verdict,
    Verdicts,
)
from app.evaluation.privacy import wilson
from app.evaluation.report import release_decision


def report(*metrics: MetricResult, made: int = 1000) -> ReportDocument:
    verdict = Verdict(level="met", sentence="", rule="")
    return ReportDocument(
        job=JobFacts(id="job_1", generator="g", seed=1, rows=made),
        rows_made=made,
        rows_evaluated=made,
        summary=("", "", ""),
        verdicts=Verdicts(conformance=verdict, fidelity=verdict, utility=verdict, privacy=verdict),
        metrics=metrics,
        columns=(),
        disclosure=Disclosure(min_cell=10, statement=""),
    )


def matches(hits: int, rows: int) -> MetricResult:
    return MetricResult(
        name="identical_match_share", title="", dimension="privacy", status="measured", reading="",
        value=hits / rows, interval=wilson(hits, rows), details={"matches": hits, "rows": rows},
    )  # fmt: skip


def singled(value: float, high: float, *kinds: tuple[str, float]) -> MetricResult:
    table: list[Any] = [{"attack": name, "low": low} for name, low in kinds]
    return MetricResult(
        name="singling_out_advantage", title="", dimension="privacy", status="measured", reading="",
        value=value, interval=(-1.0, high), details={"table": table},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hits", "rows", "made", "limit", "decision"),
    [
        (0, 10, 10, 0.0, "released"),  # a count of all rows needs no interval
        (0, 10, 10, 0.01, "released"),
        (1, 1000, 1000, 0.0, "withheld"),
        (1, 1000, 1000, 0.002, "withheld"),  # up to 0.0056 is possible
        (1, 1000, 1000, 0.006, "released"),
        (0, 1000, 5000, 0.0, "withheld"),  # a sample proves no absence
        (0, 1000, 5000, 0.003, "withheld"),
        (0, 1000, 5000, 0.004, "released"),
    ],
)
def test_identical_matches_are_counted_exactly_or_bounded(
    hits: int, rows: int, made: int, limit: float, decision: str
) -> None:
    found = release_decision(report(matches(hits, rows), made=made), {"max_identical_match_share": limit})
    assert found.decision == decision, found.reasons


def test_the_upper_end_of_the_advantage_is_held_against_the_limit() -> None:
    limit = {"max_singling_out_advantage": 0.05}
    assert release_decision(report(singled(0.01, 0.05)), limit).decision == "released"
    missed = release_decision(report(singled(0.01, 0.051)), limit)
    assert missed.decision == "withheld" and "0.051" in missed.reasons[0]
    assert "measured 0.06" in release_decision(report(singled(0.06, 0.07)), limit).reasons[0]


def test_one_kind_of_attack_that_surely_exceeds_the_limit_withholds() -> None:
    limit = {"max_singling_out_advantage": 0.05}
    fine = singled(0.01, 0.04, ("univariate", 0.05), ("multivariate", -0.2))
    assert release_decision(report(fine), limit).decision == "released"
    rare = singled(0.01, 0.04, ("univariate", 0.3), ("multivariate", -0.2))
    missed = release_decision(report(rare), limit)
    assert missed.decision == "withheld" and "univariate" in missed.reasons[0]


def test_what_failed_or_was_not_measured_withholds() -> None:
    limit = {"max_singling_out_advantage": 1.0}
    failed = MetricResult(
        name="singling_out_advantage", title="", dimension="privacy", status="failed", reading="",
        reason="ValueError",
    )  # fmt: skip
    for document in (None, report(), report(failed)):
        assert release_decision(document, limit).decision == "withheld"
