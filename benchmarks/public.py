"""Public tables as schemas without statistics: their fields, and the rules that hold in every row of them.

Rules are found, not made: an order `x <= y` that holds in every row and that independent columns would
break in at least 2 % of rows, equality of the two on one level of a third, and levels that never meet
although at least ten rows would be expected.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from app.schema.table import Field, TableSchema
from benchmarks import tables

NAMES = tables.NAMES
MOST_RULES = 3
BROKEN_APART = 0.02
EXPECTED = 10


def described(name: str) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]:
    """Return a table's schema document without statistics, its rows, and what was found of it."""
    table = tables.load(name)
    frame, fields = table.frame, []
    for item in table.schema.fields:
        said: dict[str, Any] = {"name": item.name, "type": item.type}
        if item.levels is not None and item.type != "boolean":
            said["categories"] = list(item.levels)
        if item.type == "number":
            said["decimals"] = decimals(frame[item.name])
        if item.kind == "numeric":
            said["constraints"] = _bounds(item, frame[item.name])
        fields.append(said)
    rules = [*orders(table.schema, frame), *exclusions(table.schema, frame)][:MOST_RULES]
    return {"fields": fields, "rules": rules}, frame, {"rows": len(frame)}


def decimals(column: pd.Series) -> int:
    """Return the fewest decimals that hold every value, at most six."""
    values = column.dropna().to_numpy(float)
    return next(
        (places for places in range(6) if np.allclose(values, np.round(values, places), rtol=0, atol=1e-9)), 6
    )


def _bounds(item: Field, column: pd.Series) -> dict[str, Any]:
    """Return bounds a little outward of the values, on round numbers."""
    low, high = float(column.min()), float(column.max())
    step = 10.0 ** (np.floor(np.log10(max(high - low, 1e-6))) - 1)
    least, most = np.floor(low / step) * step, np.ceil(high / step) * step
    return {"minimum": int(np.floor(least)), "maximum": int(np.ceil(most))} if item.type == "integer" else {
        "minimum": float(f"{least:.6g}"), "maximum": float(f"{most:.6g}")
    }  # fmt: skip


def orders(schema: TableSchema, frame: pd.DataFrame) -> list[str]:
    """Return orders that hold, those that independent columns break most first, with their equalities."""
    numbers = [
        item.name for item in schema.fields if item.kind == "numeric" and frame[item.name].nunique() > 5
    ]
    rng = np.random.default_rng(1)
    found = []
    for x, y in permutations(numbers, 2):
        both = frame[[x, y]].dropna().to_numpy(float)
        if len(both) and (both[:, 0] <= both[:, 1]).all():
            apart = float((both[:, 0] > rng.permutation(both[:, 1])).mean())
            if apart >= BROKEN_APART:
                found.append((apart, x, y))
    rules = []
    for _, x, y in sorted(found, reverse=True)[:2]:
        rules.append(f"{_name(x)} <= {_name(y)}")
        for item in schema.fields:
            for level in item.levels or ():
                at = (
                    frame[item.name].astype(object).eq(level).fillna(False)
                    & frame[x].notna()
                    & frame[y].notna()
                )
                equal = frame[x] == frame[y]
                if at.sum() >= EXPECTED and equal[at].all() and (~equal).mean() > 0.05:
                    text = f"'{level}'" if isinstance(level, str) else str(level)
                    rules.append(f"not ({_name(item.name)} == {text} and {_name(x)} < {_name(y)})")
    return rules


def exclusions(schema: TableSchema, frame: pd.DataFrame) -> list[str]:
    """Return pairs of levels that never meet, most expected first."""
    groups = [item for item in schema.fields if item.levels is not None]
    found = []
    for place, one in enumerate(groups):
        for other in groups[place + 1 :]:
            table = pd.crosstab(frame[one.name].astype(object), frame[other.name].astype(object))
            expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.to_numpy().sum(), 1)
            for i, j in zip(*np.nonzero((table.to_numpy() == 0) & (expected >= EXPECTED)), strict=True):
                both = [
                    f"{_name(item.name)} == " + (f"'{level}'" if isinstance(level, str) else str(level))
                    for item, level in ((one, table.index[i]), (other, table.columns[j]))
                ]
                found.append((-float(expected[i, j]), f"not ({both[0]} and {both[1]})"))
    return [text for _, text in sorted(found)[:2]]


def _name(name: str) -> str:
    return name if name.isidentifier() else f'field("{name}")'
