"""What pydantic finds wrong, as faults with JSON pointers and plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import Fault, pointer

_WORDS = {
    "missing": "This property is required.",
    "extra_forbidden": "This property is not known here. Leave it out, or check its spelling.",
    "int_type": "This must be an integer, without quotes or a decimal point.",
    "bool_type": "This must be true or false, without quotes.",
    "float_type": "This must be a number, without quotes.",
    "string_type": "This must be a text in quotes.",
    "dict_type": "This must be a JSON object.",
    "model_type": "This must be a JSON object.",
    "int_parsing": "This must be an integer.",
    "bool_parsing": "This must be true or false.",
    "float_parsing": "This must be a number.",
    "list_type": "This must be a JSON array.",
    "tuple_type": "This must be a JSON array.",
    "finite_number": "This must be a finite number.",
}


def _message(error: Mapping[str, Any] | ErrorDetails) -> str:
    words = _WORDS.get(error["type"])
    if words is not None:
        return words
    text: str = error["msg"].removeprefix("Value error, ")
    text = text.replace("Input should be", "This must be").replace("String should have", "This must have")
    text = text.replace("Tuple should have", "This must have").replace(" after validation,", ",")
    return text if text.endswith(".") else text + "."


def faults_from(errors: Iterable[Mapping[str, Any] | ErrorDetails]) -> list[Fault]:
    """Return pydantic's error details as faults; the pointers lead into the document that was validated."""
    faults = []
    for error in errors:
        parts = [part for part in error["loc"] if part != "[key]"]
        faults.append(Fault(pointer(*parts), _message(error)))
    return faults


def faults_of(error: ValidationError, document: Mapping[str, Any] | None = None) -> list[Fault]:
    """Return what a validation found as faults. The faulty values themselves are not repeated.

    Where a value may be of several kinds, pydantic tells the fault of each, and puts the kind's name into the
    place. With the `document` that was validated the pointers lead into it all the same, and the value has
    one fault: what each kind asks for, or what is wrong further within.
    """
    details = error.errors(include_url=False, include_input=False, include_context=False)
    if document is None:
        return faults_from(details)
    faults: list[Fault] = []
    kinds: dict[tuple[int | str, ...], list[tuple[int, Fault]]] = {}
    for detail in details:
        parts, several = _place(detail, document)
        fault = Fault(pointer(*parts), _message(detail))
        if several is None:
            faults.append(fault)
        else:
            kinds.setdefault(several, []).append((len(parts), fault))
    for place, found in kinds.items():
        within = [fault for depth, fault in found if depth > len(place)]
        faults += within or [Fault(pointer(*place), _joined([fault.message for _, fault in found]))]
    return faults


def _place(detail: ErrorDetails, document: Any) -> tuple[tuple[int | str, ...], tuple[int | str, ...] | None]:
    """Return where in the document a fault is, and where the value of several kinds is that it lies in."""
    parts: list[int | str] = []
    several: tuple[int | str, ...] | None = None
    at = document
    whole = [part for part in detail["loc"] if part != "[key]"]
    for number, part in enumerate(whole, 1):
        absent = detail["type"] == "missing" and number == len(whole)
        if isinstance(at, Mapping) and (part in at or absent):
            at = at.get(part)
        elif isinstance(at, list) and isinstance(part, int):
            at = at[part] if part < len(at) else None
        else:  # the name of a kind
            several = tuple(parts) if several is None else several
            continue
        parts.append(part)
    return tuple(parts), several


def _joined(messages: Sequence[str]) -> str:
    """Write what several kinds ask for as one sentence: "This must be an integer, or 'auto'."."""
    first, *others = dict.fromkeys(messages)
    ends = [other.removeprefix("This must be ") for other in others]
    return ", or ".join([first.removesuffix("."), *(end.removesuffix(".") for end in ends)]) + "."
