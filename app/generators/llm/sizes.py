"""How strongly two columns go together: asked in the form that is easiest to judge, made coherent, stated.

Between numbers that is a rank correlation; where a category takes part, it is what the groups look like:
their means, their percentages. Those carry a sign, which Cramér's V and η do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.dictionary import (
    LONGEST_ANSWER,
    MOST_TOLD,
    Known,
    block,
    length_of,
    level_text,
    parts,
    quoted,
)
from app.generators.llm.draft import Addition
from app.generators.llm.interview import Sheet
from app.generators.llm.marginals import SURE, from_scale, to_scale
from app.generators.llm.pairs import Pair
from app.generators.llm.pooling import pool, pool_shares, raked
from app.generators.llm.structured import INTEGER, NUMBER, choice, listing, record
from app.generators.llm.tokens import weight_of
from app.schema.table import Field, TableSchema

PAIRS_AT_ONCE = 40
MOST_GROUPS = 12
"""Levels of a category that are asked about one by one."""
LEAST_SHARE = 0.03
"""Rarer levels are left as the rest makes them: their figures would rest on nothing."""
MOST_CELLS = 24
NEGLIGIBLE = 0.04
"""Associations below this are about what independence gives, and not stated."""
MOST_EXPLAINED = 0.8
"""Share of a number's variance that groups may explain: beyond, the answer is taken for a slip."""

Form = Literal["R", "M", "P", "X", "E", "V"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about a pair.

    Parameters
    ----------
    given : Field
        The column that makes the groups; of R the first.
    outcome : Field
        The column whose values are described.
    groups, values : tuple of int
        Positions of the levels that are asked about.
    """

    pair: Pair
    form: Form
    given: Field
    outcome: Field
    groups: tuple[int, ...] = ()
    values: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many numbers the answer has."""
        if self.form == "X":
            return len(self.groups) * len(self.values)
        return len(self.groups) if self.form in ("M", "P") else 1

    def line(self, number: int) -> str:
        """Return the pair as the model reads it. Names and levels stay in quotes."""
        given, outcome = quoted(self.given.name), quoted(self.outcome.name)
        groups = ", ".join(_level(self.given, place) for place in self.groups)
        values = ", ".join(_level(self.outcome, place) for place in self.values)
        match self.form:
            case "M":
                body = f"M: mean of {outcome} where {given} is {groups} ({len(self.groups)} numbers)"
            case "P":
                body = f"P: percentage with {outcome} = {values} where {given} is {groups}"
                body += f" ({len(self.groups)} numbers)"
            case "X":
                body = (
                    f"X: percentages of {outcome} = {values} where {given} is {groups} ({self.count} numbers)"
                )
            case "R":
                body = f"R: rank correlation of {given} and {outcome}"
            case "E":
                body = f"E: correlation ratio of {outcome} given {given}"
            case _:
                body = f"V: Cramér's V of {given} and {outcome}"
        return f"{number}. {body}"


def _level(field: Field, place: int) -> str:
    assert field.levels is not None
    return quoted(level_text(field, field.levels[place]))


def asked_of(schema: TableSchema, pair: Pair, known: Mapping[str, Known]) -> Asked:
    """Choose the form in which a pair is asked about."""
    one, other = (schema[name] for name in pair)
    if _is_scale(one) and _is_scale(other):
        return Asked(pair, "R", one, other)
    if _is_number(one) != _is_number(other):
        number, category = (one, other) if _is_number(one) else (other, one)
        groups = _groups(category, known)
        if 2 <= len(groups) <= MOST_GROUPS:
            return Asked(pair, "M", category, number, groups)
        return Asked(pair, "E", category, number)
    # Two categories: the one with fewer levels is described within the groups of the other.
    given, outcome = (one, other) if len(one.levels or ()) >= len(other.levels or ()) else (other, one)
    groups, values = _groups(given, known), _groups(outcome, known)
    two = len(outcome.levels or ()) == 2
    if 2 <= len(groups) <= MOST_GROUPS and two:
        return Asked(pair, "P", given, outcome, groups, (1,))
    everything = tuple(range(len(outcome.levels or ())))
    if len(groups) >= 2 and len(values) >= 2 and len(groups) * len(everything) <= MOST_CELLS:
        return Asked(pair, "X", given, outcome, groups, everything)
    return Asked(pair, "V", given, outcome)


def _is_number(field: Field) -> bool:
    return field.levels is None


def _is_scale(field: Field) -> bool:
    """Whether a rank correlation says it all: numbers, and ordered categories of some length."""
    return field.levels is None or (field.ordered and len(field.levels) > 2)


def _groups(field: Field, known: Mapping[str, Known]) -> tuple[int, ...]:
    """Return the levels that are asked about: not the rare ones, and of many the commonest."""
    assert field.levels is not None
    places = range(len(field.levels))
    shares = known[field.name].shares if field.name in known else ()
    if len(shares) != len(field.levels):
        return tuple(places)
    common = [place for place in places if shares[place] >= LEAST_SHARE or len(shares) == 2]
    common.sort(key=lambda place: -shares[place])
    return tuple(sorted(common[:MOST_GROUPS]))


def groups(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Split pairs into groups of which each fits a request, and its answer what an answer may take."""
    found: list[list[Asked]] = []
    for part in parts(asked, _answered, (LONGEST_ANSWER - 600) / 2, PAIRS_AT_ONCE):
        found.append([])
        told: dict[str, float] = {}
        for item in part:
            told |= {field.name: length_of(field) for field in (item.given, item.outcome)}
            lines = sum(weight_of(one.line(99)) for one in (*found[-1], item))
            if found[-1] and lines + sum(told.values()) > MOST_TOLD:
                found.append([])
                told = {field.name: length_of(field) for field in (item.given, item.outcome)}
            found[-1].append(item)
    return found


def _answered(asked: Asked) -> float:
    """Return about how many tokens a pair takes in an answer."""
    return 20 + 5 * asked.count


def sheet(
    schema: TableSchema,
    asked: Sequence[Asked],
    told: Mapping[str, Mapping[str, Any]],
    elicitation: int,
    purpose: str,
) -> Sheet:
    """Return the question about the sizes of some pairs."""
    names = {name for item in asked for name in item.pair}
    text = prompts.text(
        "sizes",
        framing=prompts.framing(elicitation),
        table=block(schema, [field for field in schema.fields if field.name in names], told, others=False),
        pairs="\n".join(item.line(number) for number, item in enumerate(asked, start=1)),
    )
    shape = record(pairs=listing(record(pair=INTEGER, numbers=listing(NUMBER), sure=choice(SURE))))
    room = 600 + round(2 * sum(map(_answered, asked)))
    question = Question(purpose, (("system", prompts.text("system")), ("user", text)), "sizes", shape, room)

    def read(value: Any) -> tuple[dict[Pair, tuple[tuple[float, ...], str]], list[str]]:
        found: dict[Pair, tuple[tuple[float, ...], str]] = {}
        faults: list[str] = []
        seen = set()
        for item in value["pairs"]:
            number = int(item["pair"])
            if not 1 <= number <= len(asked):
                faults.append(f"there is no pair {number}; the pairs go from 1 to {len(asked)}")
                continue
            seen.add(number)
            this = asked[number - 1]
            numbers = [float(each) for each in item["numbers"]]
            fault = _fault(this, numbers)
            if fault:
                faults.append(f"pair {number}: {fault}")
            elif numbers:
                found[this.pair] = (_scaled(this, numbers), item["sure"])
        absent = sorted(set(range(1, len(asked) + 1)) - seen)
        if absent:
            faults.append(f"no entry for the pairs {', '.join(map(str, absent[:40]))}")
        return found, faults

    return Sheet(question, read)


def _fault(asked: Asked, numbers: Sequence[float]) -> str | None:
    if not numbers:
        return None
    if len(numbers) != asked.count:
        return f"give {asked.count} number{'s' if asked.count > 1 else ''}; there are {len(numbers)}"
    if not all(math.isfinite(number) for number in numbers):
        return "the numbers must be finite"
    match asked.form:
        case "R":
            return None if -1 <= numbers[0] <= 1 else "a rank correlation lies between -1 and 1"
        case "E" | "V":
            return None if 0 <= numbers[0] <= 1 else "this lies between 0 and 1"
        case "P":
            return None if all(0 <= n <= 100 for n in numbers) else "percentages lie between 0 and 100"
        case "X":
            width = len(asked.values)
            for start in range(0, len(numbers), width):
                row = numbers[start : start + width]
                if min(row) < 0 or not 90 <= math.fsum(row) <= 110:
                    return f"the percentages of group {start // width + 1} must add up to 100"
            return None
    limits = asked.outcome.constraints
    for number in numbers:
        try:
            scaled = to_scale(asked.outcome, number)
        except Exception as error:  # noqa: BLE001  says what a model can act on
            return str(error)
        for bound, below in ((limits.minimum, True), (limits.maximum, False)):
            if bound is not None and (scaled - asked.outcome.to_number(bound)) * (1 if below else -1) < -1:
                return f"the mean {number:g} lies beyond the column's {'min' if below else 'max'}"
    return None


def _scaled(asked: Asked, numbers: Sequence[float]) -> tuple[float, ...]:
    if asked.form == "M":
        return tuple(to_scale(asked.outcome, number) for number in numbers)
    if asked.form in ("P", "X"):
        width = len(asked.values) if asked.form == "X" else 1
        rows = [numbers[start : start + width] for start in range(0, len(numbers), width)]
        if asked.form == "P":
            return tuple(number / 100 for number in numbers)
        return tuple(number / math.fsum(row) for row in rows for number in row)
    return tuple(numbers)


# Pooling and stating --------------------------------------------------------------------------------


def statements(
    asked: Asked, answers: Sequence[tuple[tuple[float, ...], str]], known: Mapping[str, Known]
) -> list[Addition]:
    """Pool the answers about a pair; return what is stated. Empty where it comes to next to nothing."""
    given = [numbers for numbers, _ in answers]
    origin: dict[str, Any] = {
        "source": "elicited",
        "answers": [[float(f"{number:.5g}") for number in numbers] for numbers in given],
        "sure": [sure for _, sure in answers],
    }
    match asked.form:
        case "R" | "E" | "V":
            return _measure(asked, [numbers[0] for numbers in given], origin)
        case "M":
            return _means(asked, given, known, origin)
    return _tables(asked, given, known, origin)


def _measure(asked: Asked, answers: Sequence[float], origin: dict[str, Any]) -> list[Addition]:
    pooled = pool(answers, "fisher z")
    if abs(pooled.value) < NEGLIGIBLE:
        return []
    measure = {"R": "spearman", "E": "correlation_ratio", "V": "cramers_v"}[asked.form]
    fields = [asked.given.name, asked.outcome.name]
    value = {"fields": fields, "measure": measure, "value": round(min(max(pooled.value, -0.97), 0.97), 3)}
    return [Addition("associations", fields[0], "", value, _spread(origin, "fisher z", pooled.spread))]


def _means(
    asked: Asked, answers: Sequence[Sequence[float]], known: Mapping[str, Known], origin: dict[str, Any]
) -> list[Addition]:
    """State the groups' means, pooled as distances from their middle: they mix to the column's own mean."""
    of_number, of_category = known.get(asked.outcome.name, Known()), known.get(asked.given.name, Known())
    if of_number.mean is None or not of_number.sd or not of_category.shares:
        return []
    shares = [of_category.shares[place] for place in asked.groups]
    total = math.fsum(shares)
    if total <= 0:
        return []
    weights = [share / total for share in shares]
    distances = []
    for numbers in answers:
        middle = math.fsum(w * number for w, number in zip(weights, numbers, strict=True))
        distances.append([(number - middle) / of_number.sd for number in numbers])
    pooled = [pool(column, "identity") for column in zip(*distances, strict=True)]
    middle = math.fsum(w * item.value for w, item in zip(weights, pooled, strict=True))
    centred = [item.value - middle for item in pooled]
    explained = math.fsum(w * value * value for w, value in zip(weights, centred, strict=True))
    if math.sqrt(explained) < NEGLIGIBLE:
        return []
    shrink = min(1.0, math.sqrt(MOST_EXPLAINED / explained))
    spread = max((item.spread for item in pooled if item.spread is not None), default=None)
    marked = _spread(origin, "sd", spread)
    limits = asked.outcome.constraints
    made = []
    for place, value in zip(asked.groups, centred, strict=True):
        mean = of_number.mean + shrink * value * of_number.sd
        for bound, end in ((limits.minimum, max), (limits.maximum, min)):
            if bound is not None:
                mean = end(mean, asked.outcome.to_number(bound))
        statistics = {"mean": from_scale(asked.outcome, mean)}
        made.append(_conditional(asked, place, statistics, marked))
    return made


def _tables(
    asked: Asked, answers: Sequence[Sequence[float]], known: Mapping[str, Known], origin: dict[str, Any]
) -> list[Addition]:
    """State the percentages within groups, raked so that they mix to the column's own."""
    of_outcome, of_given = known.get(asked.outcome.name, Known()), known.get(asked.given.name, Known())
    if not of_outcome.shares or not of_given.shares:
        return []
    width = 1 if asked.form == "P" else len(asked.values)
    rows: list[tuple[float, ...]] = []
    spreads: list[float] = []
    for start in range(0, len(answers[0]), width):
        parts = [answer[start : start + width] for answer in answers]
        full = [(1 - part[0], part[0]) if asked.form == "P" else tuple(part) for part in parts]
        shares, spread = pool_shares(full)
        rows.append(shares)
        spreads += [] if spread is None else [spread]
    weights = [of_given.shares[place] for place in asked.groups]
    total = math.fsum(weights)
    if total <= 0:
        return []
    weights = [weight / total for weight in weights]
    joint = [[weight * share for share in row] for weight, row in zip(weights, rows, strict=True)]
    table = raked(joint, weights, list(of_outcome.shares))
    within = [[cell / weight for cell in row] if weight else list(row)
              for row, weight in zip(table, weights, strict=True)]  # fmt: skip
    if _cramers_v(table) < NEGLIGIBLE:
        return []
    marked = _spread(origin, "logit", max(spreads, default=None))
    levels = asked.outcome.levels or ()
    return [
        _conditional(
            asked,
            place,
            {"proportions": {level_text(asked.outcome, level): round(share, 5)
                             for level, share in zip(levels, row, strict=True)}},
            marked,
        )
        for place, row in zip(asked.groups, within, strict=True)
    ]  # fmt: skip


def _conditional(
    asked: Asked, place: int, statistics: Mapping[str, Any], origin: Mapping[str, Any]
) -> Addition:
    assert asked.given.levels is not None
    level = asked.given.levels[place]
    plain = level if isinstance(level, bool | int | float | str) else level_text(asked.given, level)
    value = {"field": asked.outcome.name, "given": {asked.given.name: plain}, "statistics": dict(statistics)}
    return Addition("conditionals", asked.outcome.name, "", value, origin)


def _spread(origin: Mapping[str, Any], scale: str, spread: float | None) -> dict[str, Any]:
    return {**origin, "scale": scale} | ({} if spread is None else {"spread": round(spread, 4)})


def _cramers_v(table: Sequence[Sequence[float]]) -> float:
    rows = [math.fsum(row) for row in table]
    columns = [math.fsum(column) for column in zip(*table, strict=True)]
    chi = math.fsum(
        (cell - row * column) ** 2 / (row * column)
        for row, line in zip(rows, table, strict=True)
        for column, cell in zip(columns, line, strict=True)
        if row * column > 0
    )
    return math.sqrt(chi / max(1, min(len(rows), len(columns)) - 1))
