"""Singling out (Giomi et al. 2022, arXiv 2211.10459): predicates that isolate one synthetic row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from app.evaluation.base import Score, Tables
from app.evaluation.columns import Codes, Floats
from app.evaluation.intervals import never_below_zero
from app.evaluation.privacy_attacks import intervals_picture
from app.evaluation.privacy_distance import MOST_ROWS, Space, content_order, sampled
from app.evaluation.privacy_persons import OnPersons
from app.evaluation.privacy_rates import Rate, Z, one_in, rate
from app.rows_needed import MOST_ATTACKS

_FEWEST_ATTACKS = 2_000
_TRIES = 60
_COLUMNS = 3
_CROWD = 20
_SPLITS, _SPLITS_AT_ONCE = 400, 50
_BLOCK_ENTRIES = 500_000
_FIRST_ROWS = 300


class SinglingOut(OnPersons):
    """Advantage of isolating exactly one training person by a predicate that isolates one synthetic row."""

    name: ClassVar[str] = "singling_out_advantage"
    title: ClassVar[str] = "Singling out: attack advantage over the holdout baseline"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def measure_on(self, tables: Tables, space: Space) -> Score:
        """Measure on all real persons."""
        rng = np.random.default_rng([tables.seed, 4010])
        # More synthetic rows than train persons would isolate ever rarer corners, where nobody is.
        made = sampled(space.synthetic, min(len(space.train), MOST_ROWS), rng)
        attacks = min(max(_FEWEST_ATTACKS, len(space.train), len(space.holdout)), MOST_ATTACKS)
        edges = _edges(space, made)
        one_column = edges.some(np.flatnonzero(edges.counts(made) == 1)[: attacks // 4])
        several = _combinations(space, made, attacks - len(one_column), rng)
        predicates = one_column.followed_by(several)
        kinds = {
            "univariate": slice(len(one_column)),
            "multivariate": slice(len(one_column), None),
            "all": slice(None),
        }
        found = _tried(space, predicates, kinds, tables.seed)
        every = found["all"]
        return Score(
            value=every.gain.value,
            interval=(every.gain.low, every.gain.high),
            baseline=0.0,
            reading=(
                f"{every.train:.2%} of {len(predicates):,} guesses that isolate a synthetic row isolate "
                f"exactly one training person; {every.holdout:.2%} would without memory of them. The "
                f"advantage is {every.gain.value:.3f}, at most {every.gain.high:.3f}."
            ),
            details={
                "aggregate": "(train − holdout) / (1 − holdout) of the row 'all'",
                "table": [
                    {"attack": name, "attacks": len(predicates.some(kinds[name])), "train_rate": item.train,
                     "holdout_rate": item.holdout, "advantage": item.gain.value, "low": item.gain.low,
                     "high": item.gain.high}
                    for name, item in found.items()
                ],
                "synthetic_rows": len(made),
                "train_persons": len(space.train),
                "holdout_persons": len(space.holdout),
                "seed": tables.seed,
                "interval": f"95 %, from {_SPLITS} splits of the same persons drawn anew (permutation "
                "test), unified at 0 (Feldman & Cousins 1998); its upper end is never below that of no "
                "success in the smaller part (Wilson)",
                "size": "the holdout's rate is carried over to the size of the train part: train persons "
                "count in all samples as large as the smaller part (hypergeometric)",
                "pictures": [
                    intervals_picture("Singling out", [(name, item.gain) for name, item in found.items()])
                ],
            },
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tried:
    train: float
    holdout: float
    gain: Rate


_MISSING, _IS, _AT_LEAST, _AT_MOST = range(4)


@dataclass(frozen=True, slots=True)
class _Predicates:
    """Each of k predicates joins c conditions (one on a single column stands c times).

    Parameters
    ----------
    places, kinds : ndarray of int64, shape (k, c)
        Columns, and how the value is compared.
    values : ndarray of float64, shape (k, c)
        0 where `kinds` asks for a missing value.
    """

    places: Codes
    kinds: Codes
    values: Floats

    def __len__(self) -> int:
        return len(self.places)

    def some(self, chosen: Codes | slice) -> _Predicates:
        return _Predicates(self.places[chosen], self.kinds[chosen], self.values[chosen])

    def followed_by(self, others: _Predicates) -> _Predicates:
        return _Predicates(
            np.concatenate([self.places, others.places]),
            np.concatenate([self.kinds, others.kinds]),
            np.concatenate([self.values, others.values]),
        )

    def selected(self, raw: Floats) -> Iterator[NDArray[np.bool_]]:
        """Yield which rows each predicate holds for, in blocks of shape (some predicates, n)."""
        coded, lows, spans = self._coded(raw)
        step = max(_BLOCK_ENTRIES // max(len(raw), 1), 1)
        for start in range(0, len(self), step):
            here = slice(start, start + step)
            rows = np.ones((len(self.places[here]), len(raw)), dtype=np.bool_)
            for places, low, span in zip(self.places[here].T, lows[here].T, spans[here].T, strict=True):
                # A code below `low` wraps round to a large one: one comparison for both ends.
                above = coded[places]
                above -= low[:, None]
                rows &= above <= span[:, None]
            yield rows

    def _coded(self, raw: Floats) -> tuple[NDArray[np.unsignedinteger[Any]], ...]:
        """Return values as small whole numbers, and each condition as their least one and how many more.

        The predicates' values on a column cut its numbers into places: 2j + 1 is the j-th value itself, 2j
        what lies between. A missing value has a place beyond all. (14x on 5,000 × 10,000, 3 conditions)
        """
        lows, highs = np.zeros((2, *self.places.shape), dtype=np.int64)
        coded = np.zeros((raw.shape[1], len(raw)), dtype=np.int64)
        for place in np.unique(self.places):
            own = self.places == place
            values = np.unique(self.values[own])
            column = raw[:, place]
            missing = 2 * len(values) + 1
            found = np.searchsorted(values, column)
            coded[place] = 2 * found + (values[np.minimum(found, len(values) - 1)] == column)
            coded[place, np.isnan(column)] = missing
            at, kinds = 2 * np.searchsorted(values, self.values[own]) + 1, self.kinds[own]
            lows[own] = np.select([kinds == _MISSING, kinds == _AT_MOST], [missing, 0], at)
            highs[own] = np.select([kinds == _MISSING, kinds == _AT_LEAST], [missing, missing - 1], at)
        kind = np.uint16 if len(self.values) * self.values.shape[1] < 30_000 else np.uint32
        return coded.astype(kind), lows.astype(kind), (highs - lows).astype(kind)

    def counts(self, raw: Floats) -> Codes:
        """Return for how many rows each predicate holds."""
        blocks = [np.count_nonzero(rows, axis=1) for rows in self.selected(raw)]
        return np.concatenate([np.empty(0, dtype=np.int64), *blocks]).astype(np.int64)


def _edges(space: Space, made: Floats) -> _Predicates:
    """Return predicates on one column: its missing value, its extremes, its levels."""
    found: list[tuple[int, int, float]] = []
    for place in range(len(space.fields)):
        column = made[:, place]
        present = column[~np.isnan(column)]
        if len(present) < len(column):
            found.append((place, _MISSING, 0.0))
        if not len(present):
            continue
        if space.scales[place] == 0:
            found += [(place, _IS, float(level)) for level in np.unique(present)]
        else:
            found += [(place, _AT_MOST, float(present.min())), (place, _AT_LEAST, float(present.max()))]
    conditions = np.array(found, dtype=np.float64).reshape(-1, 3, 1).repeat(_COLUMNS, axis=2)
    return _Predicates(conditions[:, 0].astype(np.int64), conditions[:, 1].astype(np.int64), conditions[:, 2])


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A table as the ranks of its values within their columns: all that isolating a row takes.

    Parameters
    ----------
    ranks : ndarray of uint16, shape (p, n)
        Columns in rows; a missing value ranks beyond all.
    tops : ndarray of int64, shape (p,)
        Distinct values of each column.
    """

    ranks: NDArray[np.uint16]
    tops: Codes

    @classmethod
    def of(cls, raw: Floats) -> _Ranked:
        """Rank at most 65,000 rows."""
        ranks, tops = np.empty(raw.T.shape, dtype=np.uint16), []
        for place, column in enumerate(raw.T):
            values = np.unique(column[~np.isnan(column)])
            ranks[place] = np.where(np.isnan(column), len(values), np.searchsorted(values, column))
            tops.append(len(values))
        return cls(ranks, np.array(tops, dtype=np.int64))

    def isolated(self, places: Codes, kinds: Codes, rows: Codes) -> Codes:
        """Return which predicates, on these columns of these rows, hold for their own row alone."""
        at = self.ranks[places, rows].astype(np.int64)
        low = np.where(kinds == _AT_MOST, 0, at)
        span = np.where(kinds == _AT_LEAST, self.tops[places] - 1, at) - low
        lows, spans = low.astype(np.uint16), span.astype(np.uint16)
        kept = np.arange(len(places))
        # What holds for several of some rows need not be tried on all.
        for some in (_FIRST_ROWS, self.ranks.shape[1]):
            ranks = np.ascontiguousarray(self.ranks[:, :some])
            held = [
                self._held(ranks, places[block], lows[block], spans[block])
                for block in np.array_split(kept, len(kept) * ranks.shape[1] // _BLOCK_ENTRIES + 1)
            ]
            kept = kept[np.concatenate(held) <= 1]
        result: Codes = kept
        return result

    @staticmethod
    def _held(
        ranks: NDArray[np.uint16], places: Codes, lows: NDArray[np.uint16], spans: NDArray[np.uint16]
    ) -> Codes:
        """Count the rows that each predicate holds for."""
        rows = np.ones((len(places), ranks.shape[1]), dtype=np.bool_)
        for column, low, span in zip(places.T, lows.T, spans.T, strict=True):
            # A rank below `low` wraps round to a large one: one comparison for both ends.
            above = ranks[column]
            above -= low[:, None]
            rows &= above <= span[:, None]
        held: Codes = np.count_nonzero(rows, axis=1)
        return held


def _combinations(space: Space, made: Floats, wanted: int, rng: np.random.Generator) -> _Predicates:
    """Return distinct predicates on some columns of a drawn synthetic row, each isolating that row."""
    width = len(space.fields)
    if width < 2:
        return _edges(space, made[:0])
    middles = np.array(
        [np.median(present) if len(present := column[~np.isnan(column)]) else 0.0 for column in made.T]
    )
    levels = space.scales == 0
    ranked, drawn = _Ranked.of(made), min(_COLUMNS, width)
    found: list[NDArray[Any]] = []
    known = np.empty(0, dtype=np.uint64)
    for _ in range(_TRIES):
        rows = rng.integers(0, len(made), wanted)[:, None]
        columns = np.sort(rng.random((wanted, width)).argpartition(drawn - 1, axis=1)[:, :drawn], axis=1)
        places = np.sort(columns[:, np.arange(_COLUMNS) % drawn], axis=1)
        values = made[rows, places]
        kinds = np.where(values > middles[places], _AT_LEAST, _AT_MOST)
        kinds = np.where(levels[places], _IS, kinds)
        kinds = np.where(np.isnan(values), _MISSING, kinds)
        alone = ranked.isolated(places, kinds, rows)
        tried = np.stack([places, kinds, np.nan_to_num(values)])[:, alone]
        keys = content_order(np.hstack(list(tried)))
        new = np.sort(np.unique(keys, return_index=True)[1])
        new = new[~np.isin(keys[new], known)]
        known = np.concatenate([known, keys[new]])
        found.append(tried[:, new])
        if len(known) >= wanted:
            break
    places, kinds, values = np.concatenate(found, axis=1)[:, :wanted]
    return _Predicates(places.astype(np.int64), kinds.astype(np.int64), values)


def _tried(space: Space, predicates: _Predicates, kinds: Mapping[str, slice], seed: int) -> dict[str, _Tried]:
    """Try predicates on both parts, compared at the same number of persons.

    Notes
    -----
    Whether one of n persons is isolated depends on n. So both rates are taken at the size of the smaller part
    (of the larger one the mean over all its samples of that size, exact), and their difference is carried
    over to the size of the train part: who is isolated in it is in such a sample with chance m / n.

    The interval is the difference less its null distribution: over splits of the same persons that are drawn
    anew, with all that the predicates have in common.
    """
    n, persons = len(space.train), min(len(space.train), len(space.holdout))
    held = _held(space, predicates, persons)
    split = np.zeros((held.shape[1], 1), dtype=np.float32)
    split[:n] = 1
    rng = np.random.default_rng([seed, 4013])
    observed = _isolated(held, split, persons)
    drawn = [
        _isolated(held, rng.permuted(np.tile(split, _SPLITS_AT_ONCE), axis=0), persons)
        for _ in range(_SPLITS // _SPLITS_AT_ONCE)
    ]
    found = {}
    nothing = rate(np.zeros(min(persons, MOST_ATTACKS))).high
    for name, part in kinds.items():
        if not len(predicates.some(part)):
            found[name] = _Tried(0.0, 0.0, Rate(0.0, -nothing, nothing))
            continue
        train_rate = float(observed.train[part].mean())
        excess = float(observed.excess[part].mean())
        null = np.concatenate([item.excess[part].mean(axis=0) for item in drawn])
        least, most = (float(end) for end in np.quantile(null, [0.025, 0.975]))
        holdout_rate = min(max(train_rate - excess, 0.0), 1.0)
        # There is no negative memory: what is more than chance brings in one of twenty cases is some.
        lowest = never_below_zero(excess, most / Z)[0] or excess - most
        value, low, high = (_gained(item, holdout_rate) for item in (excess, lowest, excess - least))
        # So few persons cannot show less, however the luck of the split falls (`app.rows_needed`).
        gain = Rate(value, min(low, value), max(high, value, nothing))
        found[name] = _Tried(train_rate, holdout_rate, gain)
    return found


@dataclass(frozen=True, slots=True)
class _Isolated:
    """For each predicate (rows) and split (columns)."""

    train: NDArray[np.bool_]
    excess: Floats


def _held(space: Space, predicates: _Predicates, persons: int) -> Any:
    """Return a sparse matrix of which predicates hold for which persons, train persons first.

    One that holds for so many that none of them could be alone in the smaller part has an empty row.
    """
    from scipy.sparse import csr_array

    real = np.concatenate([space.train.raw, space.holdout.raw])
    crowd = max(_CROWD * len(real) // persons, _CROWD)
    holders, held = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    done = 0
    for rows in predicates.selected(real):
        few = np.flatnonzero(np.count_nonzero(rows, axis=1) <= crowd)
        at, who = np.nonzero(rows[few])
        holders.append(few[at] + done)
        held.append(who)
        done += len(rows)
    places = (np.concatenate(holders), np.concatenate(held))
    return csr_array((np.ones(len(places[0]), dtype=np.float32), places), shape=(len(predicates), len(real)))


def _isolated(held: Any, splits: NDArray[np.float32], persons: int) -> _Isolated:
    """Return who is alone in the train part, and by how much more than in the holdout, at the train size."""
    in_train = np.rint(held @ splits).astype(np.int64)
    in_holdout = np.rint(held.sum(axis=1)).astype(np.int64)[:, None] - in_train
    n = int(splits[:, 0].sum())
    sizes = (n, len(splits) - n)
    alone = [
        one_in(size, np.arange(int(counts.max(initial=0)) + 1), persons)[counts]
        for size, counts in zip(sizes, (in_train, in_holdout), strict=True)
    ]
    return _Isolated(in_train == 1, (n / persons) * (alone[0] - alone[1]))


def _gained(excess: float, on_holdout: float) -> float:
    """Return the excess as a share of what was left to gain."""
    left = 1 - on_holdout
    if left <= 1e-12:
        return 0.0 if abs(excess) <= 1e-12 else -1.0
    return min(max(excess / left, -1.0), 1.0)
