"""Draws of what chance adds to a distance of two distributions, held against chance itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.evaluation.columns import Floats
from app.evaluation.empirical import (
    Divided,
    between_levels,
    between_steps,
    between_values,
    deal_frames,
    interval_of_greatest,
    interval_of_mean,
)
from app.evaluation.fidelity import ks_complement, tv_complement
from app.evaluation.fidelity_columns import wasserstein


def pairs(rng: np.random.Generator, n: int, m: int) -> tuple[Floats, Floats]:
    return rng.gamma(3, size=n), rng.gamma(3, size=m)


def whole(real: Floats, made: Floats, rng: np.random.Generator, persons: int = 1) -> Divided:
    """Deal both tables, each person having so many rows."""
    frames = tuple(pd.DataFrame({"who": np.arange(len(one)) // persons}) for one in (real, made))
    return Divided.whole(real, made, deal_frames((frames[0], frames[1]), "who", rng, 400))


@pytest.mark.parametrize(("n", "m"), [(240, 120), (3000, 5000)])
def test_draws_are_as_large_as_the_distances_of_two_samples_of_one_population(n: int, m: int) -> None:
    rng = np.random.default_rng(3)
    found: dict[str, list[tuple[float, float]]] = {"steps": [], "values": [], "levels": []}
    for _ in range(120):
        real, made = pairs(rng, n, m)
        divided = whole(real, made, rng)
        (gap,) = between_steps(real, made, divided)
        found["steps"].append((1 - ks_complement(real, made), float(gap.drawn(0 * gap.apart).mean())))
        (gap,) = between_values(real, made, divided, 1.0, 10.0)
        found["values"].append((wasserstein(real, made), float(gap.drawn(0 * gap.apart).mean())))
        codes = [np.minimum(one, 7).astype(np.int64) for one in (real, made)]
        (gap,) = between_levels(codes[0], codes[1], divided, 8)
        found["levels"].append((1 - tv_complement(*codes), float(gap.drawn(0 * gap.apart).mean())))
    for name, rows in found.items():
        observed, drawn = np.array(rows).T
        error = observed.std() / np.sqrt(len(rows))
        # A twentieth is allowed for the normal approximation, and three standard errors for chance.
        assert abs(drawn.mean() - observed.mean()) < 0.05 * observed.mean() + 3 * error, name


def test_rows_of_the_same_persons_leave_more_to_chance() -> None:
    rng = np.random.default_rng(4)
    real, made = (np.repeat(one, 5) for one in pairs(rng, 100, 100))
    alone, together = (
        float(gap.drawn(0 * gap.apart).mean())
        for persons in (1, 5)
        for gap in between_steps(real, made, whole(real, made, rng, persons))
    )
    assert together == pytest.approx(alone * np.sqrt(5), rel=0.15)


def test_a_distance_far_from_chance_lies_in_the_middle_of_its_interval() -> None:
    rng = np.random.default_rng(5)
    real, made = pairs(rng, 2000, 2000)
    made = made + 2
    gaps = between_steps(real, made, whole(real, made, rng))
    value = 1 - ks_complement(real, made)
    found = interval_of_mean(gaps, value, (0.0, 1.0))
    assert found is not None
    # The binomial error of the gap, at the place of the greatest one.
    assert found[0] < value < found[1]
    assert found[1] - found[0] == pytest.approx(2 * 1.96 * np.sqrt(2 * 0.25 * 0.8 / 2000), rel=0.5)


def test_identical_tables_are_at_no_distance_within_what_chance_brings() -> None:
    rng = np.random.default_rng(6)
    real, _ = pairs(rng, 500, 1)
    found = interval_of_mean(between_steps(real, real, whole(real, real, rng)), 0.0, (0.0, 1.0))
    assert found is not None and found[0] == 0.0 and 0 < found[1] < 0.1


def test_a_part_without_synthetic_values_is_as_far_as_can_be() -> None:
    rng = np.random.default_rng(7)
    real, made = pairs(rng, 300, 200)
    frames = pd.DataFrame(index=range(300)), pd.DataFrame(index=range(200))
    parts = (np.arange(300) % 2, np.zeros(200, dtype=np.int64))
    divided = Divided((parts[0], parts[1]), 2, deal_frames(frames, None, rng, 100))
    gaps = between_steps(real, made, divided)
    assert float(np.abs(gaps[1].apart).max()) == pytest.approx(1.0)
    found = interval_of_greatest([[gap] for gap in gaps], 1.0, (0.0, 1.0))
    assert found is not None and found[1] == 1.0 and found[0] > 0.5
