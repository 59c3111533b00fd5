from __future__ import annotations

import pandas as pd
import pytest

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.conformance import DeclaredStatistics, declared_statistics
from app.schema.parse import parse_schema
from app.schema.table import TableSchema


def by_pointer(schema: TableSchema, frame: pd.DataFrame, few: int = 0) -> dict[str, object]:
    return {statement.pointer: statement for statement in declared_statistics(schema, frame, few=few)}


def test_every_declared_statistic_is_listed(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    assert set(by_pointer(schema, synthetic)) == {
        "/fields/1/statistics/mean",
        "/fields/1/statistics/sd",
        "/fields/1/statistics/min",
        "/fields/2/statistics/quantiles/0.5",
        "/fields/3/statistics/proportions/F",
        "/fields/3/statistics/proportions/M",
        "/fields/4/statistics/missing",
        "/fields/4/statistics/proportions/true",
        "/fields/4/statistics/proportions/false",
        "/fields/6/statistics/missing",
        "/fields/7/statistics/mean",
        "/conditionals/0/statistics/mean",
        "/conditionals/0/statistics/sd",
        "/associations/0/value",
        "/associations/1/value",
        "/associations/2/value",
        "/associations/3/value",
        "/associations/4/value",
    }


def test_rows_that_have_the_declared_statistics_lie_within_chance(
    schema: TableSchema, synthetic: pd.DataFrame
) -> None:
    statements = declared_statistics(schema, synthetic)
    # 17 statements that are true of the population: 4 beyond 1.96 happen in under 1 % (the seed is fixed).
    assert sum(statement.within is False for statement in statements) <= 3
    assert all(statement.distance is None or abs(statement.distance) < 4 for statement in statements)


def test_what_is_far_off_comes_first(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    older = synthetic.assign(age=synthetic["age"] + 5)
    statements = declared_statistics(schema, older)
    assert statements[0].pointer == "/fields/1/statistics/mean"
    # 5 years at sd 10 and 4,000 rows are 31.6 standard errors; the sample's own mean moves it by at most 3.
    assert statements[0].distance == pytest.approx(31.6, abs=3.0)
    distances = [abs(s.distance) for s in statements if s.distance is not None]
    assert distances == sorted(distances, reverse=True)


def test_missing_is_over_the_rows_where_the_field_applies(
    schema: TableSchema, synthetic: pd.DataFrame
) -> None:
    statement = by_pointer(schema, synthetic)["/fields/6/statistics/missing"]
    assert statement.achieved == 0.0
    assert statement.rows == (synthetic["sex"] == "F").sum()
    assert statement.within is True


def test_a_stratum_is_of_the_rows_that_meet_every_condition(
    schema: TableSchema, synthetic: pd.DataFrame
) -> None:
    rows = synthetic[(synthetic["sex"] == "F") & (synthetic["age"] >= 50)]
    statement = by_pointer(schema, synthetic)["/conditionals/0/statistics/mean"]
    assert statement.rows == len(rows)
    assert statement.achieved == pytest.approx(rows["weight kg"].mean())
    assert statement.statement == "mean of weight kg where sex is F and age is at least 50"


def test_an_association_within_a_stratum_is_measured_in_its_rows() -> None:
    document = {
        "fields": [
            {"name": "sex", "type": "string", "categories": ["F", "M"]},
            {"name": "x", "type": "integer"},
            {"name": "y", "type": "integer"},
        ],
        "associations": [
            {"fields": ["x", "y"], "measure": "spearman", "value": 1.0, "given": {"sex": "F"}},
            {"fields": ["x", "y"], "measure": "spearman", "value": -1.0, "given": {"sex": "M"}},
        ],
    }
    up = list(range(50))
    frame = pd.DataFrame(
        {
            "sex": pd.Categorical(["F"] * 50 + ["M"] * 50 + [None] * 50, categories=["F", "M"]),
            "x": pd.array(up * 3, dtype="Int64"),
            "y": pd.array(up + up[::-1] + [7] * 50, dtype="Int64"),
        }
    )
    found = by_pointer(parse_schema(document)[0], frame)
    assert found["/associations/0/value"].achieved == pytest.approx(1)
    assert found["/associations/1/value"].achieved == pytest.approx(-1)
    assert found["/associations/0/value"].rows == 50
    assert found["/associations/0/value"].statement == "spearman of x and y where sex is F"


def test_a_date_is_on_the_scale_of_days(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    statement = by_pointer(schema, synthetic)["/fields/7/statistics/mean"]
    days = (synthetic["seen"] - pd.Timestamp("1970-01-01")).dt.days
    assert statement.achieved == pytest.approx(days.mean())
    assert statement.scale == "date"


def test_what_rests_on_few_rows_is_not_said_beside_a_real_table(
    schema: TableSchema, synthetic: pd.DataFrame
) -> None:
    statements = by_pointer(schema, synthetic.head(8), few=10)
    assert all(statement.achieved is None and statement.reason for statement in statements.values())
    least = by_pointer(schema, synthetic, few=10)["/fields/1/statistics/min"]
    assert least.achieved is None and "too few" in least.reason


def test_the_headline_is_recomputable_from_its_table(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    score = DeclaredStatistics().measure(Tables(schema, (synthetic,)))
    assert isinstance(score, Score)
    judged = [row for row in score.details["table"] if row["within"] is not None]
    assert score.value == sum(row["within"] for row in judged) / len(judged)
    assert score.baseline == 0.95


def test_replicates_are_judged_together(schema: TableSchema, synthetic: pd.DataFrame) -> None:
    halves = (synthetic.head(2000), synthetic.tail(2000))
    assert DeclaredStatistics().measure(Tables(schema, halves)) == DeclaredStatistics().measure(
        Tables(schema, (synthetic,))
    )


def test_a_schema_without_statistics_has_nothing_to_judge(synthetic: pd.DataFrame) -> None:
    schema, _ = parse_schema({"fields": [{"name": "age", "type": "integer"}]})
    assert isinstance(DeclaredStatistics().measure(Tables(schema, (synthetic,))), NotMeasured)
