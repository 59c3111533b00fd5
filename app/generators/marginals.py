"""Columns drawn independently of one another, each from what is declared of it or learned of it.

The dullest generator there is, and so the manual for writing one: say what you need and keep, give your
options, and return a sampler. Types, missing values, formulas, rules and the row count are kept by
`app.generators.machinery`; ids and free text are made there too, so that nobody learns them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from app.generators.base import MIN_CELL, Capabilities, Progress, Sampler
from app.generators.machinery import (
    OneColumn,
    assemble,
    drawn_fields,
    where_it_applies,
    with_learned_gaps,
)
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Marginals:
    """Independent columns. Built as `Marginals(Marginals.Options(fit=True))`."""

    class Options(BaseModel):
        """What a caller may choose."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        fit: bool = Option(
            False, description="learn each column from the reference; what is declared overrules"
        )

    name = "marginals"
    description = "Each column by its own distribution, independent of the others; declared, or fitted."
    version = "1"
    capabilities = Capabilities(prefix=True, honours=frozenset({"marginals", "missing", "formulas", "rules"}))

    def __init__(self, options: Options) -> None:
        self.options = options

    def fit(
        self,
        schema: TableSchema,
        train: pd.DataFrame | None,
        *,
        seed: np.random.SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Sampler:
        """Find each column's distribution; nothing here is random, so `seed` is not used."""
        from app.blueprint.marginal_declared import declared_marginal
        from app.blueprint.marginal_learned import fitted_marginal

        parts = []
        for field in drawn_fields(schema):
            if self.options.fit and train is not None:
                cell = train.attrs.get(MIN_CELL, 10)
                marginal = fitted_marginal(schema, field, where_it_applies(field, train), warn, cell)
            else:
                marginal = declared_marginal(schema, field, warn)
            parts.append(OneColumn(marginal))
        if self.options.fit and train is not None:
            schema = with_learned_gaps(schema, train)
        return assemble(schema, parts, warn)
