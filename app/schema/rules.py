"""The safe expression language of rules, formulas and `relevant`: parsing and type checks. Never `eval`.

A whitelisted subset of Python expressions (API.md, "The schema"). `parse_expression` gives an
`Expression`; `app.schema.evaluate` computes it on whole columns.
"""

from __future__ import annotations

import ast
import datetime as dt
import difflib
import io
import math
import re
import tokenize
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

MAX_LENGTH = 2000
MAX_DEPTH = 50
MAX_NODES = 500
MAX_EXPONENT = 64
MAX_COMPARED = 3000
"""Letters times words up to which a misspelt name is worth a search: a document may hold thousands."""
MAX_EXACT = 2**53
"""Numbers are 64-bit floats on columns: integers beyond this are not exact, so no literal may be larger."""

FUNCTIONS = ("isnull", "abs", "round", "floor", "ceil", "min", "max", "log", "exp", "sqrt", "days", "year")

_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_OTHER_OPERATORS = {
    ast.BitAnd: "`&` is not in the language; write `and`",
    ast.BitOr: "`|` is not in the language; write `or`",
    ast.Invert: "`~` is not in the language; write `not`",
    ast.Is: "`is` is not in the language; write `==`, or `isnull(x)` for missing values",
    ast.IsNot: "`is not` is not in the language; write `!=`, or `not isnull(x)` for missing values",
}
_TEMPORAL = ("date", "datetime", "time")
_INSTANTS = ("date", "datetime")
_TYPE_OF_FIELD = {"integer": "number", "year": "number"}


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed, type-checked expression.

    Parameters
    ----------
    text : str
        As the caller wrote it.
    fields : tuple of str
        Names of the fields it reads, in order of first appearance.
    result : str
        Type of the value: "boolean", "number", "string", "date", "datetime", "time", or "timedelta"
        for a difference of dates or times.
    strings : tuple of str or None
        All texts that a string result can take, where that is known.
    tree : ast.expr
        The whitelisted syntax tree; no other node types occur in it. Fields are `ast.Name` whatever
        they are called, and texts compared with dates are `date`, `datetime` or `time` constants.
    """

    text: str
    fields: tuple[str, ...]
    result: str
    strings: tuple[str, ...] | None = field(default=None, compare=False, repr=False)
    tree: ast.expr = field(default_factory=lambda: ast.Constant(value=True), compare=False, repr=False)


class ExpressionFault(Exception):
    """An expression is not in the language.

    Parameters
    ----------
    message : str
        What is wrong and what would be right.
    position : int
        Where, in characters from the start of the text, counted from 1.
    unknown : str or None
        The name, where the fault is that no field is called so.
    """

    def __init__(self, message: str, position: int, unknown: str | None = None) -> None:
        super().__init__(f"{message} (at character {position})")
        self.message, self.position, self.unknown = message, position, unknown


class FieldLike(Protocol):
    """What the language needs to know of a field."""

    @property
    def type(self) -> str:
        """Type, as in the schema."""

    @property
    def levels(self) -> tuple[Any, ...] | None:
        """Admissible values in order, None where not categorical."""

    @property
    def ordered(self) -> bool:
        """Whether the levels have an order."""


def parse_expression(
    text: str, fields: Mapping[str, FieldLike | str], *, expects: str | None = None
) -> Expression:
    """Parse and type-check an expression.

    Parameters
    ----------
    text : str
        At most 2,000 characters.
    fields : mapping of name to field or type name
        What the expression may read.
    expects : str, optional
        The type that the result must have, as in `Expression.result`.

    Raises
    ------
    ExpressionFault
        Where it is not in the language, names an unknown field or mixes types.
    """
    root = _syntax_tree(text)
    checker = _Checker(text, fields)
    tree, typed = checker.check(root)
    if expects is not None and typed.kind != expects:
        raise checker.fault(
            root, f"this is {_a(typed.kind)}, and {_a(expects)} is needed here{_way_to(typed, expects)}"
        )
    return Expression(text, tuple(checker.read), typed.kind, typed.strings, tree)


def _syntax_tree(text: str) -> ast.expr:
    """Parse with Python's own parser; the whitelist comes after."""
    if len(text) > MAX_LENGTH:
        raise ExpressionFault(
            f"an expression has at most {MAX_LENGTH} characters, this one has {len(text)}; split it", 1
        )
    if not text.strip():
        raise ExpressionFault('the expression is empty; write one such as "age >= 18", or leave it out', 1)
    # One line, same positions. Leading space would be an indentation error, so the bracket takes its place.
    flat = re.sub(r"[\r\n\t\f]", " ", text)
    stripped = flat.lstrip()
    indent = len(flat) - len(stripped)
    if "#" in stripped:
        _refuse_comments(stripped, indent)
    try:
        root = ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        at_end = not error.offset or (error.lineno or 1) > 1
        position = len(text) + 1 if at_end else min((error.offset or 1) + indent, len(text) + 1)
        raise ExpressionFault(_syntax_advice(stripped, error.msg), position) from None
    except (ValueError, MemoryError, RecursionError, OverflowError):
        raise ExpressionFault(
            "this cannot be read as an expression: it is too deep or holds characters that no expression has",
            1,
        ) from None
    _limit(root, stripped)
    if indent:
        for node in ast.walk(root):
            if hasattr(node, "col_offset"):
                node.col_offset += indent  # leading space is one byte each, so bytes and characters agree
    return root


def _refuse_comments(text: str, indent: int) -> None:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                raise ExpressionFault(
                    "a comment is not in the language; leave it out", token.start[1] + 1 + indent
                )
    except (tokenize.TokenError, SyntaxError):
        return  # the parser says it better


def _syntax_advice(text: str, message: str) -> str:
    if re.search(r"(?<![=!<>])=(?!=)", text):
        return "this is not an expression; to compare, write `==`"
    if "<>" in text:
        return "this is not an expression; for unequal, write `!=`"
    if "&&" in text or "||" in text or re.search(r"!(?!=)", text):
        return "this is not an expression; write `and`, `or`, `not`"
    way = 'a field whose name is not a plain word is written field("its name")'
    return f"this is not an expression ({message}); {way}"


def _limit(root: ast.expr, text: str) -> None:
    stack: list[tuple[ast.AST, int]] = [(root, 1)]
    seen = 0
    while stack:
        node, depth = stack.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_NODES * 3:
            raise ExpressionFault(
                "the expression is too large; split it into several rules or fields", _position(text, node)
            )
        stack.extend((child, depth + 1) for child in ast.iter_child_nodes(node))


def _position(text: str, node: ast.AST) -> int:
    offset = getattr(node, "col_offset", 0)
    return len(text.encode()[:offset].decode(errors="ignore")) + 1


@dataclass(frozen=True, slots=True)
class _Type:
    """Static type of a node; `strings` are the texts it can be, `order` those of an ordered field."""

    kind: str
    strings: tuple[str, ...] | None = None
    order: tuple[str, ...] | None = None
    literal: bool = False


_Typed = tuple[ast.expr, _Type]
_NUMBER = _Type("number")
_BOOLEAN = _Type("boolean")


def _a(kind: str) -> str:
    return {
        "number": "a number",
        "boolean": "a truth value",
        "string": "a text",
        "date": "a date",
        "datetime": "a date and time",
        "time": "a time of day",
        "timedelta": "a span of time",
    }[kind]


def _way_to(typed: _Type, expects: str) -> str:
    if typed.kind == "timedelta" and expects == "number":
        return "; write days(b - a)"
    if typed.kind == "boolean" and expects == "number":
        return "; write `1 if … else 0`"
    if typed.kind == "number" and expects == "boolean":
        return "; compare it, as in `… > 0`"
    return ""


def _named(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Suggest the nearest of some words, as the end of a message; empty where none is near."""
    listed = list(words)
    if len(word) * len(listed) > MAX_COMPARED:
        return ""
    plain = {other.casefold(): other for other in listed}
    near = difflib.get_close_matches(word.casefold(), plain, n=1)
    return f"; did you mean {plain[near[0]]!r}?" if near else ""


class _Checker:
    """Walks the syntax tree once: whitelists, types, and rewrites names and dates into their plain form."""

    def __init__(self, text: str, fields: Mapping[str, FieldLike | str]) -> None:
        self.text = text
        self.fields = fields
        self.read: dict[str, None] = {}
        self._normal: dict[str, list[str]] | None = None

    def fault(self, node: ast.AST, message: str, unknown: str | None = None) -> ExpressionFault:
        return ExpressionFault(message, _position(self.text, node), unknown)

    def check(self, node: ast.expr) -> _Typed:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.BoolOp():
                return self._boolean(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.Call():
                return self._call(node)
            case ast.List() | ast.Tuple():
                raise self.fault(node, "a list stands only after `in`, as in `x in ('a', 'b')`")
            case _:
                has = f"names, numbers, texts, {_OPERATORS} and the functions {', '.join(FUNCTIONS)}"
                raise self.fault(node, f"this is not in the language, which has {has}")

    def expect(self, node: ast.expr, kind: str, what: str) -> ast.expr:
        tree, typed = self.check(node)
        if typed.kind != kind:
            raise self.fault(
                node, f"{what} needs {_a(kind)}, and this is {_a(typed.kind)}{_way_to(typed, kind)}"
            )
        return tree

    # Leaves

    def _constant(self, node: ast.Constant) -> _Typed:
        value = node.value
        if isinstance(value, bool):
            return node, _Type("boolean", literal=True)
        if isinstance(value, int | float):
            too_large = abs(value) > MAX_EXACT if isinstance(value, int) else not math.isfinite(value)
            if too_large:
                raise self.fault(
                    node, "this number is too large; whole numbers are exact up to 9007199254740992"
                )
            return node, _Type("number", literal=True)
        if isinstance(value, str):
            return node, _Type("string", strings=(value,), literal=True)
        if value is None:
            raise self.fault(
                node, "`None` is not in the language; write isnull(x) to ask whether a value is missing"
            )
        raise self.fault(
            node, "this kind of literal is not in the language; write a number, a quoted text, true or false"
        )

    def _name(self, node: ast.Name) -> _Typed:
        found = self._find(node.id)
        if found is None:
            if node.id in ("true", "false"):
                return ast.copy_location(ast.Constant(value=node.id == "true"), node), _Type(
                    "boolean", literal=True
                )
            raise self._unknown(node, node.id)
        if isinstance(found, list):
            raise self.fault(
                node, f'several fields are spelled like this; write field("…") with one of {_named(found)}'
            )
        return self._field(node, found)

    def _find(self, name: str) -> str | list[str] | None:
        """Find the field behind an identifier, which Python has normalised (NFKC) and the caller has not."""
        if self.text.isascii():
            return name if name in self.fields else None
        if self._normal is None:
            self._normal = {}
            for other in self.fields:
                self._normal.setdefault(unicodedata.normalize("NFKC", other), []).append(other)
        names = self._normal.get(name)
        return None if names is None else names[0] if len(names) == 1 else names

    def _unknown(self, node: ast.AST, name: str) -> ExpressionFault:
        way = did_you_mean(name, self.fields)
        if not way and name.lower() in ("none", "null", "nan", "na"):
            way = "; write isnull(x) to ask whether a value is missing"
        elif not way:
            way = "; a text is written in quotes, and the fields are " + _named(list(self.fields))
        return self.fault(node, f"no field is called {name!r}{way}", unknown=name)

    def _field(self, node: ast.expr, name: str) -> _Typed:
        self.read.setdefault(name)
        tree = ast.copy_location(ast.Name(id=name, ctx=ast.Load()), node)
        declared = self.fields[name]
        if isinstance(declared, str):
            return tree, _Type(_TYPE_OF_FIELD.get(declared, declared))
        kind = _TYPE_OF_FIELD.get(declared.type, declared.type)
        if kind != "string" or declared.levels is None:
            return tree, _Type(kind)
        levels = tuple(str(level) for level in declared.levels)
        return tree, _Type(kind, strings=levels, order=levels if declared.ordered else None)

    # Operators

    def _unary(self, node: ast.UnaryOp) -> _Typed:
        if isinstance(node.op, ast.Not):
            operand = self.expect(node.operand, "boolean", "`not`")
            return ast.copy_location(ast.UnaryOp(op=node.op, operand=operand), node), _BOOLEAN
        if isinstance(node.op, ast.USub | ast.UAdd):
            operand = self.expect(node.operand, "number", "a sign")
            literal = isinstance(operand, ast.Constant)
            return ast.copy_location(ast.UnaryOp(op=node.op, operand=operand), node), replace(
                _NUMBER, literal=literal
            )
        raise self.fault(node, _OTHER_OPERATORS[type(node.op)])

    def _arithmetic(self, node: ast.BinOp) -> _Typed:
        symbol = _ARITHMETIC.get(type(node.op))
        if symbol is None:
            raise self.fault(
                node.right,
                _OTHER_OPERATORS.get(
                    type(node.op), "this operator is not in the language, which has + - * / // % **"
                ),
            )
        left, right = self.check(node.left), self.check(node.right)
        if symbol == "-" and (left[1].kind in _TEMPORAL or right[1].kind in _TEMPORAL):
            left, right = self._alike(node.left, left, node.right, right, "`-`")
            return self._binary(node, left, right), _Type("timedelta")
        for side, (_, typed) in ((node.left, left), (node.right, right)):
            if typed.kind != "number":
                way = _way_to(typed, "number") or (
                    "; days between two dates are days(b - a)" if typed.kind in _TEMPORAL else ""
                )
                raise self.fault(side, f"`{symbol}` needs numbers, and this is {_a(typed.kind)}{way}")
        if symbol == "**":
            exponent = _literal_number(right[0])
            if exponent is not None and abs(exponent) > MAX_EXPONENT:
                raise self.fault(node.right, f"an exponent is at most {MAX_EXPONENT}")
        return self._binary(node, left, right), _NUMBER

    @staticmethod
    def _binary(node: ast.BinOp, left: _Typed, right: _Typed) -> ast.expr:
        return ast.copy_location(ast.BinOp(left=left[0], op=node.op, right=right[0]), node)

    def _boolean(self, node: ast.BoolOp) -> _Typed:
        word = "`and`" if isinstance(node.op, ast.And) else "`or`"
        values = [self.expect(value, "boolean", word) for value in node.values]
        return ast.copy_location(ast.BoolOp(op=node.op, values=values), node), _BOOLEAN

    def _comparison(self, node: ast.Compare) -> _Typed:
        """Type each neighbouring pair; a chain becomes an `and` of pairs, all that the evaluator knows."""
        links: list[ast.expr] = []
        left_node, left = node.left, self.check(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    raise self.fault(
                        left_node, "`in` is not chained; put brackets around it and join with `and`"
                    )
                link = self._membership(left_node, left, op, right_node)
                links.append(ast.copy_location(link, node))
                break
            symbol = _COMPARISONS.get(type(op))
            if symbol is None:
                raise self.fault(right_node, _OTHER_OPERATORS[type(op)])
            right = self.check(right_node)
            one, other = self._comparable(left_node, left, symbol, right_node, right)
            links.append(ast.copy_location(ast.Compare(left=one[0], ops=[op], comparators=[other[0]]), node))
            left_node, left = right_node, right
        if len(links) == 1:
            return links[0], _BOOLEAN
        return ast.copy_location(ast.BoolOp(op=ast.And(), values=links), node), _BOOLEAN

    def _comparable(
        self, left_node: ast.expr, left: _Typed, symbol: str, right_node: ast.expr, right: _Typed
    ) -> tuple[_Typed, _Typed]:
        left, right = self._alike(left_node, left, right_node, right, f"`{symbol}`")
        kind = left[1].kind
        if symbol in ("==", "!="):
            return left, right
        if kind == "boolean":
            raise self.fault(
                left_node, f"`{symbol}` does not compare truth values; write `x`, `not x` or `x == y`"
            )
        if kind == "string":
            orders = [typed.order for typed in (left[1], right[1]) if typed.order is not None]
            literals = [typed.literal for typed in (left[1], right[1])]
            if (
                not orders
                or (len(orders) == 1 and not any(literals))
                or (len(orders) == 2 and orders[0] != orders[1])
            ):
                way = 'declare "categoriesOrdered": true, or use == or in'
                raise self.fault(left_node, f"`{symbol}` compares texts only by a field's categories; {way}")
        return left, right

    def _alike(
        self, left_node: ast.expr, left: _Typed, right_node: ast.expr, right: _Typed, what: str
    ) -> tuple[_Typed, _Typed]:
        """Bring both sides to one type, or say why that cannot be."""
        left = self._dated(left_node, left, right[1])
        right = self._dated(right_node, right, left[1])
        one, other = left[1], right[1]
        if one.kind != other.kind and not (one.kind in _INSTANTS and other.kind in _INSTANTS):
            way = ""
            kinds = {one.kind, other.kind}
            if kinds == {"number", "boolean"}:
                way = "; a truth value is true or false, not 1 or 0"
            elif kinds == {"number", "timedelta"}:
                way = "; days between two dates are days(b - a)"
            elif kinds == {"number", "string"}:
                way = "; a number is written without quotes, a text with them"
            raise self.fault(right_node, f"{what} cannot join {_a(one.kind)} and {_a(other.kind)}{way}")
        if one.kind == "string":
            self._known_level(left_node, one, other)
            self._known_level(right_node, other, one)
        return left, right

    def _known_level(self, node: ast.expr, literal: _Type, other: _Type) -> None:
        if literal.literal and literal.strings and not other.literal and other.strings is not None:
            value = literal.strings[0]
            if value not in other.strings:
                way = f"{did_you_mean(value, other.strings)}; they are {_named(other.strings)}"
                raise self.fault(node, f"{value!r} is not one of the field's categories{way}")

    def _dated(self, node: ast.expr, side: _Typed, other: _Type) -> _Typed:
        """Read a text literal as a date where it stands beside one."""
        tree, typed = side
        if (
            other.kind not in _TEMPORAL
            or not (typed.literal and typed.kind == "string")
            or not isinstance(tree, ast.Constant)
        ):
            return side
        value = parse_moment(str(tree.value), other.kind)
        if value is None:
            shape = {"date": "'2024-01-31'", "datetime": "'2024-01-31T08:30:00'", "time": "'08:30:00'"}[
                other.kind
            ]
            raise self.fault(
                node, f"this text stands beside {_a(other.kind)} and is not one; write it as {shape}"
            )
        kind = "datetime" if isinstance(value, dt.datetime) else other.kind
        return ast.copy_location(ast.Constant(value=value), tree), _Type(kind, literal=True)  # type: ignore[arg-type]

    def _membership(self, left_node: ast.expr, left: _Typed, op: ast.cmpop, right_node: ast.expr) -> ast.expr:
        if not isinstance(right_node, ast.List | ast.Tuple) or not right_node.elts:
            raise self.fault(right_node, "after `in` stands a list of values, as in `x in ('a', 'b')`")
        values: list[ast.expr] = []
        for element in right_node.elts:
            item = self.check(element)
            if not item[1].literal:
                raise self.fault(
                    element, "the list after `in` holds numbers, texts, true or false; join fields with `or`"
                )
            left, item = self._alike(left_node, left, element, item, "`in`")
            values.append(item[0])
        return ast.Compare(left=left[0], ops=[op], comparators=[ast.Tuple(elts=values, ctx=ast.Load())])

    def _choice(self, node: ast.IfExp) -> _Typed:
        test = self.expect(node.test, "boolean", "`if`")
        body, orelse = self.check(node.body), self.check(node.orelse)
        body = self._dated(node.body, body, orelse[1])
        orelse = self._dated(node.orelse, orelse, body[1])
        one, other = body[1], orelse[1]
        kind = one.kind
        if {one.kind, other.kind} == set(_INSTANTS):
            kind = "datetime"
        elif one.kind != other.kind:
            raise self.fault(
                node.orelse, f"`if … else` gives {_a(one.kind)} or {_a(other.kind)}; both must be of one type"
            )
        strings = None
        if one.strings is not None and other.strings is not None:
            strings = tuple(dict.fromkeys(one.strings + other.strings))
        tree = ast.IfExp(test=test, body=body[0], orelse=orelse[0])
        return ast.copy_location(tree, node), _Type(kind, strings=strings)

    # Functions

    def _call(self, node: ast.Call) -> _Typed:
        if not isinstance(node.func, ast.Name):
            raise self.fault(node, f"only these functions can be called: {', '.join(FUNCTIONS)}, field")
        name = node.func.id
        if name != "field" and name not in FUNCTIONS:
            way = did_you_mean(name, FUNCTIONS) or f"; there are {', '.join(FUNCTIONS)}"
            raise self.fault(node, f"there is no function {name}(){way}")
        if node.keywords:
            raise self.fault(node, f"{name}() takes no named arguments")
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self.fault(argument, "`*` before an argument is not in the language")
        if name == "field":
            return self._field_call(node)
        fewest, most = {"round": (1, 2), "min": (2, 50), "max": (2, 50)}.get(name, (1, 1))
        if not fewest <= len(node.args) <= most:
            takes = (
                "one argument"
                if most == 1
                else "one or two arguments"
                if most == 2
                else "two arguments or more"
            )
            raise self.fault(node, f"{name}() takes {takes}, not {len(node.args)}")
        arguments, typed = self._arguments(node, name)
        func = ast.copy_location(ast.Name(id=name, ctx=ast.Load()), node.func)
        return ast.copy_location(ast.Call(func=func, args=arguments, keywords=[]), node), typed

    def _field_call(self, node: ast.Call) -> _Typed:
        argument = node.args[0] if len(node.args) == 1 else None
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise self.fault(node, 'field() takes one name in quotes, as in field("name with spaces")')
        if argument.value not in self.fields:
            raise self._unknown(argument, argument.value)
        return self._field(node, argument.value)

    def _arguments(self, node: ast.Call, name: str) -> tuple[list[ast.expr], _Type]:
        if name == "isnull":
            return [self.check(node.args[0])[0]], _BOOLEAN
        if name == "days":
            tree, typed = self.check(node.args[0])
            if typed.kind != "timedelta":
                way = f"as in days(b - a), and this is {_a(typed.kind)}"
                raise self.fault(node.args[0], f"days() takes the difference of two dates, {way}")
            return [tree], _NUMBER
        if name == "year":
            tree, typed = self.check(node.args[0])
            if typed.kind not in _INSTANTS:
                raise self.fault(node.args[0], f"year() takes a date, and this is {_a(typed.kind)}")
            return [tree], _NUMBER
        if name in ("min", "max"):
            return self._extremes(node, name)
        arguments = [self.expect(node.args[0], "number", f"{name}()")]
        if len(node.args) == 2:
            digits = _literal_number(node.args[1])
            if digits is None or digits != int(digits) or abs(digits) > 15:
                raise self.fault(
                    node.args[1], "round() takes a whole number from -15 to 15 as its number of decimals"
                )
            arguments.append(ast.copy_location(ast.Constant(value=int(digits)), node.args[1]))
        return arguments, _NUMBER

    def _extremes(self, node: ast.Call, name: str) -> tuple[list[ast.expr], _Type]:
        items = [self.check(argument) for argument in node.args]
        dated = next((typed for _, typed in items if typed.kind in _TEMPORAL), None)
        if dated is not None:
            items = [
                self._dated(argument, item, dated) for argument, item in zip(node.args, items, strict=True)
            ]
        kinds = {typed.kind for _, typed in items}
        kind = "datetime" if kinds == set(_INSTANTS) else next(iter(kinds))
        if len(kinds) > 1 and kinds != set(_INSTANTS):
            raise self.fault(
                node,
                f"{name}() needs arguments of one type, and these are {' and '.join(sorted(map(_a, kinds)))}",
            )
        if kind in ("boolean", "string"):
            raise self.fault(
                node,
                f"{name}() takes numbers or dates, not {'texts' if kind == 'string' else 'truth values'}",
            )
        return [tree for tree, _ in items], _Type(kind)


_OPERATORS = "+ - * / // % **, comparisons, and, or, not, in, `a if c else b`"


def _literal_number(node: ast.expr) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _literal_number(node.operand)
        return None if inner is None else -inner if isinstance(node.op, ast.USub) else inner
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        return float(node.value)
    return None


def parse_moment(text: str, kind: str) -> dt.date | dt.datetime | dt.time | None:
    """Read ISO 8601 text as a date, datetime or time; None where it is not one.

    A datetime with a zone becomes UTC without one, as columns hold it. Beside a date, a text with a
    time of day is a datetime; beside a datetime, a date is its midnight.
    """
    try:
        if kind == "time":
            moment = dt.time.fromisoformat(text)
            return None if moment.tzinfo is not None else moment
        if kind == "date" and re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return dt.date.fromisoformat(text)
        if not re.match(r"\d{4}-\d{2}-\d{2}", text):
            return None
        stamp = dt.datetime.fromisoformat(text)
        return stamp.astimezone(dt.UTC).replace(tzinfo=None) if stamp.tzinfo is not None else stamp
    except (ValueError, OverflowError):
        return None
