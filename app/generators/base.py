"""What a generator is. Write one with `marginals.py` open beside you; `docs/generators.md` tells the rest.

The HTTP side imports every generator's module for its name, capabilities and Options: a module imports
numpy, pandas, torch and the like inside its functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from app.errors import Fault
from app.schema.table import TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

MIN_CELL = "min_cell"
"""In `train.attrs`: the fewest rows to learn anything of, so many that they are of `min_cell` persons."""

SHARD_ROWS = 131_072
"""Rows of a full shard. Part of what makes the same seed give the same bytes: the same on every machine."""

Declaration = Literal["marginals", "missing", "associations", "conditionals", "formulas", "rules"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a generator needs and keeps.

    Parameters
    ----------
    needs_reference : bool
        Cannot work without a real table.
    learns_from_reference : bool
        Learns from a reference by default. Generators that need one always do; others may offer
        an option `fit`, or one that asks a language model `disclose` (see `learns`).
    reproducible : bool
        Same request, seed and version: same bytes.
    prefix : bool
        Rows 1 … k of a job are rows 1 … k of any longer job with the same seed.
    heavy : bool
        Trains long or takes much memory: runs in the heavy queue.
    uses_llm : bool
        Asks a language model.
    has_blueprint : bool
        Its Sampler has an attribute `blueprint`, the bytes of a JSON document that is kept with the job.
        Where that depends on the options, a class method `has_blueprint(options)` tells it.
    honours : frozenset of str
        Kinds of declarations that it honours. Types, constraints and rules are honoured by all.
    """

    needs_reference: bool = False
    learns_from_reference: bool = False
    reproducible: bool = True
    prefix: bool = False
    heavy: bool = False
    uses_llm: bool = False
    has_blueprint: bool = False
    honours: frozenset[Declaration] = field(default_factory=frozenset)


class NoOptions(BaseModel):
    """For generators without options."""

    model_config = {"extra": "forbid", "frozen": True}


class Progress(Protocol):
    """What a long `fit` calls now and then; it may raise to end the work."""

    def __call__(self, fraction: float, detail: str = "", eta_seconds: float | None = None) -> None:
        """Report `fraction` (0 … 1) of the stage done."""


@runtime_checkable
class Sampler(Protocol):
    """A fitted generator. It is pickled to reach other workers: no real row, open file or thread in it."""

    def sample_shard(self, index: int, n_rows: int, *, seed: SeedSequence) -> pd.DataFrame:
        """Return exactly `n_rows` rows of shard `index`: a pure function of (self, seed, index).

        A shorter shard is the prefix of the full one (SHARD_ROWS) where `capabilities.prefix` says so.
        Columns and dtypes are those of `app.schema.frames`, constraints and rules hold.

        Raises
        ------
        RowShortfall
            Where rules cannot be met.
        """


@runtime_checkable
class Generator(Protocol):
    """Built as `cls(Options(...))`."""

    name: ClassVar[str]
    description: ClassVar[str]
    version: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    Options: ClassVar[type[BaseModel]]

    def __init__(self, options: BaseModel) -> None: ...

    def fit(
        self,
        schema: TableSchema,
        train: pd.DataFrame | None,
        *,
        seed: SeedSequence,
        progress: Progress,
        warn: Callable[[str, str], None],
    ) -> Sampler:
        """Learn from what is declared and, where given, from `train`; return a Sampler.

        `warn(pointer, message)` records a warning on the job (an adaptation, a declaration not honoured).
        """


def learns(generator: Generator, options: BaseModel) -> bool:
    """Whether this generator, with these options, is given the train part of a reference."""
    capabilities = generator.capabilities
    always = capabilities.needs_reference or capabilities.learns_from_reference
    told = getattr(options, "disclose", "nothing") != "nothing"
    return always or told or bool(getattr(options, "fit", False))


def refusals(
    generator: type[Generator], options: BaseModel, schema: TableSchema, rows: int
) -> Iterable[Fault]:
    """Return why a generator will not do what is asked; the pointers lead into the request.

    One that can tell without numerics has a class method `refusals(options, schema, rows)`.
    """
    told = getattr(generator, "refusals", None)
    return () if told is None else told(options, schema, rows)


def remarks(generator: type[Generator], options: BaseModel, schema: TableSchema) -> Iterable[Fault]:
    """Return what a caller should know of these options before there are rows; pointers into the request.

    One that has something to say has a class method `remarks(options, schema)`.
    """
    told = getattr(generator, "remarks", None)
    return () if told is None else told(options, schema)


def seconds_to_learn(generator: type[Generator], options: BaseModel, train_rows: int, columns: int) -> float:
    """Return about how many seconds of one core learning takes; 0 where it is nothing beside the rest.

    One that trains long has a class method `seconds_to_learn(options, train_rows, columns)`.
    """
    told = getattr(generator, "seconds_to_learn", None)
    return 0.0 if told is None else float(told(options, train_rows, columns))
