"""The report as a document: pydantic models, and the JSON Schema published beside this file.

`report.schema.json` is written from these models by `python -m app.evaluation.document`; a test holds the
two together. No field may hold NaN or infinity, nor a cell of a real table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.evaluation.base import Dimension
from app.evaluation.checklist import Check
from app.evaluation.study import Study

REPORT_VERSION = "1.3"
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")

Status = Literal["measured", "not_measured", "failed"]
Level = Literal["met", "attention", "not_met", "not_measured"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class JobFacts(_Part):
    """What made the rows."""

    id: str = Field(description="job id")
    kind: str = "generation"
    generator: str = Field(description="name of the generator")
    generator_version: str = ""
    options: dict[str, JsonValue] = Field(default_factory=dict, description="all options, defaults filled in")
    seed: int
    rows: int = Field(description="rows asked for, for each replicate")
    replicates: int = 1
    created_at: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class ReferenceFacts(_Part):
    """The real table that the rows are held against; its rows never leave the service."""

    id: str
    attempts: int | None = Field(
        description="jobs that used this reference so far, this one included; null where nobody counts"
    )
    train_rows: int
    holdout_rows: int
    trained_on: bool | None = Field(
        description="whether the generator learned from the train part; null where only its maker knows"
    )


class MetricResult(_Part):
    """One figure, or why there is none."""

    name: str
    title: str
    dimension: Dimension
    status: Status
    value: float | None = None
    interval: tuple[float, float] | None = Field(default=None, description="95 % interval")
    baseline: float | None = Field(
        default=None,
        description="what a perfect generator would get: the holdout in the synthetic rows' place",
    )
    higher_is_better: bool | None = None
    bounds: tuple[float, float] | None = None
    reading: str = Field(description="the figure, or its absence, in one plain sentence")
    meaning: str = Field(default="", description="what the figure is")
    reason: str | None = Field(
        default=None, description="why there is no value; of a failure only the kind of error"
    )
    details: dict[str, JsonValue] = Field(
        default_factory=dict, description="`table` and `aggregate` say how the value follows from parts"
    )


class Picture(_Part):
    """A small distribution: shares of the present values, by bins of numbers or by levels."""

    edges: tuple[float, ...] | None = Field(default=None, description="bin edges, one more than shares")
    levels: tuple[str, ...] | None = None
    synthetic: tuple[float, ...] = Field(description="values beyond the outer edges count to the outer bins")
    train: tuple[float, ...] | None = Field(
        default=None, description="None where nothing may be said of the real column"
    )


class ColumnSummary(_Part):
    """One column, synthetic beside real."""

    name: str
    type: str
    kind: str
    unit: str = ""
    synthetic_missing: float = Field(description="share of the synthetic rows")
    train_missing: float | None = Field(
        default=None, description="share of the train rows; None where not said"
    )
    train_missing_note: str = ""
    picture: Picture | None = None
    picture_note: str = ""


class TableOneRow(_Part):
    """A line of Table 1: one statistic of a column, real (train part) beside synthetic."""

    column: str
    unit: str = ""
    statistic: Literal["mean (sd)", "median [Q1, Q3]", "n (%)", "missing"]
    level: str = ""
    scale: str = Field(
        description="number, count, date, datetime or time: see `scale` of declared statistics"
    )
    spread_scale: str = Field(default="number", description="scale of a standard deviation")
    real: tuple[float, ...] | None = Field(
        default=None,
        description="(mean, sd), (median, Q1, Q3) or (n, share); None where it is not said",
    )
    real_note: str = ""
    synthetic: tuple[float, ...] | None = None
    smd: float | None = Field(default=None, description="standardised mean difference, real to synthetic")
    smd_holdout: float | None = Field(default=None, description="the same, train part to holdout")


class PopulationStatement(_Part):
    """A statement, and what the population that the rows are drawn from has instead."""

    at: str = Field(description="JSON pointer into the blueprint")
    statement: str = Field(description="in words")
    asked: float | str = Field(description="dates and times in ISO 8601")
    achieved: float | str | None = Field(default=None, description="None where it could not be measured")
    moved: float | None = Field(
        default=None, description="distance in tolerances of its kind; up to 1 is as asked, None for defaults"
    )
    reason: str = ""


class GuessedDirection(_Part):
    """A direction that nobody declared, and that was taken."""

    at: str = Field(description="JSON pointer into the blueprint")
    statement: str = Field(description="the association, in words")
    value: Literal[-1, 1]
    reason: str = ""


class PopulationFacts(_Part):
    """What became of each statement in the blueprint; the rows add chance to it."""

    statements: int
    as_asked: int = Field(description="statements within their tolerance")
    table: tuple[PopulationStatement, ...] = Field(description="every statement, furthest first")
    defaults: tuple[PopulationStatement, ...] = Field(
        default=(), description="defaults that gave way to what is declared"
    )
    guesses: tuple[GuessedDirection, ...] = ()


class Verdict(_Part):
    """What the figures of one dimension amount to, by the stated rule."""

    level: Level
    sentence: str
    rule: str


class Verdicts(_Part):
    """One verdict for each dimension."""

    conformance: Verdict
    fidelity: Verdict
    utility: Verdict
    privacy: Verdict


class Warned(_Part):
    """A warning of the job."""

    pointer: str
    message: str


class Disclosure(_Part):
    """How far the report speaks of the real table."""

    min_cell: int
    statement: str


class ReleaseDecision(_Part):
    """Whether the rows are given out."""

    decision: Literal["released", "withheld", "not_assessed"]
    reasons: tuple[str, ...] = ()


class ReportDocument(_Part):
    """The evaluation report of one job."""

    report_version: str = REPORT_VERSION
    synthetic: Literal[True] = Field(
        default=True, description="the rows that this report is about are synthetic"
    )
    title: str = ""
    job: JobFacts
    rows_made: int
    rows_evaluated: int = Field(description="fewer than rows_made where a sample was evaluated")
    reference: ReferenceFacts | None = None
    summary: tuple[str, str, str] = Field(description="three plain sentences")
    verdicts: Verdicts
    metrics: tuple[MetricResult, ...]
    columns: tuple[ColumnSummary, ...]
    population: PopulationFacts | None = Field(
        default=None, description="what the blueprint holds; None where the generator has none"
    )
    independent: bool = Field(
        default=True,
        description="false where rows were chosen together to have the declared statistics themselves: no "
        "interval is stated that takes them for independent",
    )
    table_one: tuple[TableOneRow, ...] = Field(
        default=(), description="real beside synthetic, by the conventions of the journals"
    )
    study: Study | None = Field(
        default=None, description="the study's protocol; None where `study_protocol` was not measured"
    )
    checklist: tuple[Check, ...] = Field(
        default=(), description="the four checks before rows are given out (arXiv 2503.14211)"
    )
    release: ReleaseDecision | None = None
    warnings: tuple[Warned, ...] = ()
    disclosure: Disclosure
    provenance: dict[str, str] = Field(
        default_factory=dict,
        description="what bytes depend on beside request and seed: versions, machine, number of threads",
    )

    def metric(self, name: str) -> MetricResult:
        """Return the metric of that name; KeyError where there is none."""
        for item in self.metrics:
            if item.name == name:
                return item
        raise KeyError(name)

    def with_release(self, decision: ReleaseDecision) -> ReportDocument:
        """Return the report with the release decision filled in."""
        return self.model_copy(update={"release": decision})

    def as_json(self) -> dict[str, Any]:
        """Return the document as JSON values; ValueError where a number in it is not finite."""
        document: dict[str, Any] = self.model_dump(mode="json")
        json.dumps(document, allow_nan=False)
        return document


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that every report validates against."""
    schema = ReportDocument.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:synthward:report:{REPORT_VERSION}",
        **schema,
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
