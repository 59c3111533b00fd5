"""What a metric is: a number never travels without its yardstick, and absence has a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from app.schema.table import TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from app.schema.check import Conformance

Dimension = Literal["conformance", "fidelity", "utility", "privacy"]
Depth = Literal["core", "full"]


@dataclass(frozen=True, slots=True)
class Score:
    """A measured figure.

    Parameters
    ----------
    value : float
        The headline: the stated aggregate of `details["table"]` where there is one.
    interval : (float, float) or None
        95 % interval, None where none can be stated.
    baseline : float or None
        The figure that a perfect generator would get: the holdout in the synthetic table's place.
    reading : str
        What the figure says, in one plain sentence.
    details : mapping
        JSON-ready; a table that the value is the aggregate of, sizes, seeds.

    Raises
    ------
    ValueError
        Where a figure is not finite: what cannot be measured is `NotMeasured`.
    """

    value: float
    interval: tuple[float, float] | None = None
    baseline: float | None = None
    reading: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        figures = (self.value, *(self.interval or ()), *([] if self.baseline is None else [self.baseline]))
        if not all(map(math.isfinite, figures)):
            raise ValueError("a score is a finite number; what has none is NotMeasured")


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """Why there is no figure, in words that a reader can act on."""

    reason: str


@dataclass(frozen=True, slots=True)
class MatchTally:
    """How many of `rows` synthetic rows equal a row of the train part (see `app.evaluation.privacy`)."""

    rows: int
    matches: int


@dataclass(frozen=True, slots=True)
class Tables:
    """What is judged, and against what. Frames have the dtypes of `app.schema.frames`.

    Parameters
    ----------
    schema : TableSchema
        With the statistics that the caller declared.
    synthetic : tuple of DataFrame
        One for each replicate; may be a sample of what was made.
    train, holdout : DataFrame or None
        The real table's two parts, None without a reference.
    target : str or None
        The column that a later user would predict.
    conformance : Conformance or None
        The tally of constraints, rules and formulas over all rows that were made.
    matches : MatchTally or None
        Identical matches counted over all rows that were made, where `synthetic` is a sample of them.
    independent : bool
        False where rows were chosen together, so that each table has the declared statistics itself.
    """

    schema: TableSchema
    synthetic: tuple[pd.DataFrame, ...]
    train: pd.DataFrame | None = None
    holdout: pd.DataFrame | None = None
    target: str | None = None
    group: str | None = None
    quasi_identifiers: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    min_cell: int = 10
    seed: int = 0
    conformance: Conformance | None = None
    matches: MatchTally | None = None
    depth: Depth = "core"
    independent: bool = True


@runtime_checkable
class Metric(Protocol):
    """A measurement on Tables. Built without arguments.

    Notes
    -----
    `bounds` are the least and the greatest value it can take; the better one is the ideal, which a real
    table need not reach: the yardstick is the score's baseline. `needs` names what must be there beside
    the synthetic rows: fields of Tables that may be None. `depth` is the depth from which on it is measured
    ("core" always is). `measured_from` is the promise of a size: with at least so many rows of "train",
    "holdout" and "synthetic" the figure is measured, whatever else the tables hold that it can use.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    dimension: ClassVar[Dimension]
    higher_is_better: ClassVar[bool]
    bounds: ClassVar[tuple[float, float]]
    needs: ClassVar[frozenset[str]]
    depth: ClassVar[Depth]
    measured_from: ClassVar[Mapping[str, int]]

    def measure(self, tables: Tables) -> Score | NotMeasured:
        """Measure. Called only where everything in `needs` is there, and some synthetic row."""
