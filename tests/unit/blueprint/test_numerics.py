"""The numerical parts of compiling, each against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import spearmanr

from app.blueprint.correlation import nearest_correlation
from app.blueprint.marginal import Marginal
from app.blueprint.model_parameters import MOST_CENTRES, REACH, STEP, _mixture
from app.blueprint.program import FEW_TICKS, NODES, SLOTS, _ticks_by_slot
from app.blueprint.reweighting import newton_step
from app.blueprint.simulation import MOST_DIMENSIONS, _even_normals
from app.blueprint.statements import Measured


def product(factor: np.ndarray) -> np.ndarray:
    return np.asarray(factor @ factor.T)


def test_a_correlation_that_nobody_wants_leaves_the_partial_correlation_at_zero() -> None:
    found = product(nearest_correlation(3, np.array([[0, 1], [1, 2]]), np.array([0.8, 0.6]), np.ones(2)))
    assert np.diag(found) == pytest.approx(np.ones(3))
    assert found[0, 1] == pytest.approx(0.8, abs=0.002) and found[1, 2] == pytest.approx(0.6, abs=0.002)
    assert found[0, 2] == pytest.approx(0.48, abs=0.01), "0.8 by 0.6: what the one between them carries"


def test_correlations_that_agree_are_had_exactly() -> None:
    wanted = np.array([0.5, -0.3, 0.2])
    found = product(nearest_correlation(3, np.array([[0, 1], [0, 2], [1, 2]]), wanted, np.ones(3)))
    assert found[[0, 0, 1], [1, 2, 2]] == pytest.approx(wanted, abs=1e-12)


def test_correlations_that_contradict_one_another_give_way_evenly() -> None:
    wanted = np.array([0.9, 0.9, -0.9])
    found = product(nearest_correlation(3, np.array([[0, 1], [0, 2], [1, 2]]), wanted, np.ones(3)))
    assert np.linalg.eigvalsh(found)[0] > -1e-9
    missed = np.abs(found[[0, 0, 1], [1, 2, 2]] - wanted)
    # The nearest by symmetry: r, r and -r with 1 - 3r² - 2r³ = 0, so r = 1/2.
    assert missed == pytest.approx(np.full(3, 0.4), abs=0.01)


@pytest.mark.parametrize("columns", [3, MOST_DIMENSIONS, MOST_DIMENSIONS + 1, 60])
def test_even_draws_have_exact_moments_and_no_pair_that_goes_together(columns: int) -> None:
    rows = 16_384
    drawn = _even_normals(columns, rows, 0).astype(np.float64)
    assert np.abs(drawn.mean(axis=1)).max() < 1e-6
    assert np.abs(drawn @ drawn.T / rows - np.eye(columns)).max() < 1e-5
    ranks = np.atleast_2d(spearmanr(drawn.T).statistic) - np.eye(columns)
    assert np.abs(ranks).max() < 4.5 / np.sqrt(rows)
    # Pairs that look even by rank and lie on a grid have shares of quadrants that are not a quarter.
    quadrants = ((drawn > 0).astype(float) @ (drawn > 0).T.astype(float)) / rows - 0.25 - np.eye(columns) / 4
    assert np.abs(quadrants).max() < 4.5 * 0.43 / np.sqrt(rows)


@pytest.mark.parametrize("ticks", [1, 2, 7, 300, FEW_TICKS])
def test_looking_for_where_ticks_begin_gives_the_table_that_reading_every_slot_gives(ticks: int) -> None:
    rng = np.random.default_rng(ticks)
    places = np.cumsum(rng.integers(1, 4, ticks))
    weights = rng.dirichlet(np.full(ticks, 0.3))
    shares = 0.5 * ndtr(NODES * 1.2 - 0.5) + 0.5 * ndtr(NODES * 1.2 + 1)
    one_each = Marginal(None, places, places, weights, 1, 1)  # type: ignore[arg-type]
    found = _ticks_by_slot(one_each, shares)
    assert len(found) == SLOTS
    # The same distribution with an empty last bin of two ticks is read slot by slot.
    last = places[-1]
    firsts, lasts, empty = np.append(places, last + 1), np.append(places, last + 2), np.append(weights, 0.0)
    wide = Marginal(None, firsts, lasts, empty, 1, 1)  # type: ignore[arg-type]
    slow = _ticks_by_slot(wide, shares)
    assert (found != slow).sum() <= 1, "but for the last slot, where an empty bin may be met"


def test_a_mixture_of_many_effects_is_summed_as_precisely_as_term_by_term() -> None:
    size = int(2 * REACH / STEP) + 1
    rng = np.random.default_rng(0)
    mass = np.zeros(size)
    middle = int(REACH / STEP)
    mass[middle - 100 : middle + 100] = rng.dirichlet(np.full(200, 0.2))
    assert (mass > 0).sum() > MOST_CENTRES
    at = NODES * 1.7
    centres = np.arange(size) * STEP - REACH
    exact = ndtr(at[:, None] - centres[None, :]) @ mass
    assert np.abs(_mixture(mass, at) - exact).max() < 5e-5
    tails = (exact > 1e-12) & (exact < 0.01)
    assert (_mixture(mass, at)[tails] / exact[tails]) == pytest.approx(np.ones(tails.sum()), rel=0.01)


def test_a_newton_step_reweights_a_sample_to_the_mean_that_is_asked_for() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((1, 20_000)) / 0.01  # in tolerances of a hundredth
    weights = np.full(20_000, 1 / 20_000)
    asked = 5.0
    gap = asked - float(values.mean())
    measured = Measured(float(values.mean()), gap, gap, lambda: values[0])
    tilted = np.exp(newton_step([measured], values, values, weights) @ values)
    assert float((tilted / tilted.sum()) @ values[0]) == pytest.approx(asked, abs=0.2)
