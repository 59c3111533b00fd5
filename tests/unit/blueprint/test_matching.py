"""Rows of a small table that have the declared statistics themselves."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.random import SeedSequence

from app.blueprint.matching import MatchedRows, nearest, rows_of
from app.blueprint.statements import Statement, measure, statements_of
from app.errors import RowShortfall
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "x", "type": "number", "decimals": 3, "statistics": {"mean": 10, "sd": 2, "median": 9.8}},
        {"name": "y", "type": "number", "decimals": 3, "statistics": {"mean": 0, "sd": 1, "missing": 0.1}},
        {"name": "c", "type": "string", "categories": ["a", "b"],
         "statistics": {"proportions": {"a": 0.3, "b": 0.7}}},
    ],
    "associations": [
        {"fields": ["x", "y"], "measure": "pearson", "value": 0.5},
        {"fields": ["c", "x"], "measure": "correlation_ratio", "value": 0.2},
    ],
}  # fmt: skip


@functools.cache
def schema() -> TableSchema:
    return parse_schema(DOCUMENT)[0]


def statements() -> tuple[Statement, ...]:
    return statements_of(schema())


class Population:
    """Draws rows that have the statistics as a population; refuses more than `most`."""

    names = ("x", "y", "c")

    def __init__(self, most: int = 1_000_000) -> None:
        self.most = most

    def rows(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        if n_rows > self.most:
            raise RowShortfall(n_rows, self.most, "there are no more")
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((2, 50_000))
        second = rng.random(50_000) < 0.7
        x = 10 + 2 * z[0] + np.where(second, 0.26, -0.6)
        y = np.where(rng.random(50_000) < 0.1, np.nan, 0.5 * z[0] + np.sqrt(0.75) * z[1])
        frame = pd.DataFrame({"x": np.round(x, 3), "y": np.round(y, 3)})
        frame["c"] = pd.Categorical(np.where(second, "b", "a"), categories=["a", "b"])
        return frame.iloc[:n_rows]


def gaps(frame: pd.DataFrame) -> np.ndarray:
    rows = rows_of(schema(), frame)
    return np.array([abs(measure(statement, rows).gap) for statement in statements()])


def matched(n: int, seed: int = 7, most: int = 1_000_000) -> pd.DataFrame:
    return MatchedRows(Population(most), schema(), statements()).rows(0, n, SeedSequence(seed))


@pytest.mark.parametrize("n", [139, 1390])
def test_the_table_itself_has_what_is_stated_not_only_its_population(n: int) -> None:
    plain, chosen = gaps(Population().rows(0, n, SeedSequence(7))), gaps(matched(n))
    # A share of 139 rows moves in steps of 0.7 %, 1.4 tolerances; an sd is stated with n − 1.
    assert chosen.max() <= 1.0
    assert np.median(chosen) < np.median(plain) / 3


def test_a_table_of_ten_rows_comes_as_near_as_ten_rows_can() -> None:
    frame = matched(10)
    assert len(frame) == 10
    assert int((frame["c"] == "a").sum()) == 3
    assert int(frame["y"].isna().sum()) == 1
    assert abs(frame["x"].std() - 2) < 0.1


def test_an_sd_is_a_samples_with_one_row_less() -> None:
    frame = matched(30)
    assert abs(np.log(frame["x"].std() / 2)) < 0.01
    assert abs(np.log(frame["x"].std(ddof=0) / 2)) > 0.01


def test_the_same_seed_chooses_the_same_rows_and_another_seed_others() -> None:
    pd.testing.assert_frame_equal(matched(139), matched(139))
    assert not matched(139)["x"].equals(matched(139, seed=8)["x"])


def test_no_row_is_chosen_twice() -> None:
    rows = rows_of(schema(), Population().rows(0, 5000, SeedSequence(1)))
    chosen = nearest(rows, statements(), 300, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == 300 and (np.diff(chosen) > 0).all()


def test_where_there_are_not_rows_enough_to_choose_from_it_takes_what_there_is() -> None:
    assert len(matched(200, most=200)) == 200
    with pytest.raises(RowShortfall):
        matched(201, most=200)


def test_what_cannot_be_met_does_not_cost_the_rest() -> None:
    aims = [s for s in statements() if s.kind == "mean"]
    impossible = Statement("/elsewhere", "mean", ("x",), 1e6)
    rows = rows_of(schema(), Population().rows(0, 5000, SeedSequence(1)))
    chosen = nearest(rows, [*aims, impossible], 300, np.random.default_rng(1))
    y = rows.numbers["y"][chosen]
    assert abs(np.nanmean(y)) < 0.2
