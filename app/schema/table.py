"""TableSchema: what a caller declares about a table, parsed once into frozen values.

`parse_schema` lives in `app.schema.parse`; the expression language in `app.schema.rules`. This module
holds the values alone and imports no numerics: the HTTP side reads it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.schema.rules import Expression

FieldType = Literal["integer", "number", "boolean", "string", "date", "datetime", "time", "year"]
Kind = Literal["numeric", "categorical", "temporal", "text", "id"]
Measure = Literal["pearson", "spearman", "cramers_v", "odds_ratio", "correlation_ratio"]
Value = int | float | bool | str | dt.date | dt.datetime | dt.time
"""A typed cell: what a JSON value becomes under its field's type."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Frictionless constraints: bounds that no row breaks. `minimum`/`maximum` are typed by the field."""

    required: bool = False
    unique: bool = False
    minimum: Value | None = None
    maximum: Value | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Declared statistics, over the present values of a field where it applies.

    `mean`, `median`, `minimum`, `maximum` and the quantiles are on the field's numeric scale (see
    `Field.to_number`): numbers as they are, dates and datetimes in days since 1970-01-01, times in
    seconds since midnight; `sd` is in the same unit. Proportions hold every level of the field.
    """

    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: tuple[tuple[float, float], ...] = ()
    proportions: tuple[tuple[Value, float], ...] | None = None
    missing: float | None = None
    distribution: str | None = None

    @property
    def declared(self) -> bool:
        """Whether anything is declared at all."""
        return self != Statistics()


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Notes
    -----
    `levels` is the tuple of admissible values of a categorical field (from `categories` or
    `constraints.enum`; `(False, True)` for a boolean), in the declared order, typed; None otherwise.
    `vocabulary` is what free text is drawn from, each with the same chance; None where none is stated.
    """

    name: str
    type: FieldType
    title: str = ""
    description: str = ""
    unit: str = ""
    format: str | None = None
    levels: tuple[Value, ...] | None = None
    ordered: bool = False
    vocabulary: tuple[str, ...] | None = None
    decimals: int | None = None
    formula: Expression | None = None
    relevant: Expression | None = None
    constraints: Constraints = Constraints()
    statistics: Statistics = Statistics()
    primary_key: bool = False

    @property
    def kind(self) -> Kind:
        """How the column is treated: numeric, categorical (booleans too), temporal, text or id."""
        if self.levels is not None:
            return "categorical"
        if self.type in ("integer", "number", "year"):
            return "id" if self.primary_key else "numeric"
        if self.type in ("date", "datetime", "time"):
            return "temporal"
        return "id" if self.primary_key or self.constraints.unique else "text"

    @property
    def places(self) -> int | None:
        """Decimals that values are rounded to: as declared, else two digits finer than the sd, else None.

        Where a reference tells better (API.md: the reference's decimals come before the sd's), a
        generator replaces `decimals` in its own copy of the field.
        """
        if self.type in ("integer", "year"):
            return 0
        if self.type != "number" or self.decimals is not None:
            return self.decimals
        sd = self.statistics.sd
        return None if not sd else min(max(2 - math.floor(math.log10(sd)), 0), 15)

    def to_number(self, value: Value) -> float:
        """Put a typed value on the field's numeric scale: days for (date)times, seconds for times of day."""
        if isinstance(value, dt.datetime):
            naive = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
            return (naive - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1)
        if isinstance(value, dt.date):
            return float((value - dt.date(1970, 1, 1)).days)
        if isinstance(value, dt.time):
            return value.hour * 3600.0 + value.minute * 60.0 + value.second + value.microsecond / 1e6
        return float(value)


@dataclass(frozen=True, slots=True)
class Condition:
    """One part of a `given`: a field is one of `values`, or within [minimum, maximum]."""

    field: str
    values: tuple[Value, ...] | None = None
    minimum: Value | None = None
    maximum: Value | None = None


@dataclass(frozen=True, slots=True)
class Association:
    """A declared measure of dependence between two fields (names), in all rows or within a stratum."""

    fields: tuple[str, str]
    measure: Measure
    value: float
    sign: Literal[-1, 1] | None = None
    given: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Conditional:
    """Statistics of a field within a stratum."""

    field: str
    given: tuple[Condition, ...]
    statistics: Statistics


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table's declared shape and statistics.

    `document` is the JSON object as it was sent, unknown properties and all: it is what is stored and
    given back. It takes no part in comparisons.
    """

    fields: tuple[Field, ...]
    associations: tuple[Association, ...] = ()
    conditionals: tuple[Conditional, ...] = ()
    rules: tuple[Expression, ...] = ()
    primary_key: tuple[str, ...] = ()
    missing_values: tuple[str, ...] = ("",)
    title: str = ""
    description: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    _positions: dict[str, int] = field(init=False, default_factory=dict, compare=False, repr=False)
    """Position by name: schemas have hundreds of fields and thousands of statements that name them."""

    def __post_init__(self) -> None:
        """Index the names; the first of equal ones counts."""
        for position, item in enumerate(self.fields):
            self._positions.setdefault(item.name, position)

    @property
    def names(self) -> tuple[str, ...]:
        """Field names, in order."""
        return tuple(item.name for item in self.fields)

    def __contains__(self, name: object) -> bool:
        """Whether there is a field of that name."""
        return name in self._positions

    def __getitem__(self, name: str) -> Field:
        """Return the field of that name; KeyError where there is none."""
        return self.fields[self._positions[name]]

    def index(self, name: str) -> int:
        """Return the position of the field of that name, as JSON pointers count it; KeyError where none."""
        return self._positions[name]
