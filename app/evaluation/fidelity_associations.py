"""Fidelity of pairs of columns: are the associations of the real table kept, whatever the columns' types.

All pairs of a table are measured at once, from one matrix of products of ranks and level indicators, so that
hundreds of columns take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.bootstrap import (
    folding,
    jackknife_error,
    mid_ranks,
    person_codes,
    random_groups,
    t_interval,
)
from app.evaluation.columns import (
    Codes,
    Floats,
    cell_rows,
    codes,
    ordinals,
    pooled,
)
from app.schema.table import Field

MOST_ROWS = 100_000
"""Rows of a table that are looked at; of a longer one a random sample (error of a correlation: 0.003)."""

MOST_PARTS = 12
"""Levels of a category that are kept apart; the rest, and levels of too few real rows, are pooled."""

WIDE = 100
"""From so many columns on, fewer levels are kept apart and the interval rests on fewer groups."""

SHOWN_PAIRS = 300
SHOWN_COLUMNS = 40

_STREAM = 4101


@dataclass(frozen=True, slots=True)
class _Pairs:
    """All columns of one kind of table as one matrix: ranks and their presence, then level indicators."""

    ordered: tuple[Field, ...]
    nominal: tuple[Field, ...]
    places: tuple[Codes, ...]
    """For each nominal field the part of each of its levels."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.ordered + self.nominal

    @property
    def starts(self) -> Codes:
        widths = [0, *(int(place.max()) + 1 for place in self.places)]
        return np.cumsum(widths)

    def matrix(self, frame: pd.DataFrame) -> NDArray[np.floating[Any]]:
        """Return ranks, squared ranks, presence, indicators: shape (n, 3·ordered + parts)."""
        n, p, starts = len(frame), len(self.ordered), self.starts
        width = 3 * p + int(starts[-1])
        # Single precision halves the time of wide tables; it holds products of 100,000 ranks to 1e-5.
        result = np.zeros((n, width), dtype=np.float32 if width > 600 else np.float64)
        for place, field in enumerate(self.ordered):
            values = ordinals(field, frame[field.name])
            there = ~np.isnan(values)
            ranks = scaled_ranks(values[there])
            result[there, place] = ranks
            result[there, p + place] = ranks**2
            result[there, 2 * p + place] = 1
        for field, parts, start in zip(self.nominal, self.places, starts[:-1], strict=True):
            found = codes(field, frame[field.name])
            there = np.flatnonzero(found >= 0)
            result[there, 3 * p + start + parts[found[there]]] = 1
        return result

    def associations(self, gram: Floats, least: int) -> Floats:
        """Return the associations of all pairs from the matrix of products, NaN where there is none.

        Pairs with fewer than `least` rows where both are present have none.
        """
        p, starts = len(self.ordered), self.starts
        result = np.full((len(self.fields),) * 2, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            result[:p, :p] = correlations(gram, p, least, 1e-6)
            if self.nominal:
                ratios = _correlation_ratios(gram, p, starts[:-1], least)
                result[p:, :p], result[:p, p:] = ratios, ratios.T
                result[p:, p:] = _cramers_v(gram[3 * p :, 3 * p :], starts[:-1], least)
        np.fill_diagonal(result, np.nan)
        return result


def scaled_ranks(values: Floats) -> Floats:
    """Return mid-ranks scaled to mean 0 and variance 1; all 0 where the values are constant."""
    ranks = mid_ranks(values)
    if len(ranks) == 0:
        return ranks
    centred = ranks - (len(ranks) + 1) / 2
    spread = float(np.sqrt((centred**2).mean()))
    return centred / spread if spread > 0 else centred


def correlations(gram: Floats, p: int, least: int, floor: float) -> Floats:
    """Return Pearson's correlations over the rows where both columns of a pair are present.

    Parameters
    ----------
    gram : ndarray of float64, shape (≥ 3p, ≥ 3p)
        Products of a matrix whose first columns are p columns, their squares and their presence, 0 where
        missing.
    least : int
        Fewer rows where both are present give NaN.
    floor : float
        So does a variance up to this; columns have variance 1 or so.
    """
    x, square, there = slice(0, p), slice(p, 2 * p), slice(2 * p, 3 * p)
    counts = gram[there, there]
    n = np.maximum(counts, 1)
    means = gram[x, there] / n  # of the row's column, over rows where the other one is present as well
    spread = gram[square, there] / n - means**2
    shared = gram[x, x] / n - means * means.T
    usable = (counts >= max(least, 4)) & (spread > floor) & (floor < spread.T)
    scale = np.where(usable, spread * spread.T, 1.0)
    return np.where(usable, np.clip(shared / np.sqrt(scale), -1, 1), np.nan)


def _correlation_ratios(gram: Floats, p: int, starts: Codes, least: int) -> Floats:
    """η of ranks by level, corrected for chance (ε, Kelley 1935); shape (nominal, ordered)."""
    parts = gram[3 * p :, : 3 * p]
    sums, squares, counts = parts[:, :p], parts[:, p : 2 * p], parts[:, 2 * p :]
    n = np.add.reduceat(counts, starts, axis=0)
    total_sum = np.add.reduceat(sums, starts, axis=0)
    total = np.add.reduceat(squares, starts, axis=0) - total_sum**2 / n
    means = np.where(counts > 0.5, sums**2 / np.maximum(counts, 1), 0.0)
    between = np.add.reduceat(means, starts, axis=0) - total_sum**2 / n
    levels = np.add.reduceat((counts > 0.5).astype(np.float64), starts, axis=0)
    ratio = 1 - (1 - between / total) * (n - 1) / (n - levels)
    usable = (n >= max(least, 4)) & (levels >= 2) & (n > levels) & (total / n > 1e-6)
    return np.where(usable, np.sqrt(np.clip(ratio, 0, 1)), np.nan)


def _cramers_v(counts: Floats, starts: Codes, least: int) -> Floats:
    """Cramér's V, corrected for chance (Bergsma 2013); shape (nominal, nominal)."""
    widths = np.diff(np.append(starts, len(counts)))
    # Of each part, how many rows have the other column present.
    rows = np.add.reduceat(counts, starts, axis=1)
    expected = np.repeat(rows, widths, axis=1)
    expected *= np.repeat(rows, widths, axis=1).T
    cells = np.divide(counts**2, expected, out=np.zeros_like(counts), where=expected > 0.25)
    phi2 = np.add.reduceat(np.add.reduceat(cells, starts, axis=0), starts, axis=1) - 1
    n = np.add.reduceat(rows, starts, axis=0)
    levels = np.add.reduceat((rows > 0.5).astype(np.float64), starts, axis=0)
    others = levels.T
    corrected = np.maximum(phi2 - (levels - 1) * (others - 1) / (n - 1), 0)
    fewer = np.minimum(levels - (levels - 1) ** 2 / (n - 1), others - (others - 1) ** 2 / (n - 1)) - 1
    usable = (n >= max(least, 4)) & (levels >= 2) & (others >= 2) & (fewer > 0)
    return np.where(usable, np.sqrt(np.clip(corrected / fewer, 0, 1)), np.nan)


class AssociationSimilarity:
    """1 − the mean difference of associations, pairs weighted by how strongly the real table ties them.

    Notes
    -----
    Numbers, dates, ordered and two-level categories among each other: Spearman's rank correlation (of two
    two-level columns that is the phi coefficient), which has a sign. Other categories with these: the
    correlation ratio of ranks. Categories among each other: Cramér's V. The last two are corrected for what
    chance adds, so that tables of different length compare. A pair that varies in the real table and not in
    the synthetic one counts as not associated there. A difference counts as 1 at most. A pair's weight is
    the square of its real association, 0 where that is no more than chance may bring (4 / train rows).
    """

    name: ClassVar[str] = "association_similarity"
    title: ClassVar[str] = "Associations of pairs of columns, of all types"
    dimension: ClassVar[Dimension] = "fidelity"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 30, "synthetic": 2}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds the pairs that differ most, weighted."""
        assert tables.train is not None  # `needs` says so
        least = max(cell_rows(tables), 4)
        rng = np.random.default_rng([tables.seed, _STREAM])
        train = at_most(tables.train, rng)
        synthetic = at_most(pooled(tables), rng)
        pairs = _pairs_of(tables, train, least)
        if len(pairs.fields) < 2:
            return NotMeasured("there are fewer than 2 columns other than ids and free text")
        groups = 10 if len(pairs.fields) > WIDE else 20
        real = _Measured(pairs, train, tables.group, least, groups, rng)
        made = _Measured(pairs, synthetic, tables.group, 4, groups, rng)
        upper = np.triu(~np.isnan(real.all), 1)
        if not upper.any():
            return NotMeasured(
                f"no pair of columns has {least} rows of the train part where both are present and vary"
            )
        # Hundreds of pairs that are associated by chance alone would drown the few that matter.
        squares = np.where(upper, np.nan_to_num(real.all) ** 2, 0.0)
        weights = np.where(squares > 4 / len(train), squares, 0.0)
        if weights.sum() == 0:
            weights = upper.astype(np.float64)
        value = _similarity(real.all, made.all, weights)
        left_out = np.nan_to_num(np.array(real.left_out())), np.nan_to_num(np.array(made.left_out()))
        single = np.hypot(jackknife_error(left_out[0]), jackknife_error(left_out[1]))
        gaps = np.nan_to_num(made.all) - np.nan_to_num(real.all)
        factor = folding(gaps[upper], single[upper], weights[upper])
        without = (
            [_similarity(one, made.all, weights) for one in left_out[0]],
            [_similarity(real.all, one, weights) for one in left_out[1]],
        )
        errors = [(factor * float(jackknife_error(np.array(one))), len(one)) for one in without]
        held = baseline = None
        if tables.holdout is not None and len(tables.holdout) >= least:
            held = pairs.associations(gram_of(pairs.matrix(at_most(tables.holdout, rng))), least)
            baseline = _similarity(real.all, held, weights)
        return self._score(
            pairs, real.all, made.all, held, weights, value, baseline, errors, (train, synthetic)
        )

    def _score(
        self,
        pairs: _Pairs,
        real: Floats,
        made: Floats,
        held: Floats | None,
        weights: Floats,
        value: float,
        baseline: float | None,
        errors: list[tuple[float, int]],
        samples: tuple[pd.DataFrame, pd.DataFrame],
    ) -> Score:
        names = [field.name for field in pairs.fields]
        upper = np.triu(~np.isnan(real), 1)
        distance = np.where(upper, _distance(real, made), 0.0)
        places = np.argwhere(upper)
        furthest = sorted(
            places.tolist(),
            key=lambda pair: (
                -weights[*pair] * distance[*pair],
                -distance[*pair],
                names[pair[0]],
                names[pair[1]],
            ),
        )
        table = [
            {
                "columns": f"{names[i]} × {names[j]}",
                "first": names[i],
                "second": names[j],
                "measure": _measure_of(pairs.fields[i], pairs.fields[j], pairs),
                "real": _rounded(real[i, j]),
                "synthetic": _rounded(made[i, j]),
                "difference": _rounded(np.nan_to_num(made[i, j]) - real[i, j]),
                "weight": round(float(weights[i, j]), 6),
                "value": _rounded(1 - distance[i, j]),
                "baseline": None if held is None else _rounded(1 - _distance(real, held)[i, j]),
            }
            for i, j in furthest[:SHOWN_PAIRS]
        ]
        i, j = furthest[0]
        reading = (
            f"The associations of {len(places):,} pairs of columns, weighted by their squared strength in "
            f"the real table, are {1 - value:.3f} off on average"
            + (f" (the real holdout: {1 - baseline:.3f})" if baseline is not None else "")
            + f". Furthest: {names[i]} × {names[j]}, {real[i, j]:.2f} in the real table, "
            + ("no variation" if np.isnan(made[i, j]) else f"{made[i, j]:.2f}")
            + " in the synthetic rows."
        )
        spurious = np.where(upper & (np.abs(np.nan_to_num(real)) < 0.1), np.abs(np.nan_to_num(made)), 0.0)
        return Score(
            value=value,
            interval=t_interval(value, errors, self.bounds),
            baseline=baseline,
            reading=reading,
            details={
                "aggregate": "1 − Σ weight · min(|difference|, 1) / Σ weight over all pairs; weight = real² "
                "where that is above 4 / train rows, else 0 (1 for all pairs where none is above)"
                + ("" if len(places) <= SHOWN_PAIRS else f"; the table shows the {SHOWN_PAIRS} furthest"),
                "table": table,
                "pairs": len(places),
                "unweighted": _rounded(1 - distance[upper].mean()),
                "largest_where_the_real_one_is_below_0.1": _rounded(spurious.max()),
                "interval": "delete-a-group jackknife over rows of both tables, 95 %",
                "rows": {"train": len(samples[0]), "synthetic": len(samples[1])},
                "pictures": [_picture(names, real, made, weights * distance)],
            },
        )


class _Measured:
    """The associations of one table, and again without each of some random groups of rows."""

    def __init__(
        self,
        pairs: _Pairs,
        frame: pd.DataFrame,
        group: str | None,
        least: int,
        groups: int,
        rng: np.random.Generator,
    ) -> None:
        persons = person_codes(frame[group]) if group is not None and len(frame) else None
        self._dealt = random_groups(rng, len(frame), groups, persons)
        self._matrix = pairs.matrix(frame)
        self._pairs = pairs
        self._total = gram_of(self._matrix)
        self.all = pairs.associations(self._total, least)

    def left_out(self) -> list[Floats]:
        """Return the associations without each group in turn."""
        return [
            self._pairs.associations(self._total - gram_of(self._matrix[self._dealt == one]), 4)
            for one in range(int(self._dealt.max(initial=-1)) + 1)
        ]


def gram_of(matrix: NDArray[np.floating[Any]]) -> Floats:
    """Return the products of all pairs of columns."""
    return np.asarray(matrix.T @ matrix, dtype=np.float64)


def _distance(real: Floats, other: Floats) -> Floats:
    result: Floats = np.minimum(np.abs(np.nan_to_num(real) - np.nan_to_num(other)), 1.0)
    return result


def _similarity(real: Floats, other: Floats, weights: Floats) -> float:
    return 1.0 - float((weights * _distance(real, other)).sum() / weights.sum())


def _pairs_of(tables: Tables, train: pd.DataFrame, least: int) -> _Pairs:
    fields = [
        field
        for field in tables.schema.fields
        if field.kind not in ("id", "text") and field.name != tables.group
    ]
    nominal = [field for field in fields if _is_nominal(field)]
    most = MOST_PARTS if len(fields) <= WIDE else MOST_PARTS // 2
    places = [_parts(field, codes(field, train[field.name]), least, most) for field in nominal]
    return _Pairs(tuple(field for field in fields if not _is_nominal(field)), tuple(nominal), tuple(places))


def _is_nominal(field: Field) -> bool:
    return field.levels is not None and not field.ordered and len(field.levels) != 2


def _parts(field: Field, found: Codes, least: int, most: int) -> Codes:
    """Return the part of each level: the frequent ones have their own, the rest share one."""
    size = len(field.levels or ())
    counts = np.bincount(found[found >= 0], minlength=size)
    kept = [int(place) for place in np.argsort(-counts, kind="stable")[:most] if counts[place] >= least]
    parts = np.full(max(size, 1), len(kept), dtype=np.int64)
    parts[kept] = np.arange(len(kept))
    return parts


def _measure_of(first: Field, second: Field, pairs: _Pairs) -> str:
    nominal = (first in pairs.nominal) + (second in pairs.nominal)
    return ("spearman", "correlation_ratio", "cramers_v")[nominal]


def _rounded(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 4) + 0.0  # no −0


def _picture(names: Sequence[str], real: Floats, made: Floats, heat: Floats) -> dict[str, Any]:
    both = heat + heat.T
    shown = np.sort(np.argsort(-both.sum(axis=0), kind="stable")[:SHOWN_COLUMNS])
    title = "Associations of pairs of columns"
    if len(shown) < len(names):
        title += f" (the {len(shown)} of {len(names)} columns that differ most)"

    def cells(matrix: Floats) -> list[list[float | None]]:
        return [
            [None if np.isnan(cell) else round(float(cell), 3) + 0.0 for cell in row]
            for row in matrix[np.ix_(shown, shown)]
        ]

    return {
        "kind": "matrix",
        "title": title,
        "labels": [names[place] for place in shown],
        "real": cells(real),
        "synthetic": cells(made),
        "difference": cells(np.where(np.isnan(real), np.nan, np.nan_to_num(made) - real)),
    }


def at_most(frame: pd.DataFrame, rng: np.random.Generator, rows: int = MOST_ROWS) -> pd.DataFrame:
    """Return `frame`, or a random sample of `rows` of its rows."""
    return frame if len(frame) <= rows else frame.iloc[np.sort(rng.permutation(len(frame))[:rows])]
