"""What no row may break, as a model says it: rules, derived columns, and where columns apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.errors import InvalidInput
from app.generators.fresh import is_fresh
from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.dictionary import block
from app.generators.llm.draft import Addition, Draft
from app.generators.llm.interview import Sheet
from app.generators.llm.structured import TEXT, choice, listing, record
from app.schema.parse import parse_schema
from app.schema.table import Field, TableSchema

MOST_RULES = 12
_LONGEST_RULE = 400


def sheet(draft: Draft, fields: Sequence[Field], purpose: str) -> Sheet:
    """Return the question about rules among some columns; every answer is read by the schema's own reader."""
    schema = draft.schema
    names = [field.name for field in fields]
    known = ""
    if schema.rules:
        told = "\n".join("- " + _plain(rule.text) for rule in schema.rules[:30])
        known = f"\nThese rules are declared already; do not repeat them:\n{told}\n"
    text = prompts.text("rules", table=block(schema, fields), most=MOST_RULES, known=known)
    column = choice(names)
    shape = record(
        rules=listing(record(rule=TEXT, why=TEXT)),
        derived=listing(record(column=column, formula=TEXT, why=TEXT)),
        applies=listing(record(column=column, when=TEXT, why=TEXT)),
    )
    question = Question(purpose, (("system", prompts.text("system")), ("user", text)), "rules", shape, 2500)

    def read(value: Any) -> tuple[dict[str, Addition], list[str]]:
        found: dict[str, Addition] = {}
        faults: list[str] = []
        items = [("rules", "", item["rule"], item["why"]) for item in value["rules"][:MOST_RULES]]
        items += [("formula", item["column"], item["formula"], item["why"]) for item in value["derived"]]
        items += [("relevant", item["column"], item["when"], item["why"]) for item in value["applies"]]
        for place, column, expression, why in items:
            expression = " ".join(expression.split())
            if not expression or len(expression) > _LONGEST_RULE:
                continue
            origin = {"source": "elicited", "why": why[:200]}
            addition = Addition(place, column, "", expression, origin)  # type: ignore[arg-type]
            fault = fault_of(draft.schema, addition)
            if fault is None:
                found[f"{place} {column} {expression}"] = addition
            elif fault:
                faults.append(f"{expression[:120]!r}: {fault}")
        return found, faults

    return Sheet(question, read)


def fault_of(schema: TableSchema, addition: Addition) -> str | None:
    """Return what is wrong with an expression; None where nothing is; "" where it is not ours to add."""
    document = dict(schema.document)
    if addition.place == "rules":
        known = [rule.text for rule in schema.rules]
        if addition.value in known:
            return ""
        document["rules"] = [*(document.get("rules") or []), addition.value]
        # Only the new rule's own faults count: it is the last.
        places = (f"/rules/{len(document['rules']) - 1}",)
    else:
        if addition.column not in schema:
            return f"there is no column {addition.column[:60]!r}"
        field = schema[addition.column]
        if not _may_get(schema, field, addition.place):
            return ""
        place = schema.index(addition.column)
        document["fields"] = [dict(raw) for raw in document["fields"]]
        document["fields"][place][addition.place] = addition.value
        places = ("/fields",)
    try:
        changed, _ = parse_schema(document, max_fields=len(document["fields"]))
    except InvalidInput as error:
        own = [fault for fault in error.faults if fault.pointer.startswith(places)] or list(error.faults)
        return own[0].message
    if addition.place == "rules":
        return None
    expression = getattr(changed[addition.column], addition.place)
    if addition.column in expression.fields:
        return "a column cannot be computed from itself"
    return None


def _may_get(schema: TableSchema, field: Field, place: str) -> bool:
    """Whether a column's formula or condition is open, and would not change what is declared of it."""
    if place == "formula":
        stated = field.formula is not None or field.levels is not None or field.statistics.declared
        return not stated and field.kind not in ("text", "id") and not is_fresh(schema, field)
    # `missing` is over the rows where a column applies: to say where it applies would change its meaning.
    return field.relevant is None and field.statistics.missing is None and not field.constraints.required


def _plain(text: str) -> str:
    return text.replace("<table", "< table").replace("</table", "< /table")


def doubtful_formula(
    schema: TableSchema, column: str, middle: dict[str, float], span: tuple[float, float]
) -> bool:
    """Whether a formula gives, at the middle of its inputs, something outside the column's own span.

    Parameters
    ----------
    middle : dict
        A typical value of each numeric column, on its scale.
    span : (float, float)
        What the column's values lie between.
    """
    import pandas as pd

    from app.schema.evaluate import formula_column
    from app.schema.frames import conform

    field = schema[column]
    assert field.formula is not None
    inputs = [schema[name] for name in field.formula.fields]
    if any(item.kind != "numeric" or item.name not in middle for item in inputs):
        return False
    small = replace(schema, fields=tuple(inputs))
    row = {item.name: [round(middle[item.name], 6 if item.type == "number" else None)] for item in inputs}
    frame = conform(pd.DataFrame(row), small)
    value = formula_column(field, frame)
    number = pd.to_numeric(pd.Series(value), errors="coerce").iloc[0]
    return bool(pd.isna(number)) or not span[0] <= float(number) <= span[1]
