"""Which columns go together: named by every elicitation, and chosen by their votes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.dictionary import LONGEST_ANSWER, block, blocks, in_order_of
from app.generators.llm.interview import Sheet
from app.generators.llm.structured import TEXT, choice, listing, record
from app.schema.table import Field, TableSchema

Pair = tuple[str, str]
"""Names of two columns, in the order of the schema."""

STRENGTHS = {"weak": 1.0, "moderate": 2.0, "strong": 3.0}
MOST_AT_ONCE = 24
"""Up to so many columns, one request looks at all pairs; beyond, at those of some columns with all."""
_MOST_NAMED = 1500
"""Characters of names that an answer's shape lists."""
_PER_COLUMN = 2.5


def candidates(schema: TableSchema, fields: Sequence[Field]) -> tuple[Field, ...]:
    """Return the columns whose pairs are asked about: what is computed follows from its inputs."""
    return tuple(field for field in fields if field.formula is None)


def settled(schema: TableSchema) -> set[Pair]:
    """Return the pairs of which something is declared: they are not asked about."""
    found = {ordered(schema, *item.fields) for item in schema.associations}
    for item in schema.conditionals:
        found |= {ordered(schema, item.field, condition.field) for condition in item.given}
    return found


def ordered(schema: TableSchema, one: str, other: str) -> Pair:
    """Return two names in the order of the schema."""
    return (one, other) if schema.index(one) < schema.index(other) else (other, one)


def most_pairs(columns: int) -> int:
    """Return how many pairs a table of so many columns may have stated."""
    return min(columns * (columns - 1) // 2, round(_PER_COLUMN * columns))


def sheets(
    schema: TableSchema, fields: Sequence[Field], known: Mapping[str, Mapping[str, Any]], elicitation: int
) -> list[Sheet]:
    """Return one elicitation's questions about which pairs matter."""
    shown = in_order_of(fields, elicitation)
    if len(shown) < 2:
        return []
    groups = blocks(shown, MOST_AT_ONCE)
    if len(groups) == 1:
        return [_sheet(schema, shown, shown, known, elicitation, f"pairs {elicitation + 1}")]
    return [
        _sheet(schema, group, shown, known, elicitation, f"pairs {elicitation + 1}, part {part}")
        for part, group in enumerate(groups, start=1)
    ]


def _sheet(
    schema: TableSchema,
    group: Sequence[Field],
    everything: Sequence[Field],
    known: Mapping[str, Mapping[str, Any]],
    elicitation: int,
    purpose: str,
) -> Sheet:
    names = [field.name for field in everything]
    focus = ""
    if len(group) < len(everything):
        focus = (
            " At least one column of each pair must be one of those that are described in full above; the "
            "other may also be one of the other columns that are only named."
        )
    most = min(most_pairs(len(everything)), 60)
    text = prompts.text(
        "pairs",
        framing=prompts.framing(elicitation),
        table=block(schema, group, known, others=len(group) < len(everything)),
        focus=focus,
        most=most,
    )
    few = len(names) <= MOST_AT_ONCE and sum(map(len, names)) <= _MOST_NAMED
    name = choice(names) if few else TEXT
    shape = record(pairs=listing(record(first=name, second=name, strength=choice(list(STRENGTHS)))))
    question = Question(
        purpose, (("system", prompts.text("system")), ("user", text)), "pairs", shape,
        min(600 + 60 * most, LONGEST_ANSWER),
    )  # fmt: skip
    allowed = set(names)

    def read(value: Any) -> tuple[dict[Pair, float], list[str]]:
        found: dict[Pair, float] = {}
        strange: list[str] = []
        for item in value["pairs"][: 2 * most]:
            one, other = item["first"], item["second"]
            unknown = [name for name in (one, other) if name not in allowed]
            if unknown:
                strange.append(f"there is no column {unknown[0][:60]!r} here")
            elif one != other:
                found.setdefault(ordered(schema, one, other), STRENGTHS[item["strength"]])
        # A slip here and there costs a pair; only an answer that is mostly strange is worth another request.
        return found, strange if len(strange) > len(found) else []

    return Sheet(question, read)


def chosen(
    votes: Iterable[Mapping[Pair, float]], columns: int, settled: set[Pair], excluded: set[Pair]
) -> list[Pair]:
    """Return the pairs to state: what more elicitations name, and as stronger, comes first."""
    score: dict[Pair, float] = defaultdict(float)
    for vote in votes:
        for pair, strength in vote.items():
            score[pair] += strength
    ranked = sorted(score, key=lambda pair: (-score[pair], pair))
    return [pair for pair in ranked if pair not in settled and pair not in excluded][: most_pairs(columns)]
