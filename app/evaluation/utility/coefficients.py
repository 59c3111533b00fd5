"""The same regression fitted to synthetic and to real rows: do the coefficients agree?

Confidence-interval overlap after Karr, Kohnen, Oganian, Reiter & Sanil 2006 (American Statistician 60:224).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import Z95, person_codes
from app.evaluation.columns import Floats, cell_rows
from app.evaluation.utility.coefficients_interval import Estimated, interval_of_overlap, overlaps
from app.evaluation.utility.target import Sample, Task, task_of

STREAM = 4102
MOST_ROWS = 20_000
MOST_COEFFICIENTS = 10
MOST_CLASSES = 4
MOST_BLOCKS = 10
ROWS_PER_COEFFICIENT = 10
"""Rows (of the rarer class, for a logistic model) that the smallest table has for each coefficient."""

RIDGE = 0.1
"""A weak penalty on coefficients of standardised columns: a level that separates the classes stays finite."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients without the intercept.

    Parameters
    ----------
    estimates, errors : ndarray of float64, shape (p,)
    influences : ndarray of float64, shape (n, p)
        By how much each row moves the estimates.
    """

    estimates: Floats
    errors: Floats
    influences: Floats


def least_squares(x: Floats, y: Floats) -> Fit:
    """Fit a linear model by (all but) ordinary least squares.

    Parameters
    ----------
    x : ndarray of float64, shape (n, p)
        Without a column for the intercept.
    y : ndarray of float64, shape (n,)
    """
    design = np.column_stack([np.ones(len(y)), x])
    hessian = design.T @ design + _penalty(x.shape[1])
    estimates = np.asarray(np.linalg.solve(hessian, design.T @ y), dtype=np.float64)
    residuals = y - design @ estimates
    variance = float(residuals @ residuals) / max(len(y) - design.shape[1], 1)
    inverse = np.linalg.inv(hessian)
    return _without_intercept(estimates, inverse * variance, (design * residuals[:, None]) @ inverse)


def logistic(x: Floats, y: NDArray[Any]) -> Fit:
    """Fit a logistic model by iteratively reweighted least squares (McCullagh & Nelder 1989, §4.4).

    Parameters
    ----------
    x : ndarray of float64, shape (n, p)
    y : ndarray of 0 and 1, shape (n,)

    Notes
    -----
    Each step is halved until the penalised likelihood does not fall; at most 50 steps.
    """
    design, penalty = np.column_stack([np.ones(len(y)), x]), _penalty(x.shape[1])
    outcome = np.asarray(y, dtype=np.float64)

    def likelihood(beta: Floats) -> float:
        linear = design @ beta
        return float(outcome @ linear - np.logaddexp(0, linear).sum() - beta @ penalty @ beta / 2)

    estimates = np.zeros(design.shape[1])
    hessian = penalty
    reached = likelihood(estimates)
    for _ in range(50):
        shares = 1 / (1 + np.exp(-np.clip(design @ estimates, -500, 500)))
        hessian = (design * np.maximum(shares * (1 - shares), 1e-10)[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, design.T @ (outcome - shares) - penalty @ estimates)
        while likelihood(estimates + step) < reached - 1e-12 and np.abs(step).max() > 1e-10:
            step = step / 2
        estimates = estimates + step
        reached = likelihood(estimates)
        if np.abs(step).max() < 1e-8:
            break
    covariance = np.asarray(np.linalg.inv(hessian), dtype=np.float64)
    shares = 1 / (1 + np.exp(-np.clip(design @ estimates, -500, 500)))
    return _without_intercept(estimates, covariance, (design * (outcome - shares)[:, None]) @ covariance)


def _penalty(p: int) -> Floats:
    # The intercept goes all but free: with one class only its value would run away.
    return np.diag([1e-9, *([RIDGE] * p)])


def _without_intercept(estimates: Floats, covariance: Floats, influences: Floats) -> Fit:
    return Fit(estimates[1:], np.sqrt(np.maximum(np.diag(covariance)[1:], 0)), influences[:, 1:])


def overlap(one: Fit, other: Fit) -> Floats:
    """Return the overlap of the 95 % intervals of each coefficient, as a mean share of both lengths.

    1 where they are the same, 0 where they do not touch (Karr et al. let it fall below 0 there).
    """
    return overlaps(other.estimates - one.estimates, one.errors, other.errors)


class CoefficientOverlap:
    """How far the confidence intervals of the same regression, fitted to synthetic and to real rows, overlap.

    A mean over coefficients (Karr et al. 2006): 1 where the intervals are the same, 0 where they are apart.
    Two samples of one population do not reach 1; the yardstick is what the holdout reaches.
    """

    name: ClassVar[str] = "coefficient_overlap"
    title: ClassVar[str] = "Regression coefficients: overlap of confidence intervals"
    dimension: ClassVar[Dimension] = "utility"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "target"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 200, "holdout": 80, "synthetic": 200}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure. `details["table"]` has a row for each coefficient.

        An interval's overlap depends on the number of rows, so the synthetic rows are cut into blocks as
        large as the holdout: `overlap` is the mean over blocks, `baseline` the holdout's. `synthetic` and
        `real` are the estimates from all rows.
        """
        task = task_of(tables)
        if isinstance(task, NotMeasured):
            return task
        models = _models(task, cell_rows(tables), tables.seed)
        if isinstance(models, NotMeasured):
            return models
        table = [row for model in models for row in model.rows()]
        value = fmean(row["overlap"] for row in table)
        baseline = fmean(row["baseline"] for row in table)
        clear = [row for row in table if row["clear"]]
        agree = sum(row["same_sign"] for row in clear)
        kind = "logistic" if task.is_classification else "linear"
        reading = (
            f"In the same {kind} regression of {task.field.name} the 95 % intervals of {len(table)} "
            f"coefficients overlap by {value:.0%} on average, those of the real holdout by {baseline:.0%}"
            + (
                f"; of {len(clear)} that are clear in the real rows {agree} have the same sign"
                if clear
                else ""
            )
            + "."
        )
        return Score(
            value=value,
            interval=_interval_of(models, task, tables),
            baseline=baseline,
            reading=reading,
            details={
                "aggregate": "mean of overlap over the rows",
                "interval": "by inverting tests of how far apart the coefficients are (after Feldman & "
                "Cousins 1998), 95 %",
                "target": task.field.name,
                "model": f"{kind} regression, columns standardised by the train part, missing numbers set to "
                "its mean",
                "table": table,
                "sign_agreement": agree / len(clear) if clear else None,
                "clear_coefficients": len(clear),
                "rows_a_block": models[0].block_rows,
                "blocks": len(models[0].blocks),
                "dropped": task.dropped,
                "pictures": [
                    {
                        "kind": "intervals",
                        "title": "Coefficients fitted to synthetic rows, and to real rows",
                        "mark": "fitted to real rows",
                        "rows": [
                            {
                                "name": row["coefficient"],
                                "value": row["synthetic"],
                                "low": row["synthetic_interval"][0],
                                "high": row["synthetic_interval"][1],
                                "baseline": row["real"],
                            }
                            for row in table
                        ],
                    }
                ],
            },
        )


@dataclass(frozen=True, slots=True)
class _Model:
    """One regression, fitted to train, holdout, all synthetic rows and blocks of them."""

    names: tuple[str, ...]
    train: Fit
    holdout: Fit
    synthetic: Fit
    blocks: tuple[Fit, ...]
    block_rows: int

    def rows(self) -> list[dict[str, Any]]:
        overlaps = np.mean([overlap(self.train, block) for block in self.blocks], axis=0)
        baseline = overlap(self.train, self.holdout)
        return [
            {
                "coefficient": name,
                "overlap": float(overlaps[place]),
                "baseline": float(baseline[place]),
                "synthetic": float(self.synthetic.estimates[place]),
                "synthetic_interval": _interval(self.synthetic, place),
                "real": float(self.train.estimates[place]),
                "real_interval": _interval(self.train, place),
                "same_sign": bool(self.train.estimates[place] * self.synthetic.estimates[place] > 0),
                "clear": bool(abs(self.train.estimates[place]) > Z95 * self.train.errors[place]),
            }
            for place, name in enumerate(self.names)
        ]


def _interval_of(models: Sequence[_Model], task: Task, tables: Tables) -> tuple[float, float]:
    """Return the interval of the mean overlap over the coefficients of all models, which share their rows."""

    def together(fits: Sequence[Fit], samples: Sequence[Sample]) -> Estimated:
        persons = None
        if tables.group is not None:
            persons = person_codes(pd.concat([sample.frame[tables.group] for sample in samples]))
        return Estimated(
            np.concatenate([fit.estimates for fit in fits]),
            np.concatenate([fit.errors for fit in fits]),
            np.concatenate([fit.influences for fit in fits], axis=1),
            persons,
        )

    made = together([model.synthetic for model in models], [_cut(one, tables.seed) for one in task.synthetic])
    return interval_of_overlap(
        together([model.train for model in models], [_cut(task.train, tables.seed)]),
        made,
        [
            (
                np.concatenate([model.blocks[place].estimates for model in models]),
                np.concatenate([model.blocks[place].errors for model in models]),
            )
            for place in range(len(models[0].blocks))
        ],
        models[0].block_rows / len(made.influences),
        (tables.seed, STREAM, 2),
    )


def _interval(fit: Fit, place: int) -> list[float]:
    half = Z95 * float(fit.errors[place])
    return [float(fit.estimates[place]) - half, float(fit.estimates[place]) + half]


def _models(task: Task, few: int, seed: int) -> list[_Model] | NotMeasured:
    parts = [_cut(task.train, seed), _cut(task.holdout, seed)]
    replicates = [_cut(sample, seed) for sample in task.synthetic]
    designs = [task.encoding.linear(sample.frame) for sample in (*parts, *replicates)]
    outcomes = [sample.y for sample in (*parts, *replicates)]
    found = []
    for name, which in _outcomes(task):
        chosen = [_outcome(y, which) for y in outcomes]
        columns = _columns(task, designs, chosen, few)
        if len(columns):
            found.append(
                _fitted(task, name, [design[:, columns] for design in designs], chosen, columns, seed)
            )
    if not found:
        return NotMeasured(
            "no column varies enough beside the target for a regression "
            f"(each level needs {few} real rows with every class of the target)"
        )
    return found


def _cut(sample: Sample, seed: int) -> Sample:
    if len(sample) <= MOST_ROWS:
        return sample
    rng = np.random.default_rng([seed, STREAM])
    return sample.take(np.sort(rng.permutation(len(sample))[:MOST_ROWS]))


def _outcomes(task: Task) -> list[tuple[str, int]]:
    """Return the label and the class of each regression (−1: the number itself)."""
    if not task.is_classification:
        return [("", -1)]
    if len(task.classes) == 2:
        return [("", 1)]
    largest = np.argsort(-np.bincount(task.train.y), kind="stable")[:MOST_CLASSES]
    return [(f"{task.classes[place]} ~ ", int(place)) for place in largest]


def _outcome(y: NDArray[Any], which: int) -> NDArray[Any]:
    return y if which < 0 else (y == which).astype(np.int64)


def _columns(task: Task, designs: list[Floats], outcomes: list[NDArray[Any]], few: int) -> NDArray[np.int64]:
    """Choose the columns most strongly tied to the target in train, as many as the smallest table bears."""
    smallest = min(len(y) for y in outcomes)
    if task.is_classification:
        smallest = min(int(np.bincount(y, minlength=2).min()) for y in outcomes[:2])
    real, y = designs[0], outcomes[0].astype(np.float64)
    usable = []
    for place, feature in enumerate(task.encoding.features):
        column = real[:, place]
        is_level = bool(np.isin(column, (0.0, 1.0)).all())
        if is_level or feature.part not in ("", "missing"):
            cells = _cells(column, outcomes[0], task.is_classification)
            usable.append(bool(cells.min() >= few) and feature.part != "missing")
        else:
            usable.append(float(column.std()) > 1e-9)
    centred = real - real.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0)) * max(float(y.std()), 1e-12)
    strength = np.abs(centred.T @ (y - y.mean())) / len(y) / np.maximum(spread, 1e-12)
    strength[~np.array(usable, dtype=np.bool_)] = -1.0
    wanted = max(min(smallest // ROWS_PER_COEFFICIENT, MOST_COEFFICIENTS), 1)
    chosen = np.argsort(-strength, kind="stable")[:wanted]
    return np.sort(chosen[strength[chosen] > 1e-9])


def _cells(column: Floats, y: NDArray[Any], by_class: bool) -> NDArray[np.int64]:
    """Count the rows in and out of a level, within each class where there are classes."""
    inside = column > 0.5
    if not by_class:
        return np.array([inside.sum(), (~inside).sum()])
    return np.bincount(inside * 2 + y, minlength=4)


def _fitted(
    task: Task,
    label: str,
    designs: list[Floats],
    outcomes: list[NDArray[Any]],
    columns: NDArray[np.int64],
    seed: int,
) -> _Model:
    scale = 1.0 if task.is_classification else float(outcomes[0].std()) or 1.0
    centre = 0.0 if task.is_classification else float(outcomes[0].mean())

    def fit(x: Floats, y: NDArray[Any]) -> Fit:
        return logistic(x, y) if task.is_classification else least_squares(x, (y - centre) / scale)

    rows = min(len(outcomes[1]), *(len(y) for y in outcomes[2:]))
    blocks = []
    for x, y in zip(designs[2:], outcomes[2:], strict=True):
        # Blocks of rows drawn without regard to their content; as many as there are whole ones.
        order = (
            np.random.default_rng([seed, STREAM, 1]).permutation(len(y)) if len(y) > rows else np.arange(rows)
        )
        for place in range(min(len(y) // rows, max(MOST_BLOCKS // len(designs[2:]), 1))):
            chosen = order[place * rows : (place + 1) * rows]
            blocks.append(fit(x[chosen], y[chosen]))
    return _Model(
        names=tuple(label + task.encoding.features[place].label for place in columns),
        train=fit(designs[0], outcomes[0]),
        holdout=fit(designs[1], outcomes[1]),
        synthetic=fit(np.concatenate(designs[2:]), np.concatenate(outcomes[2:])),
        blocks=tuple(blocks),
        block_rows=rows,
    )
