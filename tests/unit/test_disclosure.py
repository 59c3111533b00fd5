from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.disclosure import (
    coarse_step,
    outward,
    outward_whole,
    outward_years,
    pool_levels,
    quantile_knots_allowed,
    rounded_count,
    safe_histogram,
    safe_quantiles,
    say_count,
    suppress_cells,
)


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [
        (40, 100, (40, 100)),
        (0.01, 34.64, (0, 40)),
        (0.07, 82.56, (0, 100)),
        (63, 107, (60, 120)),
        (-3.2, 4.1, (-4, 6)),
        (0.1, 0.35, (0.1, 0.4)),
        (42.5, 42.5, (40, 60)),
        (0, 0, (0, 0.5)),
    ],
)
def test_bounds_lie_on_a_coarse_grid(low: float, high: float, bounds: tuple[float, float]) -> None:
    assert outward(low, high) == bounds


@given(
    st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-9), min_size=2, max_size=2),
)
def test_bounds_hold_every_value_and_are_at_most_two_steps_away(pair: list[float]) -> None:
    low, high = sorted(pair)
    first, last = outward(low, high)
    step = coarse_step(low, high)
    slack = 1e-9 * max(abs(low), abs(high), step)  # of binary fractions, as 0.1
    assert first - slack <= low <= high <= last + slack
    assert first < last
    assert low - first <= step + slack and last - high <= step + slack
    assert first >= 0 or low < 0


def test_a_planted_extreme_is_not_a_bound() -> None:
    ages = [*range(20, 90), 113]
    assert 113 not in outward_whole(min(ages), max(ages))
    assert 113.37 not in outward(20.0, 113.37)


def test_a_short_scale_of_whole_numbers_is_bounded_by_fives() -> None:
    assert outward_whole(1, 4) == (0, 5)


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        ((2020, 3, 1), (2022, 2, 28), (2020, 1, 1), (2022, 12, 31)),
        ((2019, 4, 5), (2024, 2, 29), (2018, 1, 1), (2025, 12, 31)),
        ((1907, 3, 14), (2004, 2, 29), (1900, 1, 1), (2009, 12, 31)),
        ((1, 1, 1), (9999, 12, 31), (1, 1, 1), (9999, 12, 31)),
    ],
)
def test_dates_are_bounded_by_years_on_a_coarse_grid(
    low: tuple[int, int, int],
    high: tuple[int, int, int],
    first: tuple[int, int, int],
    last: tuple[int, int, int],
) -> None:
    assert outward_years(dt.date(*low), dt.date(*high)) == (dt.date(*first), dt.date(*last))


def test_rare_levels_are_pooled() -> None:
    pooling = pool_levels({"a": 50, "b": 9, "c": 30, "d": 3}, 10)
    assert pooling.kept == ("a", "c")
    assert pooling.pooled == ("b", "d")


def test_a_pool_that_is_too_small_takes_in_the_next_smallest_level() -> None:
    pooling = pool_levels({"meningioma": 42, "hg": 22, "lg": 9, "other": 14}, 10)
    assert pooling.kept == ("meningioma", "hg")
    assert pooling.pooled == ("lg", "other")


def test_levels_that_are_all_frequent_are_all_kept() -> None:
    assert pool_levels({"F": 10, "M": 10}, 10).pooled == ()


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 40), max_size=12), st.integers(2, 20))
def test_no_named_level_and_no_pool_is_smaller_than_a_cell(counts: dict[str, int], min_cell: int) -> None:
    pooling = pool_levels(counts, min_cell)
    assert all(counts[level] >= min_cell for level in pooling.kept)
    if pooling.pooled and pooling.kept:
        assert sum(counts[level] for level in pooling.pooled) >= min_cell


def test_small_counts_are_not_said() -> None:
    assert (say_count(0, 10), say_count(9, 10), say_count(10, 10)) == ("0", "fewer than 10", "10")
    assert (rounded_count(9, 10), rounded_count(10, 10), rounded_count(13, 10)) == (None, 10, 15)


def test_a_suppressed_cell_cannot_be_had_by_subtraction() -> None:
    shown = suppress_cells([[50, 3, 40], [20, 30, 25], [60, 70, 80]], 10)
    hidden = np.isnan(shown)
    assert hidden[0, 1]
    assert all(line.sum() != 1 for line in (*hidden, *hidden.T))


@given(
    st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=2, max_size=5), st.integers(2, 15)
)
def test_no_shown_cell_is_small_and_no_line_hides_one_alone(rows: list[list[int]], min_cell: int) -> None:
    counts = np.array(rows)
    shown = suppress_cells(counts, min_cell)
    hidden = np.isnan(shown)
    assert (counts[~hidden] >= min_cell).all()
    assert (shown[~hidden] == counts[~hidden]).all()
    for line, values in [*zip(hidden, counts, strict=True), *zip(hidden.T, counts.T, strict=True)]:
        assert line.sum() != 1
        assert not line.any() or line.all() or values[line].sum() >= min_cell


def test_a_row_of_counts_is_suppressed_as_a_table_is() -> None:
    assert np.isnan(suppress_cells([3, 40, 50], 10)).tolist() == [True, True, False]


@pytest.mark.parametrize("n", [0, 10, 19, 20, 55, 1000])
def test_between_two_quantiles_there_are_enough_persons(n: int) -> None:
    knots = [0.0, *quantile_knots_allowed(n, 10), 1.0]
    assert len(knots) == 2 or np.diff(knots).min() * n >= 10 - 1e-9
    assert len(knots) <= 21


def test_a_quantile_is_nobody_s_value() -> None:
    values = np.array([2.0**i for i in range(40)])
    quantiles = safe_quantiles(values, (0.0, 0.5, 1.0), 10)
    assert not set(quantiles) & set(values)
    assert list(quantiles) == sorted(quantiles)
    assert quantiles[-1] < values[-1]
    assert safe_quantiles(values[:9], (0.5,), 10) == ()


def test_the_median_of_an_even_spread_is_its_middle() -> None:
    assert safe_quantiles(np.arange(101.0), (0.5,), 11) == (50.0,)


def test_a_histogram_has_no_small_bin_and_no_real_extreme() -> None:
    values = np.concatenate([np.random.default_rng(1).normal(50, 5, 300), [113.37, 1.25, np.nan, np.inf]])
    histogram = safe_histogram(values, 10)
    assert sum(histogram.counts) == 302
    assert min(histogram.counts) >= 10
    assert len(histogram.edges) == len(histogram.counts) + 1
    assert not {113.37, 1.25} & set(histogram.edges)
    assert safe_histogram(values[:5], 10).counts == ()


def test_a_bound_is_never_beyond_what_a_schema_may_state() -> None:
    assert outward(-1e15, 1e15) == (-1e15, 1e15)
    assert outward_whole(1 - 2**53, 2**53 - 1) == (1 - 2**53, 2**53 - 1)
    low, high = outward_whole(8 * 10**15 + 123, 9006218124143630)
    assert (low, high) == (8 * 10**15, 2**53 - 1), "an extreme is not told"
    assert 9.0062e15 not in outward(0.0, 9.0062e15)
