"""Formulas read backwards: where a formula's value is stated and an input's is not, the input follows."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from app.blueprint.defaults import Choice, bounds, decimals_for
from app.schema.rules import Expression
from app.schema.table import Field, TableSchema

_ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow,
}  # fmt: skip

UNKNOWN_DECIMALS = 6
"""Of an input that a function's value makes: how the one follows from the other is not looked at."""

MUCH = 1e6
"""Freedom of an input of which something is stated in strata alone."""


@dataclass(frozen=True, slots=True)
class Solved:
    """A field that is computed so that a formula has a drawn value.

    Parameters
    ----------
    target : Field
        What the formula computes: drawn first.
    item : Field
        The input that follows.
    expression : Expression
        The input from the target and the other inputs; for a date, the days since `base`.
    base : str
        Where the input is a date: the date that the days count from, or empty.
    """

    target: Field
    item: Field
    expression: Expression
    base: str = ""


def solved_inputs(schema: TableSchema, drawn: Iterable[Field]) -> tuple[Solved, ...]:
    """Find the fields that are better computed from a stated formula than drawn.

    An input of which nothing is stated; else, where all are stated, the one that varies most, if the
    formula's value varies less: what is computed misses its own spread by the least part of it.
    """
    free = {item.name: item for item in drawn}
    taken: set[str] = set()
    found = []
    for target in schema.fields:
        if target.formula is None or target.levels is not None or target.relevant is not None:
            continue
        if not replace(target.statistics, missing=None).declared:
            continue
        for name in sorted(target.formula.fields, key=lambda name: -_freedom(schema, target, name)):
            item = free.get(name)
            if (
                item is None
                or name in taken
                or _freedom(schema, target, name) <= _needed(schema, target, name)
            ):
                continue
            if item.levels is not None or item.relevant is not None:
                continue
            if any(name in _reads(other) for other in schema.fields if other.name != target.name):
                continue
            solved = _backwards(target, item)
            if solved is not None and not (set(solved.expression.fields) & taken):
                found.append(solved)
                taken |= {name}
                break
    return tuple(found)


def solved_decimals(schema: TableSchema, solved: Solved) -> int | None:
    """Return the decimals that a computed input is delivered with; None where it is no number.

    As declared; else two digits finer than what is taken for its sd by default, or than what it varies by
    where the formula's value varies by its own sd, whichever is more: else its rounding would be seen there.
    """
    item = solved.item
    if item.type != "number" or item.places is not None:
        return item.places if item.type == "number" else None
    taken = decimals_for(Choice.of(schema, item, *bounds(item), lambda *_: None).sd)
    return max(taken, _needed_decimals(schema, solved))


def _needed_decimals(schema: TableSchema, solved: Solved) -> int:
    centre, spread = _middle(solved.target), _spread(solved.target)
    middles = {name: _middle(schema[name]) for name in solved.expression.fields}
    if centre is None or spread is None or solved.base:
        return 0
    ends = []
    for value in (centre - spread / 2, centre + spread / 2):
        try:
            ends.append(_value(solved.expression.tree, middles | {solved.target.name: value}))
        except (ArithmeticError, TypeError):  # nothing is known of an input, or it has no value
            return 0
        except ValueError:  # a logarithm, say: fine enough for nearly all
            return UNKNOWN_DECIMALS
    varies = abs(ends[1] - ends[0])
    return decimals_for(varies) if math.isfinite(varies) else 0


def _value(node: ast.expr, values: Mapping[str, float | None]) -> float:
    """Return the value of an arithmetic expression: pages say its decimals, and load no numerics."""
    match node:
        case ast.Name(id=name):
            return float(values[name])  # type: ignore[arg-type]
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return float(_ARITHMETIC[type(op)](_value(left, values), _value(right, values)))
    raise ValueError(ast.dump(node))


def _freedom(schema: TableSchema, target: Field, name: str) -> float:
    """Return how much more an input varies than the formula's value: infinitely where nothing is stated."""
    if name not in schema:
        return 0.0
    item = schema[name]
    stated = replace(item.statistics, missing=None).declared
    if not stated and all(conditional.field != name for conditional in schema.conditionals):
        return math.inf
    own, other = _spread(item), _spread(target)
    if not stated or own is None:
        return MUCH
    if other is None:
        return 0.0
    if any(isinstance(node, ast.Mult | ast.Div | ast.Pow) for node in ast.walk(target.formula.tree)):  # type: ignore[union-attr]
        middle, centre = _middle(item), _middle(target)
        return abs(own / middle) / abs(other / centre) if middle and centre else 0.0
    return own / other


def _needed(schema: TableSchema, target: Field, name: str) -> float:
    """Return the freedom from which on an input is computed: more where more is stated of it."""
    counts = []
    for one in (name, target.name):
        statistics = schema[one].statistics
        count = sum(v is not None for v in (statistics.mean, statistics.sd, statistics.median))
        count += len(statistics.quantiles) + sum(one in a.fields for a in schema.associations)
        counts.append(count + sum(c.field == one for c in schema.conditionals))
    return 1.25 if counts[0] > counts[1] else 0.7


def _spread(item: Field) -> float | None:
    statistics = item.statistics
    if statistics.sd is not None:
        return statistics.sd or None
    values = [value for _, value in statistics.quantiles]
    return (max(values) - min(values)) / 3 or None if len(values) > 1 else None


def _middle(item: Field) -> float | None:
    statistics = item.statistics
    if statistics.mean is not None or statistics.median is not None:
        return statistics.mean if statistics.mean is not None else statistics.median
    values = [value for _, value in statistics.quantiles]
    return sum(values) / len(values) if values else None


def _reads(item: Field) -> set[str]:
    parts = [part for part in (item.formula, item.relevant) if part is not None]
    return {name for part in parts for name in part.fields}


def _backwards(target: Field, item: Field) -> Solved | None:
    assert target.formula is not None
    tree = target.formula.tree
    if sum(isinstance(node, ast.Name) and node.id == item.name for node in ast.walk(tree)) != 1:
        return None
    others = [name for name in target.formula.fields if name != item.name]
    if item.type in ("date", "datetime"):
        match tree:
            case ast.Call(
                func=ast.Name(id="days"),
                args=[ast.BinOp(left=ast.Name(id=later), op=ast.Sub(), right=ast.Name(id=earlier))],
            ):
                sign = 1 if later == item.name else -1
                days: ast.expr = ast.Name(id=target.name)
                if sign < 0:
                    days = ast.UnaryOp(op=ast.USub(), operand=days)
                expression = Expression(f"days from {others[0]}", (target.name,), "number", tree=days)
                return Solved(target, item, expression, earlier if sign > 0 else later)
        return None
    if item.type not in ("number", "integer"):
        return None
    solved = _isolated(tree, item.name, ast.Name(id=target.name))
    if solved is None:
        return None
    return Solved(
        target, item, Expression(ast.unparse(solved), (target.name, *others), "number", tree=solved)
    )


def _isolated(tree: ast.expr, name: str, value: ast.expr) -> ast.expr | None:
    """Return the named variable where `tree` equals `value`, None where that cannot be written."""

    def holds(node: ast.expr) -> bool:
        return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))

    def both(left: ast.expr, op: ast.operator, right: ast.expr) -> ast.expr:
        return ast.BinOp(left=left, op=op, right=right)

    match tree:
        case ast.Name(id=found) if found == name:
            return value
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _isolated(inner, name, ast.UnaryOp(op=ast.USub(), operand=value))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            inner, other = (left, right) if holds(left) else (right, left)
            return _isolated(inner, name, both(value, ast.Sub(), other))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            if holds(left):
                return _isolated(left, name, both(value, ast.Add(), right))
            return _isolated(right, name, both(left, ast.Sub(), value))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            inner, other = (left, right) if holds(left) else (right, left)
            return _isolated(inner, name, both(value, ast.Div(), other))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            if holds(left):
                return _isolated(left, name, both(value, ast.Mult(), right))
            return _isolated(right, name, both(left, ast.Div(), value))
        case ast.BinOp(left=inner, op=ast.Pow(), right=ast.Constant(value=int() | float() as power)) if power:
            # Of the roots the positive one: what is squared in a record's formula is a length or a time.
            return _isolated(inner, name, both(value, ast.Pow(), ast.Constant(value=1 / power)))
        case ast.Call(func=ast.Name(id="log"), args=[inner]):
            return _isolated(inner, name, ast.Call(func=ast.Name(id="exp"), args=[value], keywords=[]))
        case ast.Call(func=ast.Name(id="exp"), args=[inner]):
            return _isolated(inner, name, ast.Call(func=ast.Name(id="log"), args=[value], keywords=[]))
        case ast.Call(func=ast.Name(id="round"), args=[inner, *_]):
            return _isolated(inner, name, value)
    return None
