"""Candidates of a program: what is computed of them, which of them are accepted, and how they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.blueprint.chance import Floats32, Mask, either
from app.blueprint.program import Drawn, Program
from app.blueprint.readings import classes_of, codes_of, numbers_of, solved_column, within_bounds
from app.blueprint.rows import Floats, Ints
from app.schema.evaluate import Columns, Evaluated, as_column, unpack

if TYPE_CHECKING:
    import pandas as pd


class Candidates:
    """Drawn candidates with their formulas computed, and empty where fields do not apply.

    Drawn columns stay ticks: only what a formula computes is held as it is delivered.

    Parameters
    ----------
    program : Program
    drawn : Drawn
        Is not written to.
    """

    def __init__(self, program: Program, drawn: Drawn) -> None:
        import pandas as pd

        self._program, self._ticks, self._absent = program, drawn.ticks, dict(drawn.absent)
        self.n = drawn.n
        self.computed: dict[str, pd.Series[Any]] = {}
        self.columns = Columns.found_by(self._evaluated, self.n)
        if program.solved:
            self._solve()
        for item in program.steps:
            if item.formula is not None:
                computed = as_column(self.columns.evaluate(item.formula), item, pd.RangeIndex(self.n))
                self.computed[item.name] = computed
                self.columns.forget(item.name)
            if item.relevant is not None:
                self._empty(item.name, ~self.columns.holds(item.relevant))

    def __contains__(self, name: str) -> bool:
        """Whether that column is here."""
        return name in self._ticks or name in self.computed

    def accepted(self, rejected: Counter[str] | None = None) -> Mask | None:
        """Tell the candidates that break no rule and no bound, None where all are good.

        Rules that hold by construction are asked as well: they cost a few looks.

        Parameters
        ----------
        rejected : Counter, optional
            Counts what the others break.
        """
        good: Mask | None = None
        for rule in self._program.schema.rules:
            broken = self.columns.breaks(rule)
            if broken.any():
                good = ~broken if good is None else good & ~broken
                if rejected is not None:
                    rejected[f"the rule `{rule.text}`"] += int(broken.sum())
        for item in self._program.bounded:
            within: Mask | None
            if item.name in self.computed:
                within = within_bounds(item, self.computed[item.name])
            else:
                within = self._program.reading(item.name).within_bounds(
                    self._ticks[item.name], self._absent[item.name]
                )
            if within is not None and not within.all():
                good = within if good is None else good & within
                if rejected is not None:
                    rejected[f"the constraints of `{item.name}`"] += int((~within).sum())
        return good

    def log_weights(self) -> Floats32:
        """Return the tilt of each candidate."""
        classes: dict[str, NDArray[np.int16]] = {}

        def class_of(axis: str) -> NDArray[np.int16]:
            if axis not in classes:
                classes[axis] = self._classes(axis)
            return classes[axis]

        weighing = self._program.weighing
        assert weighing is not None
        return weighing.log_weights(class_of, self.n)

    def write(
        self, name: str, chosen: Ints | None, out: NDArray[Any], mask: NDArray[np.bool_] | None
    ) -> None:
        """Write a drawn column's values, of the chosen candidates, as its reading delivers them.

        Parameters
        ----------
        chosen : ndarray of int, or None
            Places of candidates; all where None.
        mask : ndarray of bool, or None
            Where missing values are told, for dtypes that have none.
        """
        ticks, absent = self._ticks[name], self._absent[name]
        if chosen is not None:
            ticks = np.take(ticks, chosen)
            absent = None if absent is None else np.take(absent, chosen)
        elif len(ticks) > len(out):
            ticks, absent = ticks[: len(out)], None if absent is None else absent[: len(out)]
        self._program.reading(name).write(ticks, absent, out)
        if mask is not None and absent is not None:
            mask[:] = absent

    def numbers(self, name: str) -> Floats:
        """Return a column without levels on its field's numeric scale, NaN where missing."""
        if name in self.computed:
            return numbers_of(self._program.schema[name], self.computed[name])
        return self._program.reading(name).numbers(self._ticks[name], self._absent[name])

    def codes(self, name: str) -> Ints:
        """Return the positions of levels of a column that has some, −1 where missing."""
        if name in self.computed:
            return codes_of(self._program.schema[name], self.computed[name])
        codes, absent = self._ticks[name].astype(np.int64), self._absent[name]
        if absent is not None:
            codes[absent] = -1
        return codes

    def frame(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Return columns (all, where none are named) with the dtypes of `app.schema.frames`."""
        import pandas as pd

        chosen = [*self._ticks, *self.computed] if names is None else names
        columns = {name: self._column(name, self._absent.get(name)) for name in chosen}
        return pd.DataFrame(columns, index=pd.RangeIndex(self.n), copy=False)

    def _column(self, name: str, absent: Mask | None) -> Any:
        from app.schema.frames import column

        if name in self.computed:
            return self.computed[name].array
        values = self._program.reading(name).raw(self._ticks[name], absent)
        return column(self._program.schema[name], values, None if absent is None else absent.copy())

    def _evaluated(self, name: str) -> Evaluated:
        if name in self.computed:
            return unpack(self.computed[name])
        return self._program.reading(name).evaluated(self._ticks[name], self._absent[name])

    def _empty(self, name: str, where: Mask) -> None:
        if name in self.computed:
            self.computed[name] = self.computed[name].mask(where)
        else:
            self._absent[name] = either(self._absent[name], where)
        self.columns.forget(name)

    def _solve(self) -> None:
        import pandas as pd

        # From values that will be emptied too: what is missing is one column's own affair.
        sources = {name for one in self._program.solved for name in (*one.expression.fields, one.base)}
        whole = {name: self._column(name, None) for name in self._ticks if name in sources}
        complete = pd.DataFrame(whole, index=pd.RangeIndex(self.n), copy=False)
        for solved in self._program.solved:
            found = solved_column(solved, complete)
            absent = self._absent[solved.item.name]
            self.computed[solved.item.name] = found if absent is None else found.mask(absent)

    def _classes(self, axis: str) -> NDArray[np.int16]:
        program = self._program
        assert program.tilt is not None
        edges = program.tilt.edges.get(axis)
        name = program.tilt.sources.get(axis, axis)
        if name in self.computed:
            return classes_of(program.schema[name], self.computed[name], edges).astype(np.int16)
        ticks, absent = self._ticks[name], self._absent[name]
        if edges is not None:
            return program.tick_classes(axis)(ticks, absent)
        found: NDArray[np.int16] = ticks.astype(np.int16)
        found += np.int16(1)
        if absent is not None:
            found *= ~absent
        return found
