"""The blueprint: one readable, versioned JSON document that says how a table is distributed.

Shapes stand here, and nothing is computed: `declare` makes a blueprint of a schema and a schema of a
blueprint, `outcomes` enters what compiling it came to. No numerics: the HTTP side reads blueprints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator
from pydantic.functional_validators import PlainValidator

from app.blueprint.layout import lay_out

if TYPE_CHECKING:
    from app.schema.table import TableSchema

VERSION = "1"
SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "blueprint.schema.json"

Source = Literal["declared", "elicited", "fitted", "default"]
"""Where a number comes from: the caller, a language model, a real table, or nobody."""


def _figure(value: Any) -> int | float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("This must be a number, or a date or time in ISO 8601")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("This must be a finite number")
    return value


# One validator instead of a union: a fault then points at the number, not at a branch of the union.
Figure = Annotated[int | float | str, PlainValidator(_figure), WithJsonSchema({"type": ["number", "string"]})]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Stated(_Part):
    """A number and where it comes from. Dates and times are ISO 8601, their sd is in days or seconds."""

    value: Figure = Field(description="what the rows have; edit it, and the rows have what it says then")
    source: Source
    asked: Figure | None = Field(
        default=None, description="what was asked for, where the nearest possible is something else"
    )


class StatedTable(_Part):
    """Numbers that are stated together: proportions by level, or quantiles by probability."""

    value: dict[str, Figure]
    source: Source
    asked: dict[str, Figure] | None = None


class StatedFamily(_Part):
    """The name of a family of distributions, and who named it."""

    value: str
    source: Source


class StatedSign(_Part):
    """The direction of an association whose measure has none."""

    value: Literal[-1, 1]
    source: Literal["declared", "elicited", "fitted", "guessed"]


class Marginal(_Part):
    """How the present values of a column are distributed, over the rows where it applies."""

    family: StatedFamily | None = None
    mean: Stated | None = None
    sd: Stated | None = None
    median: Stated | None = None
    min: Stated | None = Field(default=None, description="the least value that a sample showed")
    max: Stated | None = Field(default=None, description="the greatest value that a sample showed")
    quantiles: StatedTable | None = None
    proportions: StatedTable | None = None


class StratumStatistics(Marginal):
    """How a column is distributed in some of the rows."""

    missing: Stated | None = None


class Column(_Part):
    """One column. What its values may be is as in a schema; `source` says who said so."""

    model_config = ConfigDict(extra="allow")

    name: str
    type: str | None = None
    source: Source = "declared"
    title: str | None = None
    description: str | None = None
    unit: str | None = None
    format: str | None = None
    categories: list[JsonValue] | None = None
    categoriesOrdered: bool | None = None
    vocabulary: list[str] | None = Field(default=None, description="what free text is drawn from")
    constraints: dict[str, JsonValue] | None = Field(
        default=None, description="what no row breaks; Frictionless's words"
    )
    decimals: Stated | None = None
    formula: str | None = Field(default=None, description="what the column is computed by")
    relevant: str | None = Field(default=None, description="where the column applies; elsewhere it is empty")
    marginal: Marginal | None = Field(
        default=None, description="absent where values are made fresh: ids, unique values, free text"
    )
    missing: Stated | None = Field(default=None, description="share that is absent where the column applies")

    @model_validator(mode="before")
    @classmethod
    def _is_no_field(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "statistics" in value:
            raise ValueError("A column of a blueprint has `marginal` and `missing` where a field of a "
                             "schema has `statistics`")  # fmt: skip
        return value


class Dependence(_Part):
    """An association of two columns, in all rows or in those that `given` names."""

    model_config = ConfigDict(extra="allow")

    fields: list[str]
    measure: str
    value: int | float
    source: Source
    asked: int | float | None = None
    sign: StatedSign | None = None
    given: dict[str, JsonValue] | None = None


class Conditional(_Part):
    """Statistics of a column in the rows that `given` names."""

    model_config = ConfigDict(extra="allow")

    field: str
    given: dict[str, JsonValue]
    statistics: StratumStatistics


class Rule(_Part):
    """An expression that is false in no row."""

    rule: str
    source: Source


class Repair(_Part):
    """A number of which the rows have something else than was asked."""

    at: str = Field(description="JSON pointer to the number in this document")
    asked: Figure
    achieved: Figure
    moved: int | float | None = Field(
        default=None, description="how far, in tolerances of its kind of statistic; null for defaults"
    )
    reason: str = ""


class Guess(_Part):
    """A direction that nobody declared."""

    at: str = Field(description="JSON pointer to the sign in this document")
    value: Literal[-1, 1]
    reason: str = ""


class Outcome(_Part):
    """What became of one statement in a large simulation with all rules on."""

    at: str
    asked: Figure
    achieved: Figure | None = Field(default=None, description="absent where it could not be measured")
    moved: int | float | None = Field(default=None, description="distance in tolerances; up to 1 is as asked")
    reason: str | None = None


class Blueprint(_Part):
    """How a table is distributed: what a sampler and a seed turn into rows."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"title": "Synthward blueprint"})

    blueprint: Literal["1"] = Field(description="version of this form")
    title: str | None = None
    description: str | None = None
    columns: list[Column] = Field(min_length=1)
    dependence: list[Dependence] = Field(default_factory=list)
    conditionals: list[Conditional] = Field(default_factory=list)
    rules: list[Rule] = Field(default_factory=list)
    repairs: list[Repair] = Field(
        default_factory=list, description="where the rows have something else than was asked; furthest first"
    )
    guesses: list[Guess] = Field(default_factory=list, description="directions that nobody declared")
    outcomes: list[Outcome] = Field(
        default_factory=list, description="every statement, asked and achieved; furthest first"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_no_schema(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "columns" not in value and "fields" in value:
            raise ValueError("This is a schema: post it as the job's `schema`. A blueprint has `columns`")
        return value

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote, or an edited form of it; raises pydantic's ValidationError."""
        return cls.model_validate(json.loads(text))

    def lean(self) -> dict[str, Any]:
        """Return the document as JSON values, without what is not stated."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_json(self) -> str:
        """Return the document as text that a person can read; the same document gives the same bytes."""
        return lay_out(self.lean()) + "\n"

    def to_schema(self) -> TableSchema:
        """Return the schema that says the same; raises InvalidInput, its pointers into this document."""
        from app.blueprint.declare import schema_of

        return schema_of(self)


def blueprint_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:synthward:blueprint:{VERSION}",
        **Blueprint.model_json_schema(),
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(blueprint_schema(), indent=2, ensure_ascii=False) + "\n", "utf-8")
