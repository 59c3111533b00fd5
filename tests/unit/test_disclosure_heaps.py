from __future__ import annotations

import numpy as np
import pytest

from app.disclosure_heaps import heaps_of, stated_knots

CELL = 10


def told(values: np.ndarray, **more: object) -> tuple[tuple[float, float], ...]:
    options = {"most": 9, "heaps": 12, "step": 1.0, "hidden": False} | more
    return stated_knots(values, CELL, **options)  # type: ignore[arg-type]


def heaped(seed: int = 1, n: int = 400) -> np.ndarray:
    """Sizes in millimetres, half of them rounded to the next ten."""
    rng = np.random.default_rng(seed)
    exact = np.round(rng.normal(120, 40, n))
    return np.where(rng.random(n) < 0.5, np.round(exact / 10) * 10, exact)


def test_round_numbers_are_told_with_their_share() -> None:
    values = heaped()
    knots = told(values)
    twice = [value for place, (_, value) in enumerate(knots[1:]) if value == knots[place][1]]
    assert len(twice) >= 4 and all(value % 10 == 0 for value in twice)
    for heap in twice:
        first, last = (p for p, value in knots if value == heap)
        # Within a rim of 2 % on either side, and what few rows beside it join it.
        assert last - first == pytest.approx((values == heap).mean(), abs=0.03)


def test_smooth_numbers_have_no_heaps() -> None:
    values = np.round(np.random.default_rng(2).normal(1000, 200, 500))
    assert not len(heaps_of(values, CELL, 12, 1.0))
    assert [p for p, _ in told(values)] == [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95]


@pytest.mark.parametrize("seed", range(8))
def test_no_value_and_no_share_that_is_told_is_of_fewer_rows_than_a_cell(seed: int) -> None:
    values = heaped(seed, 150)
    n = len(values)
    knots = told(values)
    for place, (p, value) in enumerate(knots[1:]):
        before, same = knots[place]
        if same == value:
            assert (values == value).sum() >= CELL
            assert (p - before) * n >= 0.9 * CELL
    told_values = {value for _, value in knots}
    assert values.min() not in told_values and values.max() not in told_values


@pytest.mark.parametrize("few", [1, 4, 9])
def test_how_few_lie_between_two_heaps_is_not_told(few: int) -> None:
    """Rows between two heaps are not told apart from rows on the nearer one."""
    between = np.repeat([30.0, 33.0, 40.0], [60 - few, few, 60])
    assert told(between) == told(np.repeat([30.0, 40.0], 60))


def test_shares_lie_on_a_coarse_grid_where_the_number_of_rows_must_not_be_told() -> None:
    one, other = (told(np.repeat([10.0, 20.0, 30.0], [40, 60, n - 100]), hidden=True) for n in (196, 197))
    assert one == other


def test_a_count_is_told_value_by_value() -> None:
    values = np.repeat([0.0, 1.0, 2.0, 3.0, 9.0], [40, 30, 20, 8, 2])
    knots = told(values)
    assert {value for _, value in knots} == {0.0, 1.0, 2.0}
