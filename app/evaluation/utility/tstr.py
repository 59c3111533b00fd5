"""Train on synthetic rows, test on real ones (TSTR), beside the same models trained on real rows (TRTR).

Esteban, Hyland & Rätsch 2017 (arXiv 1706.02633). Both kinds of model see the same number of rows and are
tested on the same holdout. A model that predicts well says that the rows keep what this target needs, and
no more: a table can pass and still be wrong elsewhere (arXiv 2503.20903).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, ClassVar

import numpy as np

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import around, auroc_interval, person_codes, resample
from app.evaluation.columns import Codes, Floats, cell_rows
from app.evaluation.utility.learners import MODELS, YARDSTICKS, Learn, Rows, SingleColumnRule, encoder_of
from app.evaluation.utility.scoring import BOUNDS, draw_weights, measures
from app.evaluation.utility.target import Sample, Task, task_of

STREAM = 4101
"""Number of this metric's random stream."""

DRAWS = 300
MOST_ROWS = 20_000
MOST_CELLS = 1_500_000
MOST_HOLDOUT = 10_000
MOST_REPLICATES = 5
REFITS = 6
MOST_REFIT_ROWS = 4000
MOST_REFIT_CELLS = 200_000
CURVES = 3
"""At most so many classes have their ROC curve drawn."""

NAMES = {True: {"linear": "logistic regression"}, False: {"linear": "ridge regression"}}


class TrainSyntheticTestReal:
    """How well models trained on the synthetic rows predict the target in real rows that nobody trained on.

    The mean over models of the AUROC (a category; 0.5 is chance) or of R² (a number; 0 is chance, and what
    is worse than −1 is shown as −1). The yardstick is what models trained on as many real rows reach.
    """

    name: ClassVar[str] = "tstr"
    title: ClassVar[str] = "Models trained on synthetic rows, tested on real ones (TSTR)"
    dimension: ClassVar[Dimension] = "utility"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "target"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 200, "holdout": 80, "synthetic": 200}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure. `details["table"]` has a row for each model and yardstick and each measure.

        The value is the mean of `tstr` over models, of AUROC or R²; its baseline the mean of `trtr`. The
        intervals hold two sources of chance: which persons are in the holdout (bootstrap, of persons where
        `group` names them) and which rows the models were trained on (models fitted again to resampled
        rows). They say how other tables of the same population and generator would do.
        """
        # Loaded first: the limit holds for the thread pools that are there, and theirs come with them.
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401
        from threadpoolctl import threadpool_limits

        task = task_of(tables)
        if isinstance(task, NotMeasured):
            return task
        with threadpool_limits(limits=1):
            return _Trial(task, tables).score()


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A figure with what moves it.

    Parameters
    ----------
    draws : ndarray, shape (1 + DRAWS,)
        On the holdout and on resamples of it.
    again : ndarray, shape (REFITS,)
        Deviations that come of training on other rows.
    """

    draws: Floats
    again: Floats

    @classmethod
    def mean(cls, those: Sequence[_Drawn]) -> _Drawn:
        """Return the mean of figures that were drawn together."""
        return cls(
            np.mean([one.draws for one in those], axis=0), np.mean([one.again for one in those], axis=0)
        )

    @property
    def value(self) -> float:
        """The figure itself."""
        return float(self.draws[0])

    @property
    def error(self) -> float | None:
        """The standard error; None where too few draws have a value."""
        finite = self.draws[1:][np.isfinite(self.draws[1:])]
        if len(finite) < 20:
            return None
        training = float((self.again**2).sum()) / max(len(self.again) - 1, 1)
        return math.sqrt(float(finite.var(ddof=1)) + training)


class _Trial:
    """One measurement: samples of equal size, models on both sides, their predictions of the holdout."""

    def __init__(self, task: Task, tables: Tables) -> None:
        self.task, self.tables = task, tables
        self.seed = int(np.random.default_rng([tables.seed, STREAM]).integers(2**31))
        columns = max(len(task.encoding.names), 1)
        synthetic = task.synthetic[:MOST_REPLICATES]
        self.rows = min(len(task.train), *map(len, synthetic), MOST_ROWS, max(MOST_CELLS // columns, 1000))
        encode = encoder_of(task)
        samples = [self._some(sample, self.rows) for sample in (task.train, *synthetic)]
        self.train, *self.synthetic = (encode(sample) for sample in samples)
        # Rows of one person are drawn together, of either table.
        self.trained_persons = [
            None if tables.group is None else person_codes(sample.frame[tables.group])
            for sample in samples[:2]
        ]
        self.persons = task.persons(tables)
        holdout = task.holdout
        if len(holdout) > MOST_HOLDOUT:
            chosen = self._choice(len(holdout), MOST_HOLDOUT)
            self.persons = None if self.persons is None else self.persons[chosen]
            holdout = holdout.take(chosen)
        if self.persons is not None:
            self.persons = np.unique(self.persons, return_inverse=True)[1]
        self.holdout = encode(holdout)
        rng = np.random.default_rng([tables.seed, STREAM, 1])
        self.weights = draw_weights(rng, len(holdout), DRAWS, self.persons)

    def _choice(self, n: int, wanted: int) -> Any:
        # The same draw for tables of the same size: a table that equals another gives the same models.
        return np.sort(np.random.default_rng([self.tables.seed, STREAM, 2]).permutation(n)[:wanted])

    def _some(self, sample: Sample, wanted: int) -> Sample:
        return sample if len(sample) <= wanted else sample.take(self._choice(len(sample), wanted))

    def score(self) -> Score:
        """Train, test and tell."""
        models = [name for name in MODELS if name != "random forest" or self.tables.depth == "full"]
        table: list[dict[str, Any]] = []
        headline: list[tuple[_Drawn, _Drawn]] = []
        each_replicate: list[list[float]] = []
        predictions: dict[str, tuple[Floats, Floats]] = {}
        notes: dict[str, str] = {}
        for name, learn in {**{name: MODELS[name] for name in models}, **YARDSTICKS}.items():
            real = learn(self.task, self.train, self.seed)
            made = [learn(self.task, sample, self.seed) for sample in self.synthetic]
            if isinstance(real, SingleColumnRule) and isinstance(made[0], SingleColumnRule):
                notes = {"synthetic": made[0].column, "train": real.column}
            shown = NAMES[self.task.is_classification].get(name, name)
            real_shares = real(self.holdout)
            made_shares = [predict(self.holdout) for predict in made]
            on_real = measures(self.holdout.y, real_shares, self.weights)
            tstr = [measures(self.holdout.y, shares, self.weights) for shares in made_shares]
            real_again, made_again = (
                self._again(learn, side, persons)
                for side, persons in zip((self.train, self.synthetic[0]), self.trained_persons, strict=True)
            )
            for place, measure in enumerate(on_real):
                trtr = _Drawn(on_real[measure], real_again[measure])
                # The mean over replicates varies less with what each was trained on.
                together = _Drawn(
                    np.mean([found[measure] for found in tstr], axis=0),
                    made_again[measure] / np.sqrt(len(tstr)),
                )
                table.append(
                    self._row(shown, name in MODELS, measure, together, trtr)
                    | self._replicates([float(found[measure][0]) for found in tstr])
                )
                if name in MODELS and place == 0:
                    headline.append((together, trtr))
                    each_replicate.append([float(found[measure][0]) for found in tstr])
                    predictions[shown] = (made_shares[0], real_shares)
        return self._told(table, headline, each_replicate, predictions, notes)

    def _again(self, learn: Learn, sample: Rows, persons: Codes | None) -> dict[str, Floats]:
        """Return each measure of models of resampled rows, as deviations from their mean.

        A resample of fewer rows than the sample varies more, by the root of the ratio of rows.
        """
        columns = max(len(self.task.encoding.names), 1)
        rows = min(len(sample), MOST_REFIT_ROWS, max(MOST_REFIT_CELLS // columns, 500))
        # The same rows for every model: their mean is refitted as one.
        rng = np.random.default_rng([self.tables.seed, STREAM, 3])
        ones = np.ones((1, len(self.holdout)))
        found = []
        for _ in range(REFITS):
            chosen = np.sort(resample(rng, len(sample), persons)[:rows])
            predict = learn(self.task, sample.take(chosen), self.seed)
            found.append(measures(self.holdout.y, predict(self.holdout), ones))
        drawn = {name: np.array([float(one[name][0]) for one in found]) for name in found[0]}
        return {name: (each - each.mean()) * np.sqrt(rows / len(sample)) for name, each in drawn.items()}

    def _row(self, model: str, is_model: bool, measure: str, tstr: _Drawn, trtr: _Drawn) -> dict[str, Any]:
        value, error = tstr.value - trtr.value, _difference_error(tstr, trtr)
        return {
            "model": model,
            "kind": "model" if is_model else "yardstick",
            "measure": measure,
            "tstr": tstr.value,
            "tstr_interval": self._interval(measure, tstr),
            "trtr": trtr.value,
            "trtr_interval": self._interval(measure, trtr),
            "difference": value,
            "difference_interval": None if error is None else list(around(value, error)),
        }

    def _interval(self, measure: str, drawn: _Drawn) -> list[float] | None:
        error = drawn.error
        if error is None:
            return None
        if measure == "AUROC":
            smallest = int(np.bincount(self.holdout.y).min())
            return list(auroc_interval(drawn.value, error, smallest, len(self.holdout) - smallest))
        return list(around(drawn.value, error, BOUNDS[measure]))

    def _replicates(self, values: list[float]) -> dict[str, Any]:
        return {} if len(values) < 2 else {"replicates": values, "replicates_sd": stdev(values)}

    def _told(
        self,
        table: list[dict[str, Any]],
        headline: list[tuple[_Drawn, _Drawn]],
        each_replicate: list[list[float]],
        predictions: Mapping[str, tuple[Floats, Floats]],
        chosen: Mapping[str, str],
    ) -> Score:
        measure = "AUROC" if self.task.is_classification else "R²"
        tstr, trtr = (_Drawn.mean(side) for side in zip(*headline, strict=True))
        value, baseline = tstr.value, trtr.value
        interval = self._interval(measure, tstr)
        difference, error = value - baseline, _difference_error(tstr, trtr)
        difference_interval = None if error is None else around(difference, error)
        single = next(
            row for row in table if row["model"] == "best single column" and row["measure"] == measure
        )
        replicates = [fmean(values) for values in zip(*each_replicate, strict=True)]
        details: dict[str, Any] = {
            "aggregate": f"mean of tstr over the rows of kind model and measure {measure}",
            "target": self.task.field.name,
            "measure": measure,
            "classes": list(self.task.classes),
            "table": table,
            "trtr": baseline,
            "trtr_interval": self._interval(measure, trtr),
            "difference": difference,
            "difference_interval": None if difference_interval is None else list(difference_interval),
            "best_single_column": dict(chosen),
            "trained_on_rows": self.rows,
            "tested_on_rows": len(self.holdout),
            "rows_note": self._rows_note(),
            "dropped": self.task.dropped,
            "replicates": replicates,
            "replicates_sd": stdev(replicates) if len(replicates) > 1 else None,
            "interval": f"95 %; bootstrap of the holdout's {self._units} ({DRAWS} draws) and of the rows "
            f"trained on ({REFITS} models each)",
            "seed": self.seed,
            "pictures": self._pictures(table, measure, predictions),
        }
        reading = (
            f"Models trained on synthetic rows predict {self.task.field.name} in real rows "
            f"with a mean {measure} of {value:.3f}, models trained on as many real rows with {baseline:.3f}"
        )
        if difference_interval is not None:
            low, high = difference_interval
            reading += f" (difference {_signed(difference)}, 95 % interval {_signed(low)} to {_signed(high)})"
        reading += (
            f"; the best single column alone reaches {single['tstr']:.3f} and {single['trtr']:.3f}"
            f"{f'. {self.task.dropped[0].upper()}{self.task.dropped[1:]}' if self.task.dropped else ''}."
        )
        if len(replicates) > 1:
            reading += f" Over {len(replicates)} replicates it varies by {stdev(replicates):.3f} (sd)."
        return Score(
            value=value,
            interval=(interval[0], interval[1]) if interval else None,
            baseline=baseline,
            reading=reading,
            details=details,
        )

    @property
    def _units(self) -> str:
        return "rows" if self.persons is None else "persons"

    def _rows_note(self) -> str:
        note = f"Both sides are trained on {self.rows:,} rows, so that neither has more to learn from."
        if self.rows < len(self.task.train):
            note += (
                f" That is a sample of the {len(self.task.train):,} train rows; models of all of them "
                "may be better by less than the spread over replicates, on both sides alike."
            )
        if len(self.task.synthetic) > len(self.synthetic):
            note += f" The first {len(self.synthetic)} of {len(self.task.synthetic)} replicates were used."
        if len(self.holdout) < len(self.task.holdout):
            note += (
                f" Tested on a sample of {len(self.holdout):,} holdout rows; the intervals account for it."
            )
        return note

    def _pictures(
        self,
        table: list[dict[str, Any]],
        measure: str,
        predictions: Mapping[str, tuple[Floats, Floats]],
    ) -> list[dict[str, Any]]:
        rows = [row for row in table if row["measure"] == measure]
        pictures: list[dict[str, Any]] = [
            {
                "kind": "bars",
                "title": f"{measure} on the holdout: trained on synthetic rows, and on real rows",
                "mark": "trained on real rows",
                "origin": 0.5 if measure == "AUROC" else 0.0,
                "rows": [
                    {"name": row["model"], "value": row["tstr"], "baseline": row["trtr"]} for row in rows
                ],
            },
            {
                "kind": "intervals",
                "title": f"{measure}: trained on synthetic minus trained on real rows",
                "rows": [
                    {
                        "name": row["model"],
                        "value": row["difference"],
                        "low": row["difference_interval"][0],
                        "high": row["difference_interval"][1],
                        "baseline": 0.0,
                    }
                    for row in rows
                    if row["difference_interval"] is not None and row["kind"] == "model"
                ],
            },
        ]
        if not self.task.is_classification:
            return pictures
        k, few = len(self.task.classes), cell_rows(self.tables)
        sizes = np.bincount(self.holdout.y, minlength=k)
        drawn = [1] if k == 2 else [int(place) for place in np.argsort(-sizes, kind="stable")[:CURVES]]
        for place in drawn:
            lines = []
            for model, sides in predictions.items():
                for side, shares in zip(("synthetic", "real"), sides, strict=True):
                    curve = coarse_curve(self.holdout.y == place, shares[:, place], few)
                    if curve is not None:
                        lines.append({"name": f"{model}, trained on {side} rows", **curve})
            if lines:
                pictures.append(
                    {
                        "kind": "curve",
                        "title": f"ROC on the holdout: {self.task.field.name} = {self.task.classes[place]}"
                        + ("" if k == 2 else " against the rest")
                        + f" (points at least {few} persons of either kind apart)",
                        "x_label": "false-positive rate",
                        "y_label": "true-positive rate",
                        "lines": lines,
                    }
                )
        return pictures


def coarse_curve(truth: Any, scores: Floats, few: int, most: int = 50) -> dict[str, list[float]] | None:
    """Return an ROC curve whose steps each hold at least `few` real rows of either class.

    Parameters
    ----------
    truth : ndarray of bool, shape (n,)
    scores : ndarray of float64, shape (n,)
    few : int
        The smallest step, in rows that are positive and in rows that are not.
    most : int
        The most steps.

    Returns
    -------
    {"x": false-positive rates, "y": true-positive rates} or None
        None where a class has fewer than `few` rows.
    """
    positive = np.asarray(truth, dtype=np.bool_)
    n, m = int(positive.sum()), int((~positive).sum())
    few = max(few, 1)
    if min(n, m) < few:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits, misses = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    least_hits, least_misses = max(few, n // most), max(few, m // most)
    x, y = [0], [0]
    for hit, miss in zip(hits.tolist(), misses.tolist(), strict=True):
        if hit - y[-1] >= least_hits and miss - x[-1] >= least_misses:
            if n - hit < few or m - miss < few:
                break
            x.append(miss)
            y.append(hit)
    return {"x": [step / m for step in [*x, m]], "y": [step / n for step in [*y, n]]}


def _difference_error(tstr: _Drawn, trtr: _Drawn) -> float | None:
    # The same holdout on both sides, but independent rows to train on: that part of the variance adds up.
    return _Drawn(tstr.draws - trtr.draws, np.hypot(tstr.again, trtr.again)).error


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
