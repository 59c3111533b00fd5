"""What the attacks and similarity figures have in common: each is taken on persons, train beside holdout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from app.evaluation.base import Depth, Dimension, NotMeasured, Score, Tables
from app.evaluation.privacy_distance import Space, space_of

NO_KEYS = "no quasi-identifier was named; name some in evaluation.quasi_identifiers"
NO_SENSITIVE = "no sensitive column was named; name some in evaluation.sensitive"


class OnPersons(ABC):
    """A privacy figure of the persons of both real parts, as points beside the synthetic rows."""

    dimension: ClassVar[Dimension] = "privacy"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout"})
    depth: ClassVar[Depth] = "core"
    measured_from: ClassVar[Mapping[str, int]] = {"train": 200, "holdout": 80, "synthetic": 1}

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure, where columns were named that it asks for and there are persons enough."""
        unnamed = self.unnamed(tables)
        if unnamed:
            return NotMeasured(unnamed)
        space = space_of(tables)
        return space if isinstance(space, NotMeasured) else self.measure_on(tables, space)

    def unnamed(self, tables: Tables) -> str:
        """Say which columns should have been named; empty where none is missing."""
        return ""

    @abstractmethod
    def measure_on(self, tables: Tables, space: Space) -> Score | NotMeasured:
        """Measure on prepared points."""
