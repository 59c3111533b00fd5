"""The report's table of columns: missing shares and small distributions, real ones as disclosure allows.

Beside a real table the synthetic rows pass the same functions: a report stays where its rows are withheld,
and a generator that copied would otherwise show real values here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from app.disclosure import outward, pool_levels, safe_histogram, say_count
from app.evaluation.base import Tables
from app.evaluation.columns import Floats, cell_rows, codes, numbers, pooled, present
from app.evaluation.conformance import level_text
from app.evaluation.document import ColumnSummary, Picture
from app.schema.table import Field

SHOWN_LEVELS = 12
"""At most so many levels are drawn; the rest stand together."""

OTHER_LEVELS = "(other levels)"


def summarise(tables: Tables) -> tuple[ColumnSummary, ...]:
    """Summarise every column of the schema, in order."""
    # Without a real table there is nobody to protect, and every bin and level may stand alone.
    synthetic, cell = pooled(tables), 0 if tables.train is None else cell_rows(tables)
    return tuple(_column(field, synthetic, tables.train, cell) for field in tables.schema.fields)


def _column(
    field: Field, synthetic: pd.DataFrame, train: pd.DataFrame | None, min_cell: int
) -> ColumnSummary:
    made = synthetic[field.name]
    train_missing, note = None, ""
    if train is not None and len(train):
        absent = len(train) - int(present(train[field.name]).sum())
        if len(train) - absent >= min_cell and (absent == 0 or absent >= min_cell):
            train_missing = absent / len(train)
        elif absent < min_cell:
            note = f"{say_count(absent, min_cell)} of {len(train)}"
        else:
            note = f"fewer than {min_cell} values are present"
    picture: Picture | None = None
    why = ""
    if field.kind in ("id", "text"):
        why = "ids and free text are not drawn"
    else:
        draw = _levels if field.kind == "categorical" else _bins
        picture = draw(field, made, None if train is None else train[field.name], min_cell)
        if picture is not None and picture.train is not None and train_missing is None:
            # Exact shares would tell how many values they are of, and so the count that is not said.
            shares = tuple(round(share, 2) for share in picture.train)
            picture = picture.model_copy(update={"train": shares})
        if picture is None:
            why = f"fewer than {max(min_cell, 1)} values are present"
    return ColumnSummary(
        name=field.name,
        type=field.type,
        kind=field.kind,
        unit=field.unit,
        synthetic_missing=1 - float(present(made).mean()),
        train_missing=train_missing,
        train_missing_note=note,
        picture=picture,
        picture_note=why,
    )


def _bins(field: Field, made: pd.Series, real: pd.Series | None, min_cell: int) -> Picture | None:
    synthetic = _finite(numbers(field, made))
    train = None if real is None else _finite(numbers(field, real))
    basis = train if train is not None and len(train) >= min_cell else synthetic
    if len(basis) < max(min_cell, 1) or len(synthetic) == 0:
        return None
    histogram = safe_histogram(basis, min_cell, bins=_bin_count(field, basis))
    edges = np.asarray(histogram.edges)
    if basis is synthetic:
        shares, train_shares = np.asarray(histogram.counts) / len(synthetic), None
    else:
        assert train is not None  # it is the basis
        # The last bin holds its upper edge, as NumPy's last bin does.
        inside = np.clip(synthetic, edges[0], edges[-1])
        shares = np.histogram(inside, bins=edges)[0] / len(synthetic)
        train_shares = tuple((np.asarray(histogram.counts) / len(train)).tolist())
    return Picture(edges=histogram.edges, synthetic=tuple(shares.tolist()), train=train_shares)


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _bin_count(field: Field, values: Floats) -> int:
    """Return at most 20, such that a bin of a whole-number field holds whole numbers, as many in each."""
    low, high = outward(float(values.min()), float(values.max()))
    span = high - low
    if field.type not in ("integer", "year", "date") or span != int(span):
        return 20
    return next(count for count in range(20, 0, -1) if int(span) % count == 0)


def _levels(field: Field, made: pd.Series, real: pd.Series | None, min_cell: int) -> Picture | None:
    levels = field.levels or ()
    counts = [_counts(codes(field, made), len(levels))]
    if real is not None:
        counts.append(_counts(codes(field, real), len(levels)))
    speak = [item for item in counts if item.sum() >= min_cell]
    if len(speak) == 0 or counts[0].sum() == 0:
        return None
    basis = speak[-1]
    named = named_levels(basis, min_cell)
    if not named:
        return None
    rest = [place for place in range(len(levels)) if place not in set(named)]
    shown = [level_text(levels[place]) for place in named]
    together = bool(rest) and any(item[rest].sum() for item in counts)
    if together:
        shown.append(OTHER_LEVELS)
    shares = []
    for item in counts:
        parts = [int(item[place]) for place in named] + ([int(item[rest].sum())] if together else [])
        shares.append(tuple(part / max(int(item.sum()), 1) for part in parts))
    real_shares = shares[1] if real is not None and basis is counts[1] else None
    return Picture(levels=tuple(shown), synthetic=shares[0], train=real_shares)


def named_levels(counts: np.ndarray, min_cell: int) -> list[int]:
    """Return the positions of the levels that may be named and are: at most the SHOWN_LEVELS largest."""
    pooling = pool_levels({place: int(count) for place, count in enumerate(counts)}, min_cell)
    return sorted(sorted(pooling.kept, key=lambda place: -int(counts[place]))[:SHOWN_LEVELS])


def _counts(values: np.ndarray, n_levels: int) -> np.ndarray:
    return np.bincount(values[values >= 0], minlength=n_levels)
