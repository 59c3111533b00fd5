from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.disclosure import POOLED_LEVEL
from app.evaluation.base import Tables
from app.evaluation.models import FARTHEST, encoding_of, fit_encoding
from app.schema.table import TableSchema


def test_ids_text_and_the_persons_column_are_left_out(schema: TableSchema, train: pd.DataFrame) -> None:
    assert fit_encoding(schema, train).names == (
        "age", "weight kg", "sex", "smoker", "stage", "pregnant", "seen",
    )  # fmt: skip
    tables = Tables(schema, (train,), train=train, group="age")
    assert encoding_of(tables, without=["sex"]).names == ("weight kg", "smoker", "stage", "pregnant", "seen")


def test_without_a_train_part_there_is_no_encoding(schema: TableSchema, train: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="train part"):
        encoding_of(Tables(schema, (train,)))


def test_numbers_are_standardised_by_the_fitted_rows_not_by_those_encoded(
    schema: TableSchema, train: pd.DataFrame
) -> None:
    encoding = fit_encoding(schema, train)
    moved = train.assign(age=train["age"] + 5)
    age = [feature.label for feature in encoding.features].index("age")
    assert encoding.linear(train)[:, age].mean() == pytest.approx(0)
    assert encoding.linear(train)[:, age].std() == pytest.approx(1)
    shift = encoding.linear(moved)[:, age].mean()
    assert shift == pytest.approx(5 / train["age"].to_numpy(float).std(), rel=1e-9)


def test_missing_values_get_an_indicator_for_linear_models_and_stay_for_trees(
    schema: TableSchema, train: pd.DataFrame
) -> None:
    encoding = fit_encoding(schema, train)
    linear, trees = encoding.linear(train), encoding.trees(train)
    assert np.isfinite(linear).all()
    place = [feature.label for feature in encoding.features].index("smoker: missing")
    absent = train["smoker"].isna().to_numpy()
    assert absent.any()
    assert (linear[:, place] == absent).all()
    assert (np.isnan(trees[:, encoding.names.index("smoker")]) == absent).all()


def test_rare_levels_are_pooled_and_the_most_frequent_one_is_the_reference(schema: TableSchema) -> None:
    frame = pd.DataFrame(
        {
            field.name: pd.Series([None] * 100, dtype=object)
            for field in schema.fields
        }
    )  # fmt: skip
    frame["age"] = pd.array(range(100), dtype="Int64")
    frame["weight kg"] = np.linspace(50, 90, 100)
    frame["seen"] = np.full(100, np.datetime64("2020-01-01", "s"))
    frame["stage"] = pd.array([1] * 60 + [2] * 35 + [3] * 5, dtype="Int64")
    frame["sex"] = pd.Categorical(["M"] * 97 + ["F"] * 3, categories=["F", "M"])
    for name in ("smoker", "pregnant"):
        frame[name] = pd.array([None] * 100, dtype="boolean")
    labels = [feature.label for feature in fit_encoding(schema, frame).features]
    assert "stage: 2" in labels and f"stage: {POOLED_LEVEL}" in labels
    assert "stage: 1" not in labels and "stage: 3" not in labels
    assert f"sex: {POOLED_LEVEL}" in labels


def test_a_wild_value_is_cut_off(schema: TableSchema, train: pd.DataFrame) -> None:
    wild = train.assign(**{"weight kg": 1e300})
    encoding = fit_encoding(schema, train)
    assert encoding.linear(wild).max() == FARTHEST
    assert np.isfinite(encoding.trees(wild).astype(np.float32)[:, encoding.names.index("weight kg")]).all()


def test_only_categories_without_an_order_are_categorical_for_trees(
    schema: TableSchema, train: pd.DataFrame
) -> None:
    encoding = fit_encoding(schema, train)
    found = dict(zip(encoding.names, encoding.categorical.tolist(), strict=True))
    assert found == {
        "age": False, "weight kg": False, "sex": True, "smoker": True, "stage": False, "pregnant": True,
        "seen": False,
    }  # fmt: skip


def test_an_empty_frame_can_be_fitted_on_and_encoded(schema: TableSchema, train: pd.DataFrame) -> None:
    encoding = fit_encoding(schema, train.head(0))
    assert encoding.linear(train).shape == (len(train), len(encoding.features))
    assert encoding.trees(train.head(0)).shape == (0, len(encoding.names))
