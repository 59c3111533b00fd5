from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from app.evaluation.base import Depth, Dimension, MatchTally, NotMeasured, Score, Tables
from app.evaluation.document import SCHEMA_FILE, JobFacts, ReferenceFacts, ReportDocument, report_schema
from app.evaluation.html import render_page
from app.evaluation.report import evaluate, release_decision
from app.schema.check import check_frame
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

JOB = JobFacts(
    id="job_1", generator="marginals", generator_version="1", options={"fit": True}, seed=7, rows=4000
)


def reference(train: pd.DataFrame, holdout: pd.DataFrame) -> ReferenceFacts:
    return ReferenceFacts(
        id="ds_1", attempts=3, train_rows=len(train), holdout_rows=len(holdout), trained_on=True
    )


@pytest.fixture(scope="session")
def tables(
    schema: TableSchema, synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame
) -> Tables:
    return Tables(
        schema, (synthetic,), train=train, holdout=holdout, conformance=check_frame(schema, synthetic)
    )


@pytest.fixture(scope="session")
def report(tables: Tables, train: pd.DataFrame, holdout: pd.DataFrame) -> ReportDocument:
    return evaluate(tables, job=JOB, reference=reference(train, holdout))


@pytest.fixture(scope="session")
def without_reference(schema: TableSchema, synthetic: pd.DataFrame) -> ReportDocument:
    return evaluate(Tables(schema, (synthetic,), conformance=check_frame(schema, synthetic)), job=JOB)


class Failing:
    name: ClassVar[str] = "failing"
    title: ClassVar[str] = "A metric that fails"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset()
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        raise KeyError("Ada Lovelace, 1815-12-10")


class NotFinite(Failing):
    name: ClassVar[str] = "not_finite"

    def measure(self, tables: Tables) -> Score | NotMeasured:
        return Score(0.5, details={"table": [float("nan")]})


def test_the_report_keeps_its_published_schema(
    report: ReportDocument, without_reference: ReportDocument
) -> None:
    validator = Draft202012Validator(report_schema())
    Draft202012Validator.check_schema(report_schema())
    for document in (report, without_reference):
        validator.validate(json.loads(json.dumps(document.as_json(), allow_nan=False)))


def test_the_published_schema_is_that_of_the_models() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == report_schema()


def test_the_report_reads_back_as_it_was(report: ReportDocument) -> None:
    assert ReportDocument.model_validate(report.as_json()) == report


def test_every_metric_has_a_value_or_a_reason(
    report: ReportDocument, without_reference: ReportDocument
) -> None:
    for metric in (*report.metrics, *without_reference.metrics):
        assert (metric.value is not None) == (metric.status == "measured")
        assert (metric.reason is not None) == (metric.status != "measured")
        assert metric.reading


def test_everything_is_measured_with_a_reference_and_named_without(
    report: ReportDocument, without_reference: ReportDocument
) -> None:
    missing = [metric for metric in report.metrics if metric.status != "measured"]
    # What the caller has to name was not named, and full depth was not asked for.
    assert all(metric.status == "not_measured" for metric in missing)
    assert all(
        "named" in (metric.reason or "") or "depth full" in (metric.reason or "") for metric in missing
    )
    for name in ("ks_complement", "tv_complement", "identical_match_share"):
        result = without_reference.metric(name)
        assert result.status == "not_measured" and "no reference" in (result.reason or "")


def test_a_metric_that_fails_is_recorded_without_its_message_and_the_rest_goes_on(tables: Tables) -> None:
    from app.evaluation.registry import METRICS

    document = evaluate(tables, job=JOB, metrics=(Failing, NotFinite, *METRICS))
    assert (document.metric("failing").status, document.metric("failing").reason) == ("failed", "KeyError")
    assert (document.metric("not_finite").status, document.metric("not_finite").reason) == (
        "failed",
        "ValueError",
    )
    assert document.metric("ks_complement").status == "measured"
    assert "Lovelace" not in json.dumps(document.as_json())


def test_three_sentences_and_four_verdicts_stand_on_top(report: ReportDocument) -> None:
    assert len(report.summary) == 3
    assert "4,000 synthetic rows of 9 columns" in report.summary[0]
    assert report.verdicts.conformance.level == "met"
    assert report.verdicts.fidelity.level == "met"
    assert report.verdicts.utility.level == "not_measured"
    assert report.verdicts.privacy.level == "met"


def test_a_broken_rule_is_not_met(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    stray = synthetic.copy()
    stray.loc[:9, "id"] = "no pattern"
    document = evaluate(Tables(schema, (stray,), conformance=check_frame(schema, stray)), job=JOB)
    assert document.verdicts.conformance.level == "not_met"
    checks: Any = document.metric("adherence").details
    broken = sum(row["broken"] for row in checks["table"])
    assert broken >= 10
    assert document.metric("adherence").value == 1 - broken / sum(row["checked"] for row in checks["table"])


def test_a_missed_statistic_asks_for_attention(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    older = synthetic.assign(age=synthetic["age"] + 5)
    document = evaluate(Tables(schema, (older,), conformance=check_frame(schema, older)), job=JOB)
    assert document.verdicts.conformance.level == "attention"


def test_copies_are_not_met_and_must_not_be_given_out(
    tables: Tables, train: pd.DataFrame, holdout: pd.DataFrame
) -> None:
    document = evaluate(replace(tables, synthetic=(train,)), job=JOB, reference=reference(train, holdout))
    assert document.verdicts.privacy.level == "not_met"
    assert "must not be given out" in document.summary[2]


def test_a_few_copies_ask_for_attention(
    tables: Tables, train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame
) -> None:
    mixed = pd.concat([synthetic.iloc[: len(synthetic) - 100], train.head(100)], ignore_index=True)
    document = evaluate(replace(tables, synthetic=(mixed,)), job=JOB, reference=reference(train, holdout))
    assert document.verdicts.privacy.level == "attention"


def test_a_holdout_that_was_seen_is_no_yardstick(
    tables: Tables, train: pd.DataFrame, synthetic: pd.DataFrame
) -> None:
    seen = replace(tables, holdout=train, synthetic=(synthetic,))
    document = evaluate(seen, job=JOB, reference=reference(train, train))
    assert document.verdicts.privacy.level == "not_measured"
    assert "no yardstick" in document.verdicts.privacy.sentence
    copies = evaluate(replace(seen, synthetic=(train,)), job=JOB, reference=reference(train, train))
    assert copies.verdicts.privacy.level != "met"


def test_a_handful_of_real_rows_says_nothing_of_privacy(
    tables: Tables, train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame
) -> None:
    few = replace(tables, train=train.head(2), holdout=holdout.head(1), synthetic=(synthetic,))
    document = evaluate(few, job=JOB, reference=reference(train.head(2), holdout.head(1)))
    assert document.verdicts.privacy.level == "not_measured"


def test_no_rows_give_a_report_without_figures(tables: Tables, synthetic: pd.DataFrame) -> None:
    none = synthetic.head(0)
    document = evaluate(
        replace(tables, synthetic=(none,), conformance=check_frame(tables.schema, none)), job=JOB
    )
    assert {metric.status for metric in document.metrics} == {"not_measured"}
    assert render_page(document.as_json())


class TestRelease:
    LIMIT: ClassVar[dict[str, float]] = {"max_identical_match_share": 0.0}

    def test_without_limits_it_is_not_assessed(self, report: ReportDocument) -> None:
        assert release_decision(report, None).decision == "not_assessed"
        assert release_decision(None, {}).decision == "not_assessed"

    def test_no_match_meets_a_limit_of_none(self, report: ReportDocument) -> None:
        assert release_decision(report, self.LIMIT).decision == "released"

    def test_one_match_withholds_and_says_so(self, tables: Tables, train: pd.DataFrame) -> None:
        one = pd.concat([tables.synthetic[0], train.head(1)], ignore_index=True)
        document = evaluate(replace(tables, synthetic=(one,)), job=JOB)
        decision = release_decision(document, self.LIMIT)
        assert decision.decision == "withheld"
        assert "measured 0.00025" in decision.reasons[0]
        # 1 of 4,001: up to 0.14 % at 95 %.
        assert release_decision(document, {"max_identical_match_share": 0.0015}).decision == "released"
        assert release_decision(document, {"max_identical_match_share": 0.001}).decision == "withheld"

    def test_what_was_not_measured_withholds(
        self, report: ReportDocument, without_reference: ReportDocument
    ) -> None:
        assert release_decision(without_reference, self.LIMIT).decision == "withheld"
        assert release_decision(None, self.LIMIT).decision == "withheld"
        decision = release_decision(report, {"max_something_new": 1.0})
        assert decision.decision == "withheld" and "not measured" in decision.reasons[0]

    def test_every_limit_that_is_missed_is_named(self, without_reference: ReportDocument) -> None:
        limits = {"max_identical_match_share": 0.0, "max_singling_out_advantage": 0.05}
        assert len(release_decision(without_reference, limits).reasons) == 2

    def test_a_sample_proves_no_absence(self, tables: Tables) -> None:
        document = evaluate(tables, job=JOB, rows_made=1_000_000)
        assert release_decision(document, self.LIMIT).decision == "withheld"
        # 0 of 4,000: at most 0.096 % at 95 %.
        assert release_decision(document, {"max_identical_match_share": 0.001}).decision == "released"
        counted = evaluate(replace(tables, matches=MatchTally(1_000_000, 0)), job=JOB, rows_made=1_000_000)
        assert release_decision(counted, self.LIMIT).decision == "released"


CANARY_NUMBER, CANARY_FLOAT = 987_654, 31337.7


def canary_table(n: int) -> tuple[TableSchema, pd.DataFrame]:
    schema, _ = parse_schema(
        {
            "fields": [
                {"name": "id", "type": "string", "constraints": {"unique": True}},
                {"name": "whole", "type": "integer", "statistics": {"max": 100, "quantiles": {"0.999": 99}}},
                {"name": "real", "type": "number", "decimals": 1},
                {"name": "day", "type": "date"},
                {"name": "level", "type": "string", "categories": ["often", "seldom", "canary level"]},
                {"name": "note", "type": "string"},
            ]
        }
    )
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "id": pd.array([f"canary-{i}" for i in range(n)], dtype="string[pyarrow]"),
            "whole": pd.array(rng.integers(0, 100, n), dtype="Int64"),
            "real": rng.normal(0, 5, n).round(1),
            "day": (np.datetime64("2020-01-01") + rng.integers(0, 365, n)).astype("datetime64[s]"),
            "level": pd.Categorical(
                rng.choice(["often", "seldom"], n), categories=["often", "seldom", "canary level"]
            ),
            "note": pd.array(["canary note"] * n, dtype="string[pyarrow]"),
        }
    )
    frame.loc[0, ["whole", "real"]] = [CANARY_NUMBER, -CANARY_FLOAT]
    frame.loc[0, "day"] = pd.Timestamp("1877-07-13")
    frame.loc[0, "level"] = "canary level"
    return schema, frame


def test_no_real_cell_reaches_the_report_even_where_the_generator_copied() -> None:
    schema, real = canary_table(400)
    tables = Tables(
        schema, (real,), train=real, holdout=real.tail(100), conformance=check_frame(schema, real)
    )
    document = evaluate(tables, job=JOB, reference=reference(real, real.tail(100)))
    text = json.dumps(document.as_json(), ensure_ascii=False)
    for said in (text, render_page(document.as_json())):
        for canary in (
            "987654",
            "987,654",
            "31337",
            "1877",
            "-33773",
            "canary-",
            "canary level",
            "canary note",
        ):
            assert canary not in said, canary


def test_small_real_cells_are_pooled_or_left_out() -> None:
    schema, real = canary_table(400)
    made = canary_table(3000)[1]
    document = evaluate(Tables(schema, (made,), train=real), job=JOB)
    for column in document.columns:
        if column.picture is not None and column.picture.train is not None:
            counts = np.round(np.array(column.picture.train) * 400)
            assert ((counts >= 10) | (counts == 0)).all(), column.name


def test_bins_of_both_tables_sum_to_one(report: ReportDocument) -> None:
    drawn = [column.picture for column in report.columns if column.picture is not None]
    assert len(drawn) == 7
    for picture in drawn:
        assert picture.train is not None
        assert sum(picture.synthetic) == pytest.approx(1)
        assert sum(picture.train) == pytest.approx(1)


def test_a_missing_share_of_few_persons_is_not_said(tables: Tables, train: pd.DataFrame) -> None:
    gaps = train.copy()
    gaps.loc[:2, "age"] = pd.NA
    document = evaluate(replace(tables, train=gaps), job=JOB)
    age = next(column for column in document.columns if column.name == "age")
    assert age.train_missing is None
    assert age.train_missing_note == "fewer than 10 of 600"


def test_without_a_holdout_the_shape_is_measured_and_not_judged(tables: Tables, train: pd.DataFrame) -> None:
    document = evaluate(replace(tables, holdout=train.head(0)), job=JOB)
    assert document.metric("ks_complement").status == "measured"
    assert document.verdicts.fidelity.level == "not_measured"


def test_cells_count_persons_where_a_person_has_several_rows(tables: Tables, train: pd.DataFrame) -> None:
    visits = train.copy()
    # 200 persons of 3 rows each: a cell of 10 persons may take 30 rows.
    visits["id"] = pd.array([f"P-{row // 3:05d}" for row in range(len(visits))], dtype="string[pyarrow]")
    document = evaluate(replace(tables, train=visits, group="id"), job=JOB)
    for column in document.columns:
        if column.picture is not None and column.picture.train is not None:
            shares = np.array(column.picture.train)
            assert shares[shares > 0].min() >= 30 / len(visits)


@pytest.mark.parametrize("name", ["job", "seed", "generator"])
def test_the_published_schema_asks_for_what_every_report_has(name: str) -> None:
    schema = report_schema()
    assert name in schema["required"] or name in schema["$defs"]["JobFacts"]["required"]


def test_the_third_sentence_says_that_useless_rows_are_useless() -> None:
    fields = [{"name": "x", "type": "number", "decimals": 3}, {"name": "y", "type": "boolean"}]
    schema, _ = parse_schema({"fields": fields})
    rng = np.random.default_rng(5)

    def rows(count: int) -> pd.DataFrame:
        x = rng.normal(size=count).round(3)
        return pd.DataFrame({"x": x, "y": pd.array(x + rng.normal(size=count) > 0, dtype="boolean")})

    train, holdout, useless = rows(300), rows(150), rows(300)
    useless["y"] = ~useless["y"]  # the wrong way round
    tables = Tables(schema, (useless,), train=train, holdout=holdout, target="y")
    report = evaluate(tables, job=JOB, reference=reference(train, holdout))
    assert report.verdicts.utility.level == "not_met"
    assert "not shown to do better on real rows than guessing" in report.summary[2]


def test_the_studys_protocol_is_a_section_of_its_own_with_replicates_side_by_side(
    tables: Tables, train: pd.DataFrame, holdout: pd.DataFrame
) -> None:
    (whole,) = tables.synthetic
    halves = tuple(whole.iloc[place::2].reset_index(drop=True) for place in (0, 1))
    report = evaluate(replace(tables, synthetic=halves), job=JOB, reference=reference(train, holdout))
    study = report.study
    assert study is not None and study.replicates is not None
    assert {test.kind for test in study.tests} == {"mean", "proportion", "distribution", "correlation"}
    means = [test for test in study.tests if test.kind == "mean"]
    assert all(test.real_interval and test.synthetic_interval for test in means)
    assert study.replicates.count == 2 and not study.replicates.share_draws
    assert {row.kind for row in study.replicates.statistics} == {"mean", "proportion", "correlation"}
    assert "tests" not in report.metric("study_protocol").details, "it is told once"
    Draft202012Validator(report_schema()).validate(json.loads(json.dumps(report.as_json())))
    page = render_page(report.as_json())
    assert "Replicates side by side" in page and "Welch" in page


def test_a_column_that_cannot_be_read_is_told_and_costs_no_other(
    tables: Tables, train: pd.DataFrame, holdout: pd.DataFrame
) -> None:
    (whole,) = tables.synthetic
    numeric = next(field.name for field in tables.schema.fields if field.kind == "numeric")
    broken = whole.assign(**{numeric: "Ada Lovelace"})
    report = evaluate(replace(tables, synthetic=(broken,)), job=JOB, reference=reference(train, holdout))
    assert [metric.name for metric in report.metrics if metric.status == "failed"] == []
    (warned,) = [item.message for item in report.warnings if "could not be read" in item.message]
    assert numeric in warned and "ValueError" in warned
    shapes: Any = report.metric("ks_complement").details["table"]
    assert {row["column"]: row["value"] is None for row in shapes}[numeric]
    assert any(row["value"] is not None for row in shapes)
    assert "Lovelace" not in json.dumps(report.as_json()) + render_page(report.as_json())
