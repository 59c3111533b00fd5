"""What both kinds of submission share: the request's own properties, and the schema within it."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import Fault, InvalidInput
from app.faults import faults_of
from app.jobs.repository import Reference
from app.schema.table import TableSchema

Request = TypeVar("Request", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Envelope(Generic[Request]):
    """A request as it was read.

    Parameters
    ----------
    request : Request or None
        The request, where nothing is wrong with it.
    sound : Request or None
        The request without what is wrong with it, so that the rest can be judged in the same answer. What is
        required and wrong has a stand-in here.
    faults : list of Fault
        What is wrong.
    """

    request: Request | None
    sound: Request | None
    faults: list[Fault]


def read_envelope(
    kind: type[Request], document: dict[str, Any], stand_ins: Mapping[str, Any]
) -> Envelope[Request]:
    """Read a request; `stand_ins` has a value for each property that is required."""
    try:
        request = kind.model_validate(document)
    except ValidationError as error:
        faults = faults_of(error)
        return Envelope(None, _sound(kind, document, stand_ins, faults), faults)
    return Envelope(request, request, [])


def _sound(
    kind: type[Request], document: dict[str, Any], stand_ins: Mapping[str, Any], faults: Sequence[Fault]
) -> Request | None:
    paths = [fault.pointer.split("/")[1:] for fault in faults]
    kept = {name: value if name == "schema" else copy.deepcopy(value) for name, value in document.items()}
    for first, *deeper in paths:
        part: Any = kept.get(first)
        for step in deeper[:-1]:
            part = part.get(step) if isinstance(part, dict) else None
        if deeper and isinstance(part, dict) and deeper[-1] in part:
            del part[deeper[-1]]
        else:
            kept.pop(first, None)
    try:
        return kind.model_validate({**stand_ins, **kept})
    except ValidationError:
        return None


class Parses(Protocol):
    """Reads a schema document, or remembers having read it."""

    def parse(self, document: dict[str, Any]) -> tuple[TableSchema, tuple[Fault, ...]]:
        """Return the schema and its warnings; raise InvalidInput."""


def read_schema(
    document: Mapping[str, Any],
    reference: Reference | None,
    schemas: Parses,
    faults: list[Fault],
    warnings: list[Fault],
) -> TableSchema | None:
    """Return the request's schema, else the reference's inferred one; None where neither can be read."""
    given = document.get("schema")
    if given is None:
        return None if reference is None else schemas.parse(reference.schema_document)[0]
    if not isinstance(given, dict):
        return None  # told by the envelope
    try:
        schema, heeded = schemas.parse(given)
    except InvalidInput as error:
        faults += [fault.under("/schema") for fault in error.faults]
        return None
    warnings += [fault.under("/schema") for fault in heeded]
    return schema


def columns_of(reference: Reference) -> list[str]:
    """Return the names of a stored table's columns, in order."""
    return [str(field["name"]) for field in reference.schema_document.get("fields", ())]


def fields_absent(schema: TableSchema, table: Reference) -> list[tuple[int, str]]:
    """Return the position of each field that a table has no column for, and which column comes close."""
    columns = columns_of(table)
    known = set(columns)
    absent = []
    for position, field in enumerate(schema.fields):
        if field.name not in known and field.formula is None:
            close = difflib.get_close_matches(field.name, columns, 1)
            absent.append((position, f" Its closest column is '{close[0]}'." if close else ""))
    return absent
