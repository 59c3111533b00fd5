from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pandas as pd
import pytest

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.fidelity import KSComplement, TVComplement, ks_complement, tv_complement
from app.schema.table import TableSchema


@pytest.fixture
def tables(
    schema: TableSchema, synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame
) -> Tables:
    return Tables(schema, (synthetic,), train=train, holdout=holdout)


def test_ks_complement_by_hand() -> None:
    # Distribution functions at 1, 2, 3, 4: ¼ ½ ¾ 1 against 0 0 ½ 1; the greatest gap is ½.
    assert ks_complement(np.array([1.0, 2, 3, 4]), np.array([3.0, 4])) == pytest.approx(0.5)
    assert ks_complement(np.array([1.0, 2]), np.array([5.0, 6])) == 0.0


def test_tv_complement_by_hand() -> None:
    # Shares ½ ½ 0 against ¼ ¼ ½: differences ¼ ¼ ½ sum to 1, half of it is ½.
    assert tv_complement(np.array([0, 1]), np.array([0, 1, 2, 2])) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [KSComplement(), TVComplement()])
def test_the_headline_and_its_yardstick_are_the_means_of_the_table(
    metric: KSComplement | TVComplement, tables: Tables
) -> None:
    score = metric.measure(tables)
    assert isinstance(score, Score)
    rows = score.details["table"]
    assert score.value == fmean(row["value"] for row in rows)
    assert score.baseline == fmean(row["baseline"] for row in rows)


def test_numbers_and_dates_go_to_one_and_categories_to_the_other(tables: Tables) -> None:
    ks, tv = KSComplement().measure(tables), TVComplement().measure(tables)
    assert isinstance(ks, Score) and isinstance(tv, Score)
    assert [row["column"] for row in ks.details["table"]] == ["age", "weight kg", "seen"]
    assert [row["column"] for row in tv.details["table"]] == ["sex", "smoker", "stage", "pregnant"]


def test_missing_values_are_left_out(tables: Tables, train: pd.DataFrame) -> None:
    gaps = train.copy()
    gaps.loc[gaps.index[::2], ["age", "sex"]] = pd.NA
    found = KSComplement().measure(replace(tables, synthetic=(gaps,)))
    assert isinstance(found, Score)
    present = gaps["age"].dropna().to_numpy(float)
    row = next(row for row in found.details["table"] if row["column"] == "age")
    assert row["value"] == ks_complement(train["age"].to_numpy(float), present)


def test_an_all_missing_column_has_a_reason_and_the_rest_goes_on(tables: Tables, train: pd.DataFrame) -> None:
    empty = train.assign(age=pd.array([pd.NA] * len(train), dtype="Int64"))
    for changed in (replace(tables, train=empty), replace(tables, synthetic=(empty,))):
        found = KSComplement().measure(changed)
        assert isinstance(found, Score)
        rows = {row["column"]: row for row in found.details["table"]}
        assert rows["age"]["value"] is None and rows["age"]["reason"]
        assert found.value == fmean([rows["weight kg"]["value"], rows["seen"]["value"]])


def test_a_column_that_fails_names_the_kind_of_error_alone(tables: Tables, train: pd.DataFrame) -> None:
    broken = train.assign(age=["Ada Lovelace"] * len(train))
    found = KSComplement().measure(replace(tables, train=broken))
    assert isinstance(found, Score)
    row = next(row for row in found.details["table"] if row["column"] == "age")
    assert row["reason"] == "failed: ValueError"


def test_fewer_real_values_than_min_cell_are_not_compared(tables: Tables, train: pd.DataFrame) -> None:
    assert isinstance(KSComplement().measure(replace(tables, train=train.head(9))), NotMeasured)


def test_a_shifted_column_scores_lowest_and_is_named(tables: Tables, synthetic: pd.DataFrame) -> None:
    shifted = synthetic.assign(age=synthetic["age"] + 20)
    found = KSComplement().measure(replace(tables, synthetic=(shifted,)))
    assert isinstance(found, Score)
    assert "Lowest: age" in found.reading


def test_the_words_fit_one_column_and_several(
    schema: TableSchema, tables: Tables, synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame
) -> None:
    several = KSComplement().measure(tables)
    alone = replace(schema, fields=(schema["age"],))
    one = KSComplement().measure(
        Tables(alone, (synthetic[["age"]],), train=train[["age"]], holdout=holdout[["age"]])
    )
    assert isinstance(several, Score) and isinstance(one, Score)
    assert "columns score on average 0." in several.reading
    assert one.reading.startswith("The only numeric or date column scores 0.")
