"""What is to be predicted, and from what: the target and how its predictors are encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import POOLED_LEVEL, say_count
from app.evaluation.base import NotMeasured, Tables
from app.evaluation.bootstrap import person_codes
from app.evaluation.columns import Codes, Floats, Mask, cell_rows, codes, numbers
from app.evaluation.conformance import level_text
from app.evaluation.models import Encoding, encoding_of
from app.schema.table import Field

MOST_CLASSES = 10
"""Levels of the target that are told apart at most; the rest are pooled."""

FEWEST = {"train": 20, "holdout": 10, "synthetic": 10}
"""Rows with a target below which nothing is fitted."""

CLASS_ROWS = {"train": 5, "holdout": 3}
"""Rows of a level below which it is pooled."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows with a known target, in an order that depends on their content alone.

    Parameters
    ----------
    frame : DataFrame
        n rows.
    y : ndarray, shape (n,)
        Class codes (int64), or the number (float64).
    """

    frame: pd.DataFrame
    y: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def take(self, rows: Codes) -> Sample:
        """Return some of the rows."""
        return Sample(self.frame.iloc[rows], self.y[rows])


@dataclass(frozen=True, slots=True)
class Task:
    """A prediction task.

    Parameters
    ----------
    field : Field
        The target.
    classes : tuple of str
        Names of the classes, by code; empty where a number is predicted. A level of too few persons is not
        named.
    positive : int
        Code of the class whose curve is drawn where there are two: the second level.
    encoding : Encoding
        Of the predictors, fitted on the train part; ordered by name, so that their order in the table is
        of no account.
    dropped : str
        What was left out, in words; empty where nothing was.
    """

    field: Field
    classes: tuple[str, ...]
    encoding: Encoding
    train: Sample
    holdout: Sample
    synthetic: tuple[Sample, ...]
    dropped: str

    @property
    def is_classification(self) -> bool:
        """Whether a category is predicted."""
        return bool(self.classes)

    def persons(self, tables: Tables) -> Codes | None:
        """Return who the holdout's rows belong to, None where each row is a person."""
        return None if tables.group is None else person_codes(self.holdout.frame[tables.group])


def task_of(tables: Tables) -> Task | NotMeasured:
    """Read the task from the tables, or say why there is none."""
    assert tables.train is not None and tables.holdout is not None and tables.target is not None
    if tables.target not in tables.schema:
        return NotMeasured("the target is not a column of the schema; name one in evaluation.target")
    field = tables.schema[tables.target]
    if field.kind in ("id", "text"):
        return NotMeasured(
            "the target is an id or free text; name a category, a number or a date in evaluation.target"
        )
    schema = replace(tables.schema, fields=tuple(sorted(tables.schema.fields, key=lambda item: item.name)))
    encoding = encoding_of(replace(tables, schema=schema), without=(tables.target,))
    if not encoding.names:
        return NotMeasured("there is no column to predict the target from")
    frames = {"train": [tables.train], "holdout": [tables.holdout], "synthetic": list(tables.synthetic)}
    raw = {part: [_values(field, frame, tables.train) for frame in those] for part, those in frames.items()}
    present = {part: [~np.isnan(values) for values in those] for part, those in raw.items()}
    for part, least in FEWEST.items():
        found = min(int(mask.sum()) for mask in present[part])
        if found < least:
            rows = say_count(found, cell_rows(tables)) if part != "synthetic" else str(found)
            return NotMeasured(
                f"the target is known in {rows} {part} rows, and {least} are needed; "
                "give more rows, or name another evaluation.target"
            )
    few = cell_rows(tables)
    places: NDArray[Any] | None = None
    names: tuple[str, ...] = ()
    if _categorical(field, tables.train):
        counts = [_tally(raw[part][0]) for part in ("train", "holdout")]
        width = max(map(len, counts))
        in_train, in_holdout = (np.pad(item, (0, width - len(item))) for item in counts)
        found_classes = _classes(field, in_train, in_holdout, few)
        if isinstance(found_classes, NotMeasured):
            return found_classes
        places, names = found_classes
    elif len(np.unique(raw["holdout"][0][present["holdout"][0]])) < 2:
        return NotMeasured("the target is constant in the holdout; name another evaluation.target")
    samples = {
        part: [
            _sample(frame, values, places, encoding) for frame, values in zip(those, raw[part], strict=True)
        ]
        for part, those in frames.items()
    }
    for part, least in FEWEST.items():
        if min(map(len, samples[part])) < least:
            return NotMeasured(
                f"too few {part} rows have a level of the target that is frequent enough; "
                "name another evaluation.target"
            )
    return Task(
        field=field,
        classes=names,
        encoding=encoding,
        train=samples["train"][0],
        holdout=samples["holdout"][0],
        synthetic=tuple(samples["synthetic"]),
        dropped=_dropped(frames, samples, few),
    )


def _categorical(field: Field, train: pd.DataFrame) -> bool:
    # 0 and 1 without declared categories are a yes and a no as well.
    return field.kind == "categorical" or len(_two_values(field, train)) == 2


def _two_values(field: Field, train: pd.DataFrame) -> Floats:
    values = numbers(field, train[field.name])
    distinct = np.unique(values[~np.isnan(values)])
    return distinct if len(distinct) == 2 and field.kind == "numeric" else distinct[:0]


def _values(field: Field, frame: pd.DataFrame, train: pd.DataFrame) -> Floats:
    """Return level codes or numbers, NaN where missing."""
    if field.kind == "categorical":
        found = codes(field, frame[field.name]).astype(np.float64)
        found[found < 0] = np.nan
        return found
    values = numbers(field, frame[field.name])
    values[~np.isfinite(values)] = np.nan
    two = _two_values(field, train)
    if len(two) == 2:
        return np.select([values == two[0], values == two[1]], [0.0, 1.0], np.nan)
    return values


def _tally(values: Floats) -> Codes:
    return np.bincount(values[~np.isnan(values)].astype(np.int64))


def _classes(
    field: Field, in_train: Codes, in_holdout: Codes, few: int
) -> tuple[NDArray[Any], tuple[str, ...]] | NotMeasured:
    """Return the class of each level (−1 where its rows are left out) and the names of the classes."""
    enough = (in_train >= CLASS_ROWS["train"]) & (in_holdout >= CLASS_ROWS["holdout"])
    largest = np.argsort(-in_train, kind="stable")[:MOST_CLASSES]
    kept = [place for place in range(len(in_train)) if enough[place] and place in set(largest.tolist())]
    places = np.full(len(in_train), -1, dtype=np.int64)
    places[kept] = np.arange(len(kept))
    levels = field.levels
    names = [
        level_text(levels[place]) if levels is not None and in_train[place] >= few else f"level {place + 1}"
        for place in kept
    ]
    rest = np.array([place for place in range(len(in_train)) if place not in set(kept)], dtype=np.int64)
    pooled_train, pooled_holdout = int(in_train[rest].sum()), int(in_holdout[rest].sum())
    if pooled_train >= CLASS_ROWS["train"] and pooled_holdout >= CLASS_ROWS["holdout"]:
        places[rest] = len(kept)
        names.append(POOLED_LEVEL)
    if len(names) < 2:
        return NotMeasured(
            f"fewer than two levels of the target have {CLASS_ROWS['train']} train and "
            f"{CLASS_ROWS['holdout']} holdout rows, so there is nothing to tell apart; "
            "name another evaluation.target, or give a larger table"
        )
    return places, tuple(names)


def _sample(frame: pd.DataFrame, values: Floats, places: NDArray[Any] | None, encoding: Encoding) -> Sample:
    rows: Mask = ~np.isnan(values)
    y: NDArray[Any] = values
    if places is not None:
        found = np.where(rows, values, -1).astype(np.int64)
        y = np.where((found >= 0) & (found < len(places)), places[np.minimum(found, len(places) - 1)], -1)
        rows = rows & (y >= 0)
    chosen = np.flatnonzero(rows)
    # By content: the same rows in another order give the same sample, the same models and the same figures.
    features = np.nan_to_num(encoding.trees(frame.iloc[chosen]))
    weights = np.random.default_rng(4100).normal(size=features.shape[1])
    key = np.lexsort((features @ weights, y[chosen]))
    chosen = chosen[key]
    return Sample(frame.iloc[chosen].reset_index(drop=True), y[chosen])


def _dropped(frames: dict[str, list[pd.DataFrame]], samples: dict[str, list[Sample]], few: int) -> str:
    said = []
    for part, those in frames.items():
        gone = sum(map(len, those)) - sum(map(len, samples[part]))
        if gone:
            said.append(f"{gone if part == 'synthetic' else say_count(gone, few)} {part} rows")
    return f"{', '.join(said)} without a usable target were left out" if said else ""
