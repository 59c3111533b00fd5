"""The table's dictionary as a language model reads it: one JSON object a line, marked off as data.

Whatever names, descriptions and categories hold, it stays inside quotes: nothing in it can end the block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from app.generators.fresh import is_fresh
from app.generators.llm.tokens import weight_of
from app.schema.table import Field, TableSchema

Item = TypeVar("Item")

MOST_COLUMNS = 18
"""Columns that one request asks about: some 60 tokens each, and as many in the answer."""
MOST_CHARACTERS = 5500
"""Of the columns of one request: with its text, a long description and the answer it fits 8,192 tokens."""
MOST_TOLD = 9000
"""Of what else grows with columns: pairs and their columns, or columns and their preview."""
LONGEST_ANSWER = 3800
"""Tokens that an answer may take; one that is cut off is asked for again with more room."""
MOST_LEVELS = 60
"""Levels that are listed; of longer lists the model may name the commonest by position only among these."""
_MOST_NAMES, _MOST_NAMED = 300, 2000
"""Other columns that are named at most, and the characters of their names."""
_LONGEST_TEXT = 300


def subjects(schema: TableSchema) -> tuple[Field, ...]:
    """Return the fields that a model can know something of: not ids, free text or constants."""
    return tuple(
        field
        for field in schema.fields
        if not (is_fresh(schema, field) or (field.formula is not None and field.kind in ("text", "id")))
        and not (field.levels is not None and len(field.levels) < 2)
    )


def level_text(field: Field, level: Any) -> str:
    """Return a level as it stands in the schema's `proportions` and `given`."""
    if isinstance(level, bool):
        return "true" if level else "false"
    return level.isoformat() if hasattr(level, "isoformat") else str(level)


def quoted(name: str) -> str:
    """Return a name or level as it may stand outside the data: in quotes that nothing in it can end."""
    plain = " ".join(name.split()).replace("`", "'").replace("<", "(").replace(">", ")")
    return f"`{plain}`"


def describe(field: Field, **more: Any) -> dict[str, Any]:
    """Return what is said of a column; `more` is added where it says something."""
    about = " ".join(part for part in (field.title, field.description) if part)
    said: dict[str, Any] = {
        "name": field.name,
        "type": field.type,
        "unit": field.unit,
        "about": about[:_LONGEST_TEXT],
    }
    if field.levels is not None and field.type != "boolean":
        said["levels"] = [level_text(field, level) for level in field.levels[:MOST_LEVELS]]
        said["more_levels"] = max(0, len(field.levels) - MOST_LEVELS)
        said["ordered"] = field.ordered
    for name, bound in (("min", field.constraints.minimum), ("max", field.constraints.maximum)):
        if bound is not None:
            said[name] = bound.isoformat() if hasattr(bound, "isoformat") else bound
    if field.formula is not None:
        said["computed_by"] = field.formula.text
    if field.relevant is not None:
        said["applies_when"] = field.relevant.text
    said |= more
    return {
        name: value
        for name, value in said.items()
        if value not in ("", None, False, 0, {}) or name in _BOUNDS
    }


_BOUNDS = ("min", "max")


def block(
    schema: TableSchema,
    fields: Iterable[Field],
    more: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    others: bool = True,
) -> str:
    """Return the data block about some columns.

    Parameters
    ----------
    more : mapping, optional
        By column: what is added to its line.
    others : bool
        Whether the other columns are named, too.
    """
    shown = list(fields)
    names = {field.name for field in shown}
    table: dict[str, Any] = {"title": schema.title[:_LONGEST_TEXT], "description": schema.description[:4000]}
    rest = [name for name in schema.names if name not in names]
    if others and rest:
        table["other_columns"] = _first_names(rest)
    table = {name: value for name, value in table.items() if value}
    lines = [_quoted(table)] if table else []
    lines += [_quoted(describe(field, **(more or {}).get(field.name, {}))) for field in shown]
    return "\n".join(["<table>", *lines, "</table>"])


def _first_names(names: Sequence[str]) -> list[str]:
    left, found = float(_MOST_NAMED), list[str]()
    for name in names[:_MOST_NAMES]:
        left -= weight_of(name)
        if left < 0:
            break
        found.append(name)
    return found


def length_of(field: Field) -> float:
    """Return about how many characters a column takes in a request: its line, and its name in the shape."""
    return weight_of(_quoted(describe(field))) + 2 * weight_of(field.name)


def blocks(fields: Sequence[Field], most: int = MOST_COLUMNS) -> list[tuple[Field, ...]]:
    """Split columns into blocks of which each fits a request."""
    return [tuple(part) for part in parts(fields, length_of, MOST_CHARACTERS, most)]


def parts(
    items: Iterable[Item], size_of: Callable[[Item], float], most: float, count: int
) -> list[list[Item]]:
    """Split items, in order, into parts of at most `count` that are together no larger than `most`."""
    found: list[list[Item]] = [[]]
    size = 0.0
    for item in items:
        length = size_of(item)
        if found[-1] and (len(found[-1]) >= count or size + length > most):
            found.append([])
            size = 0.0
        found[-1].append(item)
        size += length
    return [part for part in found if part]


def in_order_of(fields: Sequence[Field], elicitation: int) -> list[Field]:
    """Return the columns in another order for each elicitation: what stands first draws attention."""
    if elicitation % 3 == 1:
        return list(reversed(fields))
    shift = len(fields) // 2 if elicitation % 3 == 2 else 0
    return [*fields[shift:], *fields[:shift]]


def _quoted(value: Any) -> str:
    # `<` and `>` are escaped, so that no text can write the end of the block.
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a column by now, in a form that is short enough to be told with every pair."""

    mean: float | None = None
    sd: float | None = None
    shares: tuple[float, ...] = ()
    """Of the levels, in their order."""

    def told(self, field: Field) -> dict[str, Any]:
        """Return it for the column's line."""
        if self.shares and field.type == "boolean":
            return {"known": {"percent_true": round(100 * self.shares[-1], 1)}}
        if self.shares:
            return {"known": {"percent": [round(100 * share, 1) for share in self.shares[:MOST_LEVELS]]}}
        said = {name: float(f"{value:.3g}") for name, value in (("mean", self.mean), ("sd", self.sd))
                if value is not None}  # fmt: skip
        return {"known": said} if said else {}
