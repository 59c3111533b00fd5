"""A real table → its schema with statistics, associations and conditionals that may be published.

What the schema declares stays as it is, and nothing is added that could contradict it. What is added passes
`app.disclosure_stated`, and the whole is a schema that `parse_schema` reads: ready to be posted.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.disclosure import outward, outward_whole, outward_years, rounded_count
from app.errors import Fault, InvalidInput, pointer
from app.schema.describe_columns import (
    HEAPS,
    Column,
    Mask,
    decimals_of,
    describe_levels,
    describe_numbers,
    level_value,
    missing_share,
    numbers_of,
    read_column,
    rows_of_enough_persons,
)
from app.schema.describe_pairs import Pair, describe_pairs
from app.schema.describe_strata import describe_gaps, describe_strata, pairs_within
from app.schema.describe_structure import Structure, find_structure
from app.schema.evaluate import holds_relevant
from app.schema.parse import parse_schema
from app.schema.table import Field, TableSchema

MOST_LEVELS = 10
MOST_NUMBERS = 20
"""Numbers up to which each is stated at each level of the target, and by two measures of a pair."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a description says at most.

    Parameters
    ----------
    quantiles, quantiles_within : int
        Of a number, over all rows and in a stratum.
    associations : int
        Pairs of columns, the strongest first.
    telling : float
        How strong a measure without a direction has to be for figures at each level to be stated beside it.
    within : int
        Pairs whose correlation is stated at each level of the target.
    apart : float
        How far Pearson's correlation has to lie from Spearman's to be stated as well.
    strata : bool
        Whether what has a signed association with the target is stated at each of its levels, too.
    """

    quantiles: int = 9
    quantiles_within: int = 3
    associations: int = 600
    telling: float = 0.15
    within: int = 20
    apart: float = 0.05
    strata: bool = True


def usual_amount(numbers: int) -> Amount:
    """Return how much is said of a table with so many numbers.

    What grows with the square of the columns leaves room for less of the rest. Of thirty numbers that are
    nearly computed of one another, a second measure of each pair and each number at each level of the target
    are more than rows hold at once: what they miss of it breaks what is nearly determined. Said once, by
    signed ranks, it holds (`benchmarks/usefulness.py`, breast_cancer: C2ST 0.96 with the rest, 0.6 without).
    """
    return Amount() if numbers <= MOST_NUMBERS else Amount(within=0, apart=np.inf, strata=False)


@dataclass(frozen=True, slots=True)
class Described:
    """A description.

    Parameters
    ----------
    document : dict
        The schema's JSON.
    warnings : tuple of Fault
        What was withheld or drawn in, with pointers into `document`.
    fitted : mapping of pointer to "fitted"
        What was added to the schema, as `app.blueprint.declare` takes it.
    """

    document: dict[str, Any]
    warnings: tuple[Fault, ...]
    fitted: Mapping[str, Literal["declared", "fitted"]]


def describe_frame(
    schema: TableSchema,
    frame: pd.DataFrame,
    *,
    target: str | None = None,
    min_cell: int = 10,
    persons: NDArray[np.int64] | None = None,
    amount: Amount | None = None,
) -> Described:
    """State what a real table shows, within the disclosure rules.

    Parameters
    ----------
    schema : TableSchema
        The table's, with its document: what it declares stays as it is.
    frame : DataFrame
        Rows with the dtypes of `app.schema.frames`.
    target : str, optional
        The column that others are to be predicted of: each column is stated at each of its levels, where it
        has at most ten.
    min_cell : int
        Nothing is said of fewer persons.
    persons : ndarray of int64, shape (n,), optional
        A number for each row's person, below 0 where not known; by default each row is a person's only one.
    amount : Amount, optional
        By default `usual_amount` of the table's columns.

    Raises
    ------
    InvalidInput
        Where the target is no column, or the table has too few rows for anything to be said of it.
    """
    cell = rows_of_enough_persons(persons, min_cell)
    if target is not None and target not in schema:
        raise InvalidInput([Fault("/target", "The table has no column of this name.")])
    if len(frame) < 2 * cell:
        raise InvalidInput(
            [Fault("", f"The table has too few rows: {2 * cell} are needed for anything to be said of it.")]
        )
    return _Description(schema, frame, target, min_cell, cell, amount).described()


class _Description:
    """A description on its way."""

    def __init__(
        self,
        schema: TableSchema,
        frame: pd.DataFrame,
        target: str | None,
        min_cell: int,
        cell: int,
        amount: Amount | None,
    ) -> None:
        self.schema, self.frame, self.target = schema, frame, target
        self.min_cell, self.cell = min_cell, cell
        numbers = sum(item.kind in ("numeric", "temporal") and item.levels is None for item in schema.fields)
        self.amount = amount or usual_amount(numbers)
        self.document: dict[str, Any] = copy.deepcopy(dict(schema.document))
        self.warnings: list[Fault] = []
        self.everywhere: Mask = np.ones(len(frame), np.bool_)
        # Figures of a column beside declared ones could contradict these.
        stated = {c.field for c in schema.conditionals}
        self.free = {
            item.name
            for item in schema.fields
            if item.formula is None and not _has_shape(item) and item.name not in stated
        }

    def described(self) -> Described:
        columns = self._columns(self.schema)
        structure = find_structure(self.schema, self.frame, columns, self.cell, self.free)
        if structure.relevant:
            columns = self._columns(self._with_relevant(structure))
        columns = [column for column in columns if column.name not in structure.formulas]
        for column in columns:
            self._state_field(column)
        self._state_empty()
        self._state_structure(structure)
        pairs = [
            pair
            for pair in describe_pairs(columns, self.everywhere, self.cell, apart=self.amount.apart)
            if frozenset(pair.fields) not in structure.never
        ]
        self._state_pairs(pairs, columns)
        self._state_strata(pairs, columns, structure)
        self._label()
        document = _sound(self.document, len(self.schema.fields))
        return Described(document, tuple(self.warnings), _fitted(self.schema.document, document))

    def _columns(self, schema: TableSchema) -> list[Column]:
        found = []
        for item in schema.fields:
            applies = self.everywhere if item.relevant is None else holds_relevant(item.relevant, self.frame)
            if item.formula is None:
                column = read_column(
                    item, self.frame[item.name], applies, self.cell, may_score=item.name in self.free
                )
                if column is not None:
                    found.append(column)
        return found

    def _with_relevant(self, structure: Structure) -> TableSchema:
        document = copy.deepcopy(dict(self.schema.document))
        for place, item in enumerate(self.schema.fields):
            if item.name in structure.relevant:
                document["fields"][place]["relevant"] = structure.relevant[item.name]
        return parse_schema(document, max_fields=len(self.schema.fields))[0]

    # fields ----------------------------------------------------------------------------------------------

    def _state_field(self, column: Column) -> None:
        item, place = self.schema[column.name], self.schema.index(column.name)
        raw = self.document["fields"][place]
        if item.name not in self.free:
            return
        if column.size and item.levels is None:
            raw["categories"] = [level_value(level) for level in column.field.levels or ()]
            if column.field.ordered:
                raw["categoriesOrdered"] = True
        elif not column.size:
            self._state_bounds(item, raw)
        if column.drawn_in:
            at = pointer("fields", place)
            what = (
                "Rare values were put to the next"
                if column.size
                else "A few values far outside were drawn in"
            )
            self.warnings.append(Fault(at, f"{what}, so that no figure tells of fewer than {self.min_cell}."))
        if column.size:
            shares = describe_levels(column, self.everywhere, self.cell)
            statistics: dict[str, Any] = {} if shares is None else {"proportions": shares}
        else:
            statistics = describe_numbers(
                column,
                self.everywhere,
                self.cell,
                most=self.amount.quantiles,
                heaps=HEAPS,
                low=_lowest(item, raw),
            )
        missing = missing_share(column, self.cell)
        if item.statistics.missing is None and not item.constraints.required and missing:
            statistics["missing"] = missing
        raw["statistics"] = {**statistics, **(raw.get("statistics") or {})}

    def _state_empty(self) -> None:
        """State of columns without any value that all are missing: else rows would be given some."""
        for place, item in enumerate(self.schema.fields):
            stated = item.constraints.required or item.relevant is not None or item.primary_key
            if item.name not in self.free or stated or len(self.frame) < self.cell:
                continue
            if self.frame[item.name].isna().all():
                raw = self.document["fields"][place]
                raw["statistics"] = {"missing": 1.0, **(raw.get("statistics") or {})}

    def _state_bounds(self, item: Field, raw: dict[str, Any]) -> None:
        """Add bounds on a coarse grid where none are declared, and decimals."""
        values = numbers_of(self.frame[item.name])
        values = values[np.isfinite(values)]
        limits = raw.get("constraints") or {}
        if len(values) >= self.cell and item.type != "time" and not {"minimum", "maximum"} & set(limits):
            low, high = _outward(item, float(values.min()), float(values.max()))
            raw["constraints"] = {**limits, "minimum": low, "maximum": high}
        if item.type == "number" and item.decimals is None:
            places = decimals_of(values)
            if places is not None:
                raw["decimals"] = places

    # structure -------------------------------------------------------------------------------------------

    def _state_structure(self, structure: Structure) -> None:
        for place, item in enumerate(self.schema.fields):
            raw = self.document["fields"][place]
            if item.name in structure.formulas:
                raw["formula"] = structure.formulas[item.name]
                raw.pop("statistics", None)
                raw.pop("constraints", None)
            if item.name in structure.relevant:
                raw["relevant"] = structure.relevant[item.name]
        known = set(self.document.get("rules") or ())
        self.document["rules"] = [
            *(self.document.get("rules") or ()),
            *(rule for rule in structure.rules if rule not in known),
        ]

    # associations and conditionals -----------------------------------------------------------------------

    def _state_pairs(self, pairs: Sequence[Pair], columns: Sequence[Column]) -> None:
        declared = {frozenset(one.fields) for one in self.schema.associations}
        told = [pair for pair in pairs if frozenset(pair.fields) not in declared]
        told.sort(key=lambda pair: -pair.strength)
        left = len(told) - self.amount.associations
        if left > 0:
            self.warnings.append(
                Fault("/associations", f"The {left} weakest associations are left out of {len(told)}.")
            )
        self.document["associations"] = [
            *(self.document.get("associations") or ()),
            *(pair.document() for pair in told[: self.amount.associations]),
        ]
        by = self._by_target(columns)
        if by is not None:
            numbers = [column for column in columns if column.ranked]
            within = pairs_within(numbers, by, self.cell, most=self.amount.within)
            self.document["associations"] += [
                pair.document() for pair in within if frozenset(pair.fields) not in declared
            ]

    def _by_target(self, columns: Sequence[Column]) -> Column | None:
        found = next((column for column in columns if column.name == self.target), None)
        return found if found is not None and 2 <= found.size <= MOST_LEVELS else None

    def _state_strata(self, pairs: Sequence[Pair], columns: Sequence[Column], structure: Structure) -> None:
        target = self._by_target(columns)
        strengths: dict[frozenset[str], float] = {}
        for pair in pairs:
            both = frozenset(pair.fields)
            strengths[both] = max(strengths.get(both, 0.0), pair.strength)
        found = list(self.document.get("conditionals") or ())
        for by in columns:
            if by is not target and not 2 < by.size <= MOST_LEVELS:
                continue
            quantiles = self.amount.quantiles_within if by is target else 0
            for column in columns:
                both = frozenset((by.name, column.name))
                if column.name not in self.free or len(both) == 1 or both in structure.never:
                    continue
                if by.name in (structure.relevant.get(column.name) or ""):
                    continue
                # By others than the target only what a measure says no direction of.
                if by is not target and (
                    column is target or by.ranked or strengths.get(both, 0.0) < self.amount.telling
                ):
                    continue
                if by is target and not self.amount.strata and by.ranked and column.ranked:
                    found += describe_gaps(column, by, self.cell)
                else:
                    found += describe_strata(column, by, self.cell, quantiles=quantiles)
        self.document["conditionals"] = found

    def _label(self) -> None:
        rows = rounded_count(len(self.frame), self.min_cell)
        if not self.document.get("description") and rows is not None:
            self.document["description"] = (
                f"Statistics of a real table of about {rows} rows; nothing is said of fewer than "
                f"{self.min_cell} persons."
            )
        for key in ("associations", "conditionals", "rules"):
            if not self.document.get(key):
                self.document.pop(key, None)


def _has_shape(item: Field) -> bool:
    """Whether anything but the missing share is declared of a field."""
    s = item.statistics
    return (
        any(v is not None for v in (s.mean, s.sd, s.median, s.minimum, s.maximum, s.distribution))
        or bool(s.quantiles)
        or s.proportions is not None
    )


def _lowest(item: Field, raw: Mapping[str, Any]) -> float | None:
    low = (raw.get("constraints") or {}).get("minimum")
    return float(low) if low is not None and item.kind == "numeric" else None


def _outward(item: Field, low: float, high: float) -> tuple[Any, Any]:
    if item.type in ("integer", "year"):
        return outward_whole(int(low), int(high))
    if item.type == "number":
        return outward(low, high)
    epoch = dt.date(1970, 1, 1)
    first, last = outward_years(*(epoch + dt.timedelta(days=int(np.floor(day))) for day in (low, high)))
    clock = ("T00:00:00", "T23:59:59") if item.type == "datetime" else ("", "")
    return first.isoformat() + clock[0], last.isoformat() + clock[1]


def _sound(document: dict[str, Any], fields: int) -> dict[str, Any]:
    """Leave out what the schema's reader refuses: rounding and drawing in can let figures contradict."""
    while True:
        try:
            parse_schema(document, max_fields=fields)
            return document
        except InvalidInput as error:
            if not _left_out(document, [fault.pointer for fault in error.faults]):
                raise


def _left_out(document: dict[str, Any], pointers: Sequence[str]) -> bool:
    changed = False
    gone: dict[str, set[int]] = {}
    for at in pointers:
        parts = at.split("/")[1:]
        if parts[:1] == ["fields"] and "statistics" in parts:
            key = parts[3] if len(parts) > 3 else None
            statistics = document["fields"][int(parts[1])].get("statistics") or {}
            changed |= statistics.pop(key, None) is not None
        elif parts[0] in ("associations", "conditionals", "rules") and len(parts) > 1:
            gone.setdefault(parts[0], set()).add(int(parts[1]))
    for name, places in gone.items():
        document[name] = [one for place, one in enumerate(document[name]) if place not in places]
        changed = True
    return changed


def _fitted(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Literal["declared", "fitted"]]:
    """Tell by pointer what a description added to a schema's document."""
    found: dict[str, Literal["declared", "fitted"]] = {}
    for place, (old, new) in enumerate(zip(before["fields"], after["fields"], strict=True)):
        at = pointer("fields", place)
        declared = old.get("statistics") or {}
        for key in new.get("statistics") or {}:
            if key not in declared:
                found[f"{at}/statistics/{key}"] = "fitted"
        if any(new.get(key) != old.get(key) for key in ("categories", "constraints", "formula", "relevant")):
            found[at] = "fitted"
            for key in declared:
                found[f"{at}/statistics/{key}"] = "declared"
        if "decimals" in new:
            found[f"{at}/decimals"] = "declared" if "decimals" in old else "fitted"
    for name in ("associations", "conditionals", "rules"):
        for place in range(len(before.get(name) or ()), len(after.get(name) or ())):
            found[pointer(name, place)] = "fitted"
    return found
