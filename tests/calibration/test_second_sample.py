"""A second sample of the same population in the synthetic table's place: the evaluator must find nothing.

`make calibrate` draws 400 times, `make test` 40 times (SYNTHWARD_CALIBRATION_REPEATS). Coverage fails below
the 0.1 % quantile of the binomial distribution of 95 %, Bonferroni over the figures.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from app.evaluation.base import Score, Tables
from app.evaluation.document import MetricResult
from app.evaluation.registry import METRICS
from app.evaluation.report import run
from app.schema.parse import parse_schema
from tests.calibration import populations
from tests.calibration.truths import TRUTHS

REPEATS = int(os.environ.get("SYNTHWARD_CALIBRATION_REPEATS", "40"))
TRAIN, HOLDOUT = 240, 120
CORE = [metric for metric in METRICS if metric.depth == "core"]


@dataclass(frozen=True)
class Figures:
    """One figure over all draws; NaN where an interval or yardstick was not stated."""

    values: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    baselines: np.ndarray
    truth: float | None

    @property
    def known(self) -> float:
        if self.truth is not None:
            return self.truth
        # The mean over draws: of the yardsticks as well, each the same figure of one more sample.
        every = np.concatenate([self.values, self.baselines])
        return float(every[np.isfinite(every)].mean())

    @property
    def covered(self) -> int:
        # A tolerance for the last bit: an interval may end where the truth lies (0 matches of 120).
        return int(((self.lows <= self.known + 1e-9) & (self.known <= self.highs + 1e-9)).sum())

    @property
    def width(self) -> float:
        return float((self.highs - self.lows).mean())

    @property
    def spread(self) -> float:
        return float(2 * 1.96 * self.values.std(ddof=1))


def drawn(seed: int) -> Tables:
    rng = np.random.default_rng([20_260, seed])
    train, holdout, synthetic = (populations.draw(n, rng) for n in (TRAIN, HOLDOUT, HOLDOUT))
    return populations.tables(train, holdout, synthetic, seed=seed)


def parts_of(result: MetricResult) -> dict[str, tuple[Any, Any, Any, float | None]]:
    """Return value, interval, yardstick and truth of the figures that a result states."""
    truth = TRUTHS[result.name]
    details: Mapping[str, Any] = result.details
    parts = {result.name: (result.value, result.interval, result.baseline, truth.value)}
    if result.name == "tstr":
        parts["tstr: trtr"] = (details["trtr"], details["trtr_interval"], None, None)
        parts["tstr: difference"] = (details["difference"], details["difference_interval"], None, 0.0)
    if result.name == "c2st":
        # The score itself is 0.5 at least.
        parts["c2st: unclipped"] = (details["auroc"], None, None, 0.5)
    return parts


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> dict[str, Figures]:
    kept: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    truths: dict[str, float | None] = {}
    for seed in range(REPEATS):
        tables = drawn(seed)
        for metric in CORE:
            if metric.name not in TRUTHS:
                continue
            result = run(metric(), tables)
            assert result.status == "measured", (metric.name, result.reason)
            for name, (value, interval, baseline, truth) in parts_of(result).items():
                low, high = interval or (math.nan, math.nan)
                kept[name].append((value, low, high, math.nan if baseline is None else baseline))
                truths[name] = truth
    found = {
        name: Figures(*(np.array(column, dtype=float) for column in zip(*rows, strict=True)), truths[name])
        for name, rows in kept.items()
    }
    request.config.stash[CALIBRATED] = found
    return found


CALIBRATED = pytest.StashKey[dict[str, Figures]]()
STATED = [
    *(metric.name for metric in CORE if metric.name in TRUTHS and TRUTHS[metric.name].interval),
    "tstr: trtr",
    "tstr: difference",
]


def test_every_metric_says_what_its_truth_is() -> None:
    assert {metric.name for metric in METRICS} - set(TRUTHS) == set()


def test_a_metric_states_an_interval_where_the_table_of_truths_says_so(figures: dict[str, Figures]) -> None:
    for metric in CORE:
        stated = bool(np.isfinite(figures[metric.name].lows).all())
        assert stated == TRUTHS[metric.name].interval, metric.name


@pytest.mark.parametrize("name", STATED)
def test_intervals_cover_the_truth(figures: dict[str, Figures], name: str) -> None:
    found = figures[name]
    if 0 < found.known < 1 / HOLDOUT:
        pytest.skip("fewer than one expected event: Wilson's interval of a single one lies above the truth")
    assert found.covered >= binom.ppf(0.001 / len(STATED), REPEATS, 0.95)


@pytest.mark.parametrize("name", STATED)
def test_intervals_are_not_wider_than_they_need_be(figures: dict[str, Figures], name: str) -> None:
    found = figures[name]
    least_step = 1 / HOLDOUT
    if found.spread < 3.92 * least_step:
        # Less than a row of the table: a figure that hardly moves has an interval for what was not seen.
        assert found.width < 6 * least_step
        return
    # 1.5 × the empirical range; the sd of n draws has a relative error of 1 / √(2n), allowed for 3 times.
    assert found.width <= 1.5 * found.spread * (1 + 3 / math.sqrt(2 * REPEATS))


@pytest.mark.parametrize(
    "name", [metric.name for metric in CORE if metric.name in TRUTHS and TRUTHS[metric.name].yardstick]
)
def test_scores_equal_their_yardsticks(figures: dict[str, Figures], name: str) -> None:
    differences = figures[name].values - figures[name].baselines
    assert np.isfinite(differences).all(), "no yardstick"
    error = float(differences.std(ddof=1)) / math.sqrt(REPEATS)
    limit = float(t.isf(0.0005 / len(TRUTHS), REPEATS - 1))
    assert abs(float(differences.mean())) <= limit * error + 1e-12


@pytest.mark.parametrize("name", ["identical_match_share", "near_match_share"])
def test_matches_that_real_persons_have_by_chance_are_covered(name: str) -> None:
    # In the wide population they are rarer than one row, which no interval is as narrow as.
    schema = parse_schema({"fields": [f for f in populations.FIELDS if f["name"] in populations.NARROW]})[0]
    (metric,) = [metric for metric in CORE if metric.name == name]
    rows = []
    for seed in range(max(REPEATS, 100)):
        rng = np.random.default_rng([20_261, seed])
        train, holdout, synthetic = (
            populations.draw(n, rng)[list(populations.NARROW)] for n in (TRAIN, HOLDOUT, HOLDOUT)
        )
        score = metric().measure(Tables(schema, (synthetic,), train=train, holdout=holdout, seed=seed))
        assert isinstance(score, Score) and score.interval is not None and score.baseline is not None
        rows.append((score.value, *score.interval, score.baseline))
    found = Figures(*np.array(rows).T, None)
    assert found.covered >= binom.ppf(0.001 / 2, len(rows), 0.95)
    assert found.width <= 1.5 * found.spread * (1 + 3 / math.sqrt(2 * len(rows)))
    apart = found.values - found.baselines
    assert abs(apart.mean()) <= 3.5 * apart.std(ddof=1) / math.sqrt(len(rows))


def test_a_classifier_tosses_a_coin(figures: dict[str, Figures]) -> None:
    raw = figures["c2st: unclipped"].values
    # Within 2 standard errors in a fixed set of draws: nothing here depends on luck.
    assert abs(raw.mean() - 0.5) <= 2 * raw.std(ddof=1) / math.sqrt(len(raw))


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_parts_of_a_public_table_look_alike(name: str) -> None:
    schema, frame, target = populations.public(name)
    rng = np.random.default_rng(5)
    watched = {"tstr", "association_similarity", "dcr_share", "membership_inference"}
    differences: dict[str, list[float]] = defaultdict(list)
    third = min(len(frame) // 3, 120)
    for seed in range(max(REPEATS // 10, 4)):
        order = rng.permutation(len(frame))
        train, holdout, synthetic = (
            frame.iloc[order[start * third : (start + 1) * third]].reset_index(drop=True)
            for start in range(3)
        )
        tables = populations.tables(train, holdout, synthetic, seed=seed, schema=schema, target=target)
        for metric in CORE:
            if metric.name in watched:
                result = run(metric(), tables)
                assert result.value is not None and result.baseline is not None, result.reason
                differences[result.name].append(result.value - result.baseline)
    for metric_name, found in differences.items():
        error = np.std(found, ddof=1) / math.sqrt(len(found))
        # Of few splits the t-quantile: two-sided 0.1 % over the watched figures.
        limit = float(t.isf(0.0005 / len(watched), len(found) - 1))
        assert abs(np.mean(found)) <= limit * error + 1e-12, metric_name


def test_the_floor_of_coverage_can_be_missed() -> None:
    # Intervals half as wide as they should be cover 67 %: the suite must not let that pass.
    half = REPEATS * float(norm.cdf(0.98) - norm.cdf(-0.98))
    assert half < binom.ppf(0.001 / len(STATED), REPEATS, 0.95)
