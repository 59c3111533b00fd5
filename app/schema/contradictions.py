"""What a schema cannot say at once: faults that are certain from the declared numbers alone.

Works on typed values (`app.schema.table`); how they are read from JSON is `app.schema.parse`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import re._parser as regex_parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from app.errors import Fault
from app.schema.table import Association, Condition, Conditional, Field, Measure, Statistics, Value

MAX_PATTERN_LENGTH = 500
MAX_GROUPS = 30
MAX_REPEATS = 1000
"""Repetitions that a pattern may ask for, nested ones multiplied."""

POSITIVE_FAMILIES = frozenset(
    {"lognormal", "gamma", "weibull", "exponential", "poisson", "negative_binomial"}
)

_SD_SLACK = 1.025
"""A published sd is rounded, and uses n − 1: this much above its bound is not yet certain."""

_MEAN_SLACK = 0.05
"""Share of the range by which a small sample's mean may leave what its quantiles allow."""


# One field


def field_faults(field: Field, at: str, levels_at: str) -> Iterator[Fault]:
    """Find what a field's declarations contradict in one another.

    Parameters
    ----------
    at, levels_at : str
        JSON pointers of the field and of what declares its levels.
    """
    yield from _bound_faults(field, at)
    yield from _level_faults(field, levels_at)
    yield from _pattern_faults(field, at)
    yield from _key_faults(field, at)
    yield from statistics_faults(field, field.statistics, f"{at}/statistics")


def _bound_faults(field: Field, at: str) -> Iterator[Fault]:
    limits = field.constraints
    low, high = limits.minimum, limits.maximum
    if low is not None and high is not None:
        bottom, top = field.to_number(low), field.to_number(high)
        if bottom > top:
            message = (
                f"the minimum {show(low)} is above the maximum {show(high)}; exchange them or correct one"
            )
            yield Fault(f"{at}/constraints/minimum", message)
        elif field.type == "number" and field.decimals is not None:
            scale = 10.0**field.decimals
            if math.ceil(bottom * scale - 1e-9) > math.floor(top * scale + 1e-9):
                message = (
                    f"no number with {field.decimals} decimals lies between {show(low)} and {show(high)}; "
                    "widen the bounds or raise `decimals`"
                )
                yield Fault(f"{at}/constraints/minimum", message)
    if (
        limits.min_length is not None
        and limits.max_length is not None
        and limits.min_length > limits.max_length
    ):
        message = f"minLength {limits.min_length} is above maxLength {limits.max_length}; correct one"
        yield Fault(f"{at}/constraints/minLength", message)


def _level_faults(field: Field, levels_at: str) -> Iterator[Fault]:
    if field.levels is None:
        return
    limits = field.constraints
    for position, level in enumerate(field.levels):
        problem = ""
        if isinstance(level, str):
            if limits.min_length is not None and len(level) < limits.min_length:
                problem = f"is shorter than minLength {limits.min_length}"
            elif limits.max_length is not None and len(level) > limits.max_length:
                problem = f"is longer than maxLength {limits.max_length}"
            elif limits.pattern is not None and mismatches(limits.pattern, level):
                problem = "does not match `pattern`"
        elif limits.minimum is not None and field.to_number(level) < field.to_number(limits.minimum):
            problem = f"is below the minimum {show(limits.minimum)}"
        elif limits.maximum is not None and field.to_number(level) > field.to_number(limits.maximum):
            problem = f"is above the maximum {show(limits.maximum)}"
        if problem:
            yield Fault(
                f"{levels_at}/{position}",
                f"the category {show(level)} {problem}; remove it or change the constraint",
            )


def _pattern_faults(field: Field, at: str) -> Iterator[Fault]:
    limits = field.constraints
    if limits.pattern is None:
        return
    shortest, longest = regex_parser.parse(limits.pattern).getwidth()
    if limits.max_length is not None and shortest > limits.max_length:
        message = (
            f"every text that matches has {shortest} characters or more, and maxLength is {limits.max_length}"
        )
        yield Fault(f"{at}/constraints/pattern", message + "; change one of them")
    if limits.min_length is not None and longest < limits.min_length:
        message = (
            f"every text that matches has {longest} characters or fewer, and minLength is {limits.min_length}"
        )
        yield Fault(f"{at}/constraints/pattern", message + "; change one of them")


def _key_faults(field: Field, at: str) -> Iterator[Fault]:
    if field.primary_key and field.relevant is not None:
        yield Fault(f"{at}/relevant", "a primary key has a value in every row; leave `relevant` out")
    if field.primary_key and field.formula is not None:
        yield Fault(
            f"{at}/formula", "a primary key is made by its pattern, not by a formula; leave one of them out"
        )
    missing = field.statistics.missing
    if missing and (field.constraints.required or field.primary_key):
        why = "the field is required" if field.constraints.required else "a primary key is never missing"
        message = f"{why}, so nothing of it is missing; leave `missing` out or drop the constraint"
        yield Fault(f"{at}/statistics/missing", message)


def pattern_problem(pattern: str) -> str | None:
    """Say why a pattern is refused, None where it is not.

    Patterns are made and matched by Python's `re`, against the whole text. Those that XML Schema does
    not have (look-around, references, possessive repetitions), those that ask for what no file can hold
    and those that could take for ever are refused.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"a pattern has at most {MAX_PATTERN_LENGTH} characters; describe the field in a shorter one"
    if pattern.count("(") > MAX_GROUPS:
        return f"a pattern has at most {MAX_GROUPS} groups; write a simpler one"
    try:
        parsed = regex_parser.parse(pattern)
        problem = _pattern_cost(parsed, 1, False)
        if problem is None:
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        return f"this is not a regular expression: {error}; a literal character is written with \\ before it"
    return problem


def _pattern_cost(items: Any, repeats: int, elastic: bool) -> str | None:
    """Walk a parsed pattern; `elastic` says whether a repetition of many lengths is around these items."""
    for operator, argument in items:
        name = str(operator)
        if name in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
            return "possessive repetitions and atomic groups are not supported; leave out the `+` or `?>`"
        inner: list[Any] = []
        within, flexible = repeats, elastic
        if name in _REPEATS:
            fewest, most, body = argument
            if elastic and fewest != most:
                return f"a repetition inside another {_FOR_EVER}"
            within = repeats * max(1, int(fewest if str(most) == "MAXREPEAT" else most))
            if within > MAX_REPEATS:
                return f"it repeats more than {MAX_REPEATS} times; use maxLength for long texts"
            flexible = elastic or (fewest != most and most > _FEW_REPEATS)
            inner = [body]
        elif name == "BRANCH":
            if elastic:
                return f"a choice inside a repetition {_FOR_EVER}"
            inner = list(argument[1])
        elif name in ("ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS"):
            return "look-around and references to groups are not supported; write the pattern without them"
        elif name == "LITERAL" and not _writable(argument):
            return "it asks for NUL or half a surrogate pair, which no file can hold; write it without"
        else:
            inner = _bodies(name, argument)
        for body in inner:
            problem = _pattern_cost(body, within, flexible)
            if problem is not None:
                return problem
    return None


_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_FEW_REPEATS = 10
_FOR_EVER = f"can take for ever; limit the outer one to {{0,{_FEW_REPEATS}}}, or fix its number"


def _bodies(name: str, argument: Any) -> list[Any]:
    if name in _REPEATS:
        return [argument[2]]
    if name == "BRANCH":
        return list(argument[1])
    return [argument[-1]] if name == "SUBPATTERN" else []


def _writable(point: int) -> bool:
    return point != 0 and not 0xD800 <= point <= 0xDFFF


def mismatches(pattern: str, text: str) -> bool:
    """Whether a text certainly does not match, as far as that can be told at once.

    A regular expression may take exponential time. Here, where a request waits, only those are matched
    that cannot: at most three repetitions of several lengths, none around another or a choice, on a
    short text. The check of the rows judges the others.
    """
    if len(text) > 200 or _elastic_repeats(regex_parser.parse(pattern)) > 3:
        return False
    return re.fullmatch(pattern, text) is None


def _elastic_repeats(items: Any) -> int:
    total = 0
    for operator, argument in items:
        name = str(operator)
        inside = sum(_elastic_repeats(body) + (name == "BRANCH") for body in _bodies(name, argument))
        if name in _REPEATS:
            elastic = argument[0] != argument[1]
            inside = inside * 100 + elastic  # around another one it counts as too many
        total += inside
    return total


# Statistics


def statistics_faults(field: Field, stats: Statistics, at: str) -> Iterator[Fault]:
    """Find what declared statistics contradict in one another or in the field's constraints."""
    if stats.missing == 1.0 and stats != Statistics(missing=1.0):
        message = "everything is missing, so the other statistics are of nothing; correct `missing`"
        yield Fault(f"{at}/missing", message)
    if field.levels is not None:
        return
    before = list(_outside_bounds(field, stats, at))
    yield from before
    disorder = list(_out_of_order(field, stats, at))
    yield from disorder
    if not before and not disorder:
        yield from _moment_faults(field, stats, at)
    family = stats.distribution
    unbounded = stats.minimum is None and field.constraints.minimum is None  # with a bound it starts there
    if family in POSITIVE_FAMILIES and unbounded and stats.mean is not None and stats.mean <= 0:
        message = (
            f"a {family} distribution has a mean above 0; choose another distribution or correct the mean"
        )
        yield Fault(f"{at}/distribution", message)


def _points(stats: Statistics) -> list[tuple[str, float, float]]:
    """All declared points of the quantile function: (pointer part, probability, value)."""
    points = [(f"quantiles/{_probability(p)}", p, value) for p, value in stats.quantiles]
    for name, p, value in (
        ("min", 0.0, stats.minimum),
        ("median", 0.5, stats.median),
        ("max", 1.0, stats.maximum),
    ):
        if value is not None:
            points.append((name, p, value))
    return sorted(points, key=lambda point: point[1])


def _probability(p: float) -> str:
    return f"{p:.10g}"


def _outside_bounds(field: Field, stats: Statistics, at: str) -> Iterator[Fault]:
    named = [(name, value) for name, _, value in _points(stats)]
    if stats.mean is not None:
        named.append(("mean", stats.mean))
    low, high = field.constraints.minimum, field.constraints.maximum
    for name, value in named:
        word = f"the {name.replace('/', ' at ').replace('quantiles', 'quantile')}"
        shown = show_number(field, value)
        if low is not None and value < field.to_number(low):
            message = f"{word} {shown} is below the minimum {show(low)} of `constraints`; correct one of them"
            yield Fault(f"{at}/{name}", message)
        elif high is not None and value > field.to_number(high):
            message = (
                f"{word} {shown} is above the maximum {show(high)} of `constraints`; correct one of them"
            )
            yield Fault(f"{at}/{name}", message)


def _out_of_order(field: Field, stats: Statistics, at: str) -> Iterator[Fault]:
    points = _points(stats)
    for (name, p, value), (other, q, above) in pairwise(points):
        if value > above or (p == q and value != above):
            word = "differs from" if p == q else "is above"
            message = (
                f"{name.replace('/', ' ')} {show_number(field, value)} {word} {other.replace('/', ' ')} "
                f"{show_number(field, above)}; correct one of them"
            )
            yield Fault(f"{at}/{name}", message)
    if stats.mean is None:
        return
    if stats.minimum is not None and stats.mean < stats.minimum:
        yield Fault(
            f"{at}/mean", f"the mean {show_number(field, stats.mean)} is below `min`; correct one of them"
        )
    if stats.maximum is not None and stats.mean > stats.maximum:
        yield Fault(
            f"{at}/mean", f"the mean {show_number(field, stats.mean)} is above `max`; correct one of them"
        )


def _moment_faults(field: Field, stats: Statistics, at: str) -> Iterator[Fault]:
    """Mean and sd against bounds and quantiles; `Statistics` are in order and within the constraints."""
    limits = field.constraints
    low = stats.minimum if stats.minimum is not None else bound(field, limits.minimum)
    high = stats.maximum if stats.maximum is not None else bound(field, limits.maximum)
    points = [(p, value) for _, p, value in _points(stats) if 0.0 < p < 1.0]
    mean, sd = stats.mean, stats.sd
    if mean is not None and low is not None and high is not None and points:
        fault = _mean_beside_quantiles(field, mean, low, high, points)
        if fault:
            yield Fault(f"{at}/mean", fault)
    if sd is None:
        return
    if low is not None and high is not None:
        # Bhatia and Davis (2000): variance ≤ (max − mean)(mean − min); without a mean, its largest value.
        most = math.sqrt((high - mean) * (mean - low)) if mean is not None else (high - low) / 2
        if sd > most * _SD_SLACK + half_unit(sd):
            about = f" and the mean {show_number(field, mean)}" if mean is not None else ""
            message = (
                f"between {show_number(field, low)} and {show_number(field, high)}{about} the sd is at most "
                f"{most:.4g}, not {sd:g}; correct it or widen the bounds"
            )
            yield Fault(f"{at}/sd", message)
    if sd == 0.0:
        spread = [value for _, _, value in _points(stats)] + ([mean] if mean is not None else [])
        if len(set(spread)) > 1:
            yield Fault(
                f"{at}/sd", "an sd of 0 means that all values are equal, and the other statistics differ"
            )
        return
    yield from _sd_beside_quantiles(field, mean, sd, points, at)


def _mean_beside_quantiles(
    field: Field, mean: float, low: float, high: float, points: Sequence[tuple[float, float]]
) -> str | None:
    """Bound the mean by the lower and the upper step function through the quantiles."""
    knots = [(0.0, low), *points, (1.0, high)]
    least = sum((q - p) * value for (p, value), (q, _) in pairwise(knots))
    most = sum((q - p) * above for (p, _), (q, above) in pairwise(knots))
    slack = _MEAN_SLACK * (high - low) + half_unit(mean)
    if least - slack <= mean <= most + slack:
        return None
    return (
        f"with these quantiles and bounds the mean lies between {show_number(field, least)} and "
        f"{show_number(field, most)}, not at {show_number(field, mean)}; correct one of them"
    )


def _sd_beside_quantiles(
    field: Field, mean: float | None, sd: float, points: Sequence[tuple[float, float]], at: str
) -> Iterator[Fault]:
    for p, value in points if mean is not None else ():
        # Cantelli: Q(p) − mean ≤ sd·√(p / (1 − p)), and the same mirrored.
        assert mean is not None
        reach = sd * (math.sqrt(p / (1 - p)) if value > mean else math.sqrt((1 - p) / p))
        if abs(value - mean) > reach * 1.05 + half_unit(mean) + half_unit(value):
            message = (
                f"with an sd of {sd:g} the quantile at {_probability(p)} is within {reach:.4g} of the mean, "
                f"not {abs(value - mean):.4g}; correct the sd, the mean or the quantile"
            )
            yield Fault(f"{at}/sd", message)
            return
    for (p, below), (q, above) in pairwise(points):
        # A share p lies at or below one value and 1 − q at or above another: the variance is at least this.
        least = (above - below) * math.sqrt(p * (1 - q) / (p + 1 - q))
        if sd < least * 0.9 - half_unit(sd):
            message = f"with these quantiles the sd is at least {least:.4g}, not {sd:g}; correct one of them"
            yield Fault(f"{at}/sd", message)
            return


def half_unit(value: float) -> float:
    """Half of the last decimal place with which a number was written: what rounding may have changed."""
    text = repr(float(value))
    if "e" in text or "." not in text:
        return abs(value) * 1e-9
    decimals = text.split(".")[1]
    return 0.5 if decimals == "0" else 0.5 * 10.0 ** -len(decimals)


def bound(field: Field, value: Value | None) -> float | None:
    """Put a bound on the field's numeric scale, where there is one."""
    return None if value is None else field.to_number(value)


def show(value: Value) -> str:
    """Write a typed value as a caller would."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.10g}"
    return repr(value)


def show_number(field: Field, value: float) -> str:
    """Write a value of a field's numeric scale (`Field.to_number`) as a caller would."""
    try:
        if field.type == "date":
            return (dt.datetime(1970, 1, 1) + dt.timedelta(days=value)).date().isoformat()
        if field.type == "datetime":
            return (dt.datetime(1970, 1, 1) + dt.timedelta(days=value)).isoformat(timespec="seconds")
        if field.type == "time":
            return (dt.datetime(1970, 1, 1) + dt.timedelta(seconds=value)).time().isoformat()
    except OverflowError:
        return f"{value:g}"
    return f"{value:.6g}"


# Pairs


def _ranked(field: Field) -> bool:
    """Whether its values have an order that a rank correlation can use."""
    return field.kind in ("numeric", "temporal") or (
        field.levels is not None and (field.ordered or len(field.levels) == 2)
    )


def _scaled(field: Field) -> bool:
    """Whether its values are numbers, or two levels that can stand as 0 and 1."""
    if field.kind in ("numeric", "temporal"):
        return True
    return field.levels is not None and (
        field.type in ("integer", "number", "year") or len(field.levels) == 2
    )


def _two_levels(field: Field) -> bool:
    return field.levels is not None and len(field.levels) == 2


_Judge = Callable[[Field], bool]
_BOTH: Mapping[str, tuple[_Judge, str]] = {
    "pearson": (_scaled, "numbers, dates or two-level fields; use cramers_v, correlation_ratio or spearman"),
    "spearman": (_ranked, 'numbers, dates, two-level fields or ones with "categoriesOrdered": true'),
    "cramers_v": (
        lambda field: field.levels is not None,
        "two fields with categories; use correlation_ratio",
    ),
    "odds_ratio": (_two_levels, "two fields of two levels each; use cramers_v or spearman"),
}


def association_faults(one: Field, other: Field, association: Association, at: str) -> Iterator[Fault]:
    """Find out whether a measure fits the types of its fields, and its value the measure."""
    measure = association.measure
    misfit = _misfit(one, other, measure)
    if misfit:
        yield Fault(f"{at}/measure", misfit)
        return
    yield from measure_faults(measure, association.value, at)
    if association.sign is None:
        return
    if measure not in ("cramers_v", "correlation_ratio"):
        yield Fault(f"{at}/sign", f"{measure} has a direction of its own; leave `sign` out")
        return
    for field in (one, other):
        if not _ranked(field):
            way = 'leave `sign` out, or declare "categoriesOrdered": true'
            message = f"{field.name!r} has no order, so there is no direction; {way}"
            yield Fault(f"{at}/sign", message)
            return


def measure_faults(measure: Measure, value: float, at: str) -> Iterator[Fault]:
    """Find out whether a measure can have a value, whatever its fields are."""
    if measure in ("pearson", "spearman") and not -1 <= value <= 1:
        yield Fault(f"{at}/value", f"{measure} lies between -1 and 1, and this is {value:g}")
    elif measure in ("cramers_v", "correlation_ratio") and not 0 <= value <= 1:
        way = "; for a direction add `sign` or use spearman" if -1 <= value < 0 else ""
        yield Fault(f"{at}/value", f"{measure} lies between 0 and 1, and this is {value:g}{way}")
    elif measure == "odds_ratio" and value <= 0:
        yield Fault(
            f"{at}/value",
            f"an odds ratio is above 0 (1 where there is no association), and this is {value:g}",
        )


def _misfit(one: Field, other: Field, measure: str) -> str | None:
    for field in (one, other):
        if field.kind in ("text", "id"):
            what = "an id" if field.kind == "id" else "text"
            return f"{field.name!r} is {what}, which has no associations; remove this or give it categories"
        if field.levels is not None and len(field.levels) < 2:
            return f"{field.name!r} has one category only, so nothing can depend on it; remove this"
    if measure == "correlation_ratio":
        categorical = [field.name for field in (one, other) if field.levels is not None]
        if len(categorical) == 1:
            return None
        kind, way = (
            ("categories", "cramers_v or spearman") if categorical else ("numbers", "pearson or spearman")
        )
        return f"correlation_ratio is of a number and a field with categories, and both are {kind}; use {way}"
    fits, needs = _BOTH[measure]
    for field in (one, other):
        if not fits(field):
            return f"{measure} does not fit {field.name!r}: it is of {needs}"
    return None


def direction(association: Association) -> int | None:
    """Tell which way a rank association points, None where the measure does not say."""
    if association.measure == "odds_ratio":
        return (association.value > 1) - (association.value < 1)
    if association.measure == "spearman":
        return (association.value > 0) - (association.value < 0)
    return association.sign if association.value > 0 else None


_Stratum = frozenset[tuple[str, frozenset[Value] | None, Value | None, Value | None]]
_Pair = tuple[frozenset[str], _Stratum]


def _stratum(given: Sequence[Condition]) -> _Stratum:
    return frozenset(
        (part.field, None if part.values is None else frozenset(part.values), part.minimum, part.maximum)
        for part in given
    )


def repeated_associations(associations: Sequence[tuple[str, Association]]) -> Iterator[tuple[Fault, bool]]:
    """Compare statements on the same pair; yields (fault, whether it contradicts or merely repeats).

    Parameters
    ----------
    associations : sequence of (JSON pointer, Association)
    """
    seen: dict[tuple[_Pair, str], tuple[str, Association]] = {}
    ways: dict[_Pair, tuple[str, int]] = {}
    for at, association in associations:
        pair = (frozenset(association.fields), _stratum(association.given))
        earlier = seen.setdefault((pair, association.measure), (at, association))
        if earlier[0] != at:
            same = (earlier[1].value, earlier[1].sign) == (association.value, association.sign)
            message = f"{association.measure} of the same fields is declared at {earlier[0]} already"
            message += " for the same rows" if association.given else ""
            message += "" if same else f", as {earlier[1].value:g}; keep one of the two"
            yield Fault(at, message), not same
            continue
        way = direction(association)
        if way:
            first = ways.setdefault(pair, (at, way))
            if first[1] != way:
                message = f"this points the other way than {first[0]} does for the same fields; correct one"
                yield Fault(f"{at}/value", message), True


# Strata


def condition_faults(field: Field, condition: Condition, at: str) -> Iterator[Fault]:
    """Find a part of a `given` that no row can meet."""
    low, high = bound(field, field.constraints.minimum), bound(field, field.constraints.maximum)
    if condition.values is None:
        bottom, top = bound(field, condition.minimum), bound(field, condition.maximum)
        if bottom is not None and top is not None and bottom > top:
            yield Fault(f"{at}/minimum", "the minimum is above the maximum; exchange them or correct one")
        elif low is not None and top is not None and top < low:
            yield Fault(
                f"{at}/maximum",
                f"no row is in this range: the minimum of {field.name!r} is {show_number(field, low)}",
            )
        elif high is not None and bottom is not None and bottom > high:
            yield Fault(
                f"{at}/minimum",
                f"no row is in this range: the maximum of {field.name!r} is {show_number(field, high)}",
            )
        return
    if field.levels is not None or field.type == "string":
        return
    for value in condition.values:
        number = field.to_number(value)
        if (low is not None and number < low) or (high is not None and number > high):
            yield Fault(at, f"no row has {show(value)}: it is outside the constraints of {field.name!r}")


def repeated_conditionals(conditionals: Sequence[tuple[str, Conditional]]) -> Iterator[tuple[Fault, bool]]:
    """Compare statements on the same field and stratum, as `repeated_associations` does."""
    seen: dict[tuple[str, _Stratum], tuple[str, Conditional]] = {}
    for at, conditional in conditionals:
        earlier = seen.setdefault((conditional.field, _stratum(conditional.given)), (at, conditional))
        if earlier[0] == at:
            continue
        one, other = earlier[1].statistics, conditional.statistics
        clash = [
            name
            for name in Statistics.__slots__
            if getattr(one, name) not in (None, ())
            and getattr(other, name) not in (None, ())
            and getattr(one, name) != getattr(other, name)
        ]
        message = f"the same field and stratum stand at {earlier[0]} already"
        message += f", with another {clash[0]}; keep one of the two" if clash else ""
        yield Fault(at, message), bool(clash)


# Cycles


def cycle_faults(fields: Sequence[Field], pointers: Mapping[str, str]) -> Iterator[Fault]:
    """Find formulas and `relevant` that wait for one another.

    Parameters
    ----------
    fields : sequence of Field
    pointers : mapping
        JSON pointer of each field, by name.
    """
    reads: dict[str, dict[str, str]] = {}
    for field in fields:
        edges = reads[field.name] = {}
        for key, expression in (("formula", field.formula), ("relevant", field.relevant)):
            for name in expression.fields if expression is not None else ():
                edges.setdefault(name, key)
    done: set[str] = set()
    for start in reads:
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, Iterator[str]]] = []
        if start in done:
            continue
        stack.append((start, iter(reads[start])))
        path.append(start)
        on_path.add(start)
        while stack:
            name, following = stack[-1]
            after = next(following, None)
            if after is None:
                stack.pop()
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif after in on_path:
                circle = path[path.index(after) :]
                first = min(circle, key=list(reads).index)
                turned = circle[circle.index(first) :] + circle[: circle.index(first)]
                key = reads[first][turned[1 % len(turned)]]
                if len(turned) == 1:
                    message = f"{first!r} is computed from itself; a field can depend on other fields only"
                else:
                    route = " → ".join(repr(step) for step in [*turned, first])
                    message = (
                        f"these fields wait for one another: {route}; take one of them out of the circle"
                    )
                yield Fault(f"{pointers[first]}/{key}", message)
            elif after in reads and after not in done:
                stack.append((after, iter(reads[after])))
                path.append(after)
                on_path.add(after)
