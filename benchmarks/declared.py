"""Statements computed from rows: a random choice of what a schema may declare, exactly as the rows have it.

Computed with pandas and SciPy alone, so that `app.evaluation.conformance`, which measures what a generator
made of them, is held against a second computation (`tests/unit/benchmarks`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy import stats

from app.schema.contradictions import association_faults
from app.schema.table import Association, Field, TableSchema

MEASURES = ("pearson", "spearman", "cramers_v", "odds_ratio", "correlation_ratio")


@dataclass(frozen=True)
class Amount:
    """How much to declare, and on how many rows it must rest."""

    associations: tuple[int, int] = (10, 25)
    conditionals: tuple[int, int] = (2, 8)
    stratum: int = 2000
    """Rows that a stratum must have."""
    stratum_share: float = 0.02
    cell: int = 200
    """Rows that each cell of an odds ratio must have."""


def declare(
    document: dict[str, Any], schema: TableSchema, frame: pd.DataFrame, rng: Generator, amount: Amount
) -> dict[str, Any]:
    """Return the document with statistics, associations and conditionals of the rows.

    Parameters
    ----------
    document : dict
        Fields and rules without statistics.
    schema : TableSchema
        Of `document`.
    frame : DataFrame
        In the dtypes of `app.schema.frames`.
    """
    fields = []
    for raw, item in zip(document["fields"], schema.fields, strict=True):
        found = of_field(item, frame, _chosen(item, frame, rng))
        if found and "distribution" not in found and _looks_lognormal(item, frame) and rng.random() < 0.5:
            found["distribution"] = "lognormal"
        fields.append({**raw, **({"statistics": found} if found else {})})
    return {
        **document,
        "fields": fields,
        "associations": _associations(schema, frame, rng, amount),
        "conditionals": _conditionals(schema, frame, rng, amount),
    }


# One field


def _chosen(item: Field, frame: pd.DataFrame, rng: Generator) -> set[str]:
    """Choose what is said of a field; of one in twelve nothing."""
    if rng.random() < 1 / 12:
        return set()
    names: set[str] = set()
    if item.kind in ("numeric", "temporal"):
        if rng.random() < 0.75:
            names |= {"mean"} | ({"sd"} if rng.random() < 0.85 else set())
        if rng.random() < 0.35:
            names.add("median")
        if rng.random() < 0.4 or not names:
            spread = [
                ("0.25", "0.5", "0.75"),
                ("0.05", "0.95"),
                ("0.1", "0.25", "0.75", "0.9"),
                ("0.01", "0.5", "0.99"),
            ]
            names |= {f"q{p}" for p in spread[int(rng.integers(len(spread)))]}
    elif item.levels is not None:
        names.add("proportions")
    if item.formula is None and frame[item.name].isna().any() and rng.random() < 0.92:
        names.add("missing")
    return names


def of_field(item: Field, frame: pd.DataFrame, names: set[str]) -> dict[str, Any]:
    """Compute the named statistics of a field over `frame`; `q0.25` is a quantile."""
    column = frame[item.name]
    found: dict[str, Any] = {}
    if item.kind in ("numeric", "temporal"):
        values = scale(item, column).dropna().to_numpy()
        if len(values) < 2:
            return {}
        place = _moment if item.kind == "temporal" else _short
        if "mean" in names:
            found["mean"] = place(values.mean())
        if "sd" in names:
            found["sd"] = _short(values.std(ddof=1))
        if "median" in names:
            found["median"] = place(np.quantile(values, 0.5))
        if quantiles := sorted(name[1:] for name in names if name.startswith("q")):
            found["quantiles"] = {p: place(np.quantile(values, float(p))) for p in quantiles}
    if "proportions" in names and item.levels is not None and column.notna().any():
        counts = column.astype(object).value_counts(normalize=True)
        found["proportions"] = {
            _text(level): float(f"{counts.get(level, 0.0):.10f}") for level in item.levels
        }
    if "missing" in names:
        rows = _applies(item, frame)
        if rows.any():
            found["missing"] = float(f"{column[rows].isna().mean():.10f}")
    return found


def scale(item: Field, column: pd.Series) -> pd.Series:
    """Put a column on the field's numeric scale: numbers as they are, dates in days since 1970."""
    if column.dtype.kind == "M":
        return (column - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    return column.astype("Float64").astype(float)


def _applies(item: Field, frame: pd.DataFrame) -> pd.Series:
    if item.relevant is None:
        return pd.Series(True, index=frame.index)
    # A second reading of the few forms that populations use, so that ours is not asked about itself.
    text = item.relevant.text
    wanted = not text.startswith("not ")
    text = text.removeprefix("not ")
    if "==" not in text:
        return frame[text].eq(wanted).fillna(False).astype(bool)
    name, value = (part.strip() for part in text.split("=="))
    level: Any = value.strip("'") if value.startswith("'") else float(value)
    return frame[name].astype(object).eq(level).fillna(False).astype(bool)


def _looks_lognormal(item: Field, frame: pd.DataFrame) -> bool:
    if item.kind != "numeric" or item.formula is not None:
        return False
    values = scale(item, frame[item.name]).dropna().to_numpy()
    return bool(
        len(values) > 20
        and values.min() > 0
        and abs(stats.skew(np.log(values))) < 0.2 < stats.skew(values) - 0.6
    )


# Pairs


def _associations(
    schema: TableSchema, frame: pd.DataFrame, rng: Generator, amount: Amount
) -> list[dict[str, Any]]:
    """Choose pairs and measures at random, half of them among the stronger ones."""
    options: list[tuple[float, dict[str, Any]]] = []
    some = frame.iloc[:20_000]
    names = [item.name for item in schema.fields]
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            fitting = [measure for measure in MEASURES if fits(schema, one, other, measure)]
            if fitting:
                options.append((strength(schema, some, one, other), {"fields": [one, other], "of": fitting}))
    options.sort(key=lambda option: -option[0])
    asked = int(rng.integers(amount.associations[0], amount.associations[1] + 1))
    strong = len(options) // 3
    order = [*rng.permutation(strong)[: asked // 2], *rng.permutation(len(options))]
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    for index in order:
        if len(found) >= asked or int(index) in seen:
            continue
        seen.add(int(index))
        option = options[int(index)][1]
        measure = str(rng.choice(option["of"]))
        value = measured(schema, frame, *option["fields"], measure, amount.cell)
        if value is None:
            continue
        made = {"fields": option["fields"], "measure": measure, "value": _short(value)}
        if measure in ("cramers_v", "correlation_ratio") and rng.random() < 0.5:
            made |= _sign(schema, frame, *option["fields"])
        found.append(made)
    return found


def fits(schema: TableSchema, one: str, other: str, measure: str) -> bool:
    """Whether a measure fits the types of a pair."""
    asked = Association((one, other), measure, 0.5)  # type: ignore[arg-type]
    return not list(association_faults(schema[one], schema[other], asked, ""))


def strength(schema: TableSchema, frame: pd.DataFrame, one: str, other: str) -> float:
    """Return how strongly two columns go together, 0 to 1, in the first measure that fits."""
    for measure in ("spearman", "cramers_v", "correlation_ratio"):
        if fits(schema, one, other, measure):
            value = measured(schema, frame, one, other, measure, 0)
            return 0.0 if value is None else abs(value)
    return 0.0


def measured(
    schema: TableSchema, frame: pd.DataFrame, one: str, other: str, measure: str, cell: int
) -> float | None:
    """Compute a measure over the rows where both are present; None where it has no value."""
    both = frame[[one, other]].dropna()
    if len(both) < 10 or both[one].nunique() < 2 or both[other].nunique() < 2:
        return None
    first, second = schema[one], schema[other]
    if measure == "correlation_ratio":
        if first.levels is not None:
            first, second = second, first
        numbers = scale(first, both[first.name])
        # The η of a one-way layout: √(between / total sum of squares).
        grouped = numbers.groupby(both[second.name].astype(object))
        between = (grouped.size() * (grouped.mean() - numbers.mean()) ** 2).sum()
        return float(np.sqrt(between / ((numbers - numbers.mean()) ** 2).sum()))
    if measure in ("cramers_v", "odds_ratio"):
        table = pd.crosstab(both[one].astype(object), both[other].astype(object))
        if measure == "cramers_v":
            return float(stats.contingency.association(table.to_numpy(), method="cramer", correction=False))
        table = table.reindex(index=list(first.levels or ()), columns=list(second.levels or ())).fillna(0)
        (a, b), (c, d) = table.to_numpy(float)
        return float(a * d / (b * c)) if min(a, b, c, d) > cell else None
    x, y = rank_scale(first, both[one]), rank_scale(second, both[other])
    value = stats.pearsonr(x, y)[0] if measure == "pearson" else stats.spearmanr(x, y)[0]
    return float(value) if math.isfinite(value) else None


def rank_scale(item: Field, column: pd.Series) -> pd.Series:
    """Return numbers as they are, levels as their place in the declared order."""
    if item.levels is None:
        return scale(item, column)
    return column.astype(object).map({level: place for place, level in enumerate(item.levels)}).astype(float)


def _sign(schema: TableSchema, frame: pd.DataFrame, one: str, other: str) -> dict[str, int]:
    if not fits(schema, one, other, "spearman"):
        return {}
    value = measured(schema, frame, one, other, "spearman", 0)
    return {} if value is None or abs(value) < 0.03 else {"sign": 1 if value > 0 else -1}


# Strata


def _conditionals(
    schema: TableSchema, frame: pd.DataFrame, rng: Generator, amount: Amount
) -> list[dict[str, Any]]:
    asked = int(rng.integers(amount.conditionals[0], amount.conditionals[1] + 1))
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    needed = max(amount.stratum, int(amount.stratum_share * len(frame)))
    for _ in range(20 * asked):
        if len(found) >= asked:
            break
        item = schema.fields[int(rng.integers(len(schema.fields)))]
        others = [other.name for other in schema.fields if other.name != item.name]
        by = [str(name) for name in rng.choice(others, 2 if rng.random() < 0.25 else 1, replace=False)]
        given, rows = {}, np.ones(len(frame), bool)
        for name in by:
            given[name], within = _condition(schema[name], frame[name], rng)
            rows &= within
        names = _of_stratum(item, frame, rng)
        key = repr((item.name, sorted(given)))
        if key in seen or frame[item.name][rows].notna().sum() < needed:
            continue
        statistics = of_field(item, frame[rows], names)
        if statistics:
            seen.add(key)
            found.append({"field": item.name, "given": given, "statistics": statistics})
            # The same of the other groups: what a paper's table by group says.
            if len(by) == 1 and schema[by[0]].levels is not None and len(schema[by[0]].levels or ()) <= 4:
                found += _other_groups(item, frame, by[0], schema[by[0]], given, names, needed)
    return found


def _of_stratum(item: Field, frame: pd.DataFrame, rng: Generator) -> set[str]:
    names = {"proportions"} if item.levels is not None else {"mean"}
    if item.kind in ("numeric", "temporal"):
        if rng.random() < 0.5:
            names.add("sd")
        if rng.random() < 0.25:
            names = {"median"} if rng.random() < 0.5 else {"q0.25", "q0.5", "q0.75"}
    if item.formula is None and frame[item.name].isna().any() and rng.random() < 0.4:
        names.add("missing")
    return names


def _other_groups(
    item: Field,
    frame: pd.DataFrame,
    by: str,
    group: Field,
    given: dict[str, Any],
    names: set[str],
    needed: int,
) -> Iterator[dict[str, Any]]:
    said = given[by] if isinstance(given[by], list) else [given[by]]
    for level in group.levels or ():
        if level in said:
            continue
        rows = frame[by].astype(object).eq(level).fillna(False).to_numpy(bool)
        if frame[item.name][rows].notna().sum() >= needed:
            yield {"field": item.name, "given": {by: level}, "statistics": of_field(item, frame[rows], names)}


def _condition(item: Field, column: pd.Series, rng: Generator) -> tuple[Any, Any]:
    """Return one part of a `given` and the rows that it selects."""
    if item.levels is not None:
        count = 1 if rng.random() < 0.75 or len(item.levels) < 4 else 2
        chosen = [item.levels[int(place)] for place in rng.choice(len(item.levels), count, replace=False)]
        rows = column.astype(object).isin(chosen).to_numpy(bool)
        return (chosen[0] if count == 1 else chosen), rows
    values = scale(item, column).to_numpy()
    low, high = np.nanquantile(values, sorted(rng.uniform(0.05, 0.95, 2)))
    decimals = item.places if item.kind == "numeric" and item.places is not None else 0
    low, high = round(float(low), decimals), round(float(high), decimals)
    sides = {0: ("minimum",), 1: ("maximum",), 2: ("minimum", "maximum")}[int(rng.integers(3))]
    rows = np.isfinite(values)
    given: dict[str, Any] = {}
    for side, bound in (("minimum", low), ("maximum", high)):
        if side in sides:
            rows &= values >= bound if side == "minimum" else values <= bound
            given[side] = (
                _moment(bound)[:10] if item.kind == "temporal" else (int(bound) if decimals == 0 else bound)
            )
    return given, rows


# Writing


def _short(value: float) -> float:
    return float(f"{value:.9g}")


def _moment(days: float) -> str:
    moment = np.datetime64("1970-01-01T00:00:00", "s") + np.timedelta64(round(days * 86_400), "s")
    return str(moment)[:10] if str(moment).endswith("T00:00:00") else str(moment)


def _text(level: Any) -> str:
    return str(level).lower() if isinstance(level, bool | np.bool_) else str(level)
