"""Expressions computed on whole columns. Every number is a float64; moments are integer microseconds.

Whole numbers are therefore exact up to 2**53. A value that is infinite, not a number or outside a
function's domain is missing. Truth has three values (Kleene), and a missing input makes a comparison
unknown.
"""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from app.schema.frames import dtype_of
from app.schema.rules import Expression
from app.schema.table import Field

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

_EPOCH = dt.datetime(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)
_DAY = 86_400_000_000
_LARGEST_INTEGER = 2.0**63


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """An expression's value on every row.

    Parameters
    ----------
    values : ndarray, shape (n,)
        bool for truth values, float64 for numbers, int64 microseconds for moments (since 1970-01-01,
        or midnight) and spans, codes into `strings` for texts. Undefined where missing.
    missing : ndarray of bool, shape (n,)
        Where the value is missing, or the truth unknown.
    strings : tuple of str or None
        The texts that the codes stand for.
    """

    values: Values
    missing: Mask
    strings: tuple[str, ...] | None = None


def evaluate(expression: Expression, frame: pd.DataFrame) -> Evaluated:
    """Compute an expression on every row of a frame with the dtypes of `app.schema.frames`."""
    return Columns(frame).evaluate(expression)


def breaks(rule: Expression, frame: pd.DataFrame) -> Mask:
    """Tell which rows break a rule: those where it is false, not those where it is unknown."""
    return Columns(frame).breaks(rule)


def holds_relevant(expression: Expression, frame: pd.DataFrame) -> Mask:
    """Tell in which rows a field applies: those where its `relevant` is true; unknown does not do."""
    return Columns(frame).holds(expression)


def formula_column(field: Field, frame: pd.DataFrame) -> pd.Series[Any]:
    """Compute a field's formula: rounded to its decimals and in its dtype of `app.schema.frames`.

    `relevant` is not applied here. Numbers without decimals are left as computed; a value that the type
    cannot hold (an integer beyond 64 bits, a text that is not a level) is missing.
    """
    if field.formula is None:
        raise ValueError(f"field {field.name!r} has no formula")
    return as_column(evaluate(field.formula, frame), field, frame.index)


class Columns:
    """Columns that are unpacked once, however many expressions read them."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._find: Callable[[str], Evaluated] = lambda name: unpack(frame[name])
        self._n = len(frame)
        self._read: dict[str, Evaluated] = {}

    @classmethod
    def found_by(cls, find: Callable[[str], Evaluated], n: int) -> Columns:
        """Return `n` rows of columns that `find` gives as plain arrays, by name."""
        columns = cls.__new__(cls)
        columns._find, columns._n, columns._read = find, n, {}
        return columns

    def __getitem__(self, name: str) -> Evaluated:
        """Return a column as plain arrays."""
        column = self._read.get(name)
        if column is None:
            column = self._read[name] = self._find(name)
        return column

    def forget(self, name: str) -> None:
        """Unpack a column anew when it is read next: it has changed."""
        self._read.pop(name, None)

    def evaluate(self, expression: Expression) -> Evaluated:
        """Compute an expression on every row."""
        with np.errstate(all="ignore"):  # what they would warn of becomes a missing value
            result = self._node(expression.tree)
        return Evaluated(
            np.broadcast_to(result.values, self._n),
            np.broadcast_to(result.missing, self._n),
            result.strings,
        )

    def breaks(self, rule: Expression) -> Mask:
        """Tell which rows make a rule false."""
        result = self.evaluate(rule)
        return np.asarray(~(result.values | result.missing))

    def holds(self, expression: Expression) -> Mask:
        """Tell which rows make an expression true."""
        result = self.evaluate(expression)
        return np.asarray(result.values & ~result.missing)

    def _node(self, node: ast.expr) -> Evaluated:
        match node:
            case ast.Name(id=name):
                return self[name]
            case ast.Constant(value=value):
                return _constant(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._node(operand)
                return Evaluated(~inner.values, inner.missing)
            case ast.UnaryOp(op=op, operand=operand):
                inner = self._node(operand)
                return Evaluated(-inner.values if isinstance(op, ast.USub) else inner.values, inner.missing)
            case ast.BinOp(left=left, op=op, right=right):
                return _arithmetic(op, self._node(left), self._node(right))
            case ast.BoolOp(op=op, values=operands):
                join = _and if isinstance(op, ast.And) else _or
                result = self._node(operands[0])
                for operand in operands[1:]:
                    result = join(result, self._node(operand))
                return result
            case ast.Compare(left=left, ops=[op], comparators=[ast.Tuple(elts=elements)]):
                return _membership(op, self._node(left), [self._node(element) for element in elements])
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _compare(op, self._node(left), self._node(right))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return _choose(self._node(test), self._node(body), self._node(orelse))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return _call(name, [self._node(argument) for argument in arguments])
            case _:
                raise TypeError(f"{type(node).__name__} is not in the language")


def unpack(series: pd.Series[Any]) -> Evaluated:
    """Turn a column into plain arrays, as `Evaluated` describes them."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy()
        levels = tuple(str(level) for level in dtype.categories)
        return Evaluated(codes, codes < 0, levels)
    if dtype.kind == "b":
        missing = series.isna().to_numpy()
        return Evaluated(series.to_numpy(dtype=np.bool_, na_value=False), missing)
    if dtype.kind in "iu":
        missing = series.isna().to_numpy()
        return Evaluated(series.to_numpy(dtype=np.float64, na_value=0.0), missing)
    if dtype.kind == "f":
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return Evaluated(values, ~np.isfinite(values))
    if dtype.kind == "M" or isinstance(dtype, pd.DatetimeTZDtype):
        naive = series.dt.tz_convert("UTC").dt.tz_localize(None) if series.dt.tz is not None else series
        return _ticks(naive.to_numpy(dtype="datetime64[us]"))
    if dtype.kind == "m":
        return _ticks(series.to_numpy(dtype="timedelta64[us]"))
    return _texts(series)


def _ticks(moments: Values) -> Evaluated:
    return Evaluated(moments.view(np.int64), np.isnat(moments))


def _texts(series: pd.Series[Any]) -> Evaluated:
    """Give texts codes in order of first appearance."""
    array = pa.array(series, type=pa.large_string(), from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    encoded = array.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Evaluated(codes, codes < 0, tuple(encoded.dictionary.to_pylist()))


_PRESENT = np.zeros((), dtype=np.bool_)


def _constant(value: Any) -> Evaluated:
    if isinstance(value, str):
        return Evaluated(np.zeros((), dtype=np.int32), _PRESENT, (value,))
    if isinstance(value, bool):
        return Evaluated(np.array(value), _PRESENT)
    if isinstance(value, dt.date | dt.time):
        return Evaluated(np.array(microseconds(value), dtype=np.int64), _PRESENT)
    return Evaluated(np.array(value, dtype=np.float64), _PRESENT)


def microseconds(moment: dt.date | dt.datetime | dt.time) -> int:
    """Put a moment on the scale of columns: microseconds since 1970-01-01, or since midnight."""
    if isinstance(moment, dt.datetime):
        naive = moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment
        return (naive - _EPOCH) // _MICROSECOND
    if isinstance(moment, dt.date):
        return (dt.datetime(moment.year, moment.month, moment.day) - _EPOCH) // _MICROSECOND
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond


def _number(values: Values, missing: Mask) -> Evaluated:
    return Evaluated(values, missing | ~np.isfinite(values))


def _arithmetic(op: ast.operator, left: Evaluated, right: Evaluated) -> Evaluated:
    missing = left.missing | right.missing
    a, b = left.values, right.values
    if a.dtype.kind == "i":
        return Evaluated(a - b, missing)  # a difference of moments
    match op:
        case ast.Add():
            return _number(a + b, missing)
        case ast.Sub():
            return _number(a - b, missing)
        case ast.Mult():
            return _number(a * b, missing)
        case ast.Div():
            return _number(a / b, missing)
        case ast.FloorDiv():
            return _number(np.floor_divide(a, b), missing | (b == 0))
        case ast.Mod():
            return _number(np.remainder(a, b), missing | (b == 0))
        case _:
            return _number(_power(a, b), missing)


def _power(base: Values, exponent: Values) -> Values:
    """Raise to a power; small whole constants by multiplication, which is exact for whole numbers."""
    if exponent.ndim == 0 and exponent == np.rint(exponent) and 0 <= exponent <= 64:
        steps = int(exponent)
        result: Values = np.ones_like(base)
        square = base
        while steps:
            if steps & 1:
                result = result * square
            steps >>= 1
            if steps:
                square = square * square
        return result
    return np.asarray(np.power(base, exponent))


def _and(left: Evaluated, right: Evaluated) -> Evaluated:
    false = ~(left.values | left.missing) | ~(right.values | right.missing)
    return Evaluated(left.values & right.values, (left.missing | right.missing) & ~false)


def _or(left: Evaluated, right: Evaluated) -> Evaluated:
    true = (left.values & ~left.missing) | (right.values & ~right.missing)
    return Evaluated(true, (left.missing | right.missing) & ~true)


_COMPARE: dict[type[ast.cmpop], Callable[[Values, Values], Any]] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}


def _compare(op: ast.cmpop, left: Evaluated, right: Evaluated) -> Evaluated:
    a, b = left.values, right.values
    if left.strings is not None and right.strings is not None:
        a, b, _ = _same_codes(left, right)
    return Evaluated(np.asarray(_COMPARE[type(op)](a, b)), left.missing | right.missing)


def equal(left: Evaluated, right: Evaluated) -> Mask:
    """Tell where two columns of one kind hold the same present value."""
    same = _compare(ast.Eq(), left, right)
    return np.asarray(same.values & ~same.missing)


def _same_codes(left: Evaluated, right: Evaluated) -> tuple[Values, Values, tuple[str, ...]]:
    """Give both sides codes into one list of texts: the longer side's first, as it may be ordered."""
    assert left.strings is not None and right.strings is not None
    if left.strings == right.strings:
        return left.values, right.values, left.strings
    if len(left.strings) >= len(right.strings):
        b, texts = _recode(right, left.strings)
        return left.values, b, texts
    a, texts = _recode(left, right.strings)
    return a, right.values, texts


def _recode(column: Evaluated, texts: tuple[str, ...]) -> tuple[Values, tuple[str, ...]]:
    assert column.strings is not None
    place = {text: code for code, text in enumerate(texts)}
    table = np.array([place.setdefault(text, len(place)) for text in column.strings], dtype=np.int32)
    if not len(table):
        return column.values, texts
    return table[column.values], tuple(place)


def _membership(op: ast.cmpop, left: Evaluated, items: list[Evaluated]) -> Evaluated:
    found: Values = np.zeros(left.values.shape, dtype=np.bool_)
    for item in items:
        found = found | _compare(ast.Eq(), left, item).values
    return Evaluated(found if isinstance(op, ast.In) else ~found, left.missing)


def _choose(test: Evaluated, body: Evaluated, orelse: Evaluated) -> Evaluated:
    a, b, strings = body.values, orelse.values, None
    if body.strings is not None and orelse.strings is not None:
        a, b, strings = _same_codes(body, orelse)
    missing = test.missing | np.where(test.values, body.missing, orelse.missing)
    return Evaluated(np.where(test.values, a, b), missing, strings)


def _call(name: str, arguments: list[Evaluated]) -> Evaluated:
    first = arguments[0]
    x, missing = first.values, first.missing
    match name:
        case "isnull":
            return Evaluated(missing, _PRESENT)
        case "abs":
            return Evaluated(np.abs(x), missing)
        case "floor":
            return Evaluated(np.floor(x), missing)
        case "ceil":
            return Evaluated(np.ceil(x), missing)
        case "round":
            decimals = int(arguments[1].values) if len(arguments) > 1 else 0
            return _number(round_half_even(x, decimals), missing)
        case "log":
            return _number(np.log(x), missing)
        case "exp":
            return _number(np.exp(x), missing)
        case "sqrt":
            return _number(np.sqrt(x), missing)
        case "days":
            return Evaluated(x / float(_DAY), missing)
        case "year":
            years = np.asarray(x).view("datetime64[us]").astype("datetime64[Y]").astype(np.int64) + 1970
            return Evaluated(years.astype(np.float64), missing)
        case "min" | "max":
            choose = np.minimum if name == "min" else np.maximum
            for other in arguments[1:]:
                x, missing = choose(x, other.values), missing | other.missing
            return Evaluated(x, missing)
        case _:
            raise TypeError(f"{name}() is not in the language")


def round_half_even(values: Values, decimals: int) -> Values:
    """Round as Python's `round` does: correctly for the binary value, halves to even.

    `numpy.round` scales first, and a product such as 1.15 * 10 that lands on a half by rounding goes
    the wrong way. The product's own error (Dekker 1971, via Veltkamp's splitting) decides those.

    Parameters
    ----------
    values : ndarray of float64
    decimals : int
        Negative for tens, hundreds and so on.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return _rounded(values, decimals)


def _rounded(values: Values, decimals: int) -> Values:
    if decimals == 0:
        return np.asarray(np.rint(values))
    scale = 10.0 ** abs(decimals)
    if decimals < 0:
        return np.asarray(np.rint(values / scale) * scale)
    scaled = values * scale
    rounded = np.rint(scaled)
    ties = np.flatnonzero(np.abs(np.atleast_1d(scaled - np.floor(scaled)) - 0.5) == 0.0)
    if len(ties):
        product, rest = np.atleast_1d(scaled)[ties], _product_error(np.atleast_1d(values)[ties], scale)
        better = np.where(rest > 0, np.ceil(product), np.where(rest < 0, np.floor(product), np.rint(product)))
        flat = np.atleast_1d(rounded).copy()
        flat[ties] = better
        rounded = flat.reshape(np.shape(rounded))
    result = np.atleast_1d(np.asarray(rounded / scale)).copy()
    # From 2**51 on the product has no halves left to look at: whole numbers (2**52 and more) stay as they
    # are, and the few below are rounded one by one.
    given, large = np.atleast_1d(values), ~(np.abs(np.atleast_1d(scaled)) < 2.0**51)
    result[large] = given[large]
    for place in np.flatnonzero(large & (np.abs(given) < 2.0**52)):
        result[place] = round(float(given[place]), decimals)
    return result.reshape(np.shape(values))


def _product_error(values: Values, scale: float) -> Values:
    """Return the exact `values * scale` minus the rounded one."""
    splitter = 134217729.0  # 2**27 + 1
    high = splitter * values
    high = high - (high - values)
    low = values - high
    scale_high = splitter * scale
    scale_high = scale_high - (scale_high - scale)
    scale_low = scale - scale_high
    product = values * scale
    return np.asarray(((high * scale_high - product) + high * scale_low + low * scale_high) + low * scale_low)


def as_column(result: Evaluated, field: Field, index: pd.Index[Any]) -> pd.Series[Any]:
    """Give a computed value the field's decimals and dtype."""
    values, missing = result.values, result.missing
    array: Any
    match field.type:
        case "integer" | "year":
            with np.errstate(invalid="ignore"):
                whole = np.rint(values)
                missing = missing | ~(np.abs(whole) < _LARGEST_INTEGER)
                array = pd.arrays.IntegerArray(
                    np.where(missing, 0, whole).astype(np.int64), np.array(missing)
                )
        case "number":
            digits = field.places
            rounded = values if digits is None else round_half_even(values, digits)
            array = np.where(missing, np.nan, rounded)
        case "boolean":
            array = pd.arrays.BooleanArray(np.array(values, dtype=np.bool_), np.array(missing))
        case "date":
            array = np.where(missing, np.datetime64("NaT"), values.view("datetime64[us]")).astype(
                "datetime64[s]"
            )
        case "datetime":
            array = np.where(missing, np.datetime64("NaT"), values.view("datetime64[us]")).astype(
                "datetime64[us]"
            )
        case "time":
            array = np.where(missing, np.timedelta64("NaT"), values.view("timedelta64[us]"))
            array = array.astype("timedelta64[s]")
        case "string":
            array = _string_array(result, field)
    return pd.Series(array, index=index, name=field.name, copy=False)


def _string_array(result: Evaluated, field: Field) -> Any:
    texts = result.strings or ()
    codes = np.where(result.missing, -1, result.values).astype(np.int64)
    if field.levels is None:
        pool = np.array([*texts, None], dtype=object)
        return pd.array(pool, dtype="string[pyarrow]").take(np.where(codes < 0, len(texts), codes))
    place = {str(level): code for code, level in enumerate(field.levels)}
    table = np.array([place.get(text, -1) for text in texts] + [-1], dtype=np.int64)
    return pd.Categorical.from_codes(table[codes], dtype=dtype_of(field))  # type: ignore[arg-type]
