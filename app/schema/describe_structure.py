"""Structure that holds in every row of a real table: orders, equalities, what applies where, formulas.

Only what independent columns would break often is told, so that each of these is a statement on many persons
and none on one.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations

import numpy as np
import pandas as pd

from app.schema.describe_columns import Column, Floats, numbers_of
from app.schema.describe_pairs import count_pairs
from app.schema.evaluate import formula_column
from app.schema.rules import parse_expression
from app.schema.table import Field, TableSchema, Value

BROKEN_APART = 0.05
"""Share of rows in which independent columns would break an order that is told."""

MOST_ORDERS = 12
MOST_EXCLUSIONS = 10
_MOST_NUMBERS = 40  # beyond, no formulas are looked for
_EQUAL_ELSEWHERE = 0.95
_PROBE = 16  # rows on which a formula is tried before it is on all


@dataclass(slots=True)
class Structure:
    """What was found.

    Parameters
    ----------
    rules : list of str
    relevant : dict of name to str
        Where a column applies.
    formulas : dict of name to str
    never : set of frozenset of str
        Pairs of categories of which some levels never meet: no measure is told of them.
    """

    rules: list[str] = field(default_factory=list)
    relevant: dict[str, str] = field(default_factory=dict)
    formulas: dict[str, str] = field(default_factory=dict)
    never: set[frozenset[str]] = field(default_factory=set)


def find_structure(
    schema: TableSchema, frame: pd.DataFrame, columns: Sequence[Column], cell: int, free: set[str]
) -> Structure:
    """Find what holds in every row.

    Parameters
    ----------
    columns : sequence of Column
        Those that have a distribution to tell.
    cell : int
        Rows that are certainly of `min_cell` persons.
    free : set of str
        Columns of which nothing is declared that a rule could contradict.
    """
    found = Structure()
    numbers = {
        column.name: numbers_of(frame[column.name])
        for column in columns
        if not column.size and column.name in free
    }
    found.formulas = dict(_formulas(schema, frame, numbers, cell))
    groups = [column for column in columns if column.size and column.field.relevant is None]
    for column in columns:
        if column.name in free and column.field.relevant is None:
            where = _where_it_applies(column, groups, found.relevant, cell)
            if where is not None:
                found.relevant[column.name] = where
    orders = _orders(schema, {n: v for n, v in numbers.items() if n not in found.formulas}, cell)
    for lesser, greater in orders:
        found.rules.append(f"{name_in(lesser)} <= {name_in(greater)}")
        found.rules += _equalities(numbers[lesser], numbers[greater], lesser, greater, groups, cell)
    declared = [column for column in groups if schema[column.name].levels is not None]
    for text, names in _exclusions([c for c in declared if c.name not in found.relevant], cell):
        found.rules.append(text)
        found.never.add(names)
    return found


def name_in(name: str) -> str:
    """Write a field's name in an expression."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and not keyword.iskeyword(name)
    return name if plain and name not in _WORDS else f"field({json.dumps(name, ensure_ascii=False)})"


_WORDS = frozenset(
    {"isnull", "abs", "round", "floor", "ceil", "min", "max", "log", "exp", "sqrt", "days", "year"}
    | {"field", "true", "false", "null"}
)


def literal(level: Value) -> str:
    """Write a level in an expression."""
    return repr(level) if isinstance(level, str | bool | int | float) else repr(str(level))


# Orders ---------------------------------------------------------------------------------------------------


def _orders(schema: TableSchema, numbers: dict[str, Floats], cell: int) -> list[tuple[str, str]]:
    """Return pairs (lesser, greater), those that independent columns would break most first."""
    rng = np.random.default_rng(1)
    found: dict[tuple[str, str], float] = {}
    for x, y in permutations(numbers, 2):
        if not _comparable(schema[x], schema[y]):
            continue
        both = ~np.isnan(numbers[x]) & ~np.isnan(numbers[y])
        one, other = numbers[x][both], numbers[y][both]
        if len(one) < 3 * cell or not (one <= other).all() or (one == other).all():
            continue
        apart = float((one > rng.permutation(other)).mean())
        if apart >= BROKEN_APART and apart * len(one) >= cell:
            found[x, y] = apart
    told = sorted(found, key=lambda pair: -found[pair])
    # What follows from two others is not said.
    told = [(x, y) for x, y in told if not any((x, z) in found and (z, y) in found for z in numbers)]
    return told[:MOST_ORDERS]


def _comparable(one: Field, other: Field) -> bool:
    kinds = {item.type if item.kind == "temporal" else item.kind for item in (one, other)}
    return len(kinds) == 1 and (not one.unit or not other.unit or one.unit == other.unit)


def _equalities(
    x: Floats, y: Floats, lesser: str, greater: str, groups: Sequence[Column], cell: int
) -> Iterator[str]:
    """Tell at which levels the two of an order are equal in every row."""
    both = ~np.isnan(x) & ~np.isnan(y)
    equal = x == y
    for column in groups:
        for place, level in enumerate(column.field.levels or ()):
            here = both & (column.codes == place)
            elsewhere = both & (column.codes != place)
            if here.sum() < 2 * cell or elsewhere.sum() < cell or not equal[here].all():
                continue
            if equal[elsewhere].mean() < _EQUAL_ELSEWHERE:
                yield (
                    f"not ({name_in(column.name)} == {literal(level)} and "
                    f"{name_in(lesser)} < {name_in(greater)})"
                )


# Categories -----------------------------------------------------------------------------------------------


def _where_it_applies(
    column: Column, groups: Sequence[Column], taken: dict[str, str], cell: int
) -> str | None:
    """Find a category that says exactly where a column has values."""
    present = column.present
    if present.sum() < cell or (~present).sum() < cell:
        return None
    for by in groups:
        if by.name == column.name or by.name in taken or not by.present.all():
            continue
        n, there = by.counts(np.ones(len(present), np.bool_)), by.counts(present)
        if (n < cell).any() or not ((there == n) | (there == 0)).all():
            continue
        levels = [level for level, count in zip(by.field.levels or (), there, strict=True) if count]
        if len(levels) == 1:
            return f"{name_in(by.name)} == {literal(levels[0])}"
        return f"{name_in(by.name)} in ({', '.join(literal(level) for level in levels)})"
    return None


def _exclusions(groups: Sequence[Column], cell: int) -> list[tuple[str, frozenset[str]]]:
    """Return levels that never meet although many rows would be expected, most expected first."""
    found: list[tuple[float, str, frozenset[str]]] = []
    for one, other in combinations(groups, 2):
        if one.size * other.size > 900:
            continue
        everywhere = np.ones(len(one.values), np.bool_)
        table = count_pairs(one, other, everywhere)
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
        for i, j in zip(*np.nonzero((table == 0) & (expected >= max(cell, 10))), strict=True):
            parts = [
                f"{name_in(column.name)} == {literal((column.field.levels or ())[place])}"
                for column, place in ((one, i), (other, j))
            ]
            names = frozenset((one.name, other.name))
            found.append((-float(expected[i, j]), f"not ({parts[0]} and {parts[1]})", names))
    return [(text, names) for _, text, names in sorted(found, key=lambda item: item[:2])[:MOST_EXCLUSIONS]]


# Formulas -------------------------------------------------------------------------------------------------

_FORMS = ("{a} + {b}", "{a} - {b}", "{b} - {a}", "{a} * {b}", "{a} / {b}", "{b} / {a}",
          "{a} / ({b} / 100) ** 2", "{b} / ({a} / 100) ** 2", "{a} / {b} ** 2", "{b} / {a} ** 2")  # fmt: skip


def _formulas(
    schema: TableSchema, frame: pd.DataFrame, numbers: dict[str, Floats], cell: int
) -> Iterator[tuple[str, str]]:
    """Find numbers that are computed of two others in every row; the later column is the computed one."""
    names = [name for name in numbers if schema[name].kind == "numeric" and schema[name].formula is None]
    if not 3 <= len(names) <= _MOST_NUMBERS:
        return
    inputs: set[str] = set()
    computed: set[str] = set()
    for name in reversed(names):
        present = np.flatnonzero(~np.isnan(numbers[name]))
        if name in inputs or len(present) < 3 * cell or len(np.unique(numbers[name])) < 10:
            continue
        for a, b in combinations([n for n in names if n != name and n not in computed], 2):
            text = _formula(schema, frame, numbers, (name, a, b), present)
            if text is not None:
                inputs |= {a, b}
                computed.add(name)
                yield name, text
                break


def _formula(
    schema: TableSchema,
    frame: pd.DataFrame,
    numbers: dict[str, Floats],
    names: tuple[str, str, str],
    present: np.ndarray,
) -> str | None:
    name, a, b = names
    probe = present[:: max(len(present) // _PROBE, 1)]
    y, one, other = (numbers[n][probe] for n in names)
    places = schema[name].places
    slack = 0.5000001 * 10.0**-places if places is not None else 1e-9 * np.abs(y).max()
    with np.errstate(all="ignore"):
        tried = (
            one + other, one - other, other - one, one * other, one / other, other / one,
            one / (other / 100) ** 2, other / (one / 100) ** 2, one / other**2, other / one**2,
        )  # fmt: skip
        fits = [
            form for form, result in zip(_FORMS, tried, strict=True) if (np.abs(result - y) <= slack).all()
        ]
    for form in fits:
        text = form.format(a=name_in(a), b=name_in(b))
        expression = parse_expression(text, {item.name: item for item in schema.fields}, expects="number")
        made = numbers_of(formula_column(replace(schema[name], formula=expression), frame))
        if np.array_equal(made, numbers[name], equal_nan=True):
            return text
    return None
