"""What pydantic finds wrong, as faults with JSON pointers and plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    return text if text.endswith(".") else text + "."


def faults_from(errors: Iterable[Mapping[str, Any] | ErrorDetails]) -> list[Fault]:
    """Return pydantic's error details as faults; the pointers lead into the document that was validated."""
    faults = []
    for error in errors:
        parts = [part for part in error["loc"] if part != "[key]"]
        faults.append(Fault(pointer(*parts), _message(error)))
    return faults


def faults_of(error: ValidationError) -> list[Fault]:
    """Return what a validation found as faults. The faulty values themselves are not repeated."""
    return faults_from(error.errors(include_url=False, include_input=False, include_context=False))
