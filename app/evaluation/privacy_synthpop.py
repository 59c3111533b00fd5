"""Disclosure figures of synthpop's `disclosure()` on the quasi-identifiers: repU and DiSCO.

Raab, Nowok & Dibben, "Practical privacy metrics for synthetic data" (arXiv 2406.16826). Columns of more than
20 values are taken in twentieths of the real persons, as synthpop's `ngroups_keys` does; a missing value is a
value of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.columns import Codes, Floats
from app.evaluation.privacy_distance import Space, sampled
from app.evaluation.privacy_persons import NO_KEYS, NO_SENSITIVE, OnPersons
from app.evaluation.privacy_rates import Rate, gained, one_in, rate, rate_with

_GROUPS = 20


class ReplicatedUniques(OnPersons):
    """Share of training persons who are unique on the quasi-identifiers, as one synthetic row is (repU)."""

    name: ClassVar[str] = "replicated_uniques"
    title: ClassVar[str] = "Replicated uniques on the quasi-identifiers (repU)"

    def unnamed(self, tables: Tables) -> str:
        """Say that quasi-identifiers are to be named."""
        return "" if tables.quasi_identifiers else NO_KEYS

    def measure_on(self, tables: Tables, space: Space) -> Score | NotMeasured:
        """Measure at the size of the smaller real part, for who is unique depends on how many there are."""
        keys = _places(space, tables.quasi_identifiers)
        if not keys:
            return NotMeasured("the quasi-identifiers are ids or free text, which are left out")
        persons = min(len(space.train), len(space.holdout))
        made = sampled(space.synthetic, len(space.train), np.random.default_rng([tables.seed, 4020]))
        synthetic, train, holdout = _cells(space, keys, made)
        size = int(max(part.max(initial=-1) for part in (synthetic, train, holdout))) + 1
        times = [np.bincount(part, minlength=size) for part in (synthetic, train, holdout)]
        alone = times[0] == 1
        value = _unique(times[1][alone], len(train), persons)
        baseline = _unique(times[2][alone], len(holdout), persons)
        whole = float(np.count_nonzero(times[1][alone] == 1)) / len(train)
        found, held = (
            rate_with(share, _variance(times[0], real, persons), math.inf, persons)
            for share, real in ((value, times[1]), (baseline, times[2]))
        )
        return Score(
            value=value,
            interval=(found.low, found.high),
            baseline=baseline,
            reading=(
                f"Among {persons:,} training persons {value:.2%} are unique on the quasi-identifiers as one "
                f"synthetic row is; among as many holdout persons {baseline:.2%} are, by chance."
            ),
            details={
                "aggregate": "unique in real and in synthetic / persons, the mean over samples of that size",
                "repU": whole,
                "repU_is": "the same over the whole train part, as synthpop states it",
                "quasi_identifiers": [space.fields[place].name for place in keys],
                "synthetic_rows": len(made),
                "persons": persons,
                "holdout_interval": [held.low, held.high],
                "interval": "Wilson, 95 %, with the variance of a sum over cells of fixed total",
            },
        )


def _variance(synthetic: Codes, real: Codes, persons: int) -> float:
    """Return the variance of a share of replicated uniques.

    Parameters
    ----------
    synthetic, real : ndarray of int64, shape (cells,)
        How many rows of either kind each combination of values has.
    persons : int
        The share is of so many, drawn from the real ones.

    Notes
    -----
    Of a sum over cells whose counts are Poisson, less what fixed totals take away: who comes to an occupied
    cell adds no unique and takes one away. The covariances with the counts are estimated without bias, for
    the mean of λ 1(X = 1) is that of 2 · 1(X = 2), and the mean of λ f(X) that of X f(X − 1). A binomial
    variance would be 2.6 times as large, a jackknife as well: it counts pairs of rows twice.
    """
    n, rows = int(real.sum()), int(synthetic.sum())
    part = one_in(n, real, persons) / persons
    fewer = one_in(n, np.maximum(real - 1, 0), persons) / persons
    alone, twice = synthetic == 1, synthetic == 2
    by_rows = float(part[alone].sum()) - 2 * float(part[twice].sum())
    by_persons = float((real * (part - fewer))[alone].sum())
    return float((part[alone] ** 2).sum()) - by_rows**2 / rows - by_persons**2 / n


def _unique(times: Codes, of: int, drawn: int) -> float:
    return min(max(float(one_in(of, times, drawn).sum()) / drawn, 0.0), 1.0)


class Disco(OnPersons):
    """Share of training persons whose sensitive value the synthetic rows give away (DiSCO)."""

    name: ClassVar[str] = "disco"
    title: ClassVar[str] = "Disclosive in synthetic, correct in real (DiSCO)"

    def unnamed(self, tables: Tables) -> str:
        """Say that quasi-identifiers and sensitive columns are to be named."""
        if not tables.quasi_identifiers:
            return NO_KEYS
        return "" if tables.sensitive else NO_SENSITIVE

    def measure_on(self, tables: Tables, space: Space) -> Score | NotMeasured:
        """Measure for each named sensitive column."""
        targets = _places(space, tables.sensitive)
        keys = [place for place in _places(space, tables.quasi_identifiers) if place not in targets]
        if not keys or not targets:
            return NotMeasured(
                "the named columns are ids or free text, or both quasi-identifier and sensitive"
            )
        made = sampled(space.synthetic, len(space.train), np.random.default_rng([tables.seed, 4021]))
        cells = _cells(space, keys, made)
        table, told = [], []
        for place in targets:
            train, holdout = _disclosed(cells, _cells(space, [place], made))
            on_train, on_holdout, gain = rate(train), rate(holdout), gained(train, holdout)
            told.append((train, holdout))
            table.append({
                "column": space.fields[place].name, "train_rate": on_train.value,
                "holdout_rate": on_holdout.value, "advantage": gain.value, "low": gain.low, "high": gain.high,
            })  # fmt: skip
        value, baseline = (
            _by_cells(np.mean([pair[side] for pair in told], axis=0), cells[side + 1]) for side in (0, 1)
        )
        return Score(
            value=value.value,
            interval=(value.low, value.high),
            baseline=baseline.value,
            reading=(
                f"For {value.value:.2%} of the training persons all synthetic rows with their "
                f"quasi-identifiers agree on the sensitive value, and "
                f"rightly; for holdout persons it is {baseline.value:.2%}."
            ),
            details={
                "aggregate": "mean of train_rate over the table",
                "table": table,
                "quasi_identifiers": [space.fields[place].name for place in keys],
                "synthetic_rows": len(made),
                "holdout_interval": [baseline.low, baseline.high],
                "interval": "Wilson, 95 %, at the number of independent persons that their common "
                "combinations of quasi-identifiers leave (clustered variance)",
            },
        )


def _by_cells(told: Floats, cells: Codes) -> Rate:
    """Return the share of persons with its interval; whom the same synthetic rows tell of go together."""
    n = len(told)
    off = np.bincount(cells, told - told.mean())
    return rate_with(float(told.mean()), max(float((off**2).sum()), float(n * told.var())) / n**2, n, n)


def _places(space: Space, names: Sequence[str]) -> list[int]:
    return [place for name in sorted(set(names)) if (place := space.place(name)) is not None]


def _cells(space: Space, places: list[int], made: Floats) -> list[Codes]:
    """Number the combinations of values: synthetic, train, holdout."""
    parts = (made, space.train.raw, space.holdout.raw)
    together = np.zeros(sum(map(len, parts)), dtype=np.int64)
    for place in places:
        # Of both real parts: groups equally full of train persons alone would favour the holdout's rate.
        real = np.concatenate([space.train.raw[:, place], space.holdout.raw[:, place]])
        values = np.concatenate([part[:, place] for part in parts])
        present = real[~np.isnan(real)]
        if space.scales[place] and len(np.unique(present)) > _GROUPS:
            knots = np.unique(np.quantile(present, np.arange(1, _GROUPS) / _GROUPS))
            values = np.where(np.isnan(values), np.nan, np.searchsorted(knots, values, side="right"))
        found, numbered = np.unique(values, return_inverse=True)
        # Renumbered after each column, so that the product never outgrows 64 bits.
        together = np.unique(together * len(found) + numbered, return_inverse=True)[1]
    edges = np.cumsum([len(part) for part in parts])[:-1]
    return list(np.split(together, edges))


def _disclosed(keys: list[Codes], target: list[Codes]) -> tuple[Floats, Floats]:
    """Return for train and holdout who stands where all synthetic rows agree, and on the right value."""
    size = int(max(part.max(initial=-1) for part in keys)) + 1
    low = np.full(size, np.iinfo(np.int64).max)
    high = np.full(size, -1, dtype=np.int64)
    np.minimum.at(low, keys[0], target[0])
    np.maximum.at(high, keys[0], target[0])
    agreed = np.where(low == high, low, -1)
    train, holdout = ((agreed[keys[side]] == target[side]).astype(np.float64) for side in (1, 2))
    return train, holdout
