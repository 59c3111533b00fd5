"""Attacks on persons with the synthetic rows in hand: singling out, linkability, attribute inference.

As Giomi et al. 2022 (Anonymeter, arXiv 2211.10459) define them: what an attack gains on training persons
over what the same attack gains on holdout persons, whom no generator saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.columns import Codes, Floats
from app.evaluation.privacy_distance import MOST_ROWS, Points, Space, nearest, sampled, space_of
from app.evaluation.privacy_rates import Rate, advantage, one_in, rate, rate_with
from app.rows_needed import MOST_ATTACKS

_ENOUGH: Mapping[str, int] = {"train": 200, "holdout": 80, "synthetic": 1}
_FEWEST_ATTACKS = 1_000
_TRIES = 20
_COLUMNS = 3
_FEW_PERSONS = 200
_BLOCK_ENTRIES = 2_000_000

MOST_TARGETS = 2_000
"""So many persons of each real part are attacked at most."""


class SinglingOut:
    """Advantage of isolating exactly one training person by a predicate that isolates one synthetic row."""

    name: ClassVar[str] = "singling_out_advantage"
    title: ClassVar[str] = "Singling out: attack advantage over the holdout baseline"
    dimension: ClassVar[Dimension] = "privacy"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = _ENOUGH

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure on all real persons."""
        space = space_of(tables)
        if isinstance(space, NotMeasured):
            return space
        rng = np.random.default_rng([tables.seed, 4010])
        persons = min(len(space.train), len(space.holdout))
        # More synthetic rows than train persons would isolate ever rarer corners, where nobody is.
        made = sampled(space.synthetic, min(len(space.train), MOST_ROWS), rng)
        attacks = min(max(_FEWEST_ATTACKS, persons), MOST_ATTACKS)
        edges = _edges(space, made)
        one_column = edges.some(np.flatnonzero(edges.counts(made) == 1)[: attacks // 4])
        several = _combinations(space, made, attacks - len(one_column), rng)
        parts = {
            "univariate": one_column,
            "multivariate": several,
            "all": one_column.followed_by(several),
        }
        found = {name: _tried(space, predicates, persons) for name, predicates in parts.items()}
        every = found["all"]
        return Score(
            value=every.gain.value,
            interval=(every.gain.low, every.gain.high),
            baseline=0.0,
            reading=(
                f"{every.train:.2%} of {len(parts['all']):,} guesses that isolate a synthetic row isolate "
                f"exactly one training person; {every.holdout:.2%} would without memory of them. The "
                f"advantage is {every.gain.value:.3f}, at most {every.gain.high:.3f}."
            ),
            details={
                "aggregate": "(train − holdout) / (1 − holdout) of the row 'all'",
                "table": [
                    {"attack": name, "attacks": len(parts[name]), "train_rate": item.train,
                     "holdout_rate": item.holdout, "advantage": item.gain.value, "low": item.gain.low,
                     "high": item.gain.high}
                    for name, item in found.items()
                ],
                "synthetic_rows": len(made),
                "train_persons": len(space.train),
                "holdout_persons": len(space.holdout),
                "seed": tables.seed,
                "interval": "95 %, Wilson at the number of independent persons behind them (jackknife)",
                "size": "the holdout's rate is carried over to the size of the train part: train persons "
                "count in all samples as large as the smaller part (hypergeometric)",
                "pictures": [_intervals("Singling out", [(name, item.gain) for name, item in found.items()])],
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
        pairs = ((self.places, others.places), (self.kinds, others.kinds), (self.values, others.values))
        return _Predicates(*(np.concatenate(pair) for pair in pairs))

    def distinct(self) -> _Predicates:
        """Return each predicate once, in the order of first appearance."""
        rows = np.column_stack([self.places, self.kinds, self.values])
        return self.some(np.sort(np.unique(rows, axis=0, return_index=True)[1])) if len(rows) else self

    def selected(self, raw: Floats) -> Iterator[NDArray[np.bool_]]:
        """Yield which rows each predicate holds for, in blocks of shape (some predicates, n)."""
        step = max(_BLOCK_ENTRIES // max(len(raw), 1), 1)
        for start in range(0, len(self), step):
            part = self.some(slice(start, start + step))
            rows = np.ones((len(part), len(raw)), dtype=np.bool_)
            for place in np.unique(part.places):
                column = raw[:, place]
                for kind in range(4):
                    at, which = np.nonzero((part.places == place) & (part.kinds == kind))
                    if len(at):
                        rows[at] &= _hold(column, kind, part.values[at, which][:, None])
            yield rows

    def counts(self, raw: Floats) -> Codes:
        """Return for how many rows each predicate holds."""
        blocks = [np.count_nonzero(rows, axis=1) for rows in self.selected(raw)]
        return np.concatenate([np.empty(0, dtype=np.int64), *blocks]).astype(np.int64)


def _hold(column: Floats, kind: int, values: Floats) -> NDArray[np.bool_]:
    result: NDArray[np.bool_]
    if kind == _MISSING:
        result = np.isnan(column)[None, :]
    elif kind == _IS:
        result = column == values
    elif kind == _AT_LEAST:
        result = column >= values
    else:
        result = column <= values
    return result


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
    places, kinds, values = (np.array(item) for item in zip(*found, strict=True)) if found else ([], [], [])
    return _Predicates(
        *(np.repeat(np.asarray(item, dtype=kind)[:, None], _COLUMNS, axis=1)
          for item, kind in ((places, np.int64), (kinds, np.int64), (values, np.float64)))
    )  # fmt: skip


def _combinations(space: Space, made: Floats, wanted: int, rng: np.random.Generator) -> _Predicates:
    """Return distinct predicates on some columns of a drawn synthetic row, each isolating that row."""
    width = len(space.fields)
    found = _edges(space, made[:0])
    if width < 2:
        return found
    middles = np.array(
        [np.median(present) if len(present := column[~np.isnan(column)]) else 0.0 for column in made.T]
    )
    levels = space.scales == 0
    for _ in range(_TRIES):
        rows = rng.integers(0, len(made), wanted)[:, None]
        places = np.sort(
            rng.random((wanted, width)).argsort(axis=1)[:, np.arange(_COLUMNS) % min(_COLUMNS, width)], axis=1
        )
        values = made[rows, places]
        kinds = np.where(values > middles[places], _AT_LEAST, _AT_MOST)
        kinds = np.where(levels[places], _IS, kinds)
        kinds = np.where(np.isnan(values), _MISSING, kinds)
        tried = _Predicates(places, kinds, np.nan_to_num(values))
        isolating = np.flatnonzero(tried.counts(made) == 1)
        found = found.followed_by(tried.some(isolating)).distinct().some(slice(wanted))
        if len(found) == wanted:
            break
    return found


def _tried(space: Space, predicates: _Predicates, persons: int) -> _Tried:
    """Try predicates on both parts, compared at the same number of persons.

    Notes
    -----
    Whether one of n persons is isolated depends on n. So both rates are taken at `persons` (of the larger
    part the mean over all its samples of that size, exact), and their difference is carried over to the size
    of the train part: a person who is isolated in it is in such a sample with chance persons / n.
    """
    if not len(predicates):
        nothing = rate(np.zeros(persons))
        return _Tried(0.0, 0.0, advantage(nothing, nothing))
    on_train, train_rate = _isolated(space.train, predicates, persons)
    on_holdout, _ = _isolated(space.holdout, predicates, persons)
    scale = len(space.train) / persons
    t, h = scale * on_train.value, scale * on_holdout.value
    excess = t - h
    high = excess + np.hypot(
        scale * (on_train.high - on_train.value), scale * (on_holdout.value - on_holdout.low)
    )
    low = excess - np.hypot(
        scale * (on_train.value - on_train.low), scale * (on_holdout.high - on_holdout.value)
    )
    value, least, most = (_gained(train_rate, float(item)) for item in (excess, low, high))
    # So few persons cannot show less, however the luck of the split falls (`app.rows_needed`).
    gain = Rate(value, least, max(most, rate(np.zeros(persons)).high))
    return _Tried(train_rate, min(max(train_rate - excess, 0.0), 1.0), gain)


def _gained(on_train: float, excess: float) -> float:
    left = 1 - max(on_train - excess, 0.0)
    if left <= 1e-12:
        return 0.0 if abs(excess) <= 1e-12 else -1.0
    return min(max(excess / left, -1.0), 1.0)


def _isolated(points: Points, predicates: _Predicates, persons: int) -> tuple[Rate, float]:
    """Return the rate at `persons`, and the plain rate.

    The variance is that of the jackknife over persons: leaving one out changes what each predicate that holds
    for the person isolates.
    """
    n = len(points)
    counts_of: list[Codes] = [np.empty(0, dtype=np.int64)]
    holders, persons_held = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    done = 0
    for rows in predicates.selected(points.raw):
        held = np.count_nonzero(rows, axis=1)
        # Of a predicate that holds for many, one person more or less isolates nobody.
        few = np.flatnonzero(held <= _FEW_PERSONS)
        at, who = np.nonzero(rows[few])
        holders.append(few[at] + done)
        persons_held.append(who)
        counts_of.append(held)
        done += len(rows)
    counts = np.concatenate(counts_of)
    chance = one_in(n, counts, persons)
    without = one_in(n, np.maximum(counts - 1, 0), persons)
    changes = (chance - without)[np.concatenate(holders)]
    influence = np.bincount(np.concatenate(persons_held), changes, minlength=n) / len(predicates)
    value = min(max(float(chance.mean()), 0.0), 1.0)
    variance = float(((influence - influence.mean()) ** 2).sum())
    # At the scale of the whole part: there a train person counts once, not persons / n times.
    scale = n / persons
    units = min(len(predicates), persons)
    whole = rate_with(min(scale * value, 1.0), scale**2 * variance, len(predicates), units)
    found = Rate(value, min(whole.low / scale, value), max(whole.high / scale, value))
    return found, float((counts == 1).mean())


def _intervals(title: str, rows: list[tuple[str, Rate]]) -> dict[str, object]:
    return {
        "kind": "intervals",
        "title": title,
        "rows": [
            {"name": name, "value": item.value, "low": item.low, "high": item.high, "baseline": 0.0}
            for name, item in rows
        ],
    }


class Linkability:
    """Advantage of linking two halves of a training person's columns through the nearest synthetic row."""

    name: ClassVar[str] = "linkability"
    title: ClassVar[str] = "Linkability: attack advantage over the holdout baseline"
    dimension: ClassVar[Dimension] = "privacy"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = _ENOUGH

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; a success is the same synthetic row nearest by both halves."""
        space = space_of(tables)
        if isinstance(space, NotMeasured):
            return space
        halves = [range(start, len(space.fields), 2) for start in (0, 1)]
        rng = np.random.default_rng([tables.seed, 4011])
        made = sampled(space.synthetic, MOST_ROWS, rng)
        among = [space.encoded(made, half) for half in halves]
        rates = []
        for part in (space.train, space.holdout):
            targets = part.raw[:MOST_TARGETS]
            first, second = (
                nearest(space.encoded(targets, half), points)
                for half, points in zip(halves, among, strict=True)
            )
            linked = (first == second) if len(halves[1]) else np.zeros(len(targets))
            rates.append(rate(np.asarray(linked, dtype=np.float64)))
        gain = advantage(*rates)
        return Score(
            value=gain.value,
            interval=(gain.low, gain.high),
            baseline=0.0,
            reading=(
                f"Two halves of the columns lead to the same synthetic row for {rates[0].value:.2%} of the "
                f"training persons and {rates[1].value:.2%} of the holdout persons; the advantage is "
                f"{gain.value:.3f}."
            ),
            details={
                "aggregate": "(train − holdout) / (1 − holdout)",
                "table": [_row("linked", rates, gain)],
                "halves": [[space.fields[place].name for place in half] for half in halves],
                **_attacked(space, len(made), tables.seed),
                "pictures": [_intervals("Linkability", [("linked", gain)])],
            },
        )


def _row(name: str, rates: list[Rate], gain: Rate) -> dict[str, object]:
    return {
        "attack": name,
        "train_rate": rates[0].value,
        "holdout_rate": rates[1].value,
        "advantage": gain.value,
        "low": gain.low,
        "high": gain.high,
    }


def _attacked(space: Space, made: int, seed: int) -> dict[str, object]:
    return {
        "synthetic_rows": made,
        "train_persons": min(len(space.train), MOST_TARGETS),
        "holdout_persons": min(len(space.holdout), MOST_TARGETS),
        "seed": seed,
        "interval": "95 %, from Wilson's intervals of both rates",
    }


class AttributeInference:
    """Advantage of guessing a training person's sensitive values from the nearest synthetic row."""

    name: ClassVar[str] = "attribute_inference"
    title: ClassVar[str] = "Attribute inference: attack advantage over the holdout baseline"
    dimension: ClassVar[Dimension] = "privacy"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = _ENOUGH

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure over the named sensitive columns; known are the quasi-identifiers, else all others."""
        if not tables.sensitive:
            return NotMeasured("no sensitive column was named; name some in evaluation.sensitive")
        space = space_of(tables)
        if isinstance(space, NotMeasured):
            return space
        hidden = [place for name in sorted(set(tables.sensitive)) if (place := space.place(name)) is not None]
        known = [
            place
            for name in sorted(set(tables.quasi_identifiers))
            if (place := space.place(name)) is not None
        ]
        known = [place for place in (known or range(len(space.fields))) if place not in hidden]
        if not hidden or not known:
            return NotMeasured(
                "the sensitive columns are ids or free text, or no other column is left to guess them from"
            )
        rng = np.random.default_rng([tables.seed, 4012])
        made = sampled(space.synthetic, MOST_ROWS, rng)
        among = space.encoded(made, known)
        guessed = []
        for part in (space.train, space.holdout):
            targets = part.raw[:MOST_TARGETS]
            guess = made[nearest(space.encoded(targets, known), among)]
            guessed.append(_right(space, guess, targets, hidden))
        table = []
        for number, place in enumerate(hidden):
            rates = [rate(item[:, number]) for item in guessed]
            table.append(_row(space.fields[place].name, rates, advantage(*rates)))
        means = [rate(item.mean(axis=1)) for item in guessed]
        gain = advantage(*means)
        return Score(
            value=gain.value,
            interval=(gain.low, gain.high),
            baseline=0.0,
            reading=(
                f"The nearest synthetic row tells {means[0].value:.1%} of the sensitive values of training "
                f"persons and {means[1].value:.1%} of those of holdout persons; the advantage "
                f"is {gain.value:.3f}."
            ),
            details={
                "aggregate": "(train − holdout) / (1 − holdout) of the mean rates over the columns",
                "table": table,
                "known": [space.fields[place].name for place in known],
                "right": "the same level, or a number within a tenth of the interquartile range",
                **_attacked(space, len(made), tables.seed),
                "pictures": [
                    {"kind": "intervals", "title": "Attribute inference",
                     "rows": [{"name": row["attack"], "value": row["advantage"], "low": row["low"],
                               "high": row["high"], "baseline": 0.0} for row in table]},
                ],
            },
        )  # fmt: skip


def _right(space: Space, guess: Floats, truth: Floats, hidden: list[int]) -> Floats:
    """Return which guesses are right, shape (n, columns)."""
    columns = []
    for place in hidden:
        guessed, real = guess[:, place], truth[:, place]
        within = np.abs(guessed - real) <= 0.1 * space.scales[place]
        columns.append(within | (np.isnan(guessed) & np.isnan(real)))
    return np.column_stack(columns).astype(np.float64)
