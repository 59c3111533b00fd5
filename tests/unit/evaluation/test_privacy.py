from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from app.evaluation.base import MatchTally, NotMeasured, Score, Tables
from app.evaluation.intervals import mid_p
from app.evaluation.privacy import IdenticalMatchShare, MatchCounter, RepeatedRowShare, fingerprints, wilson
from app.schema.parse import parse_schema
from app.schema.table import TableSchema


@pytest.fixture
def tables(
    schema: TableSchema, synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame
) -> Tables:
    return Tables(schema, (synthetic,), train=train, holdout=holdout)


def test_wilson_as_published() -> None:
    # Newcombe 1998, Table I: 81/263 gives .2553 to .3662, and 0/20 gives 0 to .1611.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29)[1] == 1.0


def test_mid_p_ends_are_where_half_of_what_was_seen_makes_a_tail() -> None:
    low, high = mid_p(3, 50)
    for end, tail in ((low, 1 - binom.cdf(3, 50, low)), (high, binom.cdf(2, 50, high))):
        assert tail + binom.pmf(3, 50, end) / 2 == pytest.approx(0.025)
    assert mid_p(0, 50) == (0.0, pytest.approx(1 - 0.05 ** (1 / 50)))
    assert mid_p(50, 50)[1] == 1.0


def test_copied_rows_are_counted_exactly(
    tables: Tables, synthetic: pd.DataFrame, train: pd.DataFrame
) -> None:
    mixed = pd.concat([synthetic.head(1000), train.head(37)], ignore_index=True)
    score = IdenticalMatchShare().measure(replace(tables, synthetic=(mixed,)))
    assert isinstance(score, Score)
    assert score.details["matches"] == 37
    assert score.value == 37 / 1037
    assert score.interval == mid_p(37, 1037)
    assert score.baseline == 0.0


def test_ids_and_free_text_take_no_part(tables: Tables, train: pd.DataFrame) -> None:
    renamed = train.assign(id="P-00000", Bemerkung="anders").astype(
        {"id": "string[pyarrow]", "Bemerkung": "string[pyarrow]"}
    )
    score = IdenticalMatchShare().measure(replace(tables, synthetic=(renamed,)))
    assert isinstance(score, Score)
    assert score.value == 1.0
    assert score.details["left_out_columns"] == ["id", "Bemerkung"]


def test_numbers_are_compared_as_they_are_delivered(schema: TableSchema, train: pd.DataFrame) -> None:
    finer = train.assign(**{"weight kg": train["weight kg"] + 0.01})
    assert (fingerprints(schema, finer) == fingerprints(schema, train)).all()
    other = train.assign(**{"weight kg": train["weight kg"] + 0.1})
    assert not (fingerprints(schema, other) == fingerprints(schema, train)).any()


def test_minus_zero_is_zero_and_missing_equals_missing() -> None:
    schema, _ = parse_schema({"fields": [{"name": "x", "type": "number"}]})
    prints = fingerprints(schema, pd.DataFrame({"x": [0.0, -0.0, np.nan, np.nan, 1.0]}))
    assert prints[0] == prints[1] and prints[2] == prints[3]
    assert len(set(prints)) == 3


def test_one_changed_cell_is_another_row(schema: TableSchema, train: pd.DataFrame) -> None:
    for column, value in {"age": 300, "sex": None, "smoker": None, "stage": None, "seen": pd.NaT}.items():
        changed = train.copy()
        changed.loc[0, column] = value
        if changed.loc[0].equals(train.loc[0]):
            continue
        differs = fingerprints(schema, changed) != fingerprints(schema, train)
        assert differs[0] or pd.isna(train.loc[0, column])
        assert not differs[1:].any()


def test_all_rows_that_were_made_are_counted_where_a_sample_is_evaluated(
    tables: Tables, synthetic: pd.DataFrame, train: pd.DataFrame
) -> None:
    counter = MatchCounter(tables.schema, train)
    for start in range(0, len(synthetic), 1500):
        counter.add(synthetic.iloc[start : start + 1500])
    counter.add(train.head(2))
    assert counter.tally == MatchTally(rows=4002, matches=2)
    score = IdenticalMatchShare().measure(
        replace(tables, synthetic=(synthetic.head(10),), matches=counter.tally)
    )
    assert isinstance(score, Score)
    assert score.value == 2 / 4002


def test_repeats_are_compared_at_the_same_number_of_rows(tables: Tables, train: pd.DataFrame) -> None:
    doubled = pd.concat([train, train], ignore_index=True)
    score = RepeatedRowShare().measure(replace(tables, synthetic=(doubled,)))
    assert isinstance(score, Score)
    # Among the first 600 rows none repeats, as in the train part; among all 1,200 every second one does.
    assert (score.value, score.baseline) == (0.0, 0.0)
    assert score.details["repeats_all"] == 600


def test_a_table_of_ids_alone_is_not_compared(train: pd.DataFrame) -> None:
    schema, _ = parse_schema({"primaryKey": "id", "fields": [{"name": "id", "type": "string"}]})
    tables = Tables(schema, (train,), train=train)
    assert isinstance(IdenticalMatchShare().measure(tables), NotMeasured)
    assert isinstance(RepeatedRowShare().measure(tables), NotMeasured)
