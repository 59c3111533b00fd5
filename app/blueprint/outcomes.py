"""What compiling came to, entered into a blueprint: asked and achieved, repairs, guesses. No numerics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.blueprint.declare import on_scale, plain
from app.blueprint.model import Blueprint
from app.blueprint.places import in_blueprint
from app.schema.table import Field, TableSchema


@dataclass(frozen=True, slots=True)
class Settled:
    """A statement, and what the rows have.

    Parameters
    ----------
    pointer : str
        Into the schema's document.
    asked, achieved : float
        On the field's numeric scale; `achieved` may be NaN.
    moved : float
        Distance in tolerances; beyond 1 it is a repair.
    reason : str
        Why it is not as asked, where that is known.
    """

    pointer: str
    asked: float
    achieved: float
    moved: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Guessed:
    """A direction that was taken for an association that declares none; `pointer` is the association's."""

    pointer: str
    sign: Literal[-1, 1]
    reason: str = ""


BEYOND = 1.0
"""Tolerances up to which a statement is as asked."""

_YIELDED = "a default, which gave way to what is declared"


def with_outcomes(
    blueprint: Blueprint,
    schema: TableSchema,
    settled: Iterable[Settled],
    guessed: Iterable[Guessed] = (),
    defaults: Iterable[Settled] = (),
) -> Blueprint:
    """Return a blueprint with what the rows have.

    Parameters
    ----------
    blueprint : Blueprint
        As `declare` made it of `schema`.
    settled : iterable of Settled
        Every statement.
    guessed : iterable of Guessed
        Directions that nobody declared.
    defaults : iterable of Settled
        What the rows have of numbers that nobody declared; those that moved are told, after all repairs.
    """
    document = blueprint.lean()
    outcomes, repairs = [], []
    for item in sorted(settled, key=_far):
        entry = _entry(document, schema, item)
        outcomes.append({**entry, "moved": _finite(item.moved)})
        if item.moved > BEYOND and entry["achieved"] is not None and _enter(document, entry):
            repairs.append({**entry, "moved": plain(item.moved), "reason": item.reason})
    for item in defaults:
        entry = _entry(document, schema, item)
        if item.moved > BEYOND and entry["achieved"] is not None and _enter(document, entry):
            repairs.append({**entry, "moved": None, "reason": _YIELDED})
    guesses = []
    for guess in guessed:
        at = in_blueprint(guess.pointer)
        association = _node(document, at)
        if association is not None and "sign" not in association:
            association["sign"] = {"value": guess.sign, "source": "guessed"}
            guesses.append({"at": f"{at}/sign/value", "value": guess.sign, "reason": guess.reason})
    document |= {"outcomes": outcomes, "repairs": repairs, "guesses": guesses}
    return Blueprint.model_validate(document)


def _far(item: Settled) -> float:
    return math.inf if math.isnan(item.moved) or math.isnan(item.achieved) else -item.moved


def _finite(number: float) -> int | float | None:
    return plain(number) if math.isfinite(number) else None


def _entry(document: Mapping[str, Any], schema: TableSchema, item: Settled) -> dict[str, Any]:
    at = _as_written(document, in_blueprint(item.pointer))
    field = _field(schema, item.pointer)
    achieved = None if math.isnan(item.achieved) else _written(field, at, item.achieved)
    return {"at": at, "asked": _written(field, at, item.asked), "achieved": achieved}


def _written(field: Field | None, at: str, number: float) -> int | float | str:
    parts = at.split("/")
    if field is not None and {"mean", "median", "min", "max", "quantiles"} & set(parts):
        return on_scale(field, number)
    return plain(number)


def in_words(schema: TableSchema, at: str, number: float) -> str:
    """Return a figure as a sentence tells it: four digits, or a date or time."""
    told = _written(_field(schema, at), at, number) if math.isfinite(number) else number
    return told if isinstance(told, str) else f"{told:.4g}"


def _field(schema: TableSchema, at: str) -> Field | None:
    parts = at.split("/")
    if parts[1] == "fields":
        return schema.fields[int(parts[2])]
    return schema[schema.conditionals[int(parts[2])].field] if parts[1] == "conditionals" else None


def _enter(document: dict[str, Any], entry: Mapping[str, Any]) -> bool:
    """Let a number of the document show what the rows have; return whether it is there."""
    parts = _parts(entry["at"])
    place = parts.index("value") if "value" in parts else -1
    node = _walk(document, parts[:place])
    if node is None or "value" not in node:
        return False
    below = parts[place + 1 :]
    if not below:
        node.setdefault("asked", node["value"])
        node["value"] = entry["achieved"]
        return True
    if below[0] not in node["value"]:
        return False
    node.setdefault("asked", dict(node["value"]))
    node["value"][below[0]] = entry["achieved"]
    return True


def _as_written(document: Mapping[str, Any], at: str) -> str:
    """Return the pointer with a level or probability as the document writes it: `0.50` for `0.5`."""
    head, _, last = at.rpartition("/")
    table = _node(document, head)
    key = _parts("/" + last)[0]
    if not head.endswith("/value") or not isinstance(table, Mapping) or key in table:
        return at
    for written in table:
        if written.casefold() == key.casefold() or (
            _number(key) is not None and _number(written) == _number(key)
        ):
            return f"{head}/{written.replace('~', '~0').replace('/', '~1')}"
    return at


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parts(at: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:]]


def _node(document: Any, at: str) -> Any:
    return _walk(document, _parts(at))


def _walk(document: Any, parts: Iterable[str]) -> Any:
    for part in parts:
        if isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            return None
    return document
