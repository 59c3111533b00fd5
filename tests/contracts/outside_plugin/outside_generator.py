"""A generator that another package brings: declared columns, drawn by one part as a joint model would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.blueprint.marginal import Marginal
from app.blueprint.marginal_declared import declared_marginal
from app.generators.base import Capabilities, NoOptions, Progress, Sampler
from app.generators.machinery import assemble, drawn_fields
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class AllColumns:
    marginals: tuple[Marginal, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(marginal.field.name for marginal in self.marginals)

    def draw(self, rng: np.random.Generator, n: int) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({marginal.field.name: marginal.draw(rng, n) for marginal in self.marginals})


class Evenly:
    """Draws all columns in one part."""

    Options = NoOptions
    name = "evenly"
    description = "An example from outside."
    version = "1.0"
    capabilities = Capabilities(prefix=True, honours=frozenset({"marginals", "missing", "formulas", "rules"}))

    def __init__(self, options: NoOptions) -> None:
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
        columns = tuple(declared_marginal(schema, field, warn) for field in drawn_fields(schema))
        return assemble(schema, [AllColumns(columns)] if columns else [], warn)
