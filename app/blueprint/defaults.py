"""What is taken of a column where nothing, or not enough, is declared: family, mean, sd, span.

Imports no numerics: a blueprint states these defaults, and the HTTP side reads blueprints.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

from app.errors import pointer
from app.schema.table import Field, Statistics, TableSchema, Value

Warn = Callable[[str, str], None]

KNOWN_DISTRIBUTIONS = (
    "normal", "lognormal", "uniform", "exponential", "gamma", "beta", "weibull", "logistic", "poisson",
    "negative_binomial",
)  # fmt: skip

_NORMAL = NormalDist()
POSITIVE = ("lognormal", "exponential", "gamma", "weibull", "poisson", "negative_binomial")

EPOCH = dt.date(1970, 1, 1)
DEFAULT_DATES = (dt.date(2015, 1, 1), dt.date(2024, 12, 31))
DEFAULT_YEARS = (2015, 2024)
MOST_DECIMALS = 15
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Choice:
    """A family with a mean and an sd: the shape before declared statistics are met exactly.

    One that was declared is kept; what nobody declared is taken by default, and said in `taken`.
    """

    family: str
    mean: float
    sd: float
    taken: tuple[str, ...] = ()
    """What nobody declared and was taken by default: "mean", "sd", or all "statistics"."""

    @classmethod
    def of(
        cls, schema: TableSchema, field: Field, lower: float | None, upper: float | None, warn: Warn
    ) -> Choice:
        """Choose for a numeric or temporal field; what is declared and cannot be is told to `warn`."""
        statistics = field.statistics
        quantiles = quantiles_of(statistics)
        family = statistics.distribution
        if family is not None and family not in KNOWN_DISTRIBUTIONS:
            warn(
                place(schema, field, "statistics", "distribution"),
                f"The distribution `{family}` is not known and was chosen by the other statistics. "
                f"Known are: {', '.join(KNOWN_DISTRIBUTIONS)}.",
            )
            family = None
        if statistics.mean is None and statistics.sd is None and not quantiles:
            return cls._undeclared(schema, field, family, lower, upper, warn)
        mean, sd = statistics.mean, statistics.sd or None
        taken: tuple[str, ...] = ()
        if sd is None and len(quantiles) > 1 and quantiles[0][1] < quantiles[-1][1]:
            (p_low, q_low), (p_high, q_high) = quantiles[0], quantiles[-1]
            sd = (q_high - q_low) / (_NORMAL.inv_cdf(p_high) - _NORMAL.inv_cdf(p_low))
        centre = mean if mean is not None else _middle(quantiles) if quantiles else None
        if of_two_values(field, lower, upper) and (sd is None or mean is not None):
            assert lower is not None
            share = _share_of_two(schema, field, lower)
            centre, sd = lower + share, math.sqrt(share * (1 - share))
            taken = ("mean",) if mean is None else ()
        if sd is None:
            assert centre is not None
            sd = _default_sd(field, centre, lower, upper)
            taken = ("sd",)
        if centre is None:
            centre = _default_centre(sd, lower, upper)
            taken = (*taken, "mean")
        guess = cls(family or _family(statistics, centre, sd, lower, upper), centre, sd, taken)
        return guess._possible(schema, field, lower, upper, warn)

    def _possible(
        self, schema: TableSchema, field: Field, lower: float | None, upper: float | None, warn: Warn
    ) -> Choice:
        """Fall back to the normal family where this one has no such mean."""
        low, high = (lower or 0.0), (upper if upper is not None else 1.0)
        if (self.family not in POSITIVE or self.mean > 0) and (
            self.family != "beta" or low < self.mean < high
        ):
            return self
        warn(
            place(schema, field, "statistics", "distribution"),
            f"The distribution `{self.family}` has no values around {spoken(field, self.mean)}: "
            "a normal one was taken. Correct the distribution, the mean or the bounds.",
        )
        return replace(self, family="normal")

    @classmethod
    def _undeclared(
        cls,
        schema: TableSchema,
        field: Field,
        family: str | None,
        lower: float | None,
        upper: float | None,
        warn: Warn,
    ) -> Choice:
        mixture = _mixture(schema, field)
        if mixture is not None:
            mean, sd = mixture
            warn(
                place(schema, field),
                f"`{field.name}` has the mean {mean:.4g} and the sd {sd:.4g} that its conditionals mix to.",
            )
            return cls(family or "normal", mean, sd)
        if field.kind == "temporal" or field.type == "year":
            low, high = default_span(field, lower, upper)
            guess = cls(family or "uniform", (low + high) / 2, (high - low) / math.sqrt(12))
        elif lower is not None and upper is not None:
            guess = cls(family or "normal", (lower + upper) / 2, (upper - lower) / 6)
        elif lower is not None or upper is not None:
            bound = lower if lower is not None else upper
            assert bound is not None
            spread = max(1.0, abs(bound) / 10) if field.type == "number" else max(10.0, abs(bound) / 10)
            guess = cls(
                family or "normal", bound + (2 * spread if lower is not None else -2 * spread), spread
            )
        elif family in (*POSITIVE, "beta"):
            guess = cls(family, *((0.5, 0.2) if family == "beta" else (1.0, 1.0)))
        else:
            guess = cls(family or "normal", 0.0, 1.0)
        guess = replace(guess, taken=("statistics",))
        return guess._possible(schema, field, lower, upper, warn)


def is_firm(field: Field) -> bool:
    """Whether anything of the distribution is declared; how much is missing does not count."""
    return replace(field.statistics, missing=None).declared


def quantiles_of(statistics: Statistics) -> list[tuple[float, float]]:
    """Return the declared inner quantiles, the median among them, ascending."""
    found = {p: q for p, q in statistics.quantiles if 0 < p < 1}
    if statistics.median is not None:
        found[0.5] = statistics.median
    return sorted(found.items())


def bounds(field: Field) -> tuple[float | None, float | None]:
    """Return the tightest of the constraints and of what a sample showed, on the field's numeric scale."""
    constraints, statistics = field.constraints, field.statistics
    ends = dict(statistics.quantiles)
    low = [
        x for x in (statistics.minimum, ends.get(0.0), _number(field, constraints.minimum)) if x is not None
    ]
    high = [
        x for x in (statistics.maximum, ends.get(1.0), _number(field, constraints.maximum)) if x is not None
    ]
    if field.type == "time":
        low, high = [*low, 0.0], [*high, DAY_SECONDS - 1.0]
    return max(low, default=None), min(high, default=None)


def _number(field: Field, value: Value | None) -> float | None:
    return None if value is None else field.to_number(value)


def missing_share(field: Field, otherwise: float) -> float:
    """Return the declared share of absent values, 0 where one is required, else `otherwise`."""
    if field.constraints.required or field.primary_key:
        return 0.0
    return field.statistics.missing if field.statistics.missing is not None else otherwise


def constant(statistics: Statistics, lower: float | None, upper: float | None) -> float | None:
    """Return the only value that there is, None where there are more."""
    if lower is not None and lower == upper:
        return lower
    if statistics.sd == 0:
        return statistics.mean if statistics.mean is not None else statistics.median
    return None


def _family(statistics: Statistics, mean: float, sd: float, lower: float | None, upper: float | None) -> str:
    """Lognormal for what cannot be negative and leans to the right; else normal."""
    if lower is None or lower < 0 or mean <= 0:
        return "normal"
    if statistics.median is not None and statistics.mean is not None:
        return "lognormal" if statistics.mean - statistics.median > 0.1 * sd else "normal"
    leans = mean - lower < 2 * sd and (upper is None or upper - mean > 1.5 * (mean - lower))
    return "lognormal" if leans else "normal"


def _default_sd(field: Field, mean: float, lower: float | None, upper: float | None) -> float:
    if lower is not None and upper is not None and upper > lower:
        return (upper - lower) / 6
    near = [abs(mean - bound) / 2 for bound in (lower, upper) if bound is not None and bound != mean]
    return near[0] if near else max(abs(mean) / 4, 1.0)


def of_two_values(field: Field, lower: float | None, upper: float | None) -> bool:
    """Whether a number has two values, so that one share is all there is to know of it."""
    return field.type == "integer" and lower is not None and upper == lower + 1 and lower == int(lower)


def _share_of_two(schema: TableSchema, field: Field, lower: float) -> float:
    """Return the share of the greater of two values: stated, as its strata have it, or amid what may be."""
    if field.statistics.mean is not None:
        return min(max(field.statistics.mean - lower, 0.0), 1.0)
    least, most = 0.0, 1.0
    for p, value in quantiles_of(field.statistics):
        if value > lower:
            least = max(least, 1 - p)
        else:
            most = min(most, 1 - p)
    strata = [
        conditional.statistics.mean - lower
        for conditional in schema.conditionals
        if conditional.field == field.name and conditional.statistics.mean is not None
    ]
    middle = sum(strata) / len(strata) if strata else -1.0
    return middle if least < middle < most else (least + most) / 2


def _default_centre(sd: float, lower: float | None, upper: float | None) -> float:
    if lower is not None and upper is not None:
        return (lower + upper) / 2
    if lower is not None:
        return lower + 2 * sd
    return upper - 2 * sd if upper is not None else 0.0


def default_span(field: Field, lower: float | None, upper: float | None) -> tuple[float, float]:
    """Return where dates, times and years lie of which nothing is declared."""
    if field.type == "time":
        low, high = 0.0, DAY_SECONDS - 1.0
    elif field.type == "year":
        low, high = float(DEFAULT_YEARS[0]), float(DEFAULT_YEARS[1])
    else:
        low, high = ((day - EPOCH).days * 1.0 for day in DEFAULT_DATES)
    if lower is not None:
        low, high = lower, max(high, lower + (high - low))
    if upper is not None:
        low, high = (lower if lower is not None else min(low, upper - (high - low))), upper
    return low, high


def _mixture(schema: TableSchema, field: Field) -> tuple[float, float] | None:
    """Mean and sd over all strata of one categorical field: the laws of total expectation and variance."""
    strata: dict[str, dict[Value, tuple[float, float]]] = {}
    for conditional in schema.conditionals:
        mean, sd = conditional.statistics.mean, conditional.statistics.sd
        if conditional.field != field.name or len(conditional.given) != 1 or mean is None or sd is None:
            continue
        given = conditional.given[0]
        for value in given.values or ():
            strata.setdefault(given.field, {})[value] = (mean, sd)
    for name, found in strata.items():
        by = schema[name]
        if by.levels is None or not set(by.levels) <= set(found):
            continue
        shares = dict(by.statistics.proportions or [(level, 1 / len(by.levels)) for level in by.levels])
        total = sum(shares.values())
        mean = sum(shares[level] * found[level][0] for level in by.levels) / total
        square = (
            sum(shares[level] * (found[level][1] ** 2 + found[level][0] ** 2) for level in by.levels) / total
        )
        return mean, math.sqrt(max(square - mean**2, 1e-12))
    return None


def spoken(field: Field, number: float) -> str:
    """Write a number of the field's numeric scale as a person would: dates as dates."""
    if field.type in ("date", "datetime"):
        return (EPOCH + dt.timedelta(days=math.floor(number + 1e-9))).isoformat()
    if field.type == "time":
        return str(dt.timedelta(seconds=math.floor(number + 1e-6))).zfill(8)
    return f"{number:.0f}" if field.type == "year" else f"{number:.4g}"


def _middle(quantiles: list[tuple[float, float]]) -> float:
    """Return the median between known quantiles, the nearest of them where it lies beyond all."""
    (p_low, q_low), (p_high, q_high) = quantiles[0], quantiles[-1]
    if p_low >= 0.5 or p_high <= 0.5:
        return q_low if p_low >= 0.5 else q_high
    for (p0, q0), (p1, q1) in itertools.pairwise(quantiles):
        if p0 <= 0.5 <= p1:
            return q0 + (q1 - q0) * (0.5 - p0) / (p1 - p0)
    raise AssertionError("some pair of neighbours lies around the median")


def place(schema: TableSchema, field: Field, *parts: str) -> str:
    """Return a JSON pointer to a part of a field in the schema's document."""
    return pointer("fields", schema.index(field.name), *parts)


def decimals_for(sd: float) -> int:
    """Return the decimals that are two significant digits finer than an sd; 2 where there is none."""
    return min(max(0, 2 - math.floor(math.log10(sd))), MOST_DECIMALS) if sd > 0 else 2
