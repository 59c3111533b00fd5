"""Raab's four checks before synthetic rows are given out, filled in from a report (arXiv 2503.14211)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.evaluation.document import ReportDocument

CheckStatus = Literal["met", "not_met", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Check:
    """One of the four checks.

    Parameters
    ----------
    check : str
        label, disclosure, structure or documentation.
    status : str
        met, not_met (also where it could not be judged), or not_applicable.
    why : str
        What the answer rests on, in one or two sentences.
    """

    check: Literal["label", "disclosure", "structure", "documentation"]
    status: CheckStatus
    why: str


def four_checks(report: ReportDocument) -> tuple[Check, ...]:
    """Fill in the four checks.

    Parameters
    ----------
    report : ReportDocument
        With its verdicts; the release decision need not be there.

    Returns
    -------
    tuple of Check
        Always four, in the order of the paper. What was not measured is not met: somebody has to look.
    """
    return _label(report), _disclosure(report), _structure(report), _documentation(report)


def _uploaded(report: ReportDocument) -> bool:
    return report.job.kind == "evaluation"


def _label(report: ReportDocument) -> Check:
    if _uploaded(report):
        return Check(
            "label",
            "not_applicable",
            "The table was uploaded: whether the file that is given out says that it is synthetic cannot be "
            "seen from here.",
        )
    return Check(
        "label",
        "met",
        "The file name and, where the format has any, the metadata of every download say that the rows are "
        "synthetic.",
    )


def _disclosure(report: ReportDocument) -> Check:
    if report.reference is None:
        return Check(
            "disclosure",
            "not_applicable",
            "No real table was used. Whether the declared statistics may be given out is for whoever "
            "declared them.",
        )
    verdict = report.verdicts.privacy
    status: CheckStatus = "met" if verdict.level == "met" else "not_met"
    tries = report.reference.attempts
    times = "once" if tries == 1 else f"{tries} times"
    told = f" Rows were judged by this reference {times} so far." if tries is not None else ""
    return Check("disclosure", status, verdict.sentence + told)


def _structure(report: ReportDocument) -> Check:
    verdict = report.verdicts.conformance
    if verdict.level in ("met", "attention"):
        return Check(
            "structure",
            "met",
            f"Names, types, constraints and rules are those of the schema. {verdict.sentence}",
        )
    return Check("structure", "not_met", verdict.sentence)


def _documentation(report: ReportDocument) -> Check:
    if _uploaded(report):
        return Check(
            "documentation",
            "not_met",
            "The table was uploaded: how it was made is not known here and has to be written down beside "
            "this report.",
        )
    job = report.job
    version = f" {job.generator_version}" if job.generator_version else ""
    return Check(
        "documentation",
        "met",
        f"This report names the generator ({job.generator}{version}), its options, the seed {job.seed} "
        "and every figure with its yardstick; it goes with the rows.",
    )
