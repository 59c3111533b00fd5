"""A preview is shown, and patches are made: to what was elicited, never to what is declared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.generators.llm import marginals, prompts, rules
from app.generators.llm.client import Question
from app.generators.llm.dictionary import (
    MOST_TOLD,
    Known,
    block,
    length_of,
    level_text,
    parts,
    subjects,
)
from app.generators.llm.draft import Addition, Draft
from app.generators.llm.interview import Sheet
from app.generators.llm.pairs import ordered, settled
from app.generators.llm.structured import MAYBE_TEXT, NUMBER, TEXT, choice, listing, record
from app.generators.llm.tokens import weight_of
from app.schema.table import Field, TableSchema

MOST_PATCHES = 12
MOST_COLUMNS = 60
"""Columns that are shown; of larger tables the first so many."""
_ROOM = 2500
"""Tokens of an answer; twelve patches take a thousand."""
KINDS = ("column", "pair", "group", "rule")


@dataclass(frozen=True)
class Seen:
    """What a preview shows, all of it synthetic.

    Parameters
    ----------
    summaries : mapping of str to str
        By column, one line of Table 1.
    associations : sequence of str
        The strongest, in words.
    rows : sequence of mapping
        The strangest, and a few others.
    """

    summaries: Mapping[str, str]
    associations: Sequence[str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Patch:
    """One change that the model asks for."""

    kind: str
    columns: tuple[str, ...]
    level: str | None
    numbers: tuple[float, ...]
    rule: str | None
    why: str

    def as_json(self) -> dict[str, Any]:
        """Return it for the record."""
        said = {"kind": self.kind, "columns": list(self.columns), "level": self.level,
                "numbers": list(self.numbers), "rule": self.rule, "why": self.why}  # fmt: skip
        return {name: value for name, value in said.items() if value not in (None, [])}


def sheet(draft: Draft, seen: Seen, known: Mapping[str, Known], purpose: str) -> Sheet:
    """Return the question what is wrong with a preview; `known` is what is known of each column."""
    schema = draft.schema
    seen_of = [field for field in schema.fields if field.name in seen.summaries]
    shown = parts(seen_of, lambda field: _shown(field, seen), MOST_TOLD, MOST_COLUMNS)[0] if seen_of else []
    names = [field.name for field in shown]
    lines: dict[str, dict[str, Any]] = {}
    for field in shown:
        declared = _declared_form(draft, field) == "none"
        lines[field.name] = {"give": "declared" if declared else _declared_form(draft, field)}
    preview = ["Columns (present values; share missing):"]
    preview += [f"- {json.dumps(name, ensure_ascii=False)}: {seen.summaries[name]}" for name in names]
    if seen.associations:
        preview += ["", "Strongest associations:", *(f"- {line}" for line in seen.associations)]
    rows = [[row.get(name) for name in names] for row in seen.rows]
    preview += ["", "Some rows, the most unusual first, as lists in the order of the columns above:"]
    preview += [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
    text = prompts.text(
        "critique",
        table=block(schema, shown, lines),
        preview="\n".join(preview).replace("<", "‹"),
        most=MOST_PATCHES,
    )
    shape = record(
        patches=listing(
            record(
                kind=choice(KINDS), columns=listing(TEXT), level=MAYBE_TEXT, numbers=listing(NUMBER),
                rule=MAYBE_TEXT, why=TEXT,
            )
        )
    )  # fmt: skip
    question = Question(
        purpose, (("system", prompts.text("system")), ("user", text)), "patches", shape, _ROOM
    )

    def read(value: Any) -> tuple[dict[int, Patch], list[str]]:
        found: dict[int, Patch] = {}
        faults: list[str] = []
        for place, item in enumerate(value["patches"][:MOST_PATCHES]):
            patch = Patch(
                item["kind"], tuple(item["columns"]), item["level"],
                tuple(float(number) for number in item["numbers"]), item["rule"], item["why"][:300],
            )  # fmt: skip
            fault = _fault(draft, patch, known)
            if fault is None:
                found[place] = patch
            elif fault:
                faults.append(f"patch {place + 1}: {fault}")
        return found, faults

    return Sheet(question, read)


def _shown(field: Field, seen: Seen) -> float:
    cells = sum(weight_of(json.dumps(row.get(field.name), ensure_ascii=False)) + 1 for row in seen.rows)
    return length_of(field) + weight_of(field.name) + weight_of(seen.summaries[field.name]) + cells


def _fault(draft: Draft, patch: Patch, known: Mapping[str, Known]) -> str | None:
    """Return what is wrong with a patch; None where nothing is; "" where it is dropped without a word."""
    schema = draft.schema
    unknown = [name for name in patch.columns if name not in schema]
    if unknown:
        return f"there is no column {unknown[0][:60]!r}"
    if patch.kind == "rule":
        return rules.fault_of(schema, Addition("rules", "", "", " ".join((patch.rule or "").split())))
    wanted = 1 if patch.kind == "column" else 2
    if len(patch.columns) != wanted or len(set(patch.columns)) != wanted:
        return f"a patch of kind {patch.kind} names {wanted} column{'s' if wanted > 1 else ''}"
    if patch.kind == "column":
        field = schema[patch.columns[0]]
        item = {"numbers": list(patch.numbers), "missing_percent": None, "sure": "medium"}
        if _declared_form(draft, field) == "none":
            return ""
        # As declared: what was elicited is open to be said anew.
        return marginals.fault_of_entry(draft.declared_schema, draft.declared_schema[field.name], item)
    if len(patch.numbers) != 1:
        return "give one number"
    one, other = (schema[name] for name in patch.columns)
    if patch.kind == "pair":
        if not -1 <= patch.numbers[0] <= 1:
            return "a rank correlation lies between -1 and 1"
        if not all(_ranks(field) for field in (one, other)):
            return 'a rank correlation needs numbers, ordered or two-level columns; use "group" instead'
        return None
    levels = [level_text(other, level) for level in other.levels or ()]
    if patch.level not in levels:
        return f"`level` must be one of the levels of {other.name!r}"
    if one.levels is not None:
        good = len(one.levels) == 2 and 0 <= patch.numbers[0] <= 100
        return None if good else f"give the percentage of one of two levels of {one.name!r}, 0 to 100"
    return marginals.fault_of_mean(one, patch.numbers[0], known.get(one.name, Known()))


def _ranks(field: Field) -> bool:
    return field.levels is None or field.ordered or len(field.levels) == 2


def _declared_form(draft: Draft, field: Field) -> marginals.Form:
    schema = draft.declared_schema
    return marginals.form_of(schema, schema[field.name]) if field in subjects(draft.schema) else "none"


# Making patches -------------------------------------------------------------------------------------


def apply(
    draft: Draft,
    patches: Sequence[Patch],
    known: dict[str, Known],
    fits: Callable[[str], bool] = lambda _: True,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make patches one by one.

    Parameters
    ----------
    known : dict
        What is known of each column; brought up to date.
    fits : callable
        Tells of a rule whether enough rows would keep it, and what is declared could hold with it.

    Returns
    -------
    (list of dict, list of dict)
        Those that were made, and those that were not since they touch what is declared or do not fit.
    """
    made: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for patch in patches:
        before = list(draft.additions)
        changes = _changes(draft, patch, known)
        if changes is None or (patch.kind == "rule" and not fits(changes[1][0].value)):
            refused.append(patch.as_json())
            continue
        gone, additions = changes
        dropped = set(map(id, gone))
        draft.additions = [item for item in draft.additions if id(item) not in dropped]
        if draft.add(*additions):  # it contradicts something: all stays as it was
            draft.additions = before
            draft.add()
            refused.append(patch.as_json())
        else:
            made.append(patch.as_json())
    return made, refused


def _changes(
    draft: Draft, patch: Patch, known: dict[str, Known]
) -> tuple[list[Addition], list[Addition]] | None:
    """Return what a patch takes away and what it adds; None where it would overrule what is declared."""
    schema = draft.schema
    origin = {"source": "elicited", "why": patch.why, "answers": [list(patch.numbers)], "critique": True}
    declared = draft.declared_schema
    if patch.kind == "rule":
        return [], [Addition("rules", "", "", " ".join((patch.rule or "").split()), origin)]
    if patch.kind == "column":
        field = declared[patch.columns[0]]
        entry = marginals.read_entry(declared, field, {
            "numbers": list(patch.numbers), "missing_percent": None, "sure": "medium"})  # fmt: skip
        found = marginals.estimate(field, [entry])
        known[field.name] = found.known
        gone = [
            item
            for item in draft.additions
            if item.place == "statistics" and item.column == field.name and item.key != "missing"
        ]
        added = [Addition(item.place, item.column, item.key, item.value, origin)
                 for item in marginals.additions(field, found)]  # fmt: skip
        return gone, added
    pair = ordered(schema, *patch.columns)
    if pair in settled(declared):
        return None
    one, other = patch.columns
    if patch.kind == "pair":
        gone = [item for item in draft.additions if _about(schema, item, pair)]
        value = {
            "fields": list(pair),
            "measure": "spearman",
            "value": round(max(-0.97, min(0.97, patch.numbers[0])), 3),
        }
        return gone, [Addition("associations", pair[0], "", value, origin)]
    return _group(draft, patch, one, other, origin)


def _group(
    draft: Draft, patch: Patch, one: str, other: str, origin: Mapping[str, Any]
) -> tuple[list[Addition], list[Addition]] | None:
    outcome, category = draft.schema[one], draft.schema[other]
    assert category.levels is not None
    level = next(level for level in category.levels if level_text(category, level) == patch.level)
    plain = level if isinstance(level, bool | int | float | str) else level_text(category, level)
    if outcome.levels is None:
        statistics: dict[str, Any] = {
            "mean": marginals.from_scale(outcome, marginals.to_scale(outcome, patch.numbers[0]))
        }
    else:
        share = round(patch.numbers[0] / 100, 5)
        first, second = (level_text(outcome, each) for each in outcome.levels)
        statistics = {"proportions": {first: round(1 - share, 5), second: share}}
    value = {"field": one, "given": {other: plain}, "statistics": statistics}
    pair = ordered(draft.schema, one, other)
    gone = [
        item
        for item in draft.additions
        if (item.place == "associations" and _about(draft.schema, item, pair))
        or (
            item.place == "conditionals"
            and item.value["field"] == one
            and item.value["given"] == {other: plain}
        )
        or (item.place == "conditionals" and item.value["field"] == other and one in item.value["given"])
    ]
    return gone, [Addition("conditionals", one, "", value, origin)]


def _about(schema: TableSchema, item: Addition, pair: tuple[str, str]) -> bool:
    if item.place == "associations":
        return ordered(schema, *item.value["fields"]) == pair
    if item.place == "conditionals":
        return any(ordered(schema, item.value["field"], name) == pair for name in item.value["given"])
    return False
