"""What every generator shares: exactly the rows asked for, types, missing values, formulas and rules kept.

A generator gives `Part`s, each of which draws candidate values of some columns. `assemble` joins the parts
that rules, formulas and `relevant` tie together into components, and adds what no generator learns (ids,
unique columns, free text). A component draws blocks of candidates from streams of their own, computes
formulas, empties fields where they do not apply, and keeps the candidates that break nothing: row k of a
shard is the k-th candidate kept. So rejection is exact, components are independent, and a shorter shard
is the prefix of a longer one.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from app.errors import Fault, InvalidInput, RowShortfall, pointer
from app.generators.balance import balance
from app.generators.base import SHARD_ROWS
from app.generators.fresh import Numbered, is_fresh, is_numbered, numbered_columns, texts
from app.schema.rules import Expression
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import SeedSequence
    from numpy.typing import NDArray

    from app.blueprint.marginal import Marginal
    from app.schema.frames import Column

FIRST_BLOCK = 256
LARGEST_BLOCK = 16_384
PATIENCE = 100
"""Blocks of candidates after which a component may give up …"""
LEAST_ACCEPTED = 0.01
"""… where it has kept less than this share of them."""


def numbers_per_shard(numbered: Numbered) -> int:
    """Return how many candidates may be numbered in a shard where rules read an id."""
    return SHARD_ROWS * (128 if numbered.size is None or numbered.size >= 2**32 else 2)


class Part(Protocol):
    """Draws candidate values of some columns that belong together."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""

    def draw(self, rng: np.random.Generator, n: int) -> Mapping[str, Column] | pd.DataFrame:
        """Return `n` candidates, with the dtypes of `app.schema.frames`, missing values included."""


@dataclass(frozen=True)
class OneColumn:
    """A `Part` that draws one column from its marginal distribution."""

    marginal: Marginal

    @property
    def names(self) -> tuple[str, ...]:
        """The column's name."""
        return (self.marginal.field.name,)

    def draw(self, rng: np.random.Generator, n: int) -> Mapping[str, Column]:
        """Draw `n` candidates."""
        return {self.marginal.field.name: self.marginal.draw(rng, n)}


@dataclass(frozen=True)
class Component:
    """Columns that must be judged together.

    Parameters
    ----------
    place : int
        Which component it is: names its random streams.
    parts : tuple of Part
        Draw candidates.
    numbered : tuple of Numbered
        Ids and keys that rules, formulas or `relevant` of this component read.
    steps : tuple of Field
        Fields to compute by formula or to empty where they do not apply, each after what it reads.
    bounded : tuple of Field
        Fields whose constraints are checked.
    rules : tuple of Expression
        Rules that are checked.
    codes : tuple of (str, float)
        Numbers, each with a field that may not hold it: the delivered file would read it as missing.
    """

    place: int
    parts: tuple[Part, ...]
    numbered: tuple[Numbered, ...]
    steps: tuple[Field, ...]
    bounded: tuple[Field, ...]
    rules: tuple[Expression, ...]
    codes: tuple[tuple[str, float], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        drawn = [name for part in self.parts for name in part.names]
        return (
            *drawn,
            *(name for item in self.numbered for name in item.names),
            *(f.name for f in self.steps),
        )

    def rows(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        """Return the first `n_rows` candidates of a shard that break nothing.

        Raises
        ------
        RowShortfall
            After PATIENCE blocks of which less than LEAST_ACCEPTED was kept.
        """
        import pandas as pd

        kept: list[pd.DataFrame] = []
        rejected: Counter[str] = Counter()
        made = drawn = 0
        for block, size in enumerate(_block_sizes()):
            if made >= n_rows:
                break
            if block >= PATIENCE and made < LEAST_ACCEPTED * drawn:
                raise RowShortfall(n_rows, made, _blame(rejected, drawn, made))
            candidates = self._candidates(shard, block, drawn, size, seed)
            good = self.judge(candidates, rejected)
            kept.append(candidates if good.all() else candidates[good])
            made += int(good.sum())
            drawn += size
        return pd.concat(kept, ignore_index=True).iloc[:n_rows]

    def pilot(self, size: int) -> pd.DataFrame:
        """Return candidates that no job will ever get, to see how a column spreads."""
        from numpy.random import SeedSequence

        return self._candidates(0, 0, 0, size, SeedSequence(0))

    def _candidates(self, shard: int, block: int, drawn: int, size: int, seed: SeedSequence) -> pd.DataFrame:
        import numpy as np

        rng = stream(seed, shard, self.place, block)
        columns: dict[str, Any] = {}
        for part in self.parts:
            values = part.draw(rng, size)
            columns |= {name: values[name] for name in part.names}
        for numbered in self.numbered:
            most = numbers_per_shard(numbered)
            if drawn + size > most:
                raise RowShortfall(SHARD_ROWS, 0, _few_numbers(numbered))
            numbers = np.arange(drawn, drawn + size, dtype="uint64") + np.uint64(shard * most)
            columns |= _write(numbered, numbers, seed, stream(seed, shard, self.place, block, 1))
        return self.completed(columns, size)

    def completed(self, columns: Mapping[str, Any], size: int) -> pd.DataFrame:
        """Compute formulas and empty fields where they do not apply; a formula may read no column at all."""
        import pandas as pd

        from app.schema.evaluate import formula_column

        frame = pd.DataFrame(columns, index=pd.RangeIndex(size), copy=False)
        for field in self.steps:
            if field.formula is not None:
                frame[field.name] = formula_column(field, frame)
            _empty_where_it_does_not_apply(field, frame)
        return frame

    def judge(self, frame: pd.DataFrame, rejected: Counter[str]) -> NDArray[np.bool_]:
        """Tell the candidates that break nothing; count in `rejected` what the others break."""
        import numpy as np

        from app.schema.evaluate import breaks

        good = np.ones(len(frame), bool)
        for rule in self.rules:
            broken = breaks(rule, frame)
            rejected[f"the rule `{rule.text}`"] += int(broken.sum())
            good &= ~broken
        for field in self.bounded:
            broken = breaks_constraints(field, frame)
            rejected[f"the constraints of `{field.name}`"] += int(broken.sum())
            good &= ~broken
        for name, code in self.codes:
            broken = frame[name].eq(code).fillna(False).to_numpy(bool)
            rejected[f"`{name}` apart from {code:g}, which `missingValues` keeps for what is missing,"] += (
                int(broken.sum())
            )
            good &= ~broken
        return good


class RowSource(Protocol):
    """Draws whole rows of some columns, whatever is between them kept: a `Component` is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""

    def rows(self, shard: int, n_rows: int, seed: SeedSequence) -> pd.DataFrame:
        """Return the first `n_rows` rows of a shard."""


@dataclass(frozen=True)
class TableSampler:
    """The Sampler that every generator returns. Built by `assemble` or `assemble_around`."""

    schema: TableSchema
    components: tuple[RowSource, ...]
    numbered: tuple[Numbered, ...]

    def sample_shard(self, index: int, n_rows: int, *, seed: SeedSequence) -> pd.DataFrame:
        """Return exactly `n_rows` rows of shard `index` (see `app.generators.base.Sampler`)."""
        import numpy as np
        import pandas as pd

        columns: dict[str, Any] = {}
        for component in self.components:
            rows = component.rows(index, n_rows, seed)
            columns |= {str(name): rows[name].array for name in rows}
        first = index * SHARD_ROWS
        for place, numbered in enumerate(self.numbered):
            if numbered.size is not None and first + n_rows > numbered.size:
                made = max(0, numbered.size - first)
                raise RowShortfall(first + n_rows, first + made, _few_numbers(numbered))
            numbers = np.arange(first, first + n_rows, dtype="uint64")
            columns |= _write(numbered, numbers, seed, stream(seed, index, len(self.components) + place))
        frame = pd.DataFrame({name: columns[name] for name in self.schema.names}, copy=False)
        for numbered in self.numbered:
            for name in numbered.names:
                _empty_where_it_does_not_apply(self.schema[name], frame)
        return frame


def drawn_fields(schema: TableSchema) -> tuple[Field, ...]:
    """Return the fields that a generator has to draw: neither computed by formula nor made fresh."""
    return tuple(field for field in schema.fields if field.formula is None and not is_fresh(schema, field))


def assemble(schema: TableSchema, parts: Iterable[Part], warn: Callable[[str, str], None]) -> TableSampler:
    """Join a generator's parts into a Sampler.

    Parameters
    ----------
    parts : iterable of Part
        Together they draw every field of `drawn_fields(schema)`, and free text where the generator has any.
    warn : callable
        Called as `warn(pointer, message)`, the pointer into the schema's document, for statistics that are
        not met because the column is computed or made fresh.

    Raises
    ------
    InvalidInput
        Fields that need one another in a circle, patterns that cannot be written by.
    """
    _warn_of_unused_statistics(schema, warn)
    parts = tuple(parts)
    given = {name for part in parts for name in part.names}
    absent = [field.name for field in drawn_fields(schema) if field.name not in given]
    if absent:
        raise ValueError(f"No part draws {', '.join(absent)}.")
    free_texts = [
        f for f in schema.fields if is_fresh(schema, f) and not is_numbered(schema, f) and f.name not in given
    ]
    parts = (*parts, *(texts(schema, field) for field in free_texts))
    numbered = numbered_columns(schema)
    read = _names_read(schema)
    inner = [item for item in numbered if read & set(item.names)]
    groups = _groups(schema, [*(part.names for part in parts), *(item.names for item in inner)])
    steps = _in_order(schema)
    components = []
    for place, group in enumerate(groups):
        members = [field for field in schema.fields if field.name in group]
        components.append(
            Component(
                place,
                tuple(part for part in parts if set(part.names) & group),
                tuple(item for item in inner if set(item.names) & group),
                tuple(field for field in steps if field.name in group),
                tuple(field for field in members if _is_bounded(field) and not is_numbered(schema, field)),
                tuple(rule for rule in schema.rules if set(rule.fields) & group),
                tuple(_codes(schema, members)),
            )
        )
    settled = tuple(balance(schema, component, warn) for component in components)
    return TableSampler(schema, settled, tuple(item for item in numbered if item not in inner))


def assemble_around(schema: TableSchema, drawn: RowSource, warn: Callable[[str, str], None]) -> TableSampler:
    """Join rows that are drawn whole, formulas and rules kept, with what no generator learns.

    Parameters
    ----------
    drawn : RowSource
        Draws every field but those of `app.generators.fresh`; no rule, formula or `relevant` of its
        columns reads one of these.
    """
    _warn_of_unused_statistics(schema, warn, computed=False)
    numbered = numbered_columns(schema)
    plain = [
        Component(1 + place, (texts(schema, item),), (), (item,) if item.relevant else (), (), ())
        for place, item in enumerate(schema.fields)
        if is_fresh(schema, item) and not is_numbered(schema, item) and item.name not in drawn.names
    ]
    return TableSampler(schema, (drawn, *plain), numbered)


def reads_fresh(schema: TableSchema) -> bool:
    """Whether a rule, a formula or a `relevant` reads an id or a free text, or decides when one applies."""
    fresh = {item.name for item in schema.fields if is_fresh(schema, item)}
    bound = any(item.name in fresh and (item.relevant or _is_bounded(item)) for item in schema.fields)
    return bool(_names_read(schema) & fresh) or bound


def where_it_applies(field: Field, frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the field's column in the rows where its `relevant` holds."""
    from app.schema.evaluate import holds_relevant

    return (
        frame[field.name]
        if field.relevant is None
        else frame.loc[holds_relevant(field.relevant, frame), field.name]
    )


def with_learned_gaps(schema: TableSchema, train: pd.DataFrame) -> TableSchema:
    """Let ids and free text be missing as often as in a real table, where nothing else is declared.

    How often a value is absent is all that is learned of them.

    Parameters
    ----------
    train : DataFrame
        With a column for each field that has no formula, with the dtypes of `app.schema.frames`.
    """

    def learned(field: Field) -> Field:
        if not is_fresh(schema, field) or field.statistics.missing is not None:
            return field
        column = where_it_applies(field, train)
        share = float(column.isna().mean()) if len(column) else None
        return replace(field, statistics=replace(field.statistics, missing=share))

    return replace(schema, fields=tuple(learned(field) for field in schema.fields))


def complete(schema: TableSchema, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with its formulas computed, and empty where columns do not apply.

    Parameters
    ----------
    frame : DataFrame
        With a column for each field that has no formula, with the dtypes of `app.schema.frames`.
    """
    alone = Component(0, (), (), tuple(_in_order(schema)), (), ())
    columns = {str(name): frame[name].array for name in frame}
    return alone.completed(columns, len(frame))[list(schema.names)]


def empty_where_it_does_not_apply(schema: TableSchema, names: Iterable[str], frame: pd.DataFrame) -> None:
    """Empty columns of a whole table, in place, in the rows where their `relevant` does not hold."""
    for name in names:
        _empty_where_it_does_not_apply(schema[name], frame)


def breaks_constraints(field: Field, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell the rows whose value breaks a constraint of its field; uniqueness aside."""
    import numpy as np

    from app.schema.evaluate import holds_relevant

    column, constraints = frame[field.name], field.constraints
    absent = column.isna().to_numpy()
    broken = np.zeros(len(frame), bool)
    if constraints.required and absent.any():
        applies = True if field.relevant is None else holds_relevant(field.relevant, frame)
        broken |= absent & applies
    if field.levels is not None or field.type == "string":
        return broken | (~absent & ~_fits(field, column))
    values = (
        column.to_numpy(dtype="float64", na_value=np.nan) if field.type in _NUMERIC else column.to_numpy()
    )
    for bound, beyond in ((constraints.minimum, np.less), (constraints.maximum, np.greater)):
        if bound is not None:
            broken |= beyond(values, _raw(field, bound))
    return broken


def stream(seed: SeedSequence, *place: int) -> np.random.Generator:
    """Return the random stream of one place within a job: a pure function of both."""
    from numpy.random import SFC64, Generator, SeedSequence

    return Generator(SFC64(SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *place))))


_NUMERIC = ("integer", "number", "year")


def _block_sizes() -> Iterator[int]:
    """Small blocks first, so that one row costs little; the same for every length, so that prefixes agree."""
    size = FIRST_BLOCK
    while True:
        yield size
        size = min(size * 4, LARGEST_BLOCK)


def _write(
    numbered: Numbered, numbers: NDArray[np.uint64], seed: SeedSequence, rng: np.random.Generator
) -> Mapping[str, Column]:
    key = stream(seed, zlib.crc32("\0".join(numbered.names).encode())).integers(2**62)
    if numbered.size is not None and len(numbers) and int(numbers[-1]) >= numbered.size:
        raise RowShortfall(int(numbers[-1]) + 1, numbered.size, _few_numbers(numbered))
    return numbered.write(numbers, int(key), rng)


def _few_numbers(numbered: Numbered) -> str:
    names = " and ".join(f"`{name}`" for name in numbered.names)
    return (
        f"{names} must be unique and can take {numbered.size} values only. "
        "Widen the pattern, the bounds or the categories, or ask for fewer rows."
    )


def _blame(rejected: Counter[str], drawn: int, made: int) -> str:
    reason, count = rejected.most_common(1)[0]
    if count == drawn:
        return (
            f"{reason} held for none of {drawn} candidates. Correct it, or the statistics of what it reads."
        )
    return (
        f"{reason} turned away {count} of {drawn} candidates, and {made} were kept. "
        "Loosen it, or declare statistics that agree with it."
    )


def _empty_where_it_does_not_apply(field: Field, frame: pd.DataFrame) -> None:
    from app.schema.evaluate import holds_relevant

    if field.relevant is not None:
        frame[field.name] = frame[field.name].mask(~holds_relevant(field.relevant, frame))


def _codes(schema: TableSchema, fields: Iterable[Field]) -> Iterator[tuple[str, float]]:
    numeric = [
        field
        for field in fields
        if field.type in ("integer", "number", "year")
        and field.levels is None
        and not is_numbered(schema, field)
    ]
    for text in schema.missing_values:
        try:
            code = float(text)
        except ValueError:
            continue
        if math.isfinite(code):
            yield from ((field.name, code) for field in numeric)


def _is_bounded(field: Field) -> bool:
    constraints = field.constraints
    if field.type == "string" and field.levels is None:
        return (
            constraints.required
            or (constraints.min_length, constraints.max_length, constraints.pattern) != (None,) * 3
        )
    numeric_levels = field.levels is not None and field.type not in ("string", "boolean")
    return (
        constraints.required or numeric_levels or (constraints.minimum, constraints.maximum) != (None, None)
    )


def _fits(field: Field, column: pd.Series[Any]) -> NDArray[np.bool_]:
    """Whether present values are levels of the field, or texts within its lengths and pattern."""
    import numpy as np
    import pandas as pd

    if field.type in ("string", "boolean") and field.levels is not None:
        return np.ones(len(column), bool)
    if field.levels is not None:
        return column.isin([_raw(field, level) for level in field.levels]).to_numpy()
    constraints = field.constraints
    fits = np.ones(len(column), bool)
    lengths = column.str.len().to_numpy(dtype="float64", na_value=np.nan)
    if constraints.min_length is not None:
        fits &= ~(lengths < constraints.min_length)
    if constraints.max_length is not None:
        fits &= ~(lengths > constraints.max_length)
    if constraints.pattern is not None:
        found, unique = pd.factorize(column)
        # By Python's own engine, as the pattern was judged and made: Arrow's reads `a{,3}` otherwise.
        pattern = re.compile(constraints.pattern)
        matches = np.array([pattern.fullmatch(text) is not None for text in unique] + [True], bool)
        fits &= matches[found]
    return fits


def _raw(field: Field, value: Any) -> Any:
    import numpy as np

    if field.type == "date":
        return np.datetime64(value, "s")
    if field.type == "datetime":
        return np.datetime64(round(field.to_number(value) * 86_400_000_000), "us")
    if field.type == "time":
        return np.timedelta64(round(field.to_number(value)), "s")
    return value


def _needs(field: Field) -> set[str]:
    expressions = [expression for expression in (field.formula, field.relevant) if expression is not None]
    return {name for expression in expressions for name in expression.fields}


def _names_read(schema: TableSchema) -> set[str]:
    ruled = {name for rule in schema.rules for name in rule.fields}
    return ruled.union(*(_needs(field) for field in schema.fields))


def _groups(schema: TableSchema, together: list[tuple[str, ...]]) -> list[set[str]]:
    """Names of the columns of each component: what is tied to nothing shares the first."""
    known = {name for names in together for name in names} | {
        f.name for f in schema.fields if f.formula is not None
    }
    ties = [set(names) for names in together]
    ties += [_needs(field) | {field.name} for field in schema.fields if _needs(field) and field.name in known]
    ties += [set(rule.fields) for rule in schema.rules]
    groups: list[set[str]] = []
    for tie in ties:
        touching = [group for group in groups if group & tie]
        groups = [group for group in groups if not group & tie] + [tie.union(*touching)]
    bound = {name for tie in ties[len(together) :] for name in tie} | {
        name for names in together if len(names) > 1 for name in names
    }
    free = {name for group in groups if not group & bound for name in group}
    free |= known.difference(*groups)  # formulas that read nothing
    tied = sorted(
        (group for group in groups if group & bound), key=lambda group: min(map(schema.index, group))
    )
    return [group for group in (free, *tied) if group]


def _in_order(schema: TableSchema) -> list[Field]:
    """Order the fields with a formula or `relevant` so that each comes after what it reads."""
    waiting = [field for field in schema.fields if _needs(field) or field.formula is not None]
    ordered: list[Field] = []
    while waiting:
        pending = {field.name for field in waiting}
        ready = [field for field in waiting if not (_needs(field) & pending)]
        if not ready:
            raise InvalidInput(
                Fault(
                    pointer("fields", schema.index(field.name), "formula" if field.formula else "relevant"),
                    f"`{field.name}` depends on itself through other fields. Break the circle.",
                )
                for field in waiting
            )
        ordered += ready
        waiting = [field for field in waiting if field not in ready]
    return ordered


def _warn_of_unused_statistics(
    schema: TableSchema, warn: Callable[[str, str], None], *, computed: bool = True
) -> None:
    for place, field in enumerate(schema.fields):
        beyond_missing = replace(field.statistics, missing=None).declared
        if computed and field.formula is not None and field.statistics.declared:
            warn(
                pointer("fields", place, "statistics"),
                f"`{field.name}` is computed by its formula: its declared statistics are not aimed at.",
            )
        elif is_fresh(schema, field) and beyond_missing:
            warn(
                pointer("fields", place, "statistics"),
                f"`{field.name}` is made fresh, each value from its row's number or at random: "
                "its declared statistics are not aimed at.",
            )
