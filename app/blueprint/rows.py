"""Weighted rows (simulated ones, or the cells of a joint table) as plain arrays, to measure statements on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.schema.table import Condition, Field, TableSchema

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SPARSE = 2
"""Ticks between the least and the greatest value, for each row, from which on values are sorted."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns of `n` weighted rows.

    Parameters
    ----------
    schema : TableSchema
    numbers : mapping of name to ndarray of float64, shape (n,)
        Fields without levels, on the field's numeric scale; NaN where missing.
    codes : mapping of name to ndarray of int, shape (n,)
        Fields with levels: positions of levels, −1 where missing.
    applies : mapping of name to ndarray of bool, shape (n,)
        Where fields with `relevant` apply; absent for fields that always do.
    weights : ndarray of float64, shape (n,)
        Sum to 1.
    drawn : int
        How many candidates they were chosen from.
    units : mapping of name to int
        Ticks in one unit of those numbers that are whole ticks.
    """

    schema: TableSchema
    numbers: Mapping[str, Floats]
    codes: Mapping[str, NDArray[Any]]
    applies: Mapping[str, Mask]
    weights: Floats
    drawn: int = 0
    units: Mapping[str, int] = field(default_factory=dict)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)
    _weighted: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.weights)

    def reweighted(self, weights: Floats) -> Rows:
        """Return the same rows with other weights."""
        # Places and masks do not depend on weights.
        return replace(self, weights=weights, _cache=self._cache, _weighted={})

    def forget(self) -> None:
        """Let go of what was found once: it refers back to the rows, and would keep their memory."""
        self._cache.clear()
        self._weighted.clear()

    def forget_weighted(self) -> None:
        """The same, of what was found for these weights alone."""
        self._weighted.clear()

    def __contains__(self, name: str) -> bool:
        """Whether that column is here."""
        return name in self.numbers or name in self.codes

    def present(self, name: str) -> Mask:
        """Return where the value is there."""

        def find() -> Mask:
            if name in self.codes:
                return self.codes[name] >= 0
            return ~np.isnan(self.numbers[name])

        found: Mask = self._once(("present", name), find)
        return found

    def complete(self, name: str) -> bool:
        """Whether no value is missing."""
        return bool(self._once(("complete", name), lambda: bool(self.present(name).all())))

    def place(self, name: str) -> tuple[Ints, int]:
        """Return each value's place among the sorted distinct ones (0 where missing), and how many there are.

        Levels keep their declared order: a rank correlation uses it.
        """

        def find() -> tuple[Ints, int]:
            if name in self.codes:
                levels = self.schema[name].levels or ()
                return np.maximum(self.codes[name], 0).astype(np.int64), len(levels)
            here = self.present(name)
            distinct, inverse = self._sorted(name)
            if len(inverse) == len(here):
                return inverse, len(distinct)
            place = np.zeros(len(here), np.int64)
            place[here] = inverse
            return place, len(distinct)

        found: tuple[Ints, int] = self._once(("place", name), find)
        return found

    def distinct(self, name: str) -> Floats:
        """Return the distinct present values on the numeric scale, ascending; levels in their own order."""

        def find() -> Floats:
            if name in self.codes:
                return level_numbers(self.schema[name])[:-1]
            return self._sorted(name)[0]

        found: Floats = self._once(("distinct", name), find)
        return found

    def _sorted(self, name: str) -> tuple[Floats, Ints]:
        """Return the distinct present numbers, ascending, and the place of each present one among them."""

        def find() -> tuple[Floats, Ints]:
            values = self.numbers[name][self.present(name)]
            unit = self.units.get(name)
            if unit is not None and len(values):
                low = float(values.min())
                if (float(values.max()) - low) * unit < SPARSE * len(values):  # counting beats sorting
                    ticks = np.rint((values - low) * unit).astype(np.int64)
                    counts = np.bincount(ticks)
                    distinct = np.empty(len(counts))
                    distinct[ticks] = values
                    return distinct[counts > 0], (np.cumsum(counts > 0) - 1)[ticks]
            distinct, inverse = np.unique(values, return_inverse=True)
            return distinct, inverse

        found: tuple[Floats, Ints] = self._once(("sorted", name), find)
        return found

    def measurement(self, name: str) -> Floats:
        """Return what a product-moment correlation multiplies: the number, else the level's position."""

        def find() -> Floats:
            if name in self.numbers:
                return self.numbers[name]
            return np.asarray(level_numbers(self.schema[name])[self.codes[name]])

        found: Floats = self._once(("measurement", name), find)
        return found

    def value(self, name: str) -> Floats:
        """Return the value on the field's numeric scale, also of levels (booleans are 0 and 1)."""
        return self.measurement(name)

    def selected(self, given: Iterable[Condition]) -> Mask:
        """Return the rows that satisfy every condition; a missing value satisfies none."""
        given = tuple(given)

        def find() -> Mask:
            chosen = np.ones(len(self), np.bool_)
            for condition in given:
                chosen &= self._satisfies(condition)
            return chosen

        found: Mask = self._once(("given", given), find)
        return found

    def where_applies(self, name: str) -> Mask:
        """Return the rows in which the field applies."""
        found = self.applies.get(name)
        return np.ones(len(self), np.bool_) if found is None else found

    def _satisfies(self, condition: Condition) -> Mask:
        item = self.schema[condition.field]
        chosen = np.ones(len(self), np.bool_)
        if condition.values is not None:
            if item.levels is not None:
                wanted = np.zeros(len(item.levels) + 1, np.bool_)  # the last is for what is missing
                wanted[[item.levels.index(value) for value in condition.values]] = True
                chosen &= wanted[self.codes[item.name]]
            else:
                chosen &= np.isin(self.numbers[item.name], [item.to_number(v) for v in condition.values])
        for bound, within in ((condition.minimum, np.greater_equal), (condition.maximum, np.less_equal)):
            if bound is not None:
                with np.errstate(invalid="ignore"):
                    chosen &= within(self.value(item.name), item.to_number(bound))
        return chosen

    def once_weighted(self, key: Any, find: Callable[[], Any]) -> Any:
        """Return what is found once for these weights."""
        found = self._weighted.get(key)
        if found is None:
            found = self._weighted[key] = find()
        return found

    def last_weighted(self, key: Any, find: Callable[[], Any]) -> Any:
        """Return what is found once as long as it is asked for in a row."""
        held = self._weighted.get("last")
        if held is None or held[0] != key:
            held = self._weighted["last"] = (key, find())
        return held[1]

    def _once(self, key: Any, find: Any) -> Any:
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = find()
        return found


def level_numbers(item: Field) -> Floats:
    """Return each level's number, the last entry NaN for what is missing: shape (levels + 1,)."""
    assert item.levels is not None
    if item.type in ("integer", "number", "year"):
        values = [item.to_number(level) for level in item.levels]
    else:
        values = [float(place) for place in range(len(item.levels))]
    return np.array([*values, np.nan])
