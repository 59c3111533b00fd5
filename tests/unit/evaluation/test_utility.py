from __future__ import annotations

from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, f1_score, mean_squared_error, r2_score, roc_auc_score

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.document import MetricResult
from app.evaluation.report import run
from app.evaluation.utility import CoefficientOverlap, TrainSyntheticTestReal, utility_verdict
from app.evaluation.utility.coefficients import RIDGE, Fit, least_squares, logistic, overlap
from app.evaluation.utility.coefficients_interval import Estimated
from app.evaluation.utility.scoring import auroc, draw_weights, macro_auroc, measures
from app.evaluation.utility.tstr import coarse_curve
from tests.calibration.populations import TARGET, draw, permuted
from tests.calibration.populations import tables as tables_of

RNG = np.random.default_rng(1)


def people(n: int, seed: int) -> pd.DataFrame:
    return draw(n, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def tables() -> Tables:
    return tables_of(people(300, 1), people(150, 2), people(300, 3))


@pytest.fixture(scope="module")
def score(tables: Tables) -> Score:
    found = TrainSyntheticTestReal().measure(tables)
    assert isinstance(found, Score)
    return found


def measured(tables: Tables) -> Any:
    found = TrainSyntheticTestReal().measure(tables)
    assert isinstance(found, Score), found
    return found


class TestScoring:
    y = RNG.integers(0, 3, 200)
    shares = RNG.dirichlet([1, 1, 1], 200)
    counts = RNG.integers(0, 3, 200)

    def test_a_weight_is_so_many_copies_of_a_row(self) -> None:
        found = measures(self.y, self.shares, np.vstack([np.ones(200), self.counts]))
        for line, times in enumerate([np.ones(200, dtype=int), self.counts]):
            y, shares = np.repeat(self.y, times), np.repeat(self.shares, times, axis=0)
            guess = shares.argmax(axis=1)
            assert found["AUROC"][line] == pytest.approx(roc_auc_score(y, shares, multi_class="ovr"))
            assert found["F1 (macro)"][line] == pytest.approx(f1_score(y, guess, average="macro"))
            assert found["F1 (weighted)"][line] == pytest.approx(f1_score(y, guess, average="weighted"))

    def test_two_classes_give_the_common_auroc_and_brier_score(self) -> None:
        truth, share = self.y > 0, np.round(self.shares[:, 0], 1)
        both = np.column_stack([1 - share, share])
        found = measures(truth.astype(np.int64), both, np.ones((1, 200)))
        assert found["AUROC"][0] == pytest.approx(roc_auc_score(truth, share))
        assert found["Brier"][0] == pytest.approx(brier_score_loss(truth, share))

    def test_numbers_give_the_common_r_squared_and_rmse(self) -> None:
        y, guess = RNG.normal(50, 5, 80), RNG.normal(50, 1, 80)
        found = measures(y, guess, np.ones((1, 80)))
        assert found["R²"][0] == pytest.approx(r2_score(y, guess))
        assert found["RMSE"][0] == pytest.approx(np.sqrt(mean_squared_error(y, guess)))
        assert measures(y, guess + 1000, np.ones((1, 80)))["R²"][0] == -1.0

    def test_a_draw_without_a_class_has_no_auroc(self) -> None:
        truth = np.array([True, False, False])
        assert np.isnan(auroc(truth, np.arange(3.0), np.array([[0.0, 1, 1]]))[0])
        assert np.isnan(macro_auroc(self.y, self.shares, (self.y == 1)[None].astype(float))[0])

    def test_persons_are_drawn_with_all_their_rows(self) -> None:
        persons = np.array([0, 0, 1, 2, 2, 2])
        weights = draw_weights(np.random.default_rng(0), 6, 50, persons)
        assert (weights[0] == 1).all()
        assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()


class TestCoefficients:
    x = RNG.normal(size=(400, 3))
    linear = x @ [1.0, -0.5, 0.0] + 0.3

    def test_logistic_regression_agrees_with_scikit_learn(self) -> None:
        y = (RNG.random(400) < 1 / (1 + np.exp(-self.linear))).astype(int)
        theirs = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000).fit(self.x, y)
        ours = logistic(self.x, y)
        assert ours.estimates == pytest.approx(theirs.coef_[0], abs=1e-5)
        # Known errors: the inverse information.
        p = theirs.predict_proba(self.x)[:, 1]
        design = np.column_stack([np.ones(400), self.x])
        information = (design * (p * (1 - p))[:, None]).T @ design + np.diag([0, RIDGE, RIDGE, RIDGE])
        assert ours.errors == pytest.approx(np.sqrt(np.diag(np.linalg.inv(information)))[1:], rel=1e-4)

    def test_separated_classes_stay_finite(self) -> None:
        fit = logistic(self.x, (self.x[:, 0] > 0).astype(int))
        assert np.isfinite(fit.estimates).all() and np.isfinite(fit.errors).all()

    def test_least_squares_agrees_with_numpy(self) -> None:
        y = self.linear + RNG.normal(size=400)
        theirs = np.linalg.lstsq(np.column_stack([np.ones(400), self.x]), y)[0]
        # The ridge of 0.1 beside 400 rows.
        assert least_squares(self.x, y).estimates == pytest.approx(theirs[1:], abs=0.1 / 400 * 3)

    def test_overlap_by_hand(self) -> None:
        unit = Fit(np.zeros(3), np.full(3, 1 / 1.959963984540054), np.zeros((1, 3)))  # intervals from −1 to 1
        moved = replace(unit, estimates=np.array([0.0, 1.0, 5.0]))
        assert overlap(unit, moved) == pytest.approx([1.0, 0.5, 0.0])
        # −1 … 1 within −2 … 2: the whole of one, half of the other.
        assert overlap(unit, replace(unit, errors=unit.errors * 2)) == pytest.approx([0.75] * 3)

    def test_the_headline_and_its_yardstick_are_means_of_the_table(self, tables: Tables) -> None:
        found = CoefficientOverlap().measure(tables)
        assert isinstance(found, Score)
        rows: Any = found.details["table"]
        assert found.value == pytest.approx(fmean(row["overlap"] for row in rows))
        assert found.baseline == pytest.approx(fmean(row["baseline"] for row in rows))
        for row in rows:
            low, high = row["synthetic_interval"]
            assert low < row["synthetic"] < high

    def test_the_interval_of_the_overlap_holds_it_and_what_two_samples_reach(self, tables: Tables) -> None:
        found = CoefficientOverlap().measure(tables)
        assert isinstance(found, Score) and found.interval is not None and found.baseline is not None
        low, high = found.interval
        assert 0 < low <= found.value <= high < 1
        turned = tables.synthetic[0].assign(**{TARGET: ~tables.synthetic[0][TARGET]})
        wrong = CoefficientOverlap().measure(replace(tables, synthetic=(turned,)))
        assert isinstance(wrong, Score) and wrong.interval is not None
        assert wrong.interval[1] < found.baseline

    def test_rows_of_one_person_are_evidence_once(self) -> None:
        y = (RNG.random(400) < 1 / (1 + np.exp(-self.linear))).astype(int)
        once = logistic(self.x, y)
        twice = logistic(np.repeat(self.x, 2, axis=0), np.repeat(y, 2))
        alone = Estimated(once.estimates, once.errors, once.influences).covariance()
        doubled = Estimated(
            twice.estimates, twice.errors, twice.influences, np.repeat(np.arange(400), 2)
        ).covariance()
        assert doubled == pytest.approx(alone, rel=0.02)
        # Of a right model the sandwich is the inverse information.
        assert np.sqrt(np.diag(alone)) == pytest.approx(once.errors, rel=0.15)

    def test_what_ties_the_wrong_way_round_has_the_wrong_sign(self, tables: Tables) -> None:
        turned = tables.synthetic[0].assign(**{TARGET: ~tables.synthetic[0][TARGET]})
        found, fair = (
            CoefficientOverlap().measure(replace(tables, synthetic=(made,)))
            for made in (turned, tables.synthetic[0])
        )
        assert isinstance(found, Score) and isinstance(fair, Score)
        assert found.details["sign_agreement"] == 0.0 and fair.details["sign_agreement"] == 1.0
        assert found.value < fair.value


class TestTstr:
    def test_the_headline_and_its_yardstick_are_means_of_the_table(self, score: Score) -> None:
        rows: Any = score.details["table"]
        models = [row for row in rows if row["kind"] == "model" and row["measure"] == "AUROC"]
        assert score.value == pytest.approx(fmean(row["tstr"] for row in models))
        assert score.baseline == pytest.approx(fmean(row["trtr"] for row in models))
        assert {row["model"] for row in models} == {"logistic regression", "boosted trees"}
        assert score.interval is not None and score.interval[0] < score.value < score.interval[1]

    def test_the_yardsticks_stand_beside_the_models(self, score: Score) -> None:
        rows: Any = score.details["table"]
        found = {(row["model"], row["measure"]): row for row in rows}
        assert found["most frequent", "AUROC"]["tstr"] == 0.5
        assert found["best single column", "F1 (weighted)"]["trtr"] > 0.3
        assert {measure for _, measure in found} == {"AUROC", "F1 (macro)", "F1 (weighted)", "Brier"}

    def test_full_depth_adds_a_random_forest(self, tables: Tables) -> None:
        small = replace(
            tables, depth="full", train=people(60, 4), holdout=people(40, 5), synthetic=(people(60, 6),)
        )
        assert "random forest" in {row["model"] for row in measured(small).details["table"]}

    def test_one_column_that_tells_all_is_found(self, tables: Tables) -> None:
        def told(frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(smoker=frame[TARGET])

        assert tables.train is not None and tables.holdout is not None
        found = measured(
            replace(
                tables,
                train=told(tables.train),
                holdout=told(tables.holdout),
                synthetic=(told(tables.synthetic[0]),),
            )
        )
        assert found.details["best_single_column"] == {"synthetic": "smoker", "train": "smoker"}
        rows = {row["model"]: row for row in found.details["table"] if row["measure"] == "F1 (weighted)"}
        assert rows["best single column"]["tstr"] == 1.0

    def test_permuted_rows_teach_nothing(self, tables: Tables) -> None:
        assert tables.train is not None
        found = measured(replace(tables, synthetic=(permuted(tables.train, np.random.default_rng(1)),)))
        assert found.value < found.baseline - 0.15
        assert found.details["difference_interval"][1] < 0

    def test_three_levels_are_told_one_against_the_rest(self, tables: Tables) -> None:
        found = measured(replace(tables, target="stage"))
        assert found.details["classes"] == ["I", "II", "III"] and found.details["measure"] == "AUROC"
        assert sum(picture["kind"] == "curve" for picture in found.details["pictures"]) == 3

    @pytest.mark.parametrize("target", ["age", "marker", "seen"])
    def test_numbers_and_dates_are_regressed(self, tables: Tables, target: str) -> None:
        found = measured(replace(tables, target=target))
        assert found.details["measure"] == "R²"
        assert {row["measure"] for row in found.details["table"]} == {"R²", "RMSE"}
        assert -1 <= found.value <= 1

    def test_rows_without_a_target_are_left_out_and_that_is_said(self, tables: Tables) -> None:
        found = measured(replace(tables, target="marker"))
        assert "synthetic rows" in found.details["dropped"] and "train rows" in found.details["dropped"]
        assert "left out" in found.reading

    def test_both_sides_are_trained_on_as_many_rows(self, tables: Tables) -> None:
        found = measured(replace(tables, synthetic=(people(90, 8),)))
        assert found.details["trained_on_rows"] == 90
        assert "sample of the 300 train rows" in found.details["rows_note"]

    def test_replicates_are_averaged_with_their_spread(self, tables: Tables) -> None:
        pair = (people(120, 11), people(120, 12))
        found = measured(replace(tables, synthetic=pair))
        each = found.details["replicates"]
        assert found.value == pytest.approx(fmean(each)) and len(each) == 2
        assert found.details["replicates_sd"] == pytest.approx(stdev(each)) and each[0] != each[1]

    def test_rows_of_one_person_make_the_interval_wider(self, tables: Tables) -> None:
        assert tables.holdout is not None
        five = pd.concat([tables.holdout.head(40)] * 5, ignore_index=True)
        number = np.tile(np.arange(40), 5)
        schema = tables.schema
        apart = measured(replace(tables, holdout=five))
        named = replace(
            tables,
            holdout=five.assign(stay=pd.array(number, dtype="Int64")),
            group="stay",
        )
        together = measured(named)
        assert schema is tables.schema
        width, wider = (found.interval[1] - found.interval[0] for found in (apart, together))
        assert wider > 1.3 * width

    def test_synthetic_rows_of_one_class_teach_chance(self, tables: Tables) -> None:
        only = tables.synthetic[0].assign(**{TARGET: pd.array([True] * 300, dtype="boolean")})
        found = run(TrainSyntheticTestReal(), replace(tables, synthetic=(only,)))
        assert found.value == 0.5
        assert utility_verdict({"tstr": found}).level == "not_met"


class TestAbsence:
    def test_without_a_target_it_says_how_to_name_one(self, tables: Tables) -> None:
        found = run(TrainSyntheticTestReal(), replace(tables, target=None))
        assert found.status == "not_measured" and "target" in found.reading

    @pytest.mark.parametrize("metric", [TrainSyntheticTestReal(), CoefficientOverlap()])
    def test_a_target_that_tells_nothing_apart_is_a_reason(self, tables: Tables, metric: Any) -> None:
        assert tables.train is not None and tables.holdout is not None
        same = tables.holdout.assign(**{TARGET: pd.array([True] * 150, dtype="boolean")})
        for spoiled in (
            replace(tables, holdout=same),
            replace(tables, train=tables.train.head(8)),
            replace(tables, holdout=tables.holdout.head(4)),
            replace(tables, target="nothing"),
            replace(tables, train=tables.train.assign(**{TARGET: pd.array([None] * 300, dtype="boolean")})),
        ):
            assert isinstance(metric.measure(spoiled), NotMeasured)


class TestDisclosure:
    def test_no_step_of_a_curve_rests_on_fewer_persons_than_a_cell(self) -> None:
        truth = RNG.random(500) < 0.3
        curve = coarse_curve(truth, truth + RNG.normal(size=500), 10)
        assert curve is not None
        n, m = int(truth.sum()), int((~truth).sum())
        assert (np.diff(curve["y"]) * n).min() >= 10 - 1e-9
        assert (np.diff(curve["x"]) * m).min() >= 10 - 1e-9
        assert curve["x"][-1] == curve["y"][-1] == 1.0 and len(curve["x"]) <= 60
        assert coarse_curve(truth[:20], np.arange(20.0), 10) is None

    def test_a_rare_class_is_not_named(self, tables: Tables) -> None:
        assert tables.train is not None and tables.holdout is not None

        def rare(frame: pd.DataFrame, k: int) -> pd.DataFrame:
            site = frame["site"].astype(object).replace("west", "north")
            site.iloc[:k] = "west"
            return frame.assign(site=pd.Categorical(site, categories=["north", "south", "east", "west"]))

        changed = replace(tables, target="site", train=rare(tables.train, 7), holdout=rare(tables.holdout, 4))
        found = measured(changed)
        assert "west" not in str(found.details) + found.reading
        assert "west" not in str(CoefficientOverlap().measure(changed))


def result(value: float, interval: tuple[float, float], trtr: float, low: float) -> MetricResult:
    return MetricResult(
        name="tstr",
        title="",
        dimension="utility",
        status="measured",
        value=value,
        interval=interval,
        baseline=trtr,
        reading="Read.",
        details={"measure": "AUROC", "trtr_interval": [low, 1.0]},
    )


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (result(0.80, (0.7, 0.9), 0.82, 0.7), "met"),
        (result(0.70, (0.6, 0.8), 0.82, 0.7), "attention"),
        (result(0.55, (0.4, 0.7), 0.82, 0.7), "not_met"),
        (result(0.55, (0.4, 0.7), 0.56, 0.45), "attention"),
    ],
)
def test_the_verdict_weighs_the_yardsticks(found: MetricResult, level: str) -> None:
    assert utility_verdict({"tstr": found}).level == level


def test_without_the_figure_there_is_no_verdict() -> None:
    assert utility_verdict({}).level == "not_measured"
