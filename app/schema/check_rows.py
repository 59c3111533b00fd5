"""What a number of rows asks of a schema: whether unique fields and keys have enough possible values."""

from __future__ import annotations

import math
import re._parser as regex_parser  # type: ignore[import-not-found]
from typing import Any

from app.errors import Fault, pointer
from app.schema.contradictions import bound
from app.schema.table import Field, TableSchema


def check_row_count(schema: TableSchema, rows: int) -> list[Fault]:
    """Find what cannot be met with this many rows: unique fields and keys with too few possible values.

    Parameters
    ----------
    rows : int
        For each replicate.
    """
    faults: list[Fault] = []
    for position, field in enumerate(schema.fields):
        single_key = schema.primary_key == (field.name,)
        if not (field.constraints.unique or single_key) or field.relevant is not None:
            continue
        present = math.ceil(rows * (1 - (field.statistics.missing or 0.0)) - 1e-9)
        room = capacity(field)
        if room is not None and room < present:
            at = (
                pointer("fields", position, "constraints", "unique")
                if field.constraints.unique
                else "/primaryKey"
            )
            message = (
                f"{field.name!r} must be unique in {present} rows, and only {room} values are possible; "
                "ask for fewer rows, allow more values or drop the constraint"
            )
            faults.append(Fault(at, message))
    if len(schema.primary_key) > 1:
        rooms = [capacity(schema[name]) for name in schema.primary_key]
        if all(room is not None for room in rooms):
            total = math.prod(room for room in rooms if room is not None)
            if total < rows:
                message = f"the key's fields have {total} combinations, and {rows} rows need different ones"
                faults.append(
                    Fault("/primaryKey", message + "; ask for fewer rows or add a field to the key")
                )
    return faults


def capacity(field: Field) -> int | None:
    """Count a field's possible values; None where there is no limit that is certain."""
    if field.levels is not None:
        return len(field.levels)
    limits = field.constraints
    if field.type == "string":
        return pattern_capacity(limits.pattern) if limits.pattern is not None else None
    low, high = bound(field, limits.minimum), bound(field, limits.maximum)
    if field.type == "time":
        low, high = 0.0 if low is None else low, 86_399.0 if high is None else high
    if low is None or high is None:
        return None
    step = {"datetime": 1e-6 / 86_400, "number": 10.0 ** -(field.places or 0)}.get(field.type, 1.0)
    if field.type == "number" and field.places is None:
        return 1 if low == high else None
    return math.floor((high - low) / step + 1e-6) + 1


def pattern_capacity(pattern: str) -> int | None:
    """Count the texts that a pattern matches, at most; None where there is no limit or it is not certain."""
    return _count(regex_parser.parse(pattern))


def _count(items: Any) -> int | None:
    total = 1
    for operator, argument in items:
        name = str(operator)
        if name == "LITERAL" or name == "AT":
            ways: int | None = 1
        elif name == "IN":
            ways = _count_class(argument)
        elif name == "SUBPATTERN":
            ways = _count(argument[-1])
        elif name == "BRANCH":
            branches = [_count(branch) for branch in argument[1]]
            ways = None if None in branches else sum(branch or 0 for branch in branches)
        elif name in ("MAX_REPEAT", "MIN_REPEAT") and str(argument[1]) != "MAXREPEAT":
            inner = _count(argument[2])
            ways = None if inner is None else _geometric(inner, argument[0], argument[1])
        else:
            ways = None
        if ways is None:
            return None
        total = min(total * ways, 10**18)
    return total


def _geometric(inner: int, fewest: int, most: int) -> int:
    total = 0
    for count in range(fewest, most + 1):
        total += inner ** min(count, 60)
        if total > 10**18:
            return 10**18
    return total


def _count_class(argument: Any) -> int | None:
    total = 0
    for operator, value in argument:
        name = str(operator)
        if name == "LITERAL":
            total += 1
        elif name == "RANGE":
            total += value[1] - value[0] + 1
        elif name == "CATEGORY" and str(value) == "CATEGORY_DIGIT":
            total += 10  # ids are made with the ASCII digits
        else:
            return None
    return total
