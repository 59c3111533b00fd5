"""What a model says no row may break, tried on rows before it is believed.

Rows are drawn column by column, without the expressions in question: what relates columns is not known to
them, so only what next to nothing keeps is turned away, and what declared figures cannot live with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.errors import RowShortfall, SynthwardError
from app.generators.marginals import Marginals
from app.schema.parse import parse_schema
from app.schema.rules import Expression, parse_expression
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import SeedSequence
    from numpy.typing import NDArray

    from app.blueprint.statements import Statement

ROWS = 2000
LEAST_KEPT = 0.02
"""Share of rows that must keep all elicited rules: the sampler gives up at half of it."""
APART = 6.0
"""Tolerances by which the rows that keep a rule, weighted at their best, may miss a declared figure."""
WORSE = 2.0
"""How many times further off than all rows, weighted at their best, they must be as well."""
_PASSES = 25
_OWN = frozenset({"mean", "sd", "quantile", "proportion", "missing"})
"""Kinds of statements about one column; how two go together is not known to these rows."""

HARDLY = "with the statistics of its columns hardly any row would keep it"
OVERRULES = "what is declared could not hold with it"


@dataclass(frozen=True)
class Sieve:
    """Tries expressions on rows of a draft.

    Parameters
    ----------
    declared : TableSchema
        What must be able to hold whatever a model says.
    seed : SeedSequence
    """

    declared: TableSchema
    seed: SeedSequence

    def rules(self, document: Mapping[str, Any], candidates: Sequence[str]) -> list[str]:
        """Tell of each rule why it cannot be believed, each together with those before it; "" where it can.

        Parameters
        ----------
        document : mapping
            The draft without these rules.
        """
        import numpy as np

        drawn = self._drawn(document)
        if drawn is None:
            return [""] * len(candidates)  # what is declared is at fault, and will be named
        frame, read = drawn
        good = np.ones(len(frame), bool)
        believed: list[Expression] = []
        reasons = []
        for text in candidates:
            rule = read(text)
            reason, kept = self._judged(frame, good, rule, believed)
            if not reason:
                good = kept
                believed.append(rule)
            reasons.append(reason)
        return reasons

    def conditions(self, document: Mapping[str, Any], candidates: Sequence[str]) -> list[bool]:
        """Tell of each condition whether any row meets it, so that a column is there at all.

        Parameters
        ----------
        document : mapping
            The draft without these conditions.
        """
        from app.schema.evaluate import holds_relevant

        drawn = self._drawn(document)
        if drawn is None:
            return [True] * len(candidates)
        frame, read = drawn
        # Rows are not turned away for a condition: one that few meet is as good as any.
        return [bool(holds_relevant(read(text), frame).any()) for text in candidates]

    def _drawn(self, document: Mapping[str, Any]) -> tuple[pd.DataFrame, Callable[[str], Expression]] | None:
        schema, _ = parse_schema(document, max_fields=len(document["fields"]))
        try:
            sampler = Marginals(Marginals.Options()).fit(
                schema, None, seed=self.seed, progress=_quiet, warn=_quiet
            )
            frame = sampler.sample_shard(0, ROWS, seed=self.seed)
        except (RowShortfall, SynthwardError):
            return None
        known = {field.name: field for field in schema.fields}
        return frame, lambda text: parse_expression(text, known, expects="boolean")

    def _judged(
        self, frame: pd.DataFrame, good: NDArray[np.bool_], rule: Expression, believed: Sequence[Expression]
    ) -> tuple[str, NDArray[np.bool_]]:
        from app.schema.evaluate import evaluate

        truth = evaluate(rule, frame)
        known = ~truth.missing & good
        # Where a value is missing a rule is kept, as its truth is unknown: that must not speak for it.
        true = truth.values & known
        kept = good & (truth.values | truth.missing)
        if true.sum() < LEAST_KEPT * max(known.sum(), 1) or kept.mean() < LEAST_KEPT:
            return HARDLY, good
        return ("" if self._can_hold(frame, good, kept, rule, believed) else OVERRULES), kept

    def _can_hold(
        self,
        frame: pd.DataFrame,
        before: NDArray[np.bool_],
        kept: NDArray[np.bool_],
        rule: Expression,
        believed: Sequence[Expression],
    ) -> bool:
        """Whether some weights of the rows that keep a rule give what is declared of the columns it reads."""
        import pandas as pd

        from app.blueprint.statements import statements_of
        from app.schema.evaluate import breaks

        touched = set(rule.fields)
        stated = [
            item
            for item in statements_of(self.declared)
            if item.kind in _OWN and touched & {*item.fields, *(given.field for given in item.given)}
        ]
        if not stated or kept[before].all():
            return True
        with_it = self._gaps(frame[kept], stated)
        if max(with_it) <= APART:
            return True
        # Of rows drawn apart too few may lie as an order of two alike columns wants them: so some in line.
        lined_up = pd.concat(_together(frame, rule.fields), ignore_index=True)
        for expression in (*believed, rule):
            lined_up = lined_up[~breaks(expression, lined_up)].reset_index(drop=True)
        with_it = self._gaps(pd.concat([frame[kept], lined_up], ignore_index=True), stated)
        if max(with_it) <= APART:
            return True
        without = self._gaps(frame[before], stated)
        return all(gap <= max(APART, WORSE * least) for gap, least in zip(with_it, without, strict=True))

    def _gaps(self, frame: pd.DataFrame, stated: Sequence[Statement]) -> list[float]:
        from app.blueprint.matching import rows_of
        from app.blueprint.reweighting import reweigh
        from app.blueprint.statements import measure

        rows = reweigh(rows_of(self.declared, frame.reset_index(drop=True)), stated, passes=_PASSES)
        return [measure(statement, rows).distance for statement in stated]


def _together(frame: pd.DataFrame, names: Sequence[str]) -> list[pd.DataFrame]:
    """Return the rows with some columns' values in line: all ascending, and the first of them descending."""
    columns = {name: frame[name].sort_values(ignore_index=True, na_position="last").array for name in names}
    ascending = frame.reset_index(drop=True).assign(**columns)
    first = frame[names[0]].sort_values(ascending=False, ignore_index=True, na_position="last").array
    return [ascending, ascending.assign(**{names[0]: first})]


def _quiet(*_: Any, **__: Any) -> None:
    """Follow nothing."""
