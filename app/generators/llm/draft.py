"""The schema in the making: what is declared, and around it what a model has said, each with its origin.

What is declared is never overruled: an addition that contradicts it, by the schema's own reader, is dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.errors import Fault, InvalidInput, pointer
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

Place = Literal["statistics", "formula", "relevant", "associations", "conditionals", "rules"]
_LISTS = ("associations", "conditionals", "rules")
_ROUNDS = 12


@dataclass(frozen=True)
class Addition:
    """One statement that a model made.

    Parameters
    ----------
    place : str
        The part of the document that it goes to.
    column : str
        The column that it is about; of pairs and strata the first, of rules "".
    key : str
        For statistics: which.
    value : JSON value
    origin : dict
        `source`, and what is known of how it came about: `answers`, `spread`, `scale`, `sure`, `why`.
    """

    place: Place
    column: str
    key: str
    value: Any
    origin: Mapping[str, Any] = field(default_factory=lambda: {"source": "elicited"})


@dataclass
class Draft:
    """A declared document and additions to it. Additions come and go; the declared stays."""

    declared: Mapping[str, Any]
    warn: Callable[[str, str], None]
    additions: list[Addition] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read what is declared; it was judged when the job was accepted."""
        self.declared_schema: TableSchema
        self.declared_schema, _ = parse_schema(self.declared, max_fields=len(self.declared["fields"]))
        self.schema = self.declared_schema
        self._places = {name: place for place, name in enumerate(self.schema.names)}

    def add(self, *additions: Addition) -> list[Addition]:
        """Add statements; return those that were dropped, because the schema's reader objects to them."""
        self.additions += additions
        return self._settle(set(map(id, additions)))

    def remove(self, dropped: Callable[[Addition], bool]) -> None:
        """Take additions back."""
        self.additions = [item for item in self.additions if not dropped(item)]
        self._settle(set())

    def document(self) -> dict[str, Any]:
        """Return the whole document."""
        return self._built()[0]

    def provenance(self) -> dict[str, dict[str, Any]]:
        """Return the origin of each addition by its pointer into `document()`."""
        return {at: dict(item.origin) for at, item in self._built()[1].items()}

    def _built(self) -> tuple[dict[str, Any], dict[str, Addition]]:
        document = copy.deepcopy(dict(self.declared))
        where: dict[str, Addition] = {}
        for item in self.additions:
            if item.place in _LISTS:
                statements = document.get(item.place) or []
                document[item.place] = statements
                where[pointer(item.place, len(statements))] = item
                statements.append(copy.deepcopy(item.value))
                continue
            place = self._places[item.column]
            raw = document["fields"][place]
            if item.place == "statistics":
                raw["statistics"] = raw.get("statistics") or {}
                raw["statistics"][item.key] = copy.deepcopy(item.value)
                where[pointer("fields", place, "statistics", item.key)] = item
            else:
                raw[item.place] = item.value
                where[pointer("fields", place, item.place)] = item
        return document, where

    def _settle(self, newest: set[int]) -> list[Addition]:
        """Drop additions until the schema's reader has no objection; the newest go first."""
        dropped: list[Addition] = []
        for _ in range(_ROUNDS):
            document, where = self._built()
            try:
                self.schema = parse_schema(document, max_fields=len(document["fields"]))[0]
                return dropped
            except InvalidInput as error:
                guilty = self._guilty(error.faults, where, newest)
                for item, fault in guilty:
                    self.warn(self._declared_pointer(item), f"left out what the language model said: {fault}")
                gone = {id(item) for item, _ in guilty}
                dropped += [item for item, _ in guilty]
                self.additions = [item for item in self.additions if id(item) not in gone]
        everything = [item for item in self.additions if id(item) in newest] or self.additions
        gone = set(map(id, everything))
        self.additions = [item for item in self.additions if id(item) not in gone]
        self.warn("", f"{len(everything)} statements of the language model contradict one another: left out.")
        return dropped + everything + self._settle(set())

    def _guilty(
        self, faults: tuple[Fault, ...], where: Mapping[str, Addition], newest: set[int]
    ) -> list[tuple[Addition, str]]:
        found: dict[int, tuple[Addition, str]] = {}
        for fault in faults:
            named = [
                item
                for at, item in where.items()
                if fault.pointer == at
                or fault.pointer.startswith(at + "/")
                or at.startswith(fault.pointer + "/")
            ]
            if not named:  # a declared statement that an addition about the same column does not go with
                parts = fault.pointer.split("/")
                column = (
                    self.schema.names[int(parts[2])] if parts[1:2] == ["fields"] and len(parts) > 2 else None
                )
                named = [item for item in self.additions if column is not None and item.column == column]
            named = named or self.additions
            fresh = [item for item in named if id(item) in newest]
            for item in fresh or named:
                found.setdefault(id(item), (item, fault.message))
        return list(found.values())

    def _declared_pointer(self, item: Addition) -> str:
        return pointer("fields", self._places[item.column]) if item.column in self._places else ""
