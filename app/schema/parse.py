"""The schema as JSON → TableSchema, or every fault that is certain at once. Imports no numerics.

Reading and typing stand here; what the read values contradict in one another is `contradictions`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, cast, get_args

from app.errors import Fault, InvalidInput, pointer
from app.schema.contradictions import (
    association_faults,
    condition_faults,
    cycle_faults,
    field_faults,
    measure_faults,
    mismatches,
    pattern_problem,
    repeated_associations,
    repeated_conditionals,
    show,
    statistics_faults,
)
from app.schema.rules import (
    MAX_EXACT,
    Expression,
    ExpressionFault,
    did_you_mean,
    parse_expression,
    parse_moment,
)
from app.schema.table import (
    Association,
    Condition,
    Conditional,
    Constraints,
    Field,
    FieldType,
    Measure,
    Statistics,
    TableSchema,
    Value,
)

MAX_NAME_LENGTH = 255
MAX_NESTING = 32
MAX_RULES = 1000
MAX_STATEMENTS = 20_000
"""Associations, or conditionals: a request is judged while its sender waits."""
MAX_TEXT_LENGTH = 1000  # of what may stand in every row: a level of 4 MB would make a terabyte of a million
LARGEST = 1e16  # of a number: beyond it (and 2**53) no unit is left to count in, and nothing is measured
ROUNDING = 0.005
"""Proportions are published to two or three decimals: each level may be off by this much."""

DISTRIBUTIONS = (
    "normal",
    "lognormal",
    "gamma",
    "weibull",
    "exponential",
    "beta",
    "logistic",
    "uniform",
    "poisson",
    "negative_binomial",
)

TYPES: tuple[str, ...] = get_args(FieldType)
MEASURES: tuple[str, ...] = get_args(Measure)

_OTHER_TYPES = {
    "object": "declare a field for each of its parts",
    "array": "declare a field for each of its parts",
    "list": "declare a field for each of its parts",
    "geopoint": "declare two number fields, latitude and longitude",
    "geojson": "declare number fields, or leave it out",
    "duration": "declare a number field with a unit",
    "yearmonth": 'use "date" for the first of the month, or two integer fields',
}
_SCHEMA_KEYS = frozenset(
    [
        "fields",
        "title",
        "description",
        "name",
        "homepage",
        "version",
        "contributors",
        "created",
        "keywords",
        "examples",
        "licenses",
        "primaryKey",
        "missingValues",
        "associations",
        "conditionals",
        "rules",
        "$schema",
        "profile",
        "fieldsMatch",
        "described",  # what a description says of itself; nothing is read from it
    ]
)
_FIELD_KEYS = frozenset(
    [
        "name",
        "type",
        "title",
        "description",
        "unit",
        "format",
        "example",
        "examples",
        "rdfType",
        "categories",
        "categoriesOrdered",
        "trueValues",
        "falseValues",
        "bareNumber",
        "decimalChar",
        "groupChar",
        "constraints",
        "decimals",
        "formula",
        "relevant",
        "statistics",
        "vocabulary",
    ]
)
_CONSTRAINT_KEYS = frozenset(
    ["required", "unique", "minimum", "maximum", "minLength", "maxLength", "pattern", "enum"]
)
_STATISTIC_KEYS = frozenset(
    ["mean", "sd", "median", "min", "max", "quantiles", "proportions", "missing", "distribution"]
)
_NUMERIC_STATISTICS = _STATISTIC_KEYS - {"proportions"}
_NOT_ENFORCED = {
    "foreignKeys": "one table is made here; foreign keys are kept and not enforced",
    "uniqueKeys": 'kept and not enforced; use the constraint "unique", or "primaryKey"',
    "jsonSchema": "kept and not enforced",
}


def parse_schema(
    document: Mapping[str, Any], *, max_fields: int = 1000
) -> tuple[TableSchema, tuple[Fault, ...]]:
    """Read a schema document (API.md, "The schema"; a Frictionless Table Schema is one).

    Returns
    -------
    TableSchema
        With `document` as it was sent.
    tuple of Fault
        Warnings: what was kept unused, taken as default or rescaled.

    Raises
    ------
    InvalidInput
        With every fault that is certain without numerics; pointers are relative to the document.
    """
    reading = _Reading(document, max_fields)
    schema = reading.schema()
    if reading.faults:
        raise InvalidInput(reading.faults)
    return schema, tuple(reading.warnings)


class _NotThis(Exception):
    """A JSON value is not of the type; the message says what would be."""


class _Reading:
    """One pass over one document: faults and warnings gather here, and reading goes on after each."""

    def __init__(self, document: Any, max_fields: int) -> None:
        self.document = document
        self.max_fields = max_fields
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.fields: dict[str, Field] = {}
        self.pointers: dict[str, str] = {}
        self.raw: dict[str, Mapping[str, Any]] = {}
        self.broken: set[str] = set()
        """Names whose field has no sound type or levels: statements that name them are not judged."""
        self.unsound: set[str] = set()
        """Pointers of values that no JSON has; one fault is enough for each."""

    def fault(self, at: str, message: str) -> None:
        if at not in self.unsound:
            self.faults.append(Fault(at, message))

    def warn(self, at: str, message: str) -> None:
        self.warnings.append(Fault(at, message))

    # The document

    def schema(self) -> TableSchema:
        document = self.document
        if not isinstance(document, Mapping):
            self.fault("", 'a schema is a JSON object with "fields"')
            return TableSchema(())
        if not self._sound(document):
            return TableSchema(())
        self._unknown_keys(document, _SCHEMA_KEYS, "")
        missing_values = self._missing_values(document.get("missingValues", [""]))
        raw_fields = self._raw_fields(document.get("fields"))
        keys = self._primary_key(document.get("primaryKey"))
        self._read_fields(raw_fields, keys, missing_values)
        for position, name in enumerate(keys):
            if name not in self.fields and name not in self.broken:
                at = (
                    pointer("primaryKey", position)
                    if isinstance(document["primaryKey"], list)
                    else "/primaryKey"
                )
                self.fault(at, self._no_field(name))
        self._read_expressions()
        for name, field in self.fields.items():
            at = self.pointers[name]
            levels_at = f"{at}/categories" if "categories" in self.raw[name] else f"{at}/constraints/enum"
            self.faults.extend(field_faults(field, at, levels_at))
        self.faults.extend(cycle_faults(list(self.fields.values()), self.pointers))
        return TableSchema(
            fields=tuple(self.fields.values()),
            associations=tuple(self._associations(document.get("associations"))),
            conditionals=tuple(self._conditionals(document.get("conditionals"))),
            rules=tuple(self._rules(document.get("rules"))),
            primary_key=tuple(keys),
            missing_values=missing_values,
            title=self._text(document, "title", ""),
            description=self._text(document, "description", ""),
            document=document,
        )

    def _sound(self, document: Mapping[str, Any]) -> bool:
        """Look at every value once: what no file or database can hold is a fault wherever it stands."""
        stack: list[tuple[Any, str, int]] = [(document, "", 0)]
        sound = True
        while stack:
            value, at, depth = stack.pop()
            if isinstance(value, str):
                self._sound_text(value, at)
            elif isinstance(value, float):
                if not math.isfinite(value):
                    self.fault(at, "NaN and Infinity are not JSON; write a number, or leave it out")
            elif isinstance(value, Mapping | list):
                if depth >= MAX_NESTING:
                    self.fault(at, f"nested more than {MAX_NESTING} deep; flatten it")
                    continue
                items = value.items() if isinstance(value, Mapping) else enumerate(value)
                for key, item in items:
                    if isinstance(value, Mapping):
                        if not isinstance(key, str):
                            self.fault(at, "names in a JSON object are texts")
                            sound = False
                            continue
                        self._sound_text(key, at)
                    stack.append((item, at + pointer(key), depth + 1))
            elif value is not None and not isinstance(value, bool | int):
                self.fault(at, "this is not a JSON value")
                sound = False
        self.faults.sort(key=lambda fault: fault.pointer)
        self.unsound.update(fault.pointer for fault in self.faults)
        return sound

    def _sound_text(self, text: str, at: str) -> None:
        if text.isascii() and "\0" not in text:
            return
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self.fault(_printable(at), "this text holds a NUL or half a surrogate pair; remove it")

    def _missing_values(self, raw: Any) -> tuple[str, ...]:
        if not isinstance(raw, list):
            self.fault("/missingValues", 'this is a list of texts, such as ["", "NA"]')
            return ("",)
        values: list[str] = []
        for position, item in enumerate(raw):
            text = item.get("value") if isinstance(item, Mapping) else item
            if isinstance(text, str) and len(text) <= MAX_TEXT_LENGTH:
                values.append(text)
            elif isinstance(text, str):
                self.fault(
                    pointer("missingValues", position),
                    f"a missing value has at most {MAX_TEXT_LENGTH} characters",
                )
            else:
                self.fault(
                    pointer("missingValues", position),
                    'a missing value is a text; write it in quotes, as "-99"',
                )
        return tuple(dict.fromkeys(values)) or ("",)

    def _raw_fields(self, raw: Any) -> list[Mapping[str, Any]]:
        if not isinstance(raw, list) or not raw:
            self.fault(
                "/fields",
                'list the fields of the table here, at least one: [{"name": "age", "type": "integer"}]',
            )
            return []
        if len(raw) > self.max_fields:
            self.fault(
                "/fields",
                f"{len(raw)} fields are more than the {self.max_fields} that are allowed; split the table",
            )
            return []
        fields: list[Mapping[str, Any]] = []
        for position, item in enumerate(raw):
            if isinstance(item, Mapping):
                fields.append(item)
            else:
                self.fault(
                    pointer("fields", position),
                    'a field is an object such as {"name": "age", "type": "integer"}',
                )
                fields.append({})
        return fields

    def _primary_key(self, raw: Any) -> list[str]:
        if raw is None:
            return []
        names = [raw] if isinstance(raw, str) else raw
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.fault("/primaryKey", "this is the name of a field, or a list of names")
            return []
        if len(set(names)) < len(names):
            self.fault("/primaryKey", "a field is named twice; name each once")
        return list(dict.fromkeys(names))

    # Fields

    def _read_fields(
        self, raw_fields: list[Mapping[str, Any]], keys: list[str], missing_values: tuple[str, ...]
    ) -> None:
        for position, raw in enumerate(raw_fields):
            at = pointer("fields", position)
            if not raw and not isinstance(self.document["fields"][position], Mapping):
                continue
            before = len(self.faults)
            name = self._name(raw, at)
            field = self._field(raw, at, name or "", keys == [name], missing_values)
            if name is None:
                continue
            self.pointers[name] = at
            self.raw[name] = raw
            shape = (f"{at}/categories", f"{at}/constraints/enum")
            if field is None or any(fault.pointer.startswith(shape) for fault in self.faults[before:]):
                self.broken.add(name)
            if field is not None:
                self.fields[name] = field

    def _name(self, raw: Mapping[str, Any], at: str) -> str | None:
        name = raw.get("name")
        if not isinstance(name, str) or not name.strip():
            self.fault(f"{at}/name", "a field needs a name, which is a text of one character or more")
            return None
        if len(name) > MAX_NAME_LENGTH or any(
            ord(character) < 32 or ord(character) == 127 for character in name
        ):
            self.fault(
                f"{at}/name", f"a name has at most {MAX_NAME_LENGTH} characters, and no line breaks or tabs"
            )
            return None
        if name in self.pointers:
            self.fault(f"{at}/name", f"the name {name!r} is that of an earlier field too; names differ")
            return None
        return name

    def _field(
        self, raw: Mapping[str, Any], at: str, name: str, primary_key: bool, missing_values: tuple[str, ...]
    ) -> Field | None:
        self._unknown_keys(raw, _FIELD_KEYS, at)
        field_type = self._type(raw, at)
        if field_type is None:
            return None
        typed = _Typed(field_type, self._format(raw, at, field_type), raw)
        limits = self._object(raw.get("constraints"), f"{at}/constraints")
        levels = self._levels(raw, limits, at, typed, missing_values)
        ordered = self._flag(raw, "categoriesOrdered", at)
        if ordered and levels is None:
            self.warn(f"{at}/categoriesOrdered", "without categories there is no order to keep")
        field = Field(
            name=name,
            type=field_type,
            title=self._text(raw, "title", at),
            description=self._text(raw, "description", at),
            unit=self._text(raw, "unit", at),
            format=typed.format,
            levels=levels,
            ordered=ordered and levels is not None,
            decimals=self._decimals(raw, at, field_type),
            constraints=self._constraints(limits, f"{at}/constraints", typed),
            primary_key=primary_key,
        )
        field = replace(field, vocabulary=self._vocabulary(raw.get("vocabulary"), field, at, missing_values))
        stats = self._statistics(raw.get("statistics"), field, typed, f"{at}/statistics")
        return replace(field, statistics=stats)

    def _type(self, raw: Mapping[str, Any], at: str) -> FieldType | None:
        given = raw.get("type")
        if given is None or given == "any":
            self.warn(f"{at}/type", f"read as string; the types are {', '.join(TYPES)}")
            return "string"
        if isinstance(given, str) and given in TYPES:
            return cast(FieldType, given)
        if isinstance(given, str) and given in _OTHER_TYPES:
            self.fault(f"{at}/type", f"the type {given!r} is not supported; {_OTHER_TYPES[given]}")
            return None
        way = did_you_mean(given, TYPES) if isinstance(given, str) else ""
        self.fault(f"{at}/type", f"the types are {', '.join(TYPES)}{way}")
        return None

    def _format(self, raw: Mapping[str, Any], at: str, field_type: str) -> str | None:
        given = raw.get("format")
        if given is None:
            return None
        if not isinstance(given, str):
            self.fault(f"{at}/format", "a format is a text")
            return None
        if field_type in ("date", "datetime", "time"):
            if given in ("default", "any") or "%" in given:
                return given
            message = (
                'the format of a date or time is "default" (ISO 8601), "any" or a pattern such as "%d.%m.%Y"'
            )
            self.fault(f"{at}/format", message)
            return None
        return given

    def _decimals(self, raw: Mapping[str, Any], at: str, field_type: str) -> int | None:
        given = raw.get("decimals")
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int | float) or given not in range(16):
            self.fault(f"{at}/decimals", "this is the number of decimals, a whole number from 0 to 15")
            return None
        if field_type == "number":
            return int(given)
        if not (field_type in ("integer", "year") and given == 0):
            self.fault(
                f"{at}/decimals", f'only a field of type "number" has decimals, and this is {field_type!r}'
            )
        return None

    def _levels(
        self,
        raw: Mapping[str, Any],
        limits: Mapping[str, Any],
        at: str,
        typed: _Typed,
        missing_values: tuple[str, ...],
    ) -> tuple[Value, ...] | None:
        levels = self._level_list(raw.get("categories"), f"{at}/categories", typed, missing_values)
        allowed = self._level_list(limits.get("enum"), f"{at}/constraints/enum", typed, missing_values)
        if levels is None:
            levels = allowed
        elif allowed is not None:
            known = set(levels)
            for position, level in enumerate(allowed):
                if level not in known:
                    message = f"{show(level)} is not one of the categories; add it there or remove it here"
                    self.fault(f"{at}/constraints/enum/{position}", message)
            chosen = set(allowed)
            levels = tuple(level for level in levels if level in chosen)
        if typed.type == "boolean":
            return (False, True) if levels is None else tuple(sorted(levels))
        return levels

    def _level_list(
        self, raw: Any, at: str, typed: _Typed, missing_values: tuple[str, ...]
    ) -> tuple[Value, ...] | None:
        if raw is None:
            return None
        if not isinstance(raw, list) or not raw:
            self.fault(at, "this is a list of values, at least one")
            return None
        levels: dict[Value, None] = {}
        sound = True
        for position, item in enumerate(raw):
            given = item.get("value") if isinstance(item, Mapping) and at.endswith("/categories") else item
            level = self._value(given, f"{at}/{position}", typed)
            if level is None:
                sound = False
            elif isinstance(level, str) and len(level) > MAX_TEXT_LENGTH:
                self.fault(
                    f"{at}/{position}", f"a level has at most {MAX_TEXT_LENGTH} characters; use a code for it"
                )
            elif level in levels:
                self.fault(f"{at}/{position}", f"{show(level)} is listed twice; list each value once")
            elif _lexical(given) in missing_values:
                message = (
                    f"{show(level)} is also one of `missingValues`, so it could not be told from missing"
                )
                self.fault(f"{at}/{position}", message + "; remove it here or there")
            else:
                levels[level] = None
        return tuple(levels) if sound and levels else None

    def _vocabulary(
        self, raw: Any, field: Field, at: str, missing_values: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        """Read what free text is drawn from."""
        at = f"{at}/vocabulary"
        if raw is None:
            return None
        if field.kind != "text" or field.constraints.pattern is not None:
            way = "a text with a pattern is made by it" if field.kind == "text" else "use `categories`"
            self.fault(at, f"only free text is drawn from a vocabulary; {way}, or leave one out")
            return None
        if not isinstance(raw, list) or not raw:
            self.fault(at, 'this is a list of texts, at least one, such as ["headache", "nausea"]')
            return None
        limits = field.constraints
        sound = True
        for position, text in enumerate(raw):
            here = f"{at}/{position}"
            before = len(self.faults)
            if not isinstance(text, str) or len(text) > MAX_TEXT_LENGTH:
                self.fault(here, f"this is a text of at most {MAX_TEXT_LENGTH} characters")
            elif text in missing_values:
                self.fault(here, f"{show(text)} is also one of `missingValues`; remove it here or there")
            elif not (limits.min_length or 0) <= len(text) <= (limits.max_length or MAX_TEXT_LENGTH):
                self.fault(here, f"{show(text)} is shorter or longer than the constraints allow")
            sound = sound and len(self.faults) == before
        return tuple(dict.fromkeys(raw)) if sound else None

    def _constraints(self, raw: Mapping[str, Any], at: str, typed: _Typed) -> Constraints:
        self._unknown_keys(raw, _CONSTRAINT_KEYS | {"exclusiveMinimum", "exclusiveMaximum"}, at)
        is_text = typed.type == "string"
        bounds: dict[str, Value | None] = {}
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if raw.get(key) is None:
                continue
            if is_text or typed.type == "boolean":
                way = "use minLength and maxLength, or categories" if is_text else "use enum"
                self.fault(f"{at}/{key}", f"a {typed.type} has no {key}; {way}")
                continue
            value = self._value(raw[key], f"{at}/{key}", typed)
            name = "minimum" if key in ("minimum", "exclusiveMinimum") else "maximum"
            if key != name and value is not None:
                value = self._inclusive(value, key, at, typed)
            bounds[name] = value if bounds.get(name) is None else bounds[name]
        for key in ("minLength", "maxLength", "pattern"):
            if raw.get(key) is not None and not is_text:
                self.fault(
                    f"{at}/{key}",
                    f"{key} is for texts, and this field is of type {typed.type!r}; leave it out",
                )
        return Constraints(
            required=self._flag(raw, "required", at),
            unique=self._flag(raw, "unique", at),
            minimum=bounds.get("minimum"),
            maximum=bounds.get("maximum"),
            min_length=self._length(raw, "minLength", at) if is_text else None,
            max_length=self._length(raw, "maxLength", at) if is_text else None,
            pattern=self._pattern(raw, at) if is_text else None,
        )

    def _inclusive(self, value: Value, key: str, at: str, typed: _Typed) -> Value:
        step = 1 if key == "exclusiveMinimum" else -1
        if typed.type in ("integer", "year"):
            return cast(int, value) + step
        if typed.type == "date":
            try:
                return cast(dt.date, value) + dt.timedelta(days=step)
            except OverflowError:
                return value
        sign = ">" if step > 0 else "<"
        self.warn(
            f"{at}/{key}",
            f"read with its bound included; a rule such as `x {sign} {show(value)}` excludes it",
        )
        return value

    def _length(self, raw: Mapping[str, Any], key: str, at: str) -> int | None:
        given = raw.get(key)
        if given is None:
            return None
        most = MAX_TEXT_LENGTH if key == "minLength" else 1_000_000
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= most:
            self.fault(f"{at}/{key}", f"this is a number of characters, a whole number from 0 to {most}")
            return None
        return given

    def _pattern(self, raw: Mapping[str, Any], at: str) -> str | None:
        given = raw.get("pattern")
        if given is None:
            return None
        problem = (
            pattern_problem(given)
            if isinstance(given, str)
            else "a pattern is a regular expression in a text"
        )
        if problem is not None:
            self.fault(f"{at}/pattern", problem)
            return None
        return cast(str, given)

    # Statistics

    def _statistics(self, raw: Any, field: Field, typed: _Typed, at: str) -> Statistics:
        given = self._object(raw, at)
        self._unknown_keys(given, _STATISTIC_KEYS, at)
        fitting = {
            key: value for key, value in given.items() if value is not None and self._fits(key, field, at)
        }
        points: dict[str, float | None] = {
            key: self._point(fitting[key], f"{at}/{key}", field, typed)
            for key in ("mean", "median", "min", "max")
            if key in fitting
        }
        if field.type == "integer":
            for key in ("min", "max"):
                value = points.get(key)
                if value is not None and value != int(value):
                    self.fault(f"{at}/{key}", f"the {key} of whole numbers is a whole number")
                    points[key] = None
        return Statistics(
            mean=points.get("mean"),
            sd=self._sd(fitting.get("sd"), field, f"{at}/sd"),
            median=points.get("median"),
            minimum=points.get("min"),
            maximum=points.get("max"),
            quantiles=self._quantiles(fitting.get("quantiles"), field, typed, f"{at}/quantiles"),
            proportions=self._proportions(fitting.get("proportions"), field, typed, f"{at}/proportions"),
            missing=self._share(fitting.get("missing"), f"{at}/missing"),
            distribution=self._distribution(fitting.get("distribution"), f"{at}/distribution"),
        )

    def _fits(self, key: str, field: Field, at: str) -> bool:
        if key not in _STATISTIC_KEYS:
            return False
        if key == "missing":
            return True
        if field.levels is not None:
            fits, kind, way = (
                key == "proportions",
                "a field with categories",
                "give proportions of its levels",
            )
            if field.type == "boolean":
                kind, way = "a boolean", 'give proportions, as {"true": 0.3, "false": 0.7}'
        elif field.kind in ("text", "id"):
            fits, kind = False, "an id" if field.kind == "id" else "a text without categories"
            way = "leave it out" if field.kind == "id" else "list its `categories`, or leave it out"
        else:
            fits, kind = key in _NUMERIC_STATISTICS, f"a {field.type} without categories"
            way = "list its `categories`, or give mean, sd or quantiles"
        if not fits:
            self.fault(f"{at}/{key}", f"{key} is no statistic of {kind}; {way}")
        return fits

    def _point(self, raw: Any, at: str, field: Field, typed: _Typed) -> float | None:
        """Read a value on the field's scale: a mean of whole numbers need not be whole."""
        if field.kind != "temporal":
            return self._number(raw, at)
        moment = parse_moment(raw, field.type) if isinstance(raw, str) else None
        if moment is None and isinstance(raw, str) and typed.pattern:
            return self._scale(field, self._value(raw, at, typed))
        if moment is None:
            self.fault(at, f"this is a {field.type} in ISO 8601, such as {_EXAMPLES[field.type]}")
        return self._scale(field, moment)

    @staticmethod
    def _scale(field: Field, value: Value | None) -> float | None:
        return None if value is None else field.to_number(value)

    def _sd(self, raw: Any, field: Field, at: str) -> float | None:
        value = None if raw is None else self._number(raw, at)
        if value is not None and value < 0:
            unit = {"date": " (in days)", "datetime": " (in days)", "time": " (in seconds)"}.get(
                field.type, ""
            )
            self.fault(at, f"a standard deviation{unit} is 0 or more, and this is {value:g}")
            return None
        return value

    def _share(self, raw: Any, at: str) -> float | None:
        value = None if raw is None else self._number(raw, at)
        if value is not None and not 0 <= value <= 1:
            way = f"; {value:g} % is {value / 100:g}" if 1 < value <= 100 else ""
            self.fault(at, f"this is a share between 0 and 1{way}")
            return None
        return value

    def _distribution(self, raw: Any, at: str) -> str | None:
        if raw is None:
            return None
        if not isinstance(raw, str) or raw not in DISTRIBUTIONS:
            way = did_you_mean(raw, DISTRIBUTIONS) if isinstance(raw, str) else ""
            self.fault(
                at, f"the distributions are {', '.join(DISTRIBUTIONS)}{way}; leave it out to have one chosen"
            )
            return None
        return raw

    def _quantiles(self, raw: Any, field: Field, typed: _Typed, at: str) -> tuple[tuple[float, float], ...]:
        if raw is None:
            return ()
        if not isinstance(raw, Mapping) or not raw:
            self.fault(
                at, 'this is an object of probabilities and values, such as {"0.25": 4, "0.5": 6, "0.75": 9}'
            )
            return ()
        found: dict[float, float] = {}
        for key, item in raw.items():
            here = at + pointer(key)
            probability = _plain_number(key)
            if probability is None or not 0 <= probability <= 1:
                self.fault(here, 'the name of a quantile is its probability between 0 and 1, such as "0.25"')
                continue
            value = self._point(item, here, field, typed)
            if value is None:
                continue
            if probability in found:
                self.fault(here, f"the quantile at {probability:g} is given twice; keep one")
            found.setdefault(probability, value)
        return tuple(sorted(found.items()))

    def _proportions(
        self, raw: Any, field: Field, typed: _Typed, at: str
    ) -> tuple[tuple[Value, float], ...] | None:
        if raw is None or field.levels is None:
            return None
        if not isinstance(raw, Mapping) or not raw:
            self.fault(at, 'this is an object of levels and shares, such as {"F": 0.52, "M": 0.48}')
            return None
        before = len(self.faults)
        known = set(field.levels)
        shares: dict[Value, float] = {}
        for key, item in raw.items():
            here = at + pointer(key)
            try:
                level: Value | None = typed.read(key)
            except _NotThis:
                level = None
            if level is None or level not in known:
                shown = ", ".join(show(one) for one in field.levels[:12])
                more = f" and {len(field.levels) - 12} more" if len(field.levels) > 12 else ""
                way = did_you_mean(key, map(str, field.levels)) if len(self.faults) < 100 else ""
                self.fault(here, f"{key!r} is not one of the levels {shown}{more}{way}")
                continue
            share = self._share(item, here)
            if share is None:
                if item is None:
                    self.fault(here, "this is a share between 0 and 1; write 0 where a level does not occur")
                continue
            if level in shares:
                self.fault(here, f"the level {show(level)} is given twice; keep one")
            shares.setdefault(level, share)
        if len(self.faults) > before:
            return None
        absent = [show(level) for level in field.levels if level not in shares]
        if absent:
            message = f"no share is given for {', '.join(absent[:12])}; give each level one, or 0"
            self.fault(at, message)
            return None
        return self._whole(field.levels, shares, at)

    def _whole(
        self, levels: tuple[Value, ...], shares: dict[Value, float], at: str
    ) -> tuple[tuple[Value, float], ...] | None:
        total = math.fsum(shares.values())
        if abs(total - 1) > ROUNDING * len(levels) + 1e-9 or total <= 0:
            self.fault(at, f"the shares add up to {total:.6g}, and should to 1; correct them")
            return None
        if abs(total - 1) > 1e-9:
            self.warn(at, f"the shares add up to {total:.6g}; rescaled to 1")
        return tuple((level, shares[level] / total) for level in levels)

    # Expressions

    def _read_expressions(self) -> None:
        """Read formulas and `relevant` once all fields are known."""
        known = dict(self.fields)
        for name, field in known.items():
            at, raw = self.pointers[name], self.raw[name]
            formula = self._formula(raw.get("formula"), field, f"{at}/formula", known)
            relevant = self._expression(raw.get("relevant"), f"{at}/relevant", known, "boolean")
            if relevant is not None and not relevant.fields:
                self.fault(
                    f"{at}/relevant", "this names no field, so it is the same in every row; leave it out"
                )
            self.fields[name] = replace(field, formula=formula, relevant=relevant)

    def _expression(
        self, raw: Any, at: str, known: Mapping[str, Field], expects: str | None = None
    ) -> Expression | None:
        if raw is None:
            return None
        if not isinstance(raw, str):
            self.fault(at, "an expression is a text, such as \"sex == 'F'\"")
            return None
        try:
            return parse_expression(raw, known, expects=expects)
        except ExpressionFault as fault:
            if fault.unknown is None or fault.unknown not in self.broken:
                self.fault(at, str(fault))
            return None

    def _formula(self, raw: Any, field: Field, at: str, known: Mapping[str, Field]) -> Expression | None:
        expects = "number" if field.type in ("integer", "number", "year") else field.type
        formula = self._expression(raw, at, known, expects)
        if formula is None or field.name in self.broken:
            return formula
        if formula.strings is not None:
            self._formula_texts(formula.strings, field, at)
        elif field.type == "string" and field.levels is not None:
            self.fault(
                at,
                "this gives texts that need not be categories; write them out: `'low' if x < 5 else 'high'`",
            )
        if field.statistics.missing is not None:
            self.warn(
                f"{at[:-8]}/statistics/missing",
                "a formula is missing where its inputs are; this is checked, not made",
            )
        if field.statistics.distribution is not None:
            self.warn(
                f"{at[:-8]}/statistics/distribution", "a formula's distribution follows from its inputs"
            )
        return formula

    def _formula_texts(self, texts: Iterable[str], field: Field, at: str) -> None:
        limits = field.constraints
        for text in texts:
            problem = ""
            if field.levels is not None and text not in field.levels:
                problem = "is not one of the field's categories" + did_you_mean(text, map(str, field.levels))
            elif limits.pattern is not None and mismatches(limits.pattern, text):
                problem = "does not match the field's pattern"
            elif limits.max_length is not None and len(text) > limits.max_length:
                problem = "is longer than the field's maxLength"
            elif limits.min_length is not None and len(text) < limits.min_length:
                problem = "is shorter than the field's minLength"
            if problem:
                self.fault(at, f"the formula can give {text!r}, which {problem}; change one of them")

    def _rules(self, raw: Any) -> list[Expression]:
        rules: list[Expression] = []
        for position, item in enumerate(self._list(raw, "/rules", "rules are a list of texts")):
            at = pointer("rules", position)
            rule = self._expression(item, at, self.fields, "boolean")
            if item is None:
                self.fault(at, 'a rule is a text, such as "weight_kg > 30"')
            if rule is None:
                continue
            if not rule.fields:
                self.fault(at, "this names no field, so it is the same in every row; leave it out")
            if rule in rules:
                self.warn(at, f"the same rule stands at {pointer('rules', rules.index(rule))} already")
            rules.append(rule)
        return rules

    # Pairs and strata

    def _associations(self, raw: Any) -> list[Association]:
        shape = '{"fields": ["age", "bmi"], "measure": "spearman", "value": 0.2}'
        found: list[tuple[str, Association]] = []
        for position, item in enumerate(
            self._list(raw, "/associations", f"this is a list of objects such as {shape}")
        ):
            at = pointer("associations", position)
            if not isinstance(item, Mapping):
                self.fault(at, f"an association is an object such as {shape}")
                continue
            association = self._association(item, at)
            if association is not None:
                found.append((at, association))
        self._repeated(repeated_associations(found))
        return [association for _, association in found]

    def _association(self, item: Mapping[str, Any], at: str) -> Association | None:
        self._unknown_keys(item, frozenset({"fields", "measure", "value", "sign", "given"}), at)
        names = self._pair(item.get("fields"), f"{at}/fields")
        given = self._given(item["given"], at, names or ()) if item.get("given") is not None else ()
        measure = item.get("measure")
        if not isinstance(measure, str) or measure not in MEASURES:
            way = did_you_mean(measure, MEASURES) if isinstance(measure, str) else ""
            self.fault(f"{at}/measure", f"the measures are {', '.join(MEASURES)}{way}")
            measure = None
        value = self._number(item.get("value"), f"{at}/value")
        sign = item.get("sign")
        if sign is not None and (isinstance(sign, bool) or sign not in (1, -1)):
            self.fault(f"{at}/sign", "a sign is 1 or -1")
            sign = None
        if measure is None or value is None:
            return None
        if names is None or not self.broken.isdisjoint(names):
            self.faults.extend(measure_faults(cast(Measure, measure), value, at))
            return None
        signed: Literal[-1, 1] | None = None if sign is None else (1 if sign > 0 else -1)
        association = Association(names, cast(Measure, measure), value, signed, given or ())
        faults = list(association_faults(self.fields[names[0]], self.fields[names[1]], association, at))
        self.faults.extend(faults)
        return None if faults or given is None else association

    def _pair(self, raw: Any, at: str) -> tuple[str, str] | None:
        if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(name, str) for name in raw):
            self.fault(at, 'this is a list of two names of fields, such as ["age", "bmi"]')
            return None
        sound = True
        for position, name in enumerate(raw):
            if name not in self.fields and name not in self.broken:
                self.fault(f"{at}/{position}", self._no_field(name))
                sound = False
        if sound and raw[0] == raw[1]:
            self.fault(at, "a field is not associated with itself; name two different fields")
            sound = False
        return (raw[0], raw[1]) if sound else None

    def _conditionals(self, raw: Any) -> list[Conditional]:
        shape = '{"field": "height_cm", "given": {"sex": "F"}, "statistics": {"mean": 162, "sd": 7}}'
        found: list[tuple[str, Conditional]] = []
        for position, item in enumerate(
            self._list(raw, "/conditionals", f"this is a list of objects such as {shape}")
        ):
            at = pointer("conditionals", position)
            if not isinstance(item, Mapping):
                self.fault(at, f"a conditional is an object such as {shape}")
                continue
            conditional = self._conditional(item, at)
            if conditional is not None:
                found.append((at, conditional))
        self._repeated(repeated_conditionals(found))
        return [conditional for _, conditional in found]

    def _conditional(self, item: Mapping[str, Any], at: str) -> Conditional | None:
        self._unknown_keys(item, frozenset({"field", "given", "statistics"}), at)
        before = len(self.faults)
        name = item.get("field")
        field: Field | None = None
        if not isinstance(name, str):
            self.fault(f"{at}/field", "this is the name of a field")
        elif name not in self.fields and name not in self.broken:
            self.fault(f"{at}/field", self._no_field(name))
        elif name not in self.broken:
            field = self.fields[name]
        given = self._given(item.get("given"), at, (name,))
        stats = Statistics()
        if not isinstance(item.get("statistics"), Mapping) or not item["statistics"]:
            self.fault(
                f"{at}/statistics", 'this holds what is known of these rows, such as {"mean": 162, "sd": 7}'
            )
        elif field is not None:
            typed = _Typed(field.type, field.format, self.raw[field.name])
            stats = self._statistics(item["statistics"], field, typed, f"{at}/statistics")
            if stats.missing and (field.constraints.required or field.primary_key):
                self.fault(
                    f"{at}/statistics/missing",
                    "the field is required, so nothing of it is missing; leave it out",
                )
            self.faults.extend(statistics_faults(field, stats, f"{at}/statistics"))
        if field is None or len(self.faults) > before or given is None:
            return None
        return Conditional(field.name, given, stats)

    def _given(self, raw: Any, at: str, own: Collection[Any]) -> tuple[Condition, ...] | None:
        """Read in which rows a statement holds; None where any part of it is not sound."""
        if not isinstance(raw, Mapping) or not raw:
            self.fault(
                f"{at}/given", 'this says in which rows, such as {"sex": "F"} or {"age": {"minimum": 75}}'
            )
            return None
        conditions: list[Condition] = []
        for key, condition in raw.items():
            read = self._condition(key, condition, f"{at}/given" + pointer(key), own)
            if read is not None:
                conditions.append(read)
        return tuple(conditions) if len(conditions) == len(raw) else None

    def _condition(self, name: str, raw: Any, at: str, own: Collection[Any]) -> Condition | None:
        if name in own:
            self.fault(at, "a field is not conditional on itself; leave it out of `given`")
            return None
        if name in self.broken:
            return None
        if name not in self.fields:
            self.fault(at, self._no_field(name))
            return None
        field = self.fields[name]
        typed = _Typed(field.type, field.format, self.raw[name])
        if field.kind in ("text", "id"):
            what = "an id" if field.kind == "id" else "a text without categories"
            self.fault(
                at, f"{name!r} is {what} and makes no groups; give it categories or choose another field"
            )
            return None
        if isinstance(raw, Mapping):
            condition = self._range(field, typed, raw, at)
        else:
            condition = self._one_of(field, typed, raw, at)
        if condition is not None:
            faults = list(condition_faults(field, condition, at))
            self.faults.extend(faults)
            return None if faults else condition
        return None

    def _range(self, field: Field, typed: _Typed, raw: Mapping[str, Any], at: str) -> Condition | None:
        if field.levels is not None:
            shown = ", ".join(show(level) for level in field.levels[:12])
            self.fault(
                at, f"{field.name!r} has categories and no ranges; list those that are meant, out of {shown}"
            )
            return None
        extra = [key for key in raw if key not in ("minimum", "maximum")]
        if extra or not raw:
            self.fault(at + (pointer(extra[0]) if extra else ""), 'a range has "minimum", "maximum" or both')
            return None
        bounds = {key: self._value(value, f"{at}/{key}", typed) for key, value in raw.items()}
        if None in bounds.values():
            return None
        return Condition(field.name, None, bounds.get("minimum"), bounds.get("maximum"))

    def _one_of(self, field: Field, typed: _Typed, raw: Any, at: str) -> Condition | None:
        items = raw if isinstance(raw, list) else [raw]
        if not items:
            self.fault(at, "this list is empty; name a value, several, or a range")
            return None
        values: list[Value] = []
        for position, item in enumerate(items):
            here = f"{at}/{position}" if isinstance(raw, list) else at
            value = self._value(item, here, typed)
            if value is None:
                continue
            if field.levels is not None and value not in field.levels:
                shown = ", ".join(show(level) for level in field.levels[:12])
                self.fault(here, f"{show(value)} is not one of the levels of {field.name!r}: {shown}")
                continue
            values.append(value)
        return Condition(field.name, tuple(dict.fromkeys(values))) if len(values) == len(items) else None

    # Small readers

    def _repeated(self, found: Iterable[tuple[Fault, bool]]) -> None:
        for fault, contradicts in found:
            (self.faults if contradicts else self.warnings).append(fault)

    def _no_field(self, name: str) -> str:
        near = did_you_mean(name, self.pointers)
        return f"no field is called {name!r}{near or '; declare it in `fields` or correct the name'}"

    def _unknown_keys(self, raw: Mapping[str, Any], known: frozenset[str], at: str) -> None:
        for key in raw:
            if key not in known:
                message = _NOT_ENFORCED.get(key) or f"unknown here; kept, not used{did_you_mean(key, known)}"
                self.warn(at + pointer(key), message)

    def _object(self, raw: Any, at: str) -> Mapping[str, Any]:
        if raw is None:
            return {}
        if not isinstance(raw, Mapping):
            self.fault(at, "this is a JSON object")
            return {}
        return raw

    def _list(self, raw: Any, at: str, message: str) -> list[Any]:
        if raw is None:
            return []
        if not isinstance(raw, list):
            self.fault(at, message)
            return []
        most = MAX_RULES if at == "/rules" else MAX_STATEMENTS
        if len(raw) > most:
            self.fault(at, f"{len(raw)} are more than the {most} that are allowed; leave out the weaker ones")
            return []
        return raw

    def _text(self, raw: Mapping[str, Any], key: str, at: str) -> str:
        given = raw.get(key)
        if given is None:
            return ""
        if not isinstance(given, str):
            self.fault(f"{at}/{key}", "this is a text")
            return ""
        return given

    def _flag(self, raw: Mapping[str, Any], key: str, at: str) -> bool:
        given = raw.get(key)
        if given is not None and not isinstance(given, bool):
            self.fault(f"{at}/{key}", "this is true or false, without quotes")
            return False
        return bool(given)

    def _number(self, raw: Any, at: str) -> float | None:
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            way = "without quotes" if isinstance(raw, str) else "such as 1.5"
            self.fault(at, f"this is a number, {way}")
            return None
        if not abs(raw) <= LARGEST:
            self.fault(at, "this number is too large: 1e16 is the most that a column may hold")
            return None
        return float(raw)

    def _value(self, raw: Any, at: str, typed: _Typed) -> Value | None:
        try:
            return typed.read(raw)
        except _NotThis as problem:
            self.fault(at, str(problem))
            return None


_EXAMPLES = {"date": '"2024-01-31"', "datetime": '"2024-01-31T08:30:00"', "time": '"08:30:00"'}
_TRUE = frozenset(("true", "True", "TRUE", "1"))
_FALSE = frozenset(("false", "False", "FALSE", "0"))


class _Typed:
    """How the JSON scalars of one field become typed values; a text may stand for any of them."""

    def __init__(self, field_type: FieldType, date_format: str | None, raw: Mapping[str, Any]) -> None:
        self.type = field_type
        self.format = date_format
        self.pattern = date_format if date_format is not None and "%" in date_format else None
        self._raw = raw

    def read(self, raw: Any) -> Value:
        """Type a value; _NotThis where it is not one of this field."""
        readers: Mapping[str, Callable[[Any], Value]] = {
            "integer": self._integer,
            "year": self._year,
            "number": self._number,
            "boolean": self._boolean,
            "string": self._string,
        }
        return readers.get(self.type, self._moment)(raw)

    def _number(self, raw: Any) -> float:
        number = _plain_number(raw) if isinstance(raw, str) else raw
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _NotThis("this is a number, such as 1.5")
        if not abs(number) <= LARGEST:
            raise _NotThis("this number is too large: 1e16 is the most that a column may hold")
        return float(number)

    def _integer(self, raw: Any) -> int:
        number = _plain_number(raw) if isinstance(raw, str) else raw
        if isinstance(number, bool) or not isinstance(number, int | float) or number % 1 != 0:
            raise _NotThis("this is a whole number, such as 7")
        if abs(number) > MAX_EXACT:
            raise _NotThis("whole numbers are exact up to 9007199254740992; use a string for longer ones")
        return int(number)

    def _year(self, raw: Any) -> int:
        year = self._integer(raw)
        if not -9999 <= year <= 9999:
            raise _NotThis("this is a year, such as 1987")
        return year

    def _boolean(self, raw: Any) -> bool:
        if isinstance(raw, bool):
            return raw
        for value, usual, key in ((True, _TRUE, "trueValues"), (False, _FALSE, "falseValues")):
            own = self._raw.get(key)
            if isinstance(raw, str) and (raw in usual or (isinstance(own, list) and raw in own)):
                return value
        raise _NotThis("this is true or false")

    def _string(self, raw: Any) -> str:
        if not isinstance(raw, str):
            raise _NotThis(
                'this is a text, in quotes; for numbers the field\'s type is "integer" or "number"'
            )
        return raw

    def _moment(self, raw: Any) -> Value:
        value = parse_moment(raw, self.type) if isinstance(raw, str) else None
        if value is None and isinstance(raw, str) and self.pattern:
            try:
                moment = dt.datetime.strptime(raw, self.pattern)
            except (ValueError, re.error, OverflowError):
                moment = None
            if moment is not None:
                naive = moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
                value = (
                    naive.date() if self.type == "date" else naive.time() if self.type == "time" else naive
                )
        if value is None or (self.type == "date" and isinstance(value, dt.datetime)):
            raise _NotThis(f"this is a {self.type} in ISO 8601, such as {_EXAMPLES[self.type]}")
        return value


def _plain_number(text: str) -> float | None:
    """Read a number as JSON writes them; Python's underscores, infinities and spaces are none."""
    if not re.fullmatch(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,4})?", text, re.ASCII):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _lexical(raw: Any) -> str:
    return show(raw) if isinstance(raw, bool) else str(raw)


def _printable(at: str) -> str:
    return at.encode("utf-8", "replace").decode()
