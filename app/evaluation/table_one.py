"""Table 1 of a paper, real beside synthetic: mean (sd), median [quartiles], n (%), missing, and the
standardised mean difference (SMD).

Conventions of the journals as the `tableone` package has them (Pollard et al. 2018, JAMIA Open 1(1):26).
Real cells pass `app.disclosure`, and synthetic ones the same functions: see `app.evaluation.overview`.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from app.disclosure import rounded_count, safe_quantiles, say_count
from app.evaluation.base import Tables
from app.evaluation.columns import Codes, Floats, cell_rows, codes, numbers, pooled, present
from app.evaluation.conformance import level_text
from app.evaluation.document import TableOneRow
from app.evaluation.overview import OTHER_LEVELS, named_levels
from app.schema.table import Field

QUARTILES = (0.25, 0.5, 0.75)


def table_one(tables: Tables) -> tuple[TableOneRow, ...]:
    """Return the rows of Table 1: every column of the schema but ids and free text, in order."""
    synthetic = pooled(tables)
    cell = 0 if tables.train is None else cell_rows(tables)
    rows: list[TableOneRow] = []
    for field in tables.schema.fields:
        if field.kind in ("id", "text"):
            continue
        columns = [
            None if frame is None or not len(frame) else frame[field.name]
            for frame in (tables.train, tables.holdout, synthetic)
        ]
        train, holdout, made = columns
        if made is None:
            continue
        describe = _levels if field.kind == "categorical" else _numbers
        rows += describe(field, train, holdout, made, cell)
        rows += _missing(field, train, made, cell)
    return tuple(rows)


def _numbers(
    field: Field, train: pd.Series | None, holdout: pd.Series | None, made: pd.Series, cell: int
) -> list[TableOneRow]:
    real, held, synthetic = (_finite(field, column) for column in (train, holdout, made))
    scale, spread = _scales(field)
    common = {"column": field.name, "unit": field.unit, "scale": scale, "spread_scale": spread}
    return [
        TableOneRow(
            **common,
            statistic="mean (sd)",
            real=_moments(real, cell),
            synthetic=_moments(synthetic, cell),
            smd=standardised_difference(real, synthetic) if len(real) >= max(cell, 2) else None,
            smd_holdout=standardised_difference(real, held)
            if min(len(real), len(held)) >= max(cell, 2)
            else None,
        ),
        TableOneRow(
            **common,
            statistic="median [Q1, Q3]",
            real=_quartiles(real, cell),
            synthetic=_quartiles(synthetic, cell),
        ),
    ]


def _scales(field: Field) -> tuple[str, str]:
    if field.type in ("date", "datetime"):
        return field.type, "days"
    return ("time", "seconds") if field.type == "time" else ("number", "number")


def _finite(field: Field, column: pd.Series | None) -> Floats:
    if column is None:
        return np.zeros(0)
    values = numbers(field, column)
    return values[np.isfinite(values)]


def _moments(values: Floats, cell: int) -> tuple[float, ...] | None:
    if len(values) < max(cell, 2):
        return None
    found = (float(values.mean()), float(values.std(ddof=1)))
    return found if all(map(math.isfinite, found)) else None


def _quartiles(values: Floats, cell: int) -> tuple[float, ...] | None:
    # Each quartile is a mean of as many values as make a cell: none is a person's.
    if len(values) < max(4 * cell, 4):
        return None
    low, middle, high = safe_quantiles(values, QUARTILES, max(cell, 1))
    return middle, low, high


def standardised_difference(one: Floats, other: Floats) -> float | None:
    """Return |difference of means| in pooled standard deviations (Austin 2009, Stat Med 28:3083).

    Parameters
    ----------
    one, other : ndarray of float64, shape (n,), (m,)
        Present values.

    Returns
    -------
    float or None
        0 where both are the same constant; None where it has no value.
    """
    if len(one) < 2 or len(other) < 2:
        return None
    apart = abs(float(one.mean()) - float(other.mean()))
    spread = math.sqrt((float(one.var(ddof=1)) + float(other.var(ddof=1))) / 2)
    if not math.isfinite(apart) or not math.isfinite(spread):
        return None
    if spread == 0:
        return 0.0 if apart == 0 else None
    return apart / spread


def categorical_difference(one: Floats, other: Floats) -> float | None:
    """Return the standardised difference of two vectors of shares (Yang & Dalton 2012, SAS Global Forum 335).

    Parameters
    ----------
    one, other : ndarray of float64, shape (k,)
        Shares of the same levels, each summing to 1.

    Returns
    -------
    float or None
        √(dᵀ S⁻¹ d) over all levels but the first, S the mean of the two multinomial covariances; None where a
        level is empty on both sides or the covariance cannot be inverted.
    """
    keep = (one + other) > 0
    one, other = one[keep], other[keep]
    if len(one) < 2:
        return 0.0
    first, second = one[1:], other[1:]
    apart = first - second
    covariance = sum(np.diag(share) - np.outer(share, share) for share in (first, second)) / 2
    try:
        square = float(apart @ np.linalg.solve(covariance, apart))
    except np.linalg.LinAlgError:
        return 0.0 if not apart.any() else None
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else None


def _levels(
    field: Field, train: pd.Series | None, holdout: pd.Series | None, made: pd.Series, cell: int
) -> list[TableOneRow]:
    levels = field.levels or ()
    synthetic = _counts(field, made, len(levels))
    real = None if train is None else _counts(field, train, len(levels))
    held = None if holdout is None else _counts(field, holdout, len(levels))
    if real is not None and real.sum() < cell:
        real = None
    basis = synthetic if real is None else real
    if basis.sum() < max(cell, 1) or not synthetic.sum():
        return []
    named = named_levels(basis, cell)
    if not named:
        return []
    rest = [place for place in range(len(levels)) if place not in set(named)]
    groups = [[place] for place in named] + (
        [rest] if rest and (basis[rest].sum() or synthetic[rest].sum()) else []
    )
    texts = [level_text(levels[place]) for place in named] + [OTHER_LEVELS] * (len(groups) - len(named))
    made_counts = _grouped(synthetic, groups)
    real_counts = None if real is None else _grouped(real, groups)
    smd = smd_holdout = None
    if real_counts is not None:
        smd = categorical_difference(real_counts / real_counts.sum(), made_counts / made_counts.sum())
        if held is not None and held.sum() >= cell:
            held_counts = _grouped(held, groups)
            smd_holdout = categorical_difference(
                real_counts / real_counts.sum(), held_counts / held_counts.sum()
            )
    said = None if real_counts is None or train is None else _said(real_counts, len(train), cell)
    rows = []
    for place, text in enumerate(texts):
        rows.append(
            TableOneRow(
                column=field.name,
                statistic="n (%)",
                level=text,
                scale="count",
                real=None if said is None else said[place],
                synthetic=_part(made_counts, place),
                smd=smd if place == 0 else None,
                smd_holdout=smd_holdout if place == 0 else None,
            )
        )
    return rows


def _counts(field: Field, column: pd.Series, n_levels: int) -> Codes:
    values = codes(field, column)
    return np.bincount(values[values >= 0], minlength=n_levels)


def _grouped(counts: Codes, groups: list[list[int]]) -> Floats:
    return np.array([counts[group].sum() for group in groups], dtype=np.float64)


def _said(counts: Floats, rows: int, cell: int) -> list[tuple[float, float]]:
    """Return what is said of real counts: rounded where their sum would give away how few are missing."""
    absent = rows - int(counts.sum())
    if absent == 0 or absent >= cell:
        return [_part(counts, place) for place in range(len(counts))]
    return [
        (float(rounded_count(int(count), cell) or 0), round(float(count / counts.sum()), 2))
        for count in counts
    ]


def _part(counts: Floats, place: int) -> tuple[float, float]:
    return float(counts[place]), float(counts[place] / counts.sum())


def _missing(field: Field, train: pd.Series | None, made: pd.Series, cell: int) -> list[TableOneRow]:
    absent = len(made) - int(present(made).sum())
    real: tuple[float, float] | None = None
    note = ""
    real_absent = 0
    if train is not None:
        real_absent = len(train) - int(present(train).sum())
        if len(train) - real_absent >= cell and (real_absent == 0 or real_absent >= cell):
            real = (float(real_absent), real_absent / len(train))
        else:
            there = len(train) - real_absent
            note = say_count(real_absent, cell) if real_absent < cell else f"all but {say_count(there, cell)}"
    if absent == 0 and real_absent == 0:
        return []
    return [
        TableOneRow(
            column=field.name,
            statistic="missing",
            scale="count",
            real=real,
            real_note=note,
            synthetic=(float(absent), absent / len(made)),
        )
    ]
