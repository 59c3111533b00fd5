from __future__ import annotations

from typing import Any

import pytest

from app.evaluation.checklist import four_checks
from app.evaluation.document import (
    Disclosure,
    JobFacts,
    ReferenceFacts,
    ReportDocument,
    Verdict,
    Verdicts,
)


def report(
    privacy: Any = "met", conformance: Any = "met", kind: str = "generation", real: bool = True
) -> ReportDocument:
    def verdict(level: Any) -> Verdict:
        return Verdict(level=level, sentence=f"It is {level}.", rule="")

    return ReportDocument(
        job=JobFacts(id="job_1", kind=kind, generator="marginals", generator_version="1.0", seed=7, rows=10),
        rows_made=10,
        rows_evaluated=10,
        reference=ReferenceFacts(id="ds_1", attempts=3, train_rows=70, holdout_rows=30, trained_on=True)
        if real
        else None,
        summary=("", "", ""),
        verdicts=Verdicts(
            conformance=verdict(conformance),
            fidelity=verdict("met"),
            utility=verdict("met"),
            privacy=verdict(privacy),
        ),
        metrics=(),
        columns=(),
        disclosure=Disclosure(min_cell=10, statement=""),
    )


def statuses(document: ReportDocument) -> dict[str, str]:
    return {item.check: item.status for item in four_checks(document)}


def test_all_four_are_answered_with_a_reason() -> None:
    checks = four_checks(report())
    assert [item.check for item in checks] == ["label", "disclosure", "structure", "documentation"]
    assert {item.status for item in checks} == {"met"}
    assert all(item.why.endswith(".") for item in checks)
    assert "3 times" in checks[1].why and "seed 7" in checks[3].why


@pytest.mark.parametrize("level", ["attention", "not_met", "not_measured"])
def test_what_is_not_shown_to_be_met_is_not(level: str) -> None:
    assert statuses(report(privacy=level))["disclosure"] == "not_met"
    if level != "attention":  # some statistics are off; the structure is kept
        assert statuses(report(conformance=level))["structure"] == "not_met"


def test_without_a_real_table_there_is_nothing_to_disclose() -> None:
    assert statuses(report(real=False))["disclosure"] == "not_applicable"


def test_of_an_uploaded_table_it_is_not_known_how_it_was_made_or_labelled() -> None:
    found = statuses(report(kind="evaluation"))
    assert (found["label"], found["documentation"]) == ("not_applicable", "not_met")
