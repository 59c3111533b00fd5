"""Attacks on persons through their nearest synthetic row: linkability and attribute inference.

As Giomi et al. 2022 (Anonymeter, arXiv 2211.10459) define them: what an attack gains on training persons
over what the same attack gains on holdout persons, whom no generator saw.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from app.evaluation.base import NotMeasured, Score, Tables
from app.evaluation.columns import Floats
from app.evaluation.privacy_distance import MOST_ROWS, Space, nearest, sampled
from app.evaluation.privacy_persons import NO_SENSITIVE, OnPersons
from app.evaluation.privacy_rates import Rate, gained, rate

MOST_TARGETS = 2_000
"""So many persons of each real part are attacked at most."""


def intervals_picture(title: str, rows: list[tuple[str, Rate]]) -> dict[str, object]:
    """Return a picture of advantages with their intervals, by name."""
    return {
        "kind": "intervals",
        "title": title,
        "rows": [
            {"name": name, "value": item.value, "low": item.low, "high": item.high, "baseline": 0.0}
            for name, item in rows
        ],
    }


class Linkability(OnPersons):
    """Advantage of linking two halves of a training person's columns through the nearest synthetic row."""

    name: ClassVar[str] = "linkability"
    title: ClassVar[str] = "Linkability: attack advantage over the holdout baseline"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def measure_on(self, tables: Tables, space: Space) -> Score:
        """Measure; a success is the same synthetic row nearest by both halves."""
        halves = [range(start, len(space.fields), 2) for start in (0, 1)]
        rng = np.random.default_rng([tables.seed, 4011])
        made = sampled(space.synthetic, MOST_ROWS, rng)
        among = [space.encoded(made, half) for half in halves]
        successes = []
        for part in (space.train, space.holdout):
            targets = part.raw[:MOST_TARGETS]
            first, second = (
                nearest(space.encoded(targets, half), points)
                for half, points in zip(halves, among, strict=True)
            )
            linked = (first == second) if len(halves[1]) else np.zeros(len(targets))
            successes.append(np.asarray(linked, dtype=np.float64))
        rates, gain = [rate(part) for part in successes], gained(*successes)
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
                "pictures": [intervals_picture("Linkability", [("linked", gain)])],
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
        "interval": "95 %, from Jeffreys' intervals of both rates (Zou & Donner 2008); of means over columns "
        "from Wilson's intervals of both rates",
    }


class AttributeInference(OnPersons):
    """Advantage of guessing a training person's sensitive values from the nearest synthetic row."""

    name: ClassVar[str] = "attribute_inference"
    title: ClassVar[str] = "Attribute inference: attack advantage over the holdout baseline"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def unnamed(self, tables: Tables) -> str:
        """Say that sensitive columns are to be named."""
        return "" if tables.sensitive else NO_SENSITIVE

    def measure_on(self, tables: Tables, space: Space) -> Score | NotMeasured:
        """Measure over the named sensitive columns; known are the quasi-identifiers, else all others."""
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
            column = [item[:, number] for item in guessed]
            table.append(_row(space.fields[place].name, [rate(part) for part in column], gained(*column)))
        each = [item.mean(axis=1) for item in guessed]
        means, gain = [rate(part) for part in each], gained(*each)
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
