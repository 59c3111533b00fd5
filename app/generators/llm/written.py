"""The sampler of rows that a model has written: it gives them out, with ids and placeholders made fresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.errors import RowShortfall
from app.generators.base import SHARD_ROWS, Sampler
from app.generators.machinery import assemble, empty_where_it_does_not_apply
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence


@dataclass(frozen=True)
class WrittenRows:
    """A Sampler of rows that are there already.

    Parameters
    ----------
    schema : TableSchema
        Of the whole table.
    table : DataFrame
        The written rows of all replicates, one after the other.
    rows : int
        Of each replicate.
    fresh : Sampler or None
        Makes the columns that no model writes.
    """

    schema: TableSchema
    table: pd.DataFrame
    rows: int
    fresh: Sampler | None

    @classmethod
    def of(
        cls, schema: TableSchema, table: pd.DataFrame, rows: int, warn: Callable[[str, str], None]
    ) -> WrittenRows:
        """Join written rows with what is made fresh."""
        open_fields = tuple(
            replace(field, relevant=None, formula=None)
            for field in schema.fields
            if field.name not in table.columns
        )
        names = {field.name for field in open_fields}
        key = tuple(name for name in schema.primary_key if name in names)
        alone = replace(
            schema, fields=open_fields, rules=(), primary_key=key, associations=(), conditionals=()
        )
        return cls(schema, table, rows, assemble(alone, (), warn) if open_fields else None)

    def sample_shard(self, index: int, n_rows: int, *, seed: SeedSequence) -> pd.DataFrame:
        """Return rows of a shard; the replicate is the last part of the seed's key, counted from 1.

        Raises
        ------
        RowShortfall
            Beyond the rows that were written.
        """
        replicate = seed.spawn_key[-1] if seed.spawn_key else 1
        first = index * SHARD_ROWS
        begin = (replicate - 1) * self.rows + first
        made = max(0, min(self.rows - first, len(self.table) - begin))
        if n_rows > made:
            raise RowShortfall(
                n_rows, made, "the language model wrote the rows that were asked for, no more."
            )
        frame = self.table.iloc[begin : begin + n_rows].reset_index(drop=True)
        if self.fresh is not None:
            made_fresh = self.fresh.sample_shard(index, n_rows, seed=seed)
            for name in made_fresh:
                frame[name] = made_fresh[name].array
        frame = frame[list(self.schema.names)]
        empty_where_it_does_not_apply(
            self.schema, [str(name) for name in frame if name not in self.table.columns], frame
        )
        return frame
