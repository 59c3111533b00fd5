"""What may be said of a real table, put into the schema before a language model is asked.

Only a caller who says `disclose: "statistics"` has this done. Every figure comes from `app.schema.describe`,
and so under the disclosure rules; no row goes further than this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.blueprint.model import Source
from app.generators.base import MIN_CELL, Sampler
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

_LEAST_CELL = 10


@dataclass(frozen=True)
class Told:
    """A schema as the model is told it.

    Parameters
    ----------
    schema : TableSchema
    sources : mapping of pointer to source
        What was learned of a real table, by pointer into the schema's document.
    """

    schema: TableSchema
    sources: dict[str, Source]


def with_statistics(schema: TableSchema, train: pd.DataFrame, warn: Callable[[str, str], None]) -> Told:
    """Add what the real table's description says to what is declared, which stays as it is.

    Raises
    ------
    InvalidInput
        Where the table has too few rows for anything to be said of it.
    """
    from app.schema.describe import describe_frame

    described = describe_frame(schema, train, min_cell=train.attrs.get(MIN_CELL, _LEAST_CELL))
    for fault in described.warnings:
        warn(fault.pointer, fault.message)
    told, _ = parse_schema(described.document, max_fields=len(schema.fields))
    return Told(told, dict(described.fitted))


@dataclass(frozen=True)
class InItsOwnTypes:
    """A Sampler whose rows are typed by the job's schema: a description may know levels that it does not."""

    schema: TableSchema
    inner: Sampler
    blueprint: bytes | None = None

    def sample_shard(self, index: int, n_rows: int, *, seed: SeedSequence) -> Any:
        """Return rows of a shard."""
        from app.schema.frames import conform

        return conform(self.inner.sample_shard(index, n_rows, seed=seed), self.schema)
