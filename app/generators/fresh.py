"""Columns that no generator learns: ids, unique values and keys, each from its own number, and free text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.errors import Fault, InvalidInput, pointer
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.generators.patterns import Node
    from app.schema.frames import Column

PLACEHOLDERS = 1000


def is_numbered(schema: TableSchema, field: Field) -> bool:
    """Whether every row's value is another one, so that it is made from the row's number."""
    key = field.kind == "id" or field.constraints.unique or field.name in schema.primary_key
    return key and field.formula is None


def is_fresh(schema: TableSchema, field: Field) -> bool:
    """Whether the column is never learned: ids, unique values, free text."""
    return field.formula is None and (is_numbered(schema, field) or field.kind == "text")


@dataclass(frozen=True)
class Space:
    """All the values that a column may take, in an order.

    Parameters
    ----------
    size : int or None
        How many there are; None is no end.
    node : pattern or None
        What writes the strings of an id with a pattern; otherwise values count from `start` by `step` ticks.
    """

    field: Field
    size: int | None
    node: Node | None = None
    start: int = 1
    step: int = 1
    per_unit: int = 1
    prefix: str = ""
    width: int = 0

    def column(self, numbers: NDArray[np.uint64], missing: NDArray[np.bool_] | None) -> Column:
        """Return the values of these numbers, as a column of the field's dtype."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.compute as pc

        from app.blueprint.marginal import Marginal
        from app.blueprint.ticks import encode_ticks
        from app.schema.frames import column

        if self.node is not None:
            texts = self.node.write(numbers)
        elif self.field.levels is not None:
            whole = Marginal(self.field, numbers, numbers, numbers)  # type: ignore[arg-type]
            return column(self.field, whole.encode(numbers.astype("int64")), missing)
        elif self.field.type != "string":
            ticks = self.start + self.step * numbers.astype("int64")
            return column(self.field, encode_ticks(self.field, ticks, self.per_unit), missing)
        else:
            counted = pa.array(numbers + 1).cast(pa.string())
            texts = pc.binary_join_element_wise(
                self.prefix, pc.utf8_lpad(counted, self.width, padding="0"), ""
            )
        if missing is not None:
            texts = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), texts)
        return pd.array(texts, dtype=pd.StringDtype("pyarrow"))


@dataclass(frozen=True)
class Numbered:
    """Columns whose values, taken together, never come twice: an id, a unique value, a key of columns.

    Row numbers are written in the mixed radix of the columns' spaces, the last column fastest, so that a
    person of a key (person, visit) has every visit before the next person begins.
    """

    spaces: tuple[Space, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(space.field.name for space in self.spaces)

    @property
    def size(self) -> int | None:
        """How many rows can be told apart; None is no end."""
        sizes = [space.size for space in self.spaces]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def write(self, numbers: NDArray[np.uint64], key: int, rng: np.random.Generator) -> Mapping[str, Column]:
        """Return the columns of these row numbers, each below `size`, in the order that `key` decides."""
        import numpy as np

        from app.blueprint.defaults import missing_share
        from app.generators.patterns import LARGEST, permute

        size = self.size
        if size is not None:
            numbers = permute(numbers, min(size, LARGEST), key)
        written: dict[str, Column] = {}
        bounded = [space for space in self.spaces if space.size is not None]
        endless = [space for space in self.spaces if space.size is None]
        # A stream for each column: rows 1 … k must not depend on how many follow.
        streams = iter(rng.spawn(len(self.spaces)))
        for space in (*reversed(bounded), *endless):
            digits = numbers
            if space.size is not None and len(self.spaces) > 1:
                digits, numbers = numbers % np.uint64(space.size), numbers // np.uint64(space.size)
            # A part of a key is never missing.
            share = missing_share(space.field, 0.0) if len(self.spaces) == 1 else 0.0
            absent = _absent(share, len(digits), next(streams))
            written[space.field.name] = space.column(digits, absent)
        return written


@dataclass(frozen=True)
class Texts:
    """A free text column: from its vocabulary, by its pattern, else placeholders. A `Part` of `machinery`."""

    field: Field
    node: Node

    @property
    def names(self) -> tuple[str, ...]:
        """The column."""
        return (self.field.name,)

    def draw(self, rng: np.random.Generator, n: int) -> Mapping[str, Column]:
        """Draw `n` independent texts."""
        from app.blueprint.defaults import missing_share
        from app.generators.patterns import LARGEST

        numbers = rng.integers(0, min(self.node.count, LARGEST), n, dtype="uint64")
        absent = _absent(missing_share(self.field, 0.0), n, rng)
        return {self.field.name: Space(self.field, None, self.node).column(numbers, absent)}


def numbered_columns(schema: TableSchema) -> tuple[Numbered, ...]:
    """Return what makes the schema's ids, unique columns and primary key.

    Raises
    ------
    InvalidInput
        A pattern cannot be written by, or contradicts the lengths.
    """
    fields = [field for field in schema.fields if is_numbered(schema, field)]
    together = [field for field in fields if len(schema.primary_key) > 1 and field.name in schema.primary_key]
    joint = [field for field in together if not field.constraints.unique]
    alone = [field for field in fields if field not in joint]
    groups = ([joint] if joint else []) + [[field] for field in alone]
    return tuple(Numbered(tuple(_space(schema, field) for field in group)) for group in groups)


def texts(schema: TableSchema, field: Field) -> Texts:
    """Return what makes a free text column."""
    from app.generators.patterns import OneOf

    if field.vocabulary is not None:
        return Texts(field, OneOf(field.vocabulary))
    if field.constraints.pattern is not None:
        return Texts(field, _node(schema, field))
    shortest, longest = field.constraints.min_length or 0, field.constraints.max_length
    tokens = [f"text {number:03d}".ljust(shortest, "x") for number in range(PLACEHOLDERS)]
    if longest is not None:  # the number stands last: what is cut off is the word
        tokens = [token[-longest:] if longest else "" for token in tokens]
    return Texts(field, OneOf(tuple(dict.fromkeys(tokens))))


def _space(schema: TableSchema, field: Field) -> Space:
    from app.blueprint.defaults import bounds
    from app.blueprint.ticks import ticks_per_unit

    constraints = field.constraints
    if field.levels is not None:
        return Space(field, len(field.levels))
    if field.type == "string":
        if constraints.pattern is not None:
            node = _node(schema, field)
            _refuse_ambiguous(schema, field, node)
            return Space(field, node.count, node)
        longest = constraints.max_length
        prefix = "ID" if longest is None or longest > 7 else ""
        width = max(
            (constraints.min_length or 0) - len(prefix),
            6 if longest is None else min(6, longest - len(prefix)),
        )
        return Space(
            field, None if longest is None else 10 ** (longest - len(prefix)) - 1, prefix=prefix, width=width
        )
    per_unit = ticks_per_unit(field, 0.0) if field.type != "number" or field.decimals is not None else 1
    lower, upper = bounds(field)
    if lower is not None:
        start = math.ceil(lower * per_unit - 1e-6)
        size = None if upper is None else max(0, math.floor(upper * per_unit + 1e-6) - start + 1)
        return Space(field, size, start=start, per_unit=per_unit)
    if upper is not None:
        return Space(field, None, start=math.floor(upper * per_unit + 1e-6), step=-1, per_unit=per_unit)
    return Space(field, None, start=2000 if field.type == "year" else 1, per_unit=per_unit)


def _node(schema: TableSchema, field: Field) -> Node:
    from app.generators.patterns import PatternNotUnderstood, limit_lengths, parse_pattern

    constraints = field.constraints
    assert constraints.pattern is not None
    at = pointer("fields", schema.index(field.name), "constraints", "pattern")
    try:
        node = parse_pattern(constraints.pattern)
    except PatternNotUnderstood as error:
        raise InvalidInput(
            [
                Fault(
                    at,
                    f"Values of `{field.name}` cannot be made by this pattern: {error}. Use literals, "
                    "classes, quantifiers, groups and |.",
                )
            ]
        ) from error
    if constraints.min_length is not None or constraints.max_length is not None:
        fitting = limit_lengths(node, constraints.min_length or 0, constraints.max_length)
        if fitting is None:
            raise InvalidInput(
                [Fault(at, f"The pattern of `{field.name}` has no string within minLength and maxLength.")]
            )
        node = fitting
    return node


def _refuse_ambiguous(schema: TableSchema, field: Field, node: Node) -> None:
    """A pattern that writes one string in two ways, such as `a*a*`, would make an id twice."""
    import numpy as np
    import pyarrow.compute as pc

    from app.generators.patterns import LARGEST, permute

    size = min(node.count, LARGEST)
    first = np.arange(min(size, 4096), dtype="uint64")
    for numbers in (first, permute(first, size, 1)):
        if pc.count_distinct(node.write(numbers)).as_py() < len(numbers):
            at = pointer("fields", schema.index(field.name), "constraints", "pattern")
            raise InvalidInput(
                [
                    Fault(
                        at,
                        f"The pattern of `{field.name}` writes the same string in several ways, so that "
                        "unique values cannot be counted. Write it without overlapping parts.",
                    )
                ]
            )


def _absent(share: float, n: int, rng: np.random.Generator) -> NDArray[Any] | None:
    return rng.random(n) < share if share else None
