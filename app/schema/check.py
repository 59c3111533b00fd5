"""Which rows conform to a schema, and why the others do not: types, constraints, relevance, formulas, rules.

Statistics are no part of this: they are of a table, not of a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.errors import pointer
from app.schema.evaluate import Columns, Evaluated, Mask, as_column, equal, microseconds, unpack
from app.schema.frames import dtype_of
from app.schema.rules import Expression
from app.schema.table import Field, TableSchema

_DAY = 86_400_000_000  # microseconds
_KINDS = {
    "integer": "iu",
    "year": "iu",
    "number": "fiu",
    "boolean": "b",
    "date": "M",
    "datetime": "M",
    "time": "m",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of the schema, held against every row that it is about.

    Parameters
    ----------
    pointer : str
        JSON pointer into the schema document.
    statement : str
        In words.
    checked, broken : int
        Rows that the statement is about, and those among them that break it.
    """

    pointer: str
    statement: str
    checked: int
    broken: int


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """Digests of a unique field or key, so that tables seen in parts can be compared.

    Parameters
    ----------
    digests : ndarray of uint64, shape (n,)
        Of every row's value. Two values share one by chance with probability 2**-64: at ten million
        rows a false repetition has probability 3e-6. `check_unique` is exact.
    present : ndarray of bool, shape (n,)
    """

    pointer: str
    statement: str
    digests: npt.NDArray[np.uint64]
    present: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Conformance:
    """The tally over a table or a part of one; parts are added with `+`.

    Parameters
    ----------
    rows, conforming : int
        Rows seen, and those among them that break nothing.
    checks : tuple of Check
        Every statement, broken or not. Of equal unique values all but the first break.
    good : ndarray of bool, shape (rows,)
        Which rows conform. Empty for a tally read from JSON.
    keys : tuple of Key
        For uniqueness across parts. Empty for a tally read from JSON: sums of such count repetitions
        within each part, and `with_unique` puts the whole table's count in.
    """

    rows: int
    conforming: int
    checks: tuple[Check, ...]
    good: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    keys: tuple[Key, ...] = ()

    def __add__(self, other: Conformance) -> Conformance:
        """Join the tallies of two parts of one table, this one's rows first."""
        checks = tuple(
            replace(mine, checked=mine.checked + theirs.checked, broken=mine.broken + theirs.broken)
            for mine, theirs in zip(self.checks, other.checks, strict=True)
        )
        if len(self.good) != self.rows or len(other.good) != other.rows:
            return Conformance(self.rows + other.rows, self.conforming + other.conforming, checks)
        good = np.concatenate([self.good, other.good])
        keys = tuple(
            Key(
                mine.pointer,
                mine.statement,
                np.concatenate([mine.digests, theirs.digests]),
                np.concatenate([mine.present, theirs.present]),
            )
            for mine, theirs in zip(self.keys, other.keys, strict=True)
        )
        found: list[Check] = []
        for key in keys:
            repeated = _repeated(pd.Series(key.digests), key.present)
            good = good & ~repeated
            found.append(Check(key.pointer, key.statement, int(key.present.sum()), int(repeated.sum())))
        checks = _with(checks, found)
        return Conformance(self.rows + other.rows, int(good.sum()), checks, good, keys)

    def with_unique(self, checks: tuple[Check, ...]) -> Conformance:
        """Put in what `check_unique` found in the whole table."""
        return replace(self, checks=_with(self.checks, checks))

    def to_json(self) -> dict[str, Any]:
        """Return counts and checks; masks and keys stay behind."""
        return {
            "rows": self.rows,
            "conforming": self.conforming,
            "checks": [
                {
                    "pointer": check.pointer,
                    "statement": check.statement,
                    "checked": check.checked,
                    "broken": check.broken,
                }
                for check in self.checks
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Conformance:
        """Read what `to_json` wrote."""
        checks = tuple(Check(**item) for item in document["checks"])
        return cls(document["rows"], document["conforming"], checks)


def _with(checks: Iterable[Check], found: Iterable[Check]) -> tuple[Check, ...]:
    """Replace the checks of the same statements by what was found."""
    newer = {(check.pointer, check.statement): check for check in found}
    return tuple(newer.get((check.pointer, check.statement), check) for check in checks)


def check_frame(schema: TableSchema, frame: pd.DataFrame) -> Conformance:
    """Hold every row of a frame against a schema.

    Parameters
    ----------
    schema : TableSchema
    frame : DataFrame
        Columns in the dtypes of `app.schema.frames`. A column that is absent or of another kind breaks
        its field's type in every row, and nothing else is asked of it.
    """
    return _FrameCheck(schema, frame).run()


def check_unique(schema: TableSchema, frame: pd.DataFrame) -> tuple[Check, ...]:
    """Count repetitions in whole columns, exactly; `frame` needs the columns of `unique_columns` only."""
    return tuple(check for check, _ in _unique_checks(schema, frame))


def unique_columns(schema: TableSchema) -> tuple[str, ...]:
    """Name the fields that `check_unique` reads."""
    return tuple(dict.fromkeys(name for _, _, names in _unique_keys(schema) for name in names))


def _unique_keys(schema: TableSchema) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield pointer, statement and names of every field or key that must not repeat."""
    for position, item in enumerate(schema.fields):
        if item.constraints.unique:
            at = pointer("fields", position, "constraints", "unique")
            yield at, f"`{item.name}` is unique", (item.name,)
    if schema.primary_key:
        names = ", ".join(f"`{name}`" for name in schema.primary_key)
        yield "/primaryKey", f"the primary key {names} is unique", schema.primary_key


def _unique_checks(schema: TableSchema, frame: pd.DataFrame) -> Iterator[tuple[Check, Mask]]:
    for at, statement, names in _unique_keys(schema):
        if not all(name in frame.columns for name in names):
            continue
        columns = frame[list(names)]
        present = _complete(columns)
        repeated = _repeated(columns, present)
        yield Check(at, statement, int(present.sum()), int(repeated.sum())), repeated


def _complete(columns: pd.DataFrame) -> Mask:
    present: Mask = np.ones(len(columns), dtype=np.bool_)
    for name in columns.columns:
        present &= columns[name].notna().to_numpy()
    return present


def _repeated(values: pd.Series[Any] | pd.DataFrame, present: Mask) -> Mask:
    """Tell which present values stood further up already."""
    repeated = np.zeros(len(present), dtype=np.bool_)
    repeated[present] = values[present].duplicated().to_numpy()
    return repeated


class _FrameCheck:
    """One pass over one frame."""

    def __init__(self, schema: TableSchema, frame: pd.DataFrame) -> None:
        self.schema = schema
        self.frame = frame
        self.rows = len(frame)
        self.columns = Columns(frame)
        self.good: Mask = np.ones(self.rows, dtype=np.bool_)
        self.checks: list[Check] = []
        self.unreadable: set[str] = set()

    def run(self) -> Conformance:
        self._shape()
        for position, item in enumerate(self.schema.fields):
            self._type(item, pointer("fields", position))
        for position, item in enumerate(self.schema.fields):
            at = pointer("fields", position)
            applies = self._relevance(item, at)
            if item.name not in self.unreadable:
                self._constraints(item, at, applies)
            self._formula(item, at, applies)
        for position, rule in enumerate(self.schema.rules):
            self._rule(rule, pointer("rules", position))
        keys = []
        for check, repeated in _unique_checks(self.schema, self.frame):
            self._tally(check.pointer, check.statement, check.checked, repeated)
        for at, statement, names in _unique_keys(self.schema):
            if self.unreadable.isdisjoint(names):
                columns = self.frame[list(names)]
                digests = pd.util.hash_pandas_object(columns, index=False, categorize=False)
                whole: Any = digests.to_numpy(dtype=np.uint64)
                keys.append(Key(at, statement, whole, _complete(columns)))
        return Conformance(self.rows, int(self.good.sum()), tuple(self.checks), self.good, tuple(keys))

    def _tally(self, at: str, statement: str, checked: int | np.integer[Any], broken: Mask) -> None:
        self.checks.append(Check(at, statement, int(checked), int(broken.sum())))
        self.good &= ~broken

    def _readable(self, expression: Expression) -> bool:
        return self.unreadable.isdisjoint(expression.fields)

    def _shape(self) -> None:
        same = tuple(self.frame.columns) == self.schema.names
        broken = np.full(self.rows, not same)
        self._tally("/fields", "the columns are those of the schema, in its order", self.rows, broken)

    def _type(self, item: Field, at: str) -> None:
        statement = f"`{item.name}` is of type {item.type}"
        if item.name not in self.frame.columns or not _of_kind(self.frame[item.name], item):
            self.unreadable.add(item.name)
            self._tally(f"{at}/type", statement, self.rows, np.ones(self.rows, dtype=np.bool_))
            return
        series = self.frame[item.name]
        column = self.columns[item.name]
        broken: Mask = np.zeros(self.rows, dtype=np.bool_)
        if item.type == "number" and series.dtype.kind == "f":
            broken = np.isinf(series.to_numpy(dtype=np.float64, na_value=np.nan))
        elif item.type == "date":
            broken = (column.values % _DAY != 0) & ~column.missing
        elif item.type == "time":
            broken = ((column.values < 0) | (column.values >= _DAY)) & ~column.missing
        self._tally(f"{at}/type", statement, (~column.missing | broken).sum(), broken)

    def _relevance(self, item: Field, at: str) -> Mask:
        """Check that the field is missing where it does not apply; return where it does."""
        if item.relevant is None or not self._readable(item.relevant):
            return np.ones(self.rows, dtype=np.bool_)
        applies = self.columns.holds(item.relevant)
        if item.name not in self.unreadable:
            present = ~self.columns[item.name].missing
            statement = f"`{item.name}` is missing where `{item.relevant.text}` is not true"
            self._tally(f"{at}/relevant", statement, (~applies).sum(), present & ~applies)
        return applies

    def _constraints(self, item: Field, at: str, applies: Mask) -> None:
        limits, column, name = item.constraints, self.columns[item.name], item.name
        present = ~column.missing
        count = present.sum()
        if limits.required:
            broken = applies & column.missing
            self._tally(f"{at}/constraints/required", f"`{name}` is not missing", applies.sum(), broken)
        elif item.primary_key:
            self._tally("/primaryKey", f"the primary key `{name}` is not missing", self.rows, column.missing)
        if limits.minimum is not None:
            broken = present & (column.values < _scalar(limits.minimum))
            self._tally(f"{at}/constraints/minimum", f"`{name}` ≥ {_said(limits.minimum)}", count, broken)
        if limits.maximum is not None:
            broken = present & (column.values > _scalar(limits.maximum))
            self._tally(f"{at}/constraints/maximum", f"`{name}` ≤ {_said(limits.maximum)}", count, broken)
        if item.levels is not None and item.levels != (False, True):
            at_levels = f"{at}/categories" if self._has_categories(at) else f"{at}/constraints/enum"
            broken = present & ~_admissible(item, column)
            self._tally(at_levels, f"`{name}` is one of its {len(item.levels)} levels", count, broken)
        elif item.type == "string":
            self._texts(item, at, column)

    def _has_categories(self, at: str) -> bool:
        fields = self.schema.document.get("fields", ())
        position = int(at.rsplit("/", 1)[1])
        return position >= len(fields) or "categories" in fields[position]

    def _texts(self, item: Field, at: str, column: Evaluated) -> None:
        """Judge each different text once."""
        limits, texts = item.constraints, column.strings or ()
        judged: list[tuple[str, str, list[bool]]] = []
        if limits.min_length is not None:
            short = [len(text) < limits.min_length for text in texts]
            judged.append(("minLength", f"has at least {limits.min_length} characters", short))
        if limits.max_length is not None:
            long = [len(text) > limits.max_length for text in texts]
            judged.append(("maxLength", f"has at most {limits.max_length} characters", long))
        if limits.pattern is not None:
            pattern = re.compile(limits.pattern)
            unlike = [pattern.fullmatch(text) is None for text in texts]
            judged.append(("pattern", "matches its pattern", unlike))
        for key, statement, bad in judged:
            table = np.array([*bad, False], dtype=np.bool_)  # code −1, missing, is the last
            broken = table[column.values]
            checked = (~column.missing).sum()
            self._tally(f"{at}/constraints/{key}", f"`{item.name}` {statement}", checked, broken)

    def _formula(self, item: Field, at: str, applies: Mask) -> None:
        if item.formula is None or not self._readable(item.formula) or item.name in self.unreadable:
            return
        delivered = self.columns[item.name]
        result = self.columns.evaluate(item.formula)
        expected = unpack(as_column(result, item, self.frame.index))
        if item.type in ("number", "integer", "year"):
            with np.errstate(invalid="ignore"):  # what is infinite or no number is under the masks below
                same = np.abs(delivered.values - result.values) <= _tolerance(item, result)
            same &= ~delivered.missing & ~expected.missing
        else:
            same = equal(delivered, expected)
        same = same | (delivered.missing & expected.missing)
        if item.statistics.missing:
            same = same | delivered.missing  # declared to be missing more often than its inputs
        statement = f"`{item.name}` = {item.formula.text}"
        self._tally(f"{at}/formula", statement, applies.sum(), applies & ~same)

    def _rule(self, rule: Expression, at: str) -> None:
        if self._readable(rule):
            self._tally(at, rule.text, self.rows, self.columns.breaks(rule))


def _of_kind(series: pd.Series[Any], item: Field) -> bool:
    if series.dtype == dtype_of(item):
        return True
    if isinstance(series.dtype, pd.CategoricalDtype):
        return item.type == "string" and all(isinstance(level, str) for level in series.dtype.categories)
    if item.type == "string":
        if isinstance(series.dtype, pd.StringDtype):
            return True
        return pd.api.types.infer_dtype(series, skipna=True) in ("string", "empty")
    return series.dtype.kind in _KINDS[item.type]


def _scalar(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else microseconds(value)


def _said(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else f"{value:.15g}"


def _admissible(item: Field, column: Evaluated) -> Mask:
    assert item.levels is not None
    if column.strings is not None:
        known = {str(level) for level in item.levels}
        table = np.array([*(text in known for text in column.strings), True], dtype=np.bool_)
        return table[column.values]
    if item.type == "boolean":
        return np.isin(column.values, np.array(item.levels, dtype=np.bool_))
    return np.isin(column.values, np.array([_scalar(level) for level in item.levels]))


def _tolerance(item: Field, result: Evaluated) -> npt.NDArray[np.float64]:
    """Half of the last decimal, and what adding and multiplying in another order may change."""
    noise = 1e-9 * np.maximum(1.0, np.abs(result.values))
    digits = item.places
    return np.asarray(noise if digits is None else noise + 0.5 * 10.0**-digits)
