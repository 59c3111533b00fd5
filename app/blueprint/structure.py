"""Which columns are drawn how: categories in joint tables, numbers by keyed look-ups, the rest computed."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.blueprint.marginal import Marginal
from app.blueprint.marginal_declared import declared_marginal
from app.blueprint.solving import Solved, solved_decimals, solved_inputs
from app.blueprint.statements import Statement, statements_of
from app.schema.rules import Expression
from app.schema.table import Condition, Field, Statistics, TableSchema, Value

MOST_CELLS = 60_000
"""Combinations of levels in one joint table: beyond, some categories get a latent value instead."""

MOST_STRATA = 48

LOW = 0.1
"""Quantiles up to which tell where a distribution begins."""

LEAST_IMPLIED = 0.3
"""Strength from which on two categories are taken to go together by way of a number."""

SHAPE = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles by which one number is given another's shape."""

SKEW_IN_SD = 2.5
"""sd of a number of which mean and median alone are known, in distances between the two: at least.

An exponential distribution has 3.3, and one has the distance itself at least.
"""


@dataclass(frozen=True, eq=False)
class Structure:
    """How a schema's columns are drawn.

    Parameters
    ----------
    drawn : tuple of Field
        Everything that is drawn, in schema order; without formulas.
    solved : tuple of Solved
    marginals : mapping of name to Marginal
    blocks : tuple of tuple of str
        Fields with levels that are drawn jointly.
    latents : tuple of str
        The others.
    keys : mapping of name to tuple of str
        Whose levels a latent column's distribution depends on.
    gaps : frozenset of str
        Fields of blocks whose missing values are a state of their own.
    statements : tuple of Statement
        All that can be measured on rows.
    home : mapping of name to int
        The block of a field with levels.
    thresholds : mapping of name to tuple of Expression
        Rules that bound a latent column by its key: kept by its distributions, nothing is turned away.
    """

    schema: TableSchema
    drawn: tuple[Field, ...]
    solved: tuple[Solved, ...]
    marginals: Mapping[str, Marginal]
    blocks: tuple[tuple[str, ...], ...]
    latents: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]
    gaps: frozenset[str]
    statements: tuple[Statement, ...]
    home: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, tuple[Expression, ...]] = field(default_factory=dict)

    def item(self, name: str) -> Field:
        """Return the drawn field of that name, as it is drawn."""
        return self.marginals[name].field


def structure_of(
    schema: TableSchema,
    fields: Iterable[Field],
    warn: Callable[[str, str], None],
    vague: Callable[[str], bool] = lambda pointer: False,
) -> Structure:
    """Decide how the fields are drawn.

    Parameters
    ----------
    fields : iterable of Field
        Those that are neither computed nor made fresh.
    vague : callable
        Whether the statement at a pointer is known to no more than a few tolerances.
    """
    fields = tuple(fields)
    solved = tuple(
        replace(one, item=replace(_with_gaps(schema, one.item), decimals=solved_decimals(schema, one)))
        for one in solved_inputs(schema, fields)
    )
    gone = {item.item.name for item in solved}
    targets = {
        s.target.name: replace(s.target, formula=None, statistics=replace(s.target.statistics, missing=None))
        for s in solved
    }
    kept = {item.name: item for item in fields if item.name not in gone}
    drawn = tuple(
        targets.get(item.name, item) for item in schema.fields if item.name in kept or item.name in targets
    )
    marginals: dict[str, Marginal] = {}
    for item in drawn:
        item = _beside_its_partner(schema, _with_hints(schema, _within_orders(schema, item)))
        item = _with_gaps(schema, item)
        marginal = declared_marginal(schema, item, warn)
        if item.type == "number" and item.levels is None and item.decimals is None:
            # Strata share the whole's ticks, whatever their own sd would say.
            item = replace(item, decimals=round(math.log10(marginal.per_unit)))
            marginal = replace(marginal, field=item)
        marginals[item.name] = marginal
    computed = {item.name for item in schema.fields if item.formula is not None} | gone
    measurable = set(marginals) | computed
    statements = tuple(
        replace(s, vague=vague(s.pointer)) for s in statements_of(schema) if set(s.reads) <= measurable
    )
    discrete = [item.name for item in drawn if item.levels is not None]
    gaps = _gaps(schema, discrete, statements)
    blocks = _blocks(schema, discrete, marginals, statements, gaps)
    home = {name: place for place, names in enumerate(blocks) for name in names}
    latents = tuple(item.name for item in drawn if item.name not in home)
    keys = {name: key for name in latents if (key := _key(schema, name, home, marginals))}
    thresholds = _thresholds(schema, latents, home, marginals, keys)
    return Structure(
        schema,
        drawn,
        solved,
        marginals,
        tuple(blocks),
        latents,
        keys,
        gaps & set(home),
        statements,
        home,
        thresholds,
    )


def _within_orders(schema: TableSchema, item: Field) -> Field:
    """Bound a number by what rules put below and above it."""
    if item.levels is not None or item.type == "string":
        return item
    low, high = item.constraints.minimum, item.constraints.maximum
    for rule in schema.rules:
        for lesser, greater in ordered_names(rule.tree):
            if greater == item.name and lesser in schema:
                bound = _lowest(schema[lesser])
                if bound is not None and (low is None or item.to_number(bound) > item.to_number(low)):
                    low = bound
            if lesser == item.name and greater in schema:
                bound = schema[greater].constraints.maximum
                if bound is not None and (high is None or item.to_number(bound) < item.to_number(high)):
                    high = bound
    if (low, high) == (item.constraints.minimum, item.constraints.maximum):
        return item
    return replace(item, constraints=replace(item.constraints, minimum=low, maximum=high))


def _lowest(item: Field) -> Value | None:
    """Return a number's lower bound; 0 for one of which a low quantile is stated, and is positive."""
    if item.constraints.minimum is not None or item.type not in ("integer", "number"):
        return item.constraints.minimum
    return 0 if any(p <= LOW and value >= 0 for p, value in item.statistics.quantiles) else None


def _beside_its_partner(schema: TableSchema, item: Field) -> Field:
    """Give a number of which little is stated a place beside one that a rule puts it in order with."""
    statistics = item.statistics
    if item.levels is not None or item.type == "string" or statistics.sd is not None:
        return item
    if len(statistics.quantiles) > 1:
        return _shaped_as_its_partner(schema, item)
    for rule in schema.rules:
        for lesser, greater in ordered_names(rule.tree):
            if item.name not in (lesser, greater) or lesser not in schema or greater not in schema:
                continue
            other = schema[greater if item.name == lesser else lesser]
            mean, sd = _located(other.statistics)
            if mean is None or sd is None:
                continue
            centre = statistics.mean if statistics.mean is not None else statistics.median
            if centre is not None:
                # As wide in proportion as its partner.
                ratio = abs(centre / mean) if mean and item.type in ("integer", "number") else 1.0
                sd *= min(max(ratio, 0.3), 3.0)
                if statistics.mean is not None and statistics.median is not None:
                    sd = max(sd, SKEW_IN_SD * abs(statistics.mean - statistics.median))
                return replace(item, statistics=replace(statistics, sd=sd))
            centre = mean - sd / 2 if item.name == lesser else mean + sd / 2
            return replace(item, statistics=replace(statistics, mean=centre, sd=sd))
    return item


def _shaped_as_its_partner(schema: TableSchema, item: Field) -> Field:
    """Give a number of which two quantiles alone are stated the shape of one that it is in order with.

    Straight between the two, it could come to lie on the wrong side of its partner in the middle.
    """
    known = {p: value for p, value in item.statistics.quantiles if 0 < p < 1}
    if item.statistics.mean is not None or item.statistics.median is not None or len(known) != 2:
        return item
    partners = {
        greater if item.name == lesser else lesser
        for rule in schema.rules
        for lesser, greater in ordered_names(rule.tree)
        if item.name in (lesser, greater)
    }
    for name in sorted(partners & set(schema.names)):
        other = schema[name]
        stated = other.statistics
        told = len(stated.quantiles) + (stated.mean is not None) + (stated.median is not None)
        if other.formula is not None or other.type != item.type or told < 3:
            continue
        marginal = declared_marginal(schema, other, lambda *_: None)
        mine, theirs = list(known.values()), [marginal.quantile(p) for p in known]
        logs = min(*mine, *theirs) > 0
        scale, back = (math.log, math.exp) if logs else (float, float)
        run = scale(theirs[1]) - scale(theirs[0])
        if run <= 0:
            continue
        slope = (scale(mine[1]) - scale(mine[0])) / run
        for p in SHAPE:
            if min(known) < p < max(known):
                known[p] = back(scale(mine[0]) + slope * (scale(marginal.quantile(p)) - scale(theirs[0])))
        return replace(item, statistics=replace(item.statistics, quantiles=tuple(sorted(known.items()))))
    return item


def _located(statistics: Statistics) -> tuple[float | None, float | None]:
    values = [value for _, value in statistics.quantiles]
    middle = statistics.mean if statistics.mean is not None else statistics.median
    if middle is None and values:
        middle = sum(values) / len(values)
    sd = statistics.sd
    if sd is None and len(values) > 1:
        sd = (max(values) - min(values)) / 2.5
    return middle, sd


def ordered_names(tree: ast.expr) -> list[tuple[str, str]]:
    """Return (lesser, greater) for each comparison of two names that a rule demands."""
    match tree:
        case ast.Compare(
            left=ast.Name(id=first), ops=[ast.LtE() | ast.Lt()], comparators=[ast.Name(id=second)]
        ):
            return [(first, second)]
        case ast.Compare(
            left=ast.Name(id=first), ops=[ast.GtE() | ast.Gt()], comparators=[ast.Name(id=second)]
        ):
            return [(second, first)]
        case ast.BoolOp(op=ast.And(), values=parts):
            return [pair for part in parts for pair in ordered_names(part)]
    return []


def _with_hints(schema: TableSchema, item: Field) -> Field:
    """Give a number of which only conditionals are stated the mean and sd that these average to."""
    if replace(item.statistics, missing=None).declared or item.levels is not None or item.type == "string":
        return item
    stated = [c.statistics for c in schema.conditionals if c.field == item.name]
    centres = [float(m) for s in stated if (m := s.mean if s.mean is not None else s.median) is not None]
    if not centres:
        return _divided_by_strata(schema, item)
    mean = sum(centres) / len(centres)
    spreads = [s.sd for s in stated if s.sd is not None]
    between = sum((centre - mean) ** 2 for centre in centres) / len(centres)
    within = sum(sd**2 for sd in spreads) / len(spreads) if spreads else None
    sd = math.sqrt(within + between) if within is not None else None
    return replace(item, statistics=replace(item.statistics, mean=mean, sd=sd))


def _with_gaps(schema: TableSchema, item: Field) -> Field:
    """Give a field whose missing share is stated in some rows alone the mean of these."""
    if item.statistics.missing is not None or item.constraints.required:
        return item
    stated = [
        c.statistics.missing
        for c in schema.conditionals
        if c.field == item.name and c.statistics.missing is not None
    ]
    if not stated or schema[item.name].statistics.missing is not None:
        return item
    return replace(item, statistics=replace(item.statistics, missing=sum(stated) / len(stated)))


def _divided_by_strata(schema: TableSchema, item: Field) -> Field:
    """Take the ends of ranges that others are stated for to divide a number evenly, if nothing is said of it.

    Nobody states figures for a range that hardly anybody, or everybody, is in.
    """
    ends = sorted(
        {
            item.to_number(end)
            for c in schema.conditionals
            for condition in c.given
            if condition.field == item.name
            for end in (condition.minimum, condition.maximum)
            if end is not None
        }
    )
    if not ends:
        return item
    quantiles = tuple((place / (len(ends) + 1), end) for place, end in enumerate(ends, start=1))
    return replace(item, statistics=replace(item.statistics, quantiles=quantiles))


def single_levels(schema: TableSchema, given: Sequence[Condition]) -> tuple[int, ...] | None:
    """Return the codes of a stratum that is one level of each of its fields, None for any other."""
    codes = []
    for condition in given:
        levels = schema[condition.field].levels
        if levels is None or condition.values is None or len(condition.values) != 1:
            return None
        codes.append(levels.index(condition.values[0]))
    return tuple(codes)


def _gaps(schema: TableSchema, discrete: Sequence[str], statements: Sequence[Statement]) -> frozenset[str]:
    """Fields whose missing values depend on something, or on which something depends."""
    found = {s.fields[0] for s in statements if s.kind == "missing" and s.given}
    found |= {name for name in discrete if schema[name].relevant is not None}
    found |= {name for rule in schema.rules for name in rule.fields if "isnull" in rule.text}
    return frozenset(found & set(discrete))


def _blocks(
    schema: TableSchema,
    discrete: Sequence[str],
    marginals: Mapping[str, Marginal],
    statements: Sequence[Statement],
    gaps: frozenset[str],
) -> list[tuple[str, ...]]:
    here = set(discrete)
    ties = [set(s.reads) & here for s in statements if set(s.fields) <= here]
    ties += [{c.field for c in s.given} & here for s in statements if len(s.given) > 1]
    ties += [set(rule.fields) & here for rule in schema.rules]
    ties += [
        {*item.relevant.fields, item.name} & here if item.name in here else set(item.relevant.fields) & here
        for item in schema.fields
        if item.relevant is not None
    ]
    ties += [{name} for name in discrete]
    for implied in implied_between(schema, discrete, statements):
        joined = next(tie for tie in _joined(ties) if implied.fields[0] in tie)
        joined = joined | next(tie for tie in _joined(ties) if implied.fields[1] in tie)
        if math.prod(len(schema[name].levels or ()) + 1 for name in joined) <= MOST_CELLS:
            ties.append(set(implied.fields))

    def size(name: str) -> int:
        return int((marginals[name].weights > 0).sum()) + (name in gaps)

    needed: dict[str, float] = dict.fromkeys(discrete, 0.0)
    for tie in (s for s in statements if s.given):
        for condition in tie.given:
            if condition.field in needed:
                needed[condition.field] += 1
    for rule in schema.rules:
        for name in set(rule.fields) & here:
            needed[name] += 100
    for item in schema.fields:
        for name in set(item.relevant.fields if item.relevant is not None else ()) & here:
            needed[name] += 100
    groups = _joined(ties)
    blocks: list[tuple[str, ...]] = []
    while groups:
        group = groups.pop()
        cells = math.prod(size(name) for name in group)
        if cells <= MOST_CELLS:
            if group:
                blocks.append(tuple(name for name in discrete if name in group))
            continue

        # What has an order, and on which least depends, loses least by a latent value.
        def worth(name: str) -> float:
            unordered = size(name) > 2 and not schema[name].ordered
            return needed[name] + (3 if unordered else 0) - math.log(size(name))

        least = min(sorted(group), key=worth)
        groups += _joined([tie & group - {least} for tie in ties if tie & group - {least}])
    blocks.sort(key=lambda names: discrete.index(names[0]))
    return blocks


def implied_between(
    schema: TableSchema, discrete: Sequence[str], statements: Sequence[Statement]
) -> tuple[Statement, ...]:
    """Return how two categories go together that both go strongly with one number, and are not said to.

    Given the number they are independent, as entropy has it, so they go together by the product of the two.
    Were they independent altogether, the number could not go with both as strongly as it is said to.
    """
    here = set(discrete)
    said = {frozenset(set(s.reads) & here) for s in statements if len(set(s.reads) & here) > 1}
    strength: dict[str, dict[str, float]] = {}
    for statement in statements:
        if len(statement.fields) != 2 or statement.given or statement.kind == "odds_ratio":
            continue
        for number, by in (statement.fields, statement.fields[::-1]):
            if by in here and number not in here:
                sign = statement.sign or 1 if statement.kind in ("cramers_v", "correlation_ratio") else 1
                strength.setdefault(number, {})[by] = sign * statement.asked
    found: dict[frozenset[str], Statement] = {}
    for goes in strength.values():
        for one, first in goes.items():
            for other, second in goes.items():
                pair = frozenset((one, other))
                if one >= other or abs(first * second) < LEAST_IMPLIED or any(pair <= s for s in said):
                    continue
                known = found.get(pair)
                if known is None or abs(known.asked) < abs(first * second):
                    found[pair] = Statement("", "spearman", (one, other), first * second)
    return tuple(found.values())


def _joined(ties: Iterable[set[str]]) -> list[set[str]]:
    groups: list[set[str]] = []
    for tie in ties:
        touching = [group for group in groups if group & tie]
        groups = [group for group in groups if not group & tie] + [tie.union(*touching)]
    return groups


def _key(
    schema: TableSchema, name: str, home: Mapping[str, int], marginals: Mapping[str, Marginal]
) -> tuple[str, ...]:
    """Return the fields by whose levels most is stated of a number."""
    worth: dict[tuple[str, ...], int] = {}
    for conditional in schema.conditionals:
        if conditional.field != name or single_levels(schema, conditional.given) is None:
            continue
        fields = tuple(condition.field for condition in conditional.given)
        if any(one not in home for one in fields) or len({home[one] for one in fields}) != 1:
            continue
        if math.prod(len(schema[one].levels or ()) for one in fields) > MOST_STRATA:
            continue
        statistics = replace(conditional.statistics, missing=None)
        stated = sum(
            value is not None
            for value in (
                statistics.mean,
                statistics.sd,
                statistics.median,
                statistics.minimum,
                statistics.maximum,
            )
        ) + len(statistics.quantiles)
        if statistics.proportions is not None:
            stated += 3
        fields = tuple(sorted(fields))
        worth[fields] = worth.get(fields, 0) + stated
    if not worth:
        return ()
    return max(
        sorted(worth),
        key=lambda fields: worth[fields] / math.prod(len(schema[one].levels or ()) for one in fields),
    )


def _thresholds(
    schema: TableSchema,
    latents: Sequence[str],
    home: Mapping[str, int],
    marginals: Mapping[str, Marginal],
    keys: dict[str, tuple[str, ...]],
) -> dict[str, tuple[Expression, ...]]:
    """Find rules about one number and some fields of one block; make these its key where there is room."""
    found: dict[str, tuple[Expression, ...]] = {}
    for rule in schema.rules:
        numbers = [name for name in rule.fields if name not in home]
        rest = [name for name in rule.fields if name in home]
        if len(numbers) != 1 or numbers[0] not in latents or "isnull" in rule.text:
            continue
        name = numbers[0]
        if schema[name].levels is not None or not rest:
            continue
        key = tuple(sorted({*keys.get(name, ()), *rest}))
        strata = math.prod(len(schema[one].levels or ()) for one in key)
        if strata > MOST_STRATA or len({home[one] for one in key}) != 1:
            continue
        keys[name] = key
        found[name] = (*found.get(name, ()), rule)
    return found


def fields_of_rules(rules: Iterable[Expression]) -> set[str]:
    """Return all names that rules read."""
    return {name for rule in rules for name in rule.fields}


def even_levels(schema: TableSchema, fields: Sequence[str]) -> list[tuple[int, ...]]:
    """Return all combinations of the levels of some fields."""
    sizes = [range(len(schema[name].levels or ())) for name in fields]
    return [tuple(int(c) for c in codes) for codes in np.ndindex(*(len(s) for s in sizes))]
