"""How one column is distributed: declared by statistics, or learned from a real column, and drawn from.

A `Marginal` is a list of bins of ticks (the smallest step of the field: 1 for integers, 10^−decimals for
numbers, a day, a second), so that means, deviations and quantiles are those of the *delivered*, bounded
and rounded values, and nothing is ever clipped.

Declared statistics are met in two steps. A family's parameters are solved so that the bounded and rounded
distribution has the declared mean and sd; what then still differs (quantiles, a family that cannot have
that mean and sd) is met by the distribution nearest to it in relative entropy (I. Csiszár, Annals of
Probability 3, 1975): an exponential tilt of the bins' weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.defaults import (
    DAY_SECONDS,
    POSITIVE,
    Choice,
    bounds,
    constant,
    default_span,
    is_firm,
    missing_share,
    place,
    quantiles_of,
    spoken,
)
from app.blueprint.families import distribution_function, log_scale
from app.blueprint.pooling import onto, outward, pool, round_step
from app.schema.table import Field, Statistics, TableSchema, Value

if TYPE_CHECKING:
    import pandas as pd

    from app.schema.frames import Column

__all__ = [
    "Marginal", "bounds", "declared_marginal", "encode_ticks", "fitted_marginal", "missing_share", "numbers",
    "ticks_per_unit",
]  # fmt: skip

Warn = Callable[[str, str], None]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


MIN_CELL = 10
"""Persons of a real table that a learned bin or atom rests on, at least."""

SLOTS = 65_536
"""Entries of the table that is drawn from: shares are exact to 1/65,536."""

MOST_BINS = 4_096
MOST_LEARNED_BINS = 256
MOST_DECIMALS = 15
ATOM = 50
"""One part of so many, at least, of what may lie on a bound beyond what is said to lie there."""

LARGEST_TICK = 2.0**60
MOST_CELLS = 128  # bins up to which each is a cell of its own
CELLS = 16
TAIL = 1e-7  # of an unbounded family; a million rows rarely see further


@dataclass(frozen=True, eq=False)
class Marginal:
    """The distribution of one column over the rows where it applies.

    Parameters
    ----------
    field : Field
        The column. Text and ids have no marginal.
    first, last : ndarray of int64, shape (bins,)
        Each bin's admissible values are `first, first + stride, …, last`, all equally likely, in ticks;
        for strings with levels, positions in `field.levels`. Ascending, not overlapping.
    weights : ndarray of float64, shape (bins,)
        Sum to 1.
    stride : int
        Ticks between admissible values.
    per_unit : int
        Ticks in one unit of the field's numeric scale (`Field.to_number`).
    missing : float
        Share that is absent.
    firm : bool
        Whether it was declared or learned, rather than taken by default.
    """

    field: Field
    first: Ints
    last: Ints
    weights: Floats
    stride: int = 1
    per_unit: int = 1
    missing: float = 0.0
    firm: bool = True

    @property
    def mean(self) -> float:
        """Mean of what is delivered, on the field's numeric scale."""
        return float(self.weights @ (self.first + self.last)) / 2 / self.per_unit

    @property
    def sd(self) -> float:
        """Standard deviation of what is delivered, on the field's numeric scale."""
        centres, spreads = _centres(self.first, self.last, self.stride)
        mean = self.weights @ centres
        return float(np.sqrt(self.weights @ ((centres - mean) ** 2 + spreads))) / self.per_unit

    def quantile(self, p: float) -> float:
        """Return the p-quantile of what is delivered, on the field's numeric scale."""
        return float(self._ticks(np.array([p]))[0]) / self.per_unit

    def draw(self, rng: np.random.Generator, n: int) -> Column:
        """Draw `n` independent values; returns a column of the field's dtype (`app.schema.frames`)."""
        from app.schema.frames import column

        if self._fine:
            words = np.frombuffer(rng.bytes(4 * n), "<u4")
            slot = words >> 16
            low, span = self._fine_table
            ticks = low[slot] + ((span[slot] * (words & 0xFFFF)) >> 16) * self.stride
            # The outermost slots hold whole tails, which are not straight.
            tails = np.flatnonzero((slot == 0) | (slot == SLOTS - 1))
            ticks[tails] = self._ticks((words[tails] + 0.5) / 2.0**32)
            values = self.encode(ticks)
        else:
            # A look-up: 9 ms for a million against 25 ms the fine way.
            values = self._table[np.frombuffer(rng.bytes(2 * n), "<u2")]
        if not self.missing:
            return column(self.field, values)
        absent = np.frombuffer(rng.bytes(4 * n), "<u4") < round(self.missing * 2**32)
        return column(self.field, values, absent)

    @property
    def cells(self) -> int:
        """How many cells the column's values fall into: groups of bins, and the last for what is missing."""
        return int(self._cell_of_bin[-1]) + 2

    def values_alone(self) -> bool:
        """Whether each cell is a single value."""
        return self.cells == len(self.first) + 1 and bool((self.first == self.last).all())

    def cell_shares(self) -> Floats:
        """Return the share of each cell, shape (cells,)."""
        present = np.bincount(self._cell_of_bin, self.weights, self.cells - 1)
        return np.append(present * (1 - self.missing), self.missing)

    def cells_of(self, drawn: pd.Series[Any]) -> Ints:
        """Return the cell of each value of a drawn column, shape (n,)."""
        found = np.full(len(drawn), self.cells - 1)
        here = drawn.notna().to_numpy()
        found[here] = self._cell_of_bin[self.bins_of(drawn[here])]
        return found

    def bins_of(self, present: pd.Series[Any]) -> Ints:
        """Return the bin of each present value, the nearest below for a value between two, shape (n,)."""
        if self.field.levels is None:
            ticks = np.round(numbers(self.field, present) * self.per_unit).astype("int64")
            return np.clip(np.searchsorted(self.first, ticks, side="right") - 1, 0, len(self.first) - 1)
        if self.field.type == "string":
            return np.asarray(present.cat.codes, "int64")
        whole = self.encode(np.arange(len(self.field.levels)))
        order = np.argsort(whole)
        return np.asarray(order[np.searchsorted(whole[order], present.to_numpy(whole.dtype))])

    def column_at(self, p: Floats, missing: NDArray[np.bool_]) -> Column:
        """Return the quantiles at `p` (0 … 1), shape (n,), as a column of the field's dtype."""
        from app.schema.frames import column

        return column(self.field, self.encode(self._ticks(p)), missing)

    def column_of(self, cells: Ints) -> Column:
        """Return the column of these cells, where each is a single value."""
        from app.schema.frames import column

        absent = cells == self.cells - 1
        return column(self.field, self.encode(self.first[np.where(absent, 0, cells)]), absent)

    def reweighted(self, factors: Floats) -> Marginal:
        """Return the distribution whose cells' shares are multiplied by `factors`, shape (up to cells,)."""
        factors = np.append(factors, np.ones(self.cells - len(factors)))
        weights = self.weights * factors[self._cell_of_bin]
        present = (1 - self.missing) * weights.sum()
        absent = self.missing * factors[-1]
        return replace(self, weights=weights / weights.sum(), missing=float(absent / (present + absent)))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads: numbers and lists only."""
        bins = [
            [int(a), int(b), float(w)] for a, b, w in zip(self.first, self.last, self.weights, strict=True)
        ]
        return {
            "bins": bins,
            "stride": self.stride,
            "per_unit": self.per_unit,
            "missing": self.missing,
            "firm": self.firm,
        }

    @classmethod
    def from_json(cls, field: Field, document: dict[str, Any]) -> Marginal:
        """Return the marginal that `to_json` wrote."""
        first, last, weights = zip(*document["bins"], strict=True)
        return cls(
            field,
            np.array(first, "int64"),
            np.array(last, "int64"),
            np.array(weights, "float64"),
            document["stride"],
            document["per_unit"],
            document["missing"],
            document["firm"],
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the drawing tables behind: they are made again in a few milliseconds."""
        tables = ("_table", "_fine_table", "_fine", "_cell_of_bin")
        return {name: value for name, value in self.__dict__.items() if name not in tables}

    @functools.cached_property
    def _cell_of_bin(self) -> Ints:
        if len(self.first) <= MOST_CELLS:
            return np.arange(len(self.first))
        middles = np.cumsum(self.weights) - self.weights / 2
        return np.unique(np.minimum(middles * CELLS, CELLS - 1).astype("int64"), return_inverse=True)[1]

    @functools.cached_property
    def _fine(self) -> bool:
        return int(((self.last - self.first) // self.stride + 1).sum()) > SLOTS // 4

    @functools.cached_property
    def _table(self) -> NDArray[Any]:
        return self.encode(self._ticks((np.arange(SLOTS) + 0.5) / SLOTS))

    @functools.cached_property
    def _fine_table(self) -> tuple[Ints, Ints]:
        edges = self._ticks(np.arange(SLOTS + 1) / SLOTS)
        span = np.diff(edges) // self.stride
        # No value between two bins that do not touch.
        gaps = np.flatnonzero(self.first[1:] - self.last[:-1] > self.stride)
        reach = np.searchsorted(edges[1:], self.first[gaps + 1])
        span[reach[reach < SLOTS]] = 0
        return edges[:-1], span

    def _ticks(self, p: Floats) -> Ints:
        upper = np.cumsum(self.weights)
        bins = np.minimum(np.searchsorted(upper, p * upper[-1], side="right"), len(upper) - 1)
        within = (p * upper[-1] - (upper[bins] - self.weights[bins])) / np.maximum(self.weights[bins], 1e-300)
        counts = (self.last - self.first)[bins] // self.stride + 1
        steps = np.clip((within * counts).astype("int64"), 0, counts - 1)
        return np.asarray(self.first[bins] + steps * self.stride, "int64")

    def encode(self, ticks: Ints) -> NDArray[Any]:
        """Return raw values of ticks (or positions of levels), as `app.schema.frames.column` takes them."""
        field = self.field
        if field.levels is not None and field.type in ("integer", "year", "number", "boolean"):
            return np.array(field.levels, {"number": "float64", "boolean": "bool"}.get(field.type, "int64"))[
                ticks
            ]
        if field.levels is not None and field.type == "string":
            return ticks.astype("int8" if len(field.levels) <= 127 else "int32")
        if field.levels is not None:
            return encode_ticks(
                field, np.array([_ticks_of(field, level) for level in field.levels])[ticks], 1
            )
        return encode_ticks(field, ticks, self.per_unit)


def declared_marginal(schema: TableSchema, field: Field, warn: Warn) -> Marginal:
    """Return the distribution that a field's declared statistics describe, or a stated default.

    Parameters
    ----------
    warn : callable
        Called as `warn(pointer, message)`, the pointer into the schema's document, where something is
        undeclared and a default was taken, or cannot be met.
    """
    if missing_share(field, 0.0) == 1:
        warn = _silent  # nothing of it will be seen
    if field.levels is not None:
        shares, missing = _declared_proportions(schema, field, warn), missing_share(field, 0.0)
        return replace(_levels(schema, field, shares, missing), firm=is_firm(field))
    statistics = field.statistics
    lower, upper = bounds(field)
    value = constant(statistics, lower, upper)
    if value is not None:
        per_unit = ticks_per_unit(field, 0.0, abs(value))
        tick = np.array([round(value * per_unit)])
        return Marginal(field, tick, tick, np.ones(1), 1, per_unit, missing_share(field, 0.0), is_firm(field))
    choice = Choice.of(schema, field, lower, upper, warn)
    if (
        choice.family == "uniform"
        and not is_firm(field)
        and field.type in ("date", "datetime", "time", "year")
    ):
        lower, upper = default_span(field, lower, upper)
    per_unit = ticks_per_unit(field, choice.sd, abs(choice.mean) + 4096 * choice.sd)
    first, last, weights = _bins(choice, lower, upper, per_unit, _landmarks(statistics))
    marginal = Marginal(field, first, last, weights, 1, per_unit, missing_share(field, 0.0), is_firm(field))
    met = _meet(schema, marginal, statistics, warn)
    _tell(choice, schema, met, warn)
    return met


def fitted_marginal(
    schema: TableSchema, field: Field, column: pd.Series[Any], warn: Warn, min_cell: int = MIN_CELL
) -> Marginal:
    """Return the distribution of a real column, with declared statistics in place of fitted ones.

    Parameters
    ----------
    column : Series
        The field's values in the rows where it applies, with the dtype of `app.schema.frames`.
    min_cell : int
        Persons that each learned bin and atom rests on, at least. Values that fewer share are pooled with
        their neighbours, the outer ends are rounded outward to a coarse step within the constraints.

    Notes
    -----
    Learns from `column` and keeps none of its values, except a value that `min_cell` persons share.
    """
    present = column.dropna()
    missing = missing_share(field, 1 - len(present) / len(column) if len(column) else 0.0)
    if not len(present):
        if len(column):
            warn(place(schema, field), f"`{field.name}` has no values in the reference: it stays empty.")
        return replace(declared_marginal(schema, field, _silent if len(column) else warn), missing=missing)
    if field.statistics.proportions is not None or field.statistics.distribution is not None:
        return replace(declared_marginal(schema, field, warn), missing=missing)
    if field.levels is not None:
        if field.type == "string":
            counts = np.bincount(present.cat.codes, minlength=len(field.levels)).astype("float64")
        else:
            counts = present.value_counts().reindex(list(field.levels), fill_value=0).to_numpy("float64")
        rare = counts < min_cell
        if rare.all():
            warn(
                place(schema, field),
                f"No level of `{field.name}` is held by {min_cell} rows of the reference: nothing was "
                "learned of it. Declare `statistics.proportions`, or use a larger reference.",
            )
            return replace(declared_marginal(schema, field, warn), missing=missing)
        if rare.any():
            warn(
                place(schema, field),
                f"Levels of `{field.name}` that fewer than {min_cell} rows of the reference hold, or none, "
                "are not made. Declare `statistics.proportions` to have them.",
            )
            counts = np.where(rare, 0.0, counts)
        return _levels(schema, field, counts / counts.sum(), missing)
    if len(present) < min_cell:
        warn(
            place(schema, field),
            f"The reference has fewer than {min_cell} values of `{field.name}`: nothing was learned of them. "
            "Declare its statistics, or use a larger reference.",
        )
        return replace(declared_marginal(schema, field, warn), missing=missing)
    marginal = _learn(field, present, min_cell, missing)
    unmet: list[tuple[str, str]] = []
    met = _meet(schema, marginal, field.statistics, lambda at, message: unmet.append((at, message)))
    if not unmet:
        return met
    anew = _declared_beyond(schema, marginal)
    if anew is not None:
        warn(
            place(schema, field, "statistics"),
            f"What is declared of `{field.name}` lies beyond the values of the reference: it overrules, and "
            "nothing of the learned shape was kept.",
        )
        return anew
    for at, message in unmet:
        warn(at, message)
    return met


def _declared_beyond(schema: TableSchema, learned: Marginal) -> Marginal | None:
    """Return the distribution of what is declared, the learned mean or sd filled in; None if none has it."""
    field, statistics = learned.field, learned.field.statistics
    quantiles = quantiles_of(statistics)
    filled = replace(
        statistics,
        mean=learned.mean if statistics.mean is None and not quantiles else statistics.mean,
        sd=learned.sd if statistics.sd is None and len(quantiles) < 2 else statistics.sd,
    )
    decimals = field.decimals
    if field.type == "number" and decimals is None:
        decimals = round(math.log10(learned.per_unit))
    unmet: list[str] = []
    anew = declared_marginal(
        schema,
        replace(field, statistics=filled, decimals=decimals),
        lambda _, message: unmet.append(message),
    )
    return None if unmet else replace(anew, field=field, missing=learned.missing)


def ticks_per_unit(field: Field, sd: float, largest: float = 0.0) -> int:
    """Return the ticks in one unit of the field's numeric scale; `sd` decides where decimals are open.

    Fewer decimals than declared only where a value as far from 0 as `largest` could not be counted.
    """
    if field.type == "datetime":
        return DAY_SECONDS
    if field.type != "number":
        return 1
    decimals = field.decimals if field.decimals is not None else decimals_for(sd)
    holds = MOST_DECIMALS if largest < 1 else math.floor(math.log10(LARGEST_TICK / largest))
    return int(10 ** max(0, min(decimals, holds, MOST_DECIMALS)))


def decimals_for(sd: float) -> int:
    """Return the decimals that are two significant digits finer than an sd; 2 where there is none."""
    return min(max(0, 2 - math.floor(math.log10(sd))), MOST_DECIMALS) if sd > 0 else 2


# Declared ---------------------------------------------------------------------------------------------


def _bins(
    choice: Choice, lower: float | None, upper: float | None, per_unit: int, landmarks: Floats
) -> tuple[Ints, Ints, Floats]:
    """Cut the support into bins of ticks and weigh them by the family, solved for mean and sd."""
    cdf = distribution_function(choice.family, lower, upper)
    low, high = _support(choice, cdf, lower, upper)
    # A bound between two ticks admits only what lies inside.
    lowest, highest = math.ceil(low * per_unit - 1e-6), math.floor(high * per_unit + 1e-6)
    highest = max(lowest, highest)
    if highest - lowest < MOST_BINS:
        starts = np.arange(lowest, highest + 1)
    else:
        z = np.linspace(-6, 6, MOST_BINS // 4)
        nodes = [np.linspace(low, high, MOST_BINS // 2), choice.mean + choice.sd * z]
        nodes += [landmarks, landmarks + 1 / per_unit]  # a value that many share is a bin of its own
        if low >= 0 and choice.mean > 0:
            mu, sigma = log_scale(choice.mean, choice.sd)
            nodes.append(np.exp(mu + sigma * z))
        ticks = np.round(np.concatenate(nodes) * per_unit)
        starts = np.unique(np.append(ticks[(ticks >= lowest) & (ticks <= highest)].astype("int64"), lowest))
    first, last = starts, np.append(starts[1:] - 1, highest)
    edges = np.append(first - 0.5, last[-1] + 0.5) / per_unit

    def weigh(mean: float, sd: float) -> Floats | None:
        mass = np.diff(cdf(edges, mean, sd))
        total = mass.sum()
        return mass / total if total > 1e-12 and np.isfinite(total) else None

    weights = _solve(weigh, choice.mean, choice.sd, first / per_unit, last / per_unit, per_unit)
    if weights is None:  # the family has no mass within the bounds
        weights = (last - first + 1) / float(highest - lowest + 1)
    return first, last, weights


def _support(
    choice: Choice, cdf: Callable[[Floats, float, float], Floats], lower: float | None, upper: float | None
) -> tuple[float, float]:
    def reach(sign: int) -> float:
        for doubling in range(1, 12):
            end = choice.mean + sign * choice.sd * 2.0**doubling
            share = float(cdf(np.array([end]), choice.mean, choice.sd)[0])
            if (share if sign < 0 else 1 - share) < TAIL:
                break
        return end

    low = lower if lower is not None else reach(-1)
    high = upper if upper is not None else reach(+1)
    if lower is None and choice.family in POSITIVE:
        low = max(low, 0.0)
    return low, max(low, high)


def _tell(choice: Choice, schema: TableSchema, marginal: Marginal, warn: Warn) -> None:
    """Say what was taken by default, in figures of what is delivered."""
    field, at = marginal.field, place(schema, marginal.field, "statistics")
    centre = 0.0 if abs(marginal.mean) < 1e-9 * marginal.sd else marginal.mean  # not -1.3e-16
    sd, mean = f"{marginal.sd:.4g}", spoken(field, centre)
    if "sd" in choice.taken:
        warn(at, f"No sd of `{field.name}` is declared: {sd} was taken. Declare `sd` or quantiles.")
    if "mean" in choice.taken:
        warn(at, f"No mean of `{field.name}` is declared: {mean} was taken. Declare `mean` or `median`.")
    if "statistics" in choice.taken:
        shape = choice.family.replace("_", " ")
        said = f"the {shape} distribution with mean {mean} and sd {sd}"
        if field.kind == "temporal" or field.type == "year":
            first, last = (spoken(field, end / marginal.per_unit) for end in _ends(marginal))
            said = f"the {shape} distribution between {first} and {last}"
        warn(
            place(schema, field),
            f"No statistics of `{field.name}` are declared: {said} was taken. Declare `statistics`.",
        )


def _solve(
    weigh: Callable[[float, float], Floats | None],
    mean: float,
    sd: float,
    first: Floats,
    last: Floats,
    per_unit: int,
) -> Floats | None:
    """Find the parameters whose bounded, rounded distribution has that mean and sd: damped Newton steps.

    Where there is none (one-parameter families, an sd out of reach) the nearest that was met is returned.
    """
    centres = (first + last) / 2
    spreads = (((last - first) * per_unit + 1) ** 2 - 1) / 12 / per_unit**2

    def miss(at: Floats) -> tuple[Floats, Floats | None]:
        weights = weigh(float(at[0]), float(np.exp(at[1])))
        if weights is None:
            return np.array([np.inf, np.inf]), None
        got = weights @ centres
        spread = math.sqrt(max(float(weights @ ((centres - got) ** 2 + spreads)), 1e-300))
        return np.array([(got - mean) / sd, math.log(spread / sd)]), weights

    at = np.array([mean, math.log(sd)])
    with np.errstate(all="ignore"):
        error, best = miss(at)
        if best is None:
            return None
        for _ in range(25):
            if np.abs(error).max() < 1e-7:
                break
            nudge = np.array([1e-4 * math.exp(at[1]), 1e-4])
            jacobian = np.column_stack(
                [(miss(at + np.eye(2)[k] * nudge[k])[0] - error) / nudge[k] for k in (0, 1)]
            )
            if not np.isfinite(jacobian).all():
                break
            step = -np.linalg.lstsq(jacobian, error, rcond=1e-8)[0]
            limit = np.array([math.exp(at[1]), 0.7])
            step /= max(1.0, float(np.abs(step / limit).max()))
            for damping in (1.0, 0.5, 0.25, 0.1, 0.02):
                there, weights = miss(at + damping * step)
                if weights is not None and np.abs(there).sum() < np.abs(error).sum():
                    at, error, best = at + damping * step, there, weights
                    break
            else:
                break
    return best


def _meet(schema: TableSchema, marginal: Marginal, statistics: Statistics, warn: Warn) -> Marginal:
    """Tilt the bins so that declared mean, sd and quantiles hold; drop what cannot hold, and say so."""
    quantiles = quantiles_of(statistics)
    wanted = {
        name: getattr(statistics, name) for name in ("mean", "sd") if getattr(statistics, name) is not None
    }
    field = marginal.field
    bounded = _within(marginal, *bounds(field))
    if _holds(bounded, wanted, quantiles):
        return bounded
    for kept in ({"mean", "sd"}, {"mean"}, set()):
        names = kept & set(wanted)
        tilted = _tilt(bounded, {name: wanted[name] for name in names}, quantiles)
        if tilted is not None:
            dropped = sorted(set(wanted) - names)
            if dropped:
                figures = {"mean": spoken(field, tilted.mean), "sd": f"{tilted.sd:.4g}"}
                achieved = " and ".join(f"{name} {figures[name]}" for name in dropped)
                warn(
                    place(schema, field, "statistics"),
                    f"The declared {' and '.join(dropped)} of `{field.name}` cannot hold together with its "
                    f"bounds and other statistics: {achieved} instead. Correct one of them.",
                )
            return tilted
    warn(
        place(schema, field, "statistics"),
        f"The declared quantiles of `{field.name}` cannot hold together with its bounds and were not met.",
    )
    return bounded


def _holds(marginal: Marginal, wanted: dict[str, float], quantiles: list[tuple[float, float]]) -> bool:
    sd = max(marginal.sd, 1e-12)
    if any(abs(getattr(marginal, name) - value) > 1e-4 * sd for name, value in wanted.items()):
        return False
    # One tick off is off where ticks are coarse, and noise where they are fine.
    allowed = max(2e-3 * sd, 0.5 / marginal.per_unit if sd * marginal.per_unit > 250 else 0.0) + 1e-9
    return all(abs(marginal.quantile(p) - q) <= allowed for p, q in quantiles)


def _tilt(
    marginal: Marginal, wanted: dict[str, float], quantiles: list[tuple[float, float]]
) -> Marginal | None:
    """Return the distribution nearest in relative entropy in which the statements hold, None if none."""
    unit = marginal.per_unit
    centres, spreads = _centres(marginal.first, marginal.last, marginal.stride)
    if len(centres) < 2:
        return None
    mean = wanted.get("mean", marginal.mean) * unit
    sd = wanted.get("sd", marginal.sd) * unit
    if sd <= 0:
        return None
    rows: list[Floats] = []
    aims: list[float] = []
    if "mean" in wanted:
        rows.append((centres - mean) / sd)
        aims.append(0.0)
    if "sd" in wanted:
        about = mean if "mean" in wanted else marginal.mean * unit
        rows.append(((centres - about) ** 2 + spreads) / sd**2)
        aims.append(1.0)
    by_value: dict[float, list[float]] = {}
    for p, q in quantiles:
        by_value.setdefault(q * unit, []).append(p)
    ends = _ends(marginal)
    for q, shares in by_value.items():
        below = (marginal.last < q - 1e-6).astype("float64")
        upto = ((marginal.first <= q + 1e-6) & (marginal.last <= q + 1e-6)).astype("float64")
        lowest, highest = min(shares), max(shares)
        if (
            not below.any() or upto.all()
        ):  # the quantile is the end of the support: an atom beyond it is enough
            if not below.any():
                above = [(p, other) for other, more in by_value.items() for p in more if other > q]
                p, other = min(above, default=(1.0, ends[1]))
                rows.append(upto)
                aims.append(highest + (p - highest) / min(max(other - q, 0) + 1, ATOM))
            else:
                under = [(p, other) for other, more in by_value.items() for p in more if other < q]
                p, other = max(under, default=(0.0, ends[0]))
                rows.append(below)
                aims.append(lowest - (lowest - p) / min(max(q - other, 0) + 1, ATOM))
        elif len(shares) == 1:
            rows.append((below + upto) / 2)
            aims.append(shares[0])
        else:
            inside = 0.02 * (highest - lowest)
            rows += [below, upto]
            aims += [lowest - inside, highest + inside]
    if not rows:
        return marginal
    features = np.array(rows) - np.array(aims)[:, None]
    size = marginal.last - marginal.first + marginal.stride
    base = np.log(marginal.weights + 1e-10 * size / size.sum())

    def weigh(at: Floats) -> tuple[float, Floats]:
        exponent = base + at @ features
        top = exponent.max()
        mass = np.exp(exponent - top)
        return float(top + math.log(mass.sum())), mass / mass.sum()

    at = np.zeros(len(rows))
    potential, weights = weigh(at)
    for _ in range(200):
        gradient = features @ weights
        if np.abs(gradient).max() < 1e-6:
            return replace(marginal, weights=weights)
        hessian = (features * weights) @ features.T - np.outer(gradient, gradient)
        step = -np.linalg.solve(hessian + 1e-9 * np.eye(len(rows)), gradient)
        slope, length = float(gradient @ step), 1.0
        while length > 1e-6:
            there, tilted = weigh(at + length * step)
            if there <= potential + 1e-4 * length * slope + 1e-15:
                break
            length /= 2
        else:
            return None
        at, potential, weights = at + length * step, there, tilted
        if np.abs(at).max() > 1e4:
            return None
    return None


def _within(marginal: Marginal, lower: float | None, upper: float | None) -> Marginal:
    """Cut bins at the bounds; their weights shrink with them."""
    unit, stride = marginal.per_unit, marginal.stride
    first, last = marginal.first.copy(), marginal.last.copy()
    counts = (last - first) // stride + 1
    if lower is not None:
        lowest = math.ceil(lower * unit - 1e-6)
        first += np.maximum(0, -((first - lowest) // stride)) * stride
    if upper is not None:
        highest = math.floor(upper * unit + 1e-6)
        last -= np.maximum(0, -((highest - last) // stride)) * stride
    left = np.maximum((last - first) // stride + 1, 0)
    keep = left > 0
    if keep.all() and (left == counts).all():
        return marginal
    if not keep.any():
        return marginal
    weights = (marginal.weights * left / counts)[keep]
    if not weights.sum() > 0:
        weights = left[keep].astype("float64")
    return replace(marginal, first=first[keep], last=last[keep], weights=weights / weights.sum())


# Levels -----------------------------------------------------------------------------------------------


def _levels(schema: TableSchema, field: Field, proportions: Floats, missing: float) -> Marginal:
    positions = np.arange(len(proportions))
    return Marginal(field, positions, positions, proportions, missing=missing)


def _declared_proportions(schema: TableSchema, field: Field, warn: Warn) -> Floats:
    assert field.levels is not None
    statistics = field.statistics
    if statistics.proportions is not None:
        declared = dict(statistics.proportions)
        shares: Floats = np.array([declared.get(level, 0.0) for level in field.levels], "float64")
        return np.asarray(shares / shares.sum())
    equal = np.full(len(field.levels), 1 / len(field.levels))
    if field.type in ("integer", "number", "year") and (
        statistics.mean is not None or statistics.sd is not None
    ):
        order = np.argsort(np.array(field.levels, "float64"))
        ticks = np.round(np.array(field.levels, "float64")[order] * 1000).astype("int64")
        bins = Marginal(field, ticks, ticks, equal, per_unit=1000)
        shares = np.empty(len(equal))
        shares[order] = _meet(schema, bins, statistics, warn).weights
        return shares
    warn(
        place(schema, field),
        f"No proportions of `{field.name}` are declared: equal shares were taken. "
        "Declare `statistics.proportions`.",
    )
    return equal


# Learned ----------------------------------------------------------------------------------------------


def _learn(field: Field, present: pd.Series[Any], min_cell: int, missing: float) -> Marginal:
    values = numbers(field, present)
    per_unit = ticks_per_unit(
        replace(field, decimals=_decimals(field, values)), 1.0, float(np.abs(values).max())
    )
    ticks, counts = np.unique(np.round(values * per_unit).astype("int64"), return_counts=True)
    if len(ticks) == 1:
        return Marginal(field, ticks, ticks, np.ones(1), per_unit=per_unit, missing=missing)
    stride = int(np.gcd.reduce(np.diff(ticks)))
    least = max(min_cell, -(-int(counts.sum()) // MOST_LEARNED_BINS))
    sd = float(np.sqrt(np.cov(ticks, fweights=counts)))
    # A grid as coarse as the data themselves needs no coarser ends; else a 1-2-5 step near a fifth of the sd.
    coarse = max(stride, round_step(sd / 5))
    origin = int(ticks[0]) % stride
    lower, upper = bounds(field)
    lowest = outward(int(ticks[0]), coarse, origin, stride, -1)
    highest = outward(int(ticks[-1]), coarse, origin, stride, +1)
    if lower is not None:
        lowest = max(lowest, onto(math.ceil(lower * per_unit - 1e-6), origin, stride, +1))
    if upper is not None:
        highest = min(highest, onto(math.floor(upper * per_unit + 1e-6), origin, stride, -1))
    first, last, weights = pool(ticks, counts, least, lowest, highest, stride)
    return Marginal(field, first, last, weights / weights.sum(), stride, per_unit, missing)


def _decimals(field: Field, values: Floats) -> int:
    if field.decimals is not None:
        return min(field.decimals, MOST_DECIMALS)
    for decimals in range(7):
        if np.abs(values * 10**decimals - np.round(values * 10**decimals)).max() < 1e-6:
            return decimals
    return decimals_for(float(values.std()))


def numbers(field: Field, present: pd.Series[Any]) -> Floats:
    """Return present values on the field's numeric scale (`Field.to_number`), shape (n,)."""
    if field.type in ("date", "datetime"):
        seconds = present.to_numpy().astype("datetime64[s]").astype("int64")
        return seconds / DAY_SECONDS
    if field.type == "time":
        return present.to_numpy().astype("timedelta64[s]").astype("float64")
    return present.to_numpy("float64")


# Shared -----------------------------------------------------------------------------------------------


def _centres(first: Ints, last: Ints, stride: int) -> tuple[Floats, Floats]:
    """Mean and variance of the values within each bin, in ticks."""
    counts = (last - first) / stride + 1
    return (first + last) / 2, stride**2 * (counts**2 - 1) / 12


def _landmarks(statistics: Statistics) -> Floats:
    return np.array([q for _, q in quantiles_of(statistics)], "float64")


def _ticks_of(field: Field, value: Value) -> int:
    return round(field.to_number(value) * (DAY_SECONDS if field.type == "datetime" else 1))


def encode_ticks(field: Field, ticks: Ints, per_unit: int) -> NDArray[Any]:
    """Return raw values of a numeric or temporal field, as `app.schema.frames.column` takes them."""
    if field.type == "number":
        return ticks / per_unit  # the double nearest to the decimal
    if field.type == "date":
        return (ticks * DAY_SECONDS).astype("datetime64[s]")
    if field.type == "datetime":
        return (ticks * 1_000_000).astype("datetime64[us]")
    if field.type == "time":
        return ticks.astype("timedelta64[s]")
    return ticks


def _ends(marginal: Marginal) -> tuple[int, int]:
    return int(marginal.first[0]), int(marginal.last[-1])


def _silent(pointer: str, message: str) -> None:
    """For defaults that are never seen."""
