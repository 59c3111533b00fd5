"""Conformance: do the rows obey the schema, and do they show the statistics that it declares."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from app.errors import pointer
from app.evaluation import estimates
from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.columns import (
    Floats,
    applies,
    codes,
    measurements,
    numbers,
    ordinals,
    pooled,
    present,
    selected,
)
from app.evaluation.estimates import FORMULAS, Estimate
from app.schema.table import Association, Condition, Field, Statistics, TableSchema, Value

WITHIN = 1.96
"""A declared statistic counts as met within so many standard errors; chance alone leaves 5 % outside."""

UNSAID = NotMeasured("too few rows would stand behind the figure, and they may resemble real ones")

Scale = Literal["number", "share", "date", "datetime", "time", "days", "seconds"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One declared statistic: asked and achieved.

    Parameters
    ----------
    pointer : str
        JSON pointer into the schema document.
    statement : str
        In words.
    scale : str
        How to read `asked`, `expected`, `achieved`: a number, a share, days since 1970-01-01 ("date",
        "datetime"), seconds since midnight ("time"), or a length in days or seconds.
    rows : int
        Rows that count toward it.
    asked, expected, achieved, standard_error, distance
        See `estimates.Estimate`; None where not measured.
    within : bool or None
        Whether |distance| ≤ WITHIN; False too where chance allows no difference and there is one. None
        where no distance can be stated.
    formula : str
        Key of `estimates.FORMULAS`.
    reason : str
        Why there is no figure, or empty.
    """

    pointer: str
    statement: str
    scale: Scale
    rows: int
    asked: float
    expected: float | None
    achieved: float | None
    standard_error: float | None
    distance: float | None
    within: bool | None
    formula: str
    reason: str = ""

    @property
    def far(self) -> float:
        """How far off, for sorting: what is certainly off comes first, what has no distance last."""
        if self.within is False and self.distance is None:
            return float("inf")
        return -1.0 if self.distance is None else abs(self.distance)


def _statement(
    where: str, text: str, scale: Scale, rows: int, asked: float, formula: str, found: Estimate | NotMeasured
) -> Statement:
    if isinstance(found, NotMeasured):
        return Statement(where, text, scale, rows, asked, None, None, None, None, None, formula, found.reason)
    within = None
    reason = ""
    if found.distance is not None:
        within = abs(found.distance) <= WITHIN
    elif found.standard_error is not None:
        within = False
        reason = "chance allows no difference here, and there is one"
    else:
        reason = "no standard error can be stated"
    return Statement(
        where, text, scale, rows, asked, found.expected, found.achieved, found.standard_error, found.distance,
        within, formula, reason,
    )  # fmt: skip


def level_text(value: Value) -> str:
    """Write a level as JSON and CSV write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


def declared_statistics(schema: TableSchema, frame: pd.DataFrame, *, few: int = 0) -> list[Statement]:
    """Hold every declared statistic against the rows.

    Parameters
    ----------
    schema : TableSchema
    frame : DataFrame
        Synthetic rows in the dtypes of `app.schema.frames`.
    few : int
        What rests on fewer rows than this (least and greatest values, far quantiles, small strata) is not
        said: where rows were learned from a real table and withheld, it could be a real person's value.

    Returns
    -------
    list of Statement
        Furthest from what was asked first; those without a distance last.
    """
    found: list[Statement] = []
    for index, field in enumerate(schema.fields):
        where = pointer("fields", index, "statistics")
        found.extend(_of_field(field, field.statistics, frame, where, "", few))
    for index, conditional in enumerate(schema.conditionals):
        field = schema[conditional.field]
        read = [field.name, *(field.relevant.fields if field.relevant is not None else ())]
        stratum = frame[read][selected(schema, frame, conditional.given)]
        where = pointer("conditionals", index, "statistics")
        given = _where(conditional.given)
        found.extend(_of_field(field, conditional.statistics, stratum, where, given, few))
    for index, association in enumerate(schema.associations):
        found.append(_of_association(schema, association, frame, pointer("associations", index)))
    found = [_unsaid(item) if item.rows < few else item for item in found]
    return sorted(found, key=lambda statement: -statement.far)


def _unsaid(item: Statement) -> Statement:
    return replace(
        item, expected=None, achieved=None, standard_error=None, distance=None, within=None,
        reason=UNSAID.reason,
    )  # fmt: skip


def _where(given: Iterable[Condition]) -> str:
    return " where " + " and ".join(map(_condition_text, given))


def _condition_text(condition: Condition) -> str:
    if condition.values is not None:
        return f"{condition.field} is {' or '.join(map(level_text, condition.values))}"
    parts = [f"at least {level_text(condition.minimum)}"] if condition.minimum is not None else []
    parts += [f"at most {level_text(condition.maximum)}"] if condition.maximum is not None else []
    return f"{condition.field} is {' and '.join(parts)}"


def _of_field(
    field: Field, asked: Statistics, frame: pd.DataFrame, where: str, given: str, few: int
) -> Iterator[Statement]:
    column, name = frame[field.name], field.name + given
    if field.kind in ("numeric", "temporal") or field.type in ("integer", "number", "year", "boolean"):
        yield from _of_numbers(field, asked, numbers(field, column), where, name, few)
    if asked.proportions is not None:
        levels = codes(field, column)
        hits, n = (
            np.bincount(levels[levels >= 0], minlength=len(field.levels or ())),
            int((levels >= 0).sum()),
        )
        positions = {level: place for place, level in enumerate(field.levels or ())}
        for level, share in asked.proportions:
            text = level_text(level)
            estimate = estimates.proportion(int(hits[positions[level]]), n, share)
            yield _statement(
                where + pointer("proportions", text), f"share of {text} in {name}", "share", n, share,
                "proportion", estimate,
            )  # fmt: skip
    if asked.missing is not None:
        rows = applies(field, frame)
        n, absent = int(rows.sum()), int((rows & ~present(column)).sum())
        estimate = estimates.proportion(absent, n, asked.missing)
        yield _statement(
            where + "/missing", f"missing share of {name}", "share", n, asked.missing, "proportion", estimate
        )


def _of_numbers(
    field: Field, asked: Statistics, values: Floats, where: str, name: str, few: int
) -> Iterator[Statement]:
    values = values[~np.isnan(values)]
    n = len(values)
    place: Scale = "number"
    length: Scale = "number"
    if field.type == "date" or field.type == "datetime":
        place, length = field.type, "days"
    elif field.type == "time":
        place, length = "time", "seconds"
    if asked.mean is not None:
        found = estimates.mean(values, asked.mean, asked.sd)
        yield _statement(where + "/mean", f"mean of {name}", place, n, asked.mean, "mean", found)
    if asked.sd is not None:
        found = estimates.standard_deviation(values, asked.sd)
        yield _statement(where + "/sd", f"sd of {name}", length, n, asked.sd, "sd", found)
    if asked.median is not None:
        found = estimates.quantile(values, 0.5, asked.median)
        yield _statement(where + "/median", f"median of {name}", place, n, asked.median, "quantile", found)
    for p, value in asked.quantiles:
        tail = n * min(p, 1 - p)
        found = UNSAID if tail < few else estimates.quantile(values, p, value)
        text = f"{p:g} quantile of {name}"
        yield _statement(where + pointer("quantiles", f"{p:g}"), text, place, n, value, "quantile", found)
    for key, words, bound, p in (
        ("min", "least", asked.minimum, 0.0),
        ("max", "greatest", asked.maximum, 1.0),
    ):
        if bound is not None:
            found = UNSAID if few else estimates.quantile(values, p, bound)
            yield _statement(f"{where}/{key}", f"{words} value of {name}", place, n, bound, "extreme", found)


def _of_association(schema: TableSchema, asked: Association, frame: pd.DataFrame, where: str) -> Statement:
    first, second = (schema[name] for name in asked.fields)
    pair = frame[[first.name, second.name]]
    both = (pair[selected(schema, frame, asked.given)] if asked.given else pair).dropna()
    x, y = both[first.name], both[second.name]
    found: Estimate | NotMeasured
    if asked.measure == "pearson":
        found = estimates.pearson(measurements(first, x), measurements(second, y), asked.value)
    elif asked.measure == "spearman":
        found = estimates.spearman(ordinals(first, x), ordinals(second, y), asked.value)
    elif asked.measure == "cramers_v":
        found = estimates.cramers_v(codes(first, x), codes(second, y), asked.value)
    elif asked.measure == "odds_ratio":
        found = estimates.odds_ratio(codes(first, x), codes(second, y), asked.value)
    else:
        if first.levels is not None:  # exactly one of the two has levels
            first, second, x, y = second, first, y, x
        found = estimates.correlation_ratio(codes(second, y), measurements(first, x), asked.value)
    words = asked.measure.replace("_", " ").replace("cramers v", "Cramér's V")
    text = f"{words} of {asked.fields[0]} and {asked.fields[1]}"
    if asked.given:
        text += _where(asked.given)
    return _statement(where + "/value", text, "number", len(both), asked.value, asked.measure, found)


class DeclaredStatistics:
    """Share of the declared statistics that the rows show within 1.96 standard errors."""

    name: ClassVar[str] = "declared_statistics"
    title: ClassVar[str] = "Declared statistics within their sampling error"
    dimension: ClassVar[Dimension] = "conformance"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset()
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure; `details["table"]` holds every Statement, furthest first, `formulas` their sources."""
        few = 0 if tables.train is None else tables.min_cell
        statements = declared_statistics(tables.schema, pooled(tables), few=few)
        if not statements:
            return NotMeasured("the schema declares no statistics")
        judged = [statement for statement in statements if statement.within is not None]
        if not judged:
            return NotMeasured("no declared statistic has a standard error to be judged by")
        met = sum(statement.within is True for statement in judged)
        furthest = statements[0]
        errors = "standard errors" if tables.independent else "independent rows' standard errors"
        reading = f"{met} of {len(judged)} declared statistics lie within {WITHIN} {errors} of the asked one"
        if furthest.distance is not None:
            reading += f"; the furthest, the {furthest.statement}, lies {abs(furthest.distance):.1f} away"
        used = {statement.formula for statement in statements}
        return Score(
            value=met / len(judged),
            baseline=0.95 if tables.independent else 1.0,
            reading=reading + ".",
            details={
                "aggregate": "share of within = true among the table's rows where within is not null",
                "judged": len(judged),
                "met": met,
                "formulas": {key: text for key, text in FORMULAS.items() if key in used},
                "table": [asdict(statement) for statement in statements],
            },
        )


class Adherence:
    """Share of the checks of constraints, rules and formulas, over all rows, that hold."""

    name: ClassVar[str] = "adherence"
    title: ClassVar[str] = "Constraints, rules and formulas"
    dimension: ClassVar[Dimension] = "conformance"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"conformance"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Read the tally of the check stage; `details["table"]` holds every constraint, rule and formula."""
        tally = tables.conformance
        assert tally is not None  # `needs` says so
        checked = sum(check.checked for check in tally.checks)
        if not checked:
            return NotMeasured("the schema has no constraint, rule or formula that applies to a row")
        broken = [check for check in tally.checks if check.broken]
        if broken:
            worst = max(broken, key=lambda check: check.broken)
            reading = (
                f"{tally.rows - tally.conforming:,} of {tally.rows:,} rows break a type, constraint, rule or "
                f"formula; most often: {worst.statement} ({worst.broken:,} of {worst.checked:,} rows)."
            )
        else:
            reading = f"All {len(tally.checks)} types, constraints, rules and formulas hold in every row."
        return Score(
            value=1 - sum(check.broken for check in broken) / checked,
            baseline=1.0,
            reading=reading,
            details={
                "aggregate": "1 − sum of broken / sum of checked",
                "rows": tally.rows,
                "conforming_rows": tally.conforming,
                "table": [asdict(check) for check in tally.checks],
            },
        )
