"""How each column is distributed on its own: asked in blocks, pooled, and put into the schema's words.

Asked for are observable quantities (percentiles, percentages), not parameters: people and models alike are
better at those (SHELF; Garthwaite, Kadane & O'Hagan 2005, JASA 100:680).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.dictionary import LONGEST_ANSWER, MOST_LEVELS, Known, block, level_text
from app.generators.llm.draft import Addition
from app.generators.llm.interview import Sheet
from app.generators.llm.pooling import pool, pool_quantiles, pool_shares
from app.generators.llm.structured import MAYBE_NUMBER, NUMBER, choice, listing, record
from app.schema.table import Field, Statistics, TableSchema

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)
LISTED_LEVELS = 25
"""Of more levels only the commonest are asked for."""
_FURTHEST_STRATUM = 10.0
SURE = ("low", "medium", "high")
"""How sure a model may say that it is."""

Form = Literal["Q", "P", "T", "L", "none"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer about one column, on the column's numeric scale; shares add up to 1."""

    numbers: tuple[float, ...]
    missing: float | None
    sure: str


def form_of(schema: TableSchema, field: Field) -> Form:
    """Return in which form a column's numbers are asked for; `none` where enough is declared."""
    if _is_settled(schema, field):
        return "none"
    if field.type == "boolean":
        return "T"
    if field.levels is not None:
        return "P" if len(field.levels) <= LISTED_LEVELS else "L"
    return "Q"


def asks_missing(field: Field) -> bool:
    """Whether the share of missing values is open."""
    stated = field.statistics.missing is not None or field.constraints.required or field.primary_key
    return not stated and field.formula is None


def _is_settled(schema: TableSchema, field: Field) -> bool:
    statistics = field.statistics
    if field.levels is not None:
        return statistics.proportions is not None or field.formula is not None
    quantiles = len(statistics.quantiles) + (statistics.median is not None)
    located = statistics.mean is not None or quantiles > 0
    spread = statistics.sd is not None or quantiles > 1
    strata = [item for item in schema.conditionals if item.field == field.name and len(item.given) == 1]
    mixed = any(item.statistics.mean is not None for item in strata)  # its strata say how it lies
    return (located and spread) or mixed


def sheet(schema: TableSchema, fields: Sequence[Field], elicitation: int, purpose: str) -> Sheet:
    """Return the question about a block of columns."""
    asked = {field.name: field for field in fields}
    more: dict[str, dict[str, Any]] = {}
    for field in fields:
        more[field.name] = {"give": form_of(schema, field), "known": declared_of(field)}
    text = prompts.text("marginals", framing=prompts.framing(elicitation), table=block(schema, fields, more))
    shape = record(
        columns=listing(
            record(
                column=choice([field.name for field in fields]),
                numbers=listing(NUMBER),
                missing_percent=MAYBE_NUMBER,
                sure=choice(SURE),
            )
        )
    )
    room = 400 + sum(90 + 12 * min(len(field.levels or ()), 2 * LISTED_LEVELS) for field in fields)
    question = Question(
        purpose, (("system", prompts.text("system")), ("user", text)), "columns", shape,
        min(2 * room, LONGEST_ANSWER),
    )  # fmt: skip

    def read(value: Any) -> tuple[dict[str, Entry], list[str]]:
        entries: dict[str, Entry] = {}
        faults: list[str] = []
        for item in value["columns"]:
            field = asked.get(item["column"])
            if field is None:
                faults.append(f"there is no column {item['column'][:60]!r} in this block")
                continue
            try:
                entries[field.name] = _entry(schema, field, item)
            except _Fault as fault:
                faults.append(f"column {field.name!r}: {fault}")
        absent = [name for name in asked if name not in entries and not any(repr(name) in f for f in faults)]
        if absent:
            faults.append(f"no entry for {', '.join(map(repr, absent[:20]))}")
        return entries, faults

    return Sheet(question, read)


def fault_of_entry(schema: TableSchema, field: Field, item: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an answer about a column, in words; None where nothing is."""
    try:
        _entry(schema, field, item)
    except _Fault as fault:
        return str(fault)
    return None if item["numbers"] else "give the numbers"


def fault_of_mean(field: Field, number: float, known: Known) -> str | None:
    """Return what is wrong with the mean of a stratum; None where nothing is.

    A stratum of one row in a hundred lies ten of the column's standard deviations off at most.
    """
    try:
        value = to_scale(field, number)
    except _Fault as fault:
        return str(fault)
    low, high = field.constraints.minimum, field.constraints.maximum
    if low is not None and value < field.to_number(low):
        return f"{number:g} is below the column's min"
    if high is not None and value > field.to_number(high):
        return f"{number:g} is above the column's max"
    if known.mean is not None and known.sd and abs(value - known.mean) > _FURTHEST_STRATUM * known.sd:
        return f"{number:g} is nowhere near what {field.name!r} holds"
    return None


def read_entry(schema: TableSchema, field: Field, item: Mapping[str, Any]) -> Entry:
    """Read an answer about a column that has no fault."""
    return _entry(schema, field, item)


class _Fault(Exception):
    """What is wrong with an entry, in words that a model can act on."""


def _entry(schema: TableSchema, field: Field, item: Mapping[str, Any]) -> Entry:
    numbers = [float(number) for number in item["numbers"]]
    if not all(math.isfinite(number) for number in numbers):
        raise _Fault("the numbers must be finite")
    missing = item["missing_percent"]
    if missing is not None and not 0 <= missing <= 100:
        raise _Fault("missing_percent must be between 0 and 100")
    share = None if missing is None or not asks_missing(field) else missing / 100
    form = form_of(schema, field)
    if form == "none" or not numbers:
        return Entry((), share, item["sure"])
    if form == "Q":
        return Entry(_quantiles(field, numbers), share, item["sure"])
    if form == "T":
        if len(numbers) != 1 or not 0 <= numbers[0] <= 100:
            raise _Fault("give one number between 0 and 100, the percentage of true")
        return Entry((1 - numbers[0] / 100, numbers[0] / 100), share, item["sure"])
    assert field.levels is not None
    count = len(field.levels)
    if form == "P":
        if len(numbers) != count:
            raise _Fault(f"give {count} percentages, one for each level in order; there are {len(numbers)}")
        return Entry(_composition(numbers), share, item["sure"])
    return Entry(_commonest(field, numbers), share, item["sure"])


def _composition(numbers: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(numbers)
    if min(numbers) < 0:
        raise _Fault("percentages are not negative")
    if not 90 <= total <= 110:
        raise _Fault(f"the percentages add up to {total:.4g}, and must add up to 100")
    return tuple(number / total for number in numbers)


def _commonest(field: Field, numbers: Sequence[float]) -> tuple[float, ...]:
    assert field.levels is not None
    count = len(field.levels)
    if len(numbers) % 2:
        raise _Fault("give pairs of numbers: position in the levels, percentage, position, percentage …")
    shares: dict[int, float] = {}
    for place, percentage in zip(numbers[::2], numbers[1::2], strict=True):
        if not place.is_integer() or not 1 <= place <= min(count, MOST_LEVELS):
            raise _Fault(
                f"{place:g} is no position in its levels, which go from 1 to {min(count, MOST_LEVELS)}"
            )
        if percentage < 0:
            raise _Fault("percentages are not negative")
        shares[int(place) - 1] = percentage / 100
    total = math.fsum(shares.values())
    if total > 1.05:
        raise _Fault(f"the percentages add up to {100 * total:.4g}, more than 100")
    rest = max(0.0, 1 - total) / max(1, count - len(shares))
    whole = [shares.get(place, rest) for place in range(count)]
    total = math.fsum(whole)
    if total <= 0:
        raise _Fault("the percentages are all 0")
    return tuple(share / total for share in whole)


def _quantiles(field: Field, numbers: Sequence[float]) -> tuple[float, ...]:
    if len(numbers) != 7:
        raise _Fault(f"give seven numbers in ascending order; there are {len(numbers)}")
    if list(numbers) != sorted(numbers):
        raise _Fault("the seven numbers must ascend: lowest, 5 %, 25 %, 50 %, 75 %, 95 %, highest")
    scaled = [to_scale(field, number) for number in numbers]
    limits = field.constraints
    low = None if limits.minimum is None else field.to_number(limits.minimum)
    high = None if limits.maximum is None else field.to_number(limits.maximum)
    grace = 1.0 if field.type in ("date", "datetime") else 1e-9  # a decimal year is no exact day
    if low is not None and scaled[0] < low - grace:
        raise _Fault(f"{numbers[0]:g} is below the column's min")
    if high is not None and scaled[-1] > high + grace:
        raise _Fault(f"{numbers[-1]:g} is above the column's max")
    return tuple(
        min(max(value, -math.inf if low is None else low), math.inf if high is None else high)
        for value in scaled
    )


def to_scale(field: Field, number: float) -> float:
    """Put what a model writes on the field's numeric scale: decimal years and hours become days, seconds."""
    if field.type == "time":
        if not 0 <= number < 24:
            raise _Fault(f"{number:g} is no time of day in hours")
        return number * 3600
    if field.type in ("date", "datetime"):
        if not 1 <= number < 9999:
            raise _Fault(f"{number:g} is no decimal year")
        first = dt.date(int(number), 1, 1)
        days = (dt.date(int(number) + 1, 1, 1) - first).days if number < 9998 else 365
        return float((first - dt.date(1970, 1, 1)).days) + round((number - int(number)) * days, 3)
    return number


def _figure(field: Field, value: float) -> Any:
    return round(value) if field.type in ("integer", "year") else from_scale(field, value)


def from_scale(field: Field, value: float) -> Any:
    """Write a number on the field's scale as a schema has it."""
    if field.type == "time":
        seconds = min(86_399, max(0, round(value)))
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if field.type == "date":
        return (dt.date(1970, 1, 1) + dt.timedelta(days=round(value))).isoformat()
    if field.type == "datetime":
        return (dt.datetime(1970, 1, 1) + dt.timedelta(seconds=round(value * 86_400))).isoformat()
    return float(f"{value:.6g}")


# Pooling --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """What several elicitations say of a column together."""

    numbers: tuple[float, ...]
    missing: float | None
    known: Known
    origin: Mapping[str, Any]
    missing_origin: Mapping[str, Any]


def estimate(field: Field, entries: Sequence[Entry]) -> Estimate:
    """Pool what the elicitations said; what nobody said stays open."""
    given = [entry.numbers for entry in entries if entry.numbers]
    sure = [entry.sure for entry in entries if entry.numbers]
    numbers: tuple[float, ...] = ()
    origin: dict[str, Any] = {}
    known = known_of(field, field.statistics)
    if given:
        if field.levels is not None:
            numbers, spread = pool_shares(given)
            known = Known(shares=numbers)
            scale = "logit"
        else:
            numbers, spread = pool_quantiles(given)
            known = known if known.mean is not None and known.sd is not None else _moments(numbers, known)
            scale = "sd"
        answers = [[float(f"{value:.6g}") for value in answer[:MOST_LEVELS]] for answer in given]
        origin = {"source": "elicited", "scale": scale, "answers": answers, "sure": sure}
        if spread is not None:
            origin["spread"] = round(spread, 4)
    shares = [entry.missing for entry in entries if entry.missing is not None]
    if not shares:
        return Estimate(numbers, None, known, origin, {})
    pooled = pool(shares, "logit")
    missing_origin: dict[str, Any] = {"source": "elicited", "scale": "logit", "answers": list(pooled.answers)}
    if pooled.spread is not None:
        missing_origin["spread"] = round(pooled.spread, 4)
    return Estimate(numbers, pooled.value, known, origin, missing_origin)


def _moments(numbers: Sequence[float], known: Known) -> Known:
    """Return mean and sd of seven quantiles, piecewise linear, the ends drawn in: few rows lie there."""
    low, *inner, high = numbers
    points = [inner[0] - (inner[0] - low) * 0.5, *inner, inner[-1] + (high - inner[-1]) * 0.5]
    weights = (0.05, 0.2, 0.25, 0.25, 0.2, 0.05)
    pairs = list(zip(weights, points[:-1], points[1:], strict=True))
    mean = math.fsum(weight * (one + other) / 2 for weight, one, other in pairs)
    square = math.fsum(weight * (one * one + one * other + other * other) / 3 for weight, one, other in pairs)
    sd = math.sqrt(max(0.0, square - mean * mean))
    return Known(known.mean if known.mean is not None else mean, known.sd if known.sd is not None else sd)


def known_of(field: Field, statistics: Statistics) -> Known:
    """Return what is declared of a column, as far as pairs need it."""
    if statistics.proportions is not None:
        return Known(shares=tuple(share for _, share in statistics.proportions))
    quantiles = dict(statistics.quantiles)
    median = statistics.median if statistics.median is not None else quantiles.get(0.5)
    sd = statistics.sd
    if sd is None and 0.25 in quantiles and 0.75 in quantiles:
        sd = (quantiles[0.75] - quantiles[0.25]) / 1.349
    return Known(statistics.mean if statistics.mean is not None else median, sd)


def additions(field: Field, found: Estimate) -> list[Addition]:
    """Return the statements that an estimate makes about a column, around what is declared."""
    made = []
    if found.missing is not None:
        share = round(found.missing, 4)
        made.append(Addition("statistics", field.name, "missing", share, found.missing_origin))
    if not found.numbers:
        return made

    def add(key: str, value: Any) -> None:
        made.append(Addition("statistics", field.name, key, value, found.origin))

    if field.levels is not None:
        rounded = [round(share, 5) for share in found.numbers]
        add("proportions", {level_text(field, level): share
                            for level, share in zip(field.levels, rounded, strict=True)})  # fmt: skip
        return made
    declared = field.statistics
    mean, sd = found.known.mean, found.known.sd
    assert mean is not None and sd is not None
    located = declared.mean is not None or declared.median is not None or bool(declared.quantiles)
    if located or declared.sd is not None or declared.distribution is not None or field.formula is not None:
        # Only what is open, and as moments: quantiles beside a declared figure could not hold with it.
        if not located:
            add("mean", from_scale(field, mean))
        if declared.sd is None and sd > 0:
            add("sd", float(f"{sd:.4g}"))
        return made
    low, *inner, high = found.numbers
    add("quantiles", {f"{p:g}": _figure(field, q) for p, q in zip(PROBABILITIES, inner, strict=True)})
    if declared.minimum is None:
        add("min", _figure(field, low))
    if declared.maximum is None:
        add("max", _figure(field, high))
    return made


def declared_of(field: Field) -> dict[str, Any]:
    """Return a column's declared statistics for its line: they are right, and the rest must fit them."""
    statistics, said = field.statistics, {}
    for name, value in (("mean", statistics.mean), ("median", statistics.median)):
        if value is not None:
            said[name] = from_scale(field, value)
    if statistics.sd is not None:
        said["sd"] = statistics.sd
    if statistics.quantiles:
        said["quantiles"] = {f"{p:g}": from_scale(field, q) for p, q in statistics.quantiles}
    if statistics.proportions is not None:
        said["percent"] = [round(100 * share, 2) for _, share in statistics.proportions[:MOST_LEVELS]]
    if statistics.missing is not None:
        said["missing_percent"] = round(100 * statistics.missing, 2)
    return said
