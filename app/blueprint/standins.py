"""Which drawn column is moved for a statement on a computed one: the input that moves it most."""

from __future__ import annotations

import numpy as np
import pandas as pd

from app.blueprint.marginal import Marginal
from app.blueprint.marginal_declared import declared_marginal
from app.blueprint.sample import solved_column
from app.blueprint.structure import Structure
from app.schema.evaluate import formula_column
from app.schema.frames import column


class StandIns:
    """Finds stand-ins, and remembers them."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._solved = {item.item.name: item for item in structure.solved}
        self._found: dict[str, list[tuple[str, int]]] = {}

    def of(self, name: str) -> list[tuple[str, int]]:
        """Return latent columns that move a column, the strongest first, each with its direction (±1)."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._find(name)
        return found

    def _find(self, name: str) -> list[tuple[str, int]]:
        structure = self._structure
        if name in structure.latents:
            return [(name, 1)]
        if name in structure.home:
            return []
        schema = structure.schema
        solved = self._solved.get(name)
        if solved is not None:
            sources = [*solved.expression.fields, *([solved.base] if solved.base else [])]
        elif name in schema and schema[name].formula is not None:
            sources = list(schema[name].formula.fields)  # type: ignore[union-attr]
        else:
            return []
        moving: list[tuple[float, str, int]] = []
        for source, slope in self._slopes(name, sources).items():
            for latent, sign in self.of(source):
                if slope != 0:
                    moving.append((abs(slope), latent, sign if slope > 0 else -sign))
        moving.sort(key=lambda one: -one[0])
        return [(latent, sign) for _, latent, sign in moving]

    def _slopes(self, name: str, sources: list[str]) -> dict[str, float]:
        """Return how far a computed column moves when an input goes from below its middle to above."""
        structure, schema = self._structure, self._structure.schema
        item = schema[name]
        shares = {source: np.full(1 + 2 * len(sources), 0.5) for source in sources}
        for place, source in enumerate(sources):
            shares[source][1 + 2 * place : 3 + 2 * place] = (0.3, 0.7)
        columns = {}
        for source in sources:
            marginal = structure.marginals.get(source)
            if marginal is None:
                marginal = self._undrawn(source)
            if marginal is None:
                return {}
            ticks = marginal._ticks(shares[source])
            columns[source] = column(marginal.field, marginal.encode(ticks))
        frame = pd.DataFrame(columns)
        solved = self._solved.get(name)
        values = solved_column(solved, frame) if solved is not None else formula_column(item, frame)
        if values.dtype.kind in "Mm":
            numbers = values.to_numpy().astype("int64").astype(np.float64)
        else:
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        return {
            source: float(np.nan_to_num(numbers[2 + 2 * place] - numbers[1 + 2 * place]))
            for place, source in enumerate(sources)
            if schema[source].levels is None
        }

    def _undrawn(self, name: str) -> Marginal | None:
        schema = self._structure.schema
        if schema[name].formula is not None or schema[name].type == "string":
            return None
        return declared_marginal(schema, schema[name], lambda *_: None)
