"""Schemas of answers that every provider accepts, and answers held against them.

Strict structured output knows a small part of JSON Schema: every property required, none beyond, no
bounds and no lengths (each of those is a 400 somewhere). So bounds are said in words, and judged by us.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

LARGEST = 1e15
"""Size of a number in an answer; beyond, sums and powers of it may leave what a number can hold."""

Shape = Mapping[str, Any]
"""A JSON Schema of the plain kind that the functions here build."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]")

MAX_CHOICES = 500
"""Choices in one list: providers stop at 1,000 over the whole schema, and longer lists go by number."""


def record(**properties: Shape) -> Shape:
    """Return the shape of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def listing(items: Shape) -> Shape:
    """Return the shape of an array."""
    return {"type": "array", "items": items}


def choice(values: Sequence[str], *, nullable: bool = False) -> Shape:
    """Return the shape of one of some texts; of any text where they are too many to list."""
    if len(values) > MAX_CHOICES:
        return {"type": ["string", "null"]} if nullable else TEXT
    if nullable:
        return {"type": ["string", "null"], "enum": [*values, None]}
    return {"type": "string", "enum": list(values)}


TEXT: Shape = {"type": "string"}
NUMBER: Shape = {"type": "number"}
INTEGER: Shape = {"type": "integer"}
BOOLEAN: Shape = {"type": "boolean"}
MAYBE_TEXT: Shape = {"type": ["string", "null"]}
MAYBE_NUMBER: Shape = {"type": ["number", "null"]}
MAYBE_INTEGER: Shape = {"type": ["integer", "null"]}
MAYBE_BOOLEAN: Shape = {"type": ["boolean", "null"]}


def in_words(shape: Shape) -> str:
    """Return a shape as a compact example of JSON, for models that are held to no schema."""
    if "enum" in shape:
        return " | ".join(json.dumps(item, ensure_ascii=False) for item in shape["enum"])
    kinds = [shape["type"]] if isinstance(shape["type"], str) else list(shape["type"])
    if kinds == ["object"]:
        inner = ", ".join(
            f"{json.dumps(name)}: {in_words(part)}" for name, part in shape["properties"].items()
        )
        return f"{{{inner}}}"
    if kinds == ["array"]:
        return f"[{in_words(shape['items'])}, …]"
    return " | ".join(kinds)


def read_json(text: str) -> Any:
    """Read the JSON of an answer, also where a fence or a sentence stands around it.

    Raises
    ------
    ValueError
        In words that a model can act on.
    """
    stripped = text.strip()
    for candidate in (stripped, _fenced(stripped), _braced(stripped)):
        if candidate:
            try:
                value = json.loads(candidate, parse_constant=_no_constant)
                return _whole(value) if _HALF.search(candidate) else value
            except (ValueError, RecursionError):  # the latter: a bracket that was opened for ever
                continue
    raise ValueError("the answer is not one JSON object")


def _fenced(text: str) -> str | None:
    begin = text.find("```")
    end = text.find("```", begin + 3)
    return text[begin + 3 : end].removeprefix("json").strip() if 0 <= begin < end else None


def _whole(value: Any) -> Any:
    """Replace halves of characters (lone surrogates), which no text can hold that is to be written."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {_whole(name): _whole(item) for name, item in value.items()}
    return value


def _braced(text: str) -> str | None:
    begin, end = text.find("{"), text.rfind("}")
    return text[begin : end + 1] if 0 <= begin < end else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def faults_of_shape(value: Any, shape: Shape, at: str = "answer") -> list[str]:
    """Return where a value is not of a shape, in words; at most a few."""
    faults: list[str] = []
    _look(value, shape, at, faults)
    return faults[:8]


def usable_part(value: Any, shape: Shape) -> Any:
    """Return what of a value is of a shape: without the items of arrays that are not; None where nothing is.

    One slip in one entry is no reason to leave out what else an answer says.
    """
    kinds = [shape.get("type")] if isinstance(shape.get("type"), str) else list(shape.get("type") or ())
    if kinds == ["object"]:
        if not isinstance(value, dict):
            return None
        parts = {name: usable_part(value.get(name), part) for name, part in shape["properties"].items()}
        return None if faults_of_shape(parts, shape) else parts
    if kinds == ["array"]:
        found = [usable_part(item, shape["items"]) for item in value] if isinstance(value, list) else []
        return [item for item in found if not faults_of_shape(item, shape["items"])]
    return value


def _look(value: Any, shape: Shape, at: str, faults: list[str]) -> None:
    if "enum" in shape:
        if value not in shape["enum"] or isinstance(value, bool):
            faults.append(f"{at} must be one of {in_words(shape)[:300]}")
        return
    kinds = [shape["type"]] if isinstance(shape["type"], str) else list(shape["type"])
    if not any(_is(value, kind) for kind in kinds):
        faults.append(f"{at} must be {' or '.join(kinds)}")
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:
        faults.append(f"{at} must lie between -{LARGEST:g} and {LARGEST:g}")
    elif isinstance(value, dict):
        properties = shape["properties"]
        faults += [f"{at} lacks `{name}`" for name in shape["required"] if name not in value]
        for name, part in properties.items():
            if name in value and len(faults) < 8:
                _look(value[name], part, f"{at}.{name}", faults)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if len(faults) < 8:
                _look(item, shape["items"], f"{at}[{position}]", faults)


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)
