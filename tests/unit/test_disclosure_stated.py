from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.disclosure_stated import (
    fenced,
    share_step,
    stated_quantiles,
    stated_share,
    stated_shares,
    stated_strata,
    stated_table,
)

CELL = 10


@given(st.integers(20, 400), st.integers(20, 400), st.integers(0, 9), st.integers(0, 9))
def test_a_two_by_two_table_never_tells_one_small_cell_from_another(
    row: int, column: int, one: int, other: int
) -> None:
    total = row + column + 40
    tables = [
        stated_table([[a, row - a], [column - a, total - row - column + a]], CELL) for a in (one, other)
    ]
    assert (tables[0] is None) == (tables[1] is None)
    if tables[0] is not None and tables[1] is not None:
        assert np.array_equal(tables[0], tables[1])


@given(st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=2, max_size=5))
@settings(max_examples=200)
def test_whatever_is_told_of_a_table_is_a_sum_of_enough_rows(counts: list[list[int]]) -> None:
    table = np.array(counts)
    told = stated_table(table, CELL)
    if told is None:
        return
    assert told.sum() == pytest.approx(table.sum())
    blocks = table
    for axis in (0, 1):  # lines of one profile are told as one
        lines = np.moveaxis(told, axis, 0)
        profiles = np.round(lines / np.maximum(lines.sum(axis=1, keepdims=True), 1e-12), 9)
        _, groups = np.unique(profiles, axis=0, return_inverse=True)
        blocks = np.moveaxis(
            np.array(
                [np.moveaxis(blocks, axis, 0)[groups.ravel() == g].sum(axis=0) for g in set(groups.ravel())]
            ),
            0,
            axis,
        )
    assert (blocks >= CELL).all() or blocks.shape <= (2, 2)


def test_a_table_of_large_cells_is_told_as_it_is() -> None:
    table = [[12, 40, 33], [25, 10, 51]]
    told = stated_table(table, CELL)
    assert told is not None and np.allclose(told, table)


def test_levels_with_a_small_cell_take_the_rate_of_those_they_are_merged_with() -> None:
    told = stated_table([[50, 30, 3, 20], [50, 70, 17, 20]], CELL, keep_rows=True)
    assert told is not None
    rates = told[0] / told.sum(axis=0)
    assert np.isclose(rates[2], rates[1])  # 3 of 20 and 30 of 100 are nearest: together 33 of 120
    assert rates[1] == pytest.approx(33 / 120) and rates[0] == pytest.approx(0.5)


def test_a_table_that_cannot_be_told_is_none() -> None:
    assert stated_table([[9, 6], [90, 80]], CELL) is None  # 15 in a row: either cell would be small


@pytest.mark.parametrize("missing", range(1, CELL))
def test_the_shares_of_levels_do_not_tell_how_few_have_none(missing: int) -> None:
    n = 200
    women = 100
    step = share_step(n - missing, hidden=True)
    shares = stated_shares([women, n - missing - women], CELL, hidden=True)
    assert shares is not None and sum(shares) == pytest.approx(1)
    # Each number of rows from 191 to 199 has a count that rounds to the share.
    for rows in range(n - CELL + 1, n):
        assert any(abs(k / rows - shares[0]) <= step / 2 + 1e-9 for k in range(rows + 1))
    assert stated_share(missing, n, CELL) == stated_share(1, n, CELL)


def test_a_rare_second_level_counts_as_half_a_cell_whatever_it_is() -> None:
    told = {stated_shares([200 - rare, rare], CELL, hidden=False) for rare in range(CELL)}
    assert told == {(0.975, 0.025)}


def test_rare_levels_share_theirs_evenly_and_count_as_half_a_cell_where_they_are_few() -> None:
    assert stated_shares([100, 60, 30, 6, 4], CELL, hidden=False) == (0.5, 0.3, 0.15, 0.025, 0.025)
    told = {stated_shares([100, 60, 40 - rare, rare - 1, 1], CELL, hidden=False) for rare in range(1, CELL)}
    assert len({shares[3:] for shares in told if shares}) == 1


@given(st.lists(st.integers(0, 30), min_size=2, max_size=6), st.integers(0, 12))
def test_what_is_left_out_of_the_strata_is_nobody_or_enough(rows: list[int], others: int) -> None:
    stated = stated_strata(rows, CELL, others=others)
    left = others + sum(count for count, said in zip(rows, stated, strict=True) if not said)
    assert all(count >= CELL for count, said in zip(rows, stated, strict=True) if said)
    assert left == 0 or left >= CELL or not any(stated)


def test_a_lone_giant_ends_at_the_fence_and_others_stay() -> None:
    values = np.random.default_rng(1).normal(60, 10, 200)
    values[17] = 4321.0
    inside = fenced(values, CELL)
    assert inside[17] < 130
    assert np.array_equal(np.delete(inside, 17), np.delete(values, 17))


@pytest.mark.parametrize("n", [40, 60, 100, 300])
def test_the_fence_keeps_the_sd_of_small_normal_and_skewed_samples(n: int) -> None:
    rng = np.random.default_rng(n)
    for sample, least in ((rng.normal(size=(200, n)), 0.99), (rng.gamma(2, size=(200, n)), 0.97)):
        kept = [fenced(one, CELL).std() / one.std() for one in sample]
        assert np.mean(kept) > least


def test_no_quantile_rests_on_the_outermost_values() -> None:
    values = np.arange(200.0)
    before = stated_quantiles(values, CELL, most=13)
    values[:5], values[-5:] = -1e6, 1e6
    assert stated_quantiles(values, CELL, most=13) == before
    knots = [0.0, *(p for p, _ in before), 1.0]
    assert min(np.diff(knots)) * 200 >= CELL


def test_a_table_of_few_rows_has_no_quantiles() -> None:
    assert stated_quantiles(np.arange(19.0), CELL, most=9) == ()
