"""What a generator that asks a language model is given beyond its options: means, and how much is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel

from app.errors import Fault
from app.generators.llm.providers import Providers
from app.generators.llm.talk import Talks
from app.schema.table import TableSchema


@dataclass(frozen=True)
class Assignment:
    """One job, as a generator that asks a model sees it.

    Parameters
    ----------
    talks : Talks
        Providers, and the shelf of the job's receipts.
    rows, replicates : int
        What will be sampled; rows that a model writes are written in `fit`.
    """

    talks: Talks
    rows: int
    replicates: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known before a job is accepted.

    Parameters
    ----------
    options : dict
        Complete: the provider is named.
    faults, warnings : tuple of Fault
        Pointers into the options.
    prompt_tokens, completion_tokens : int
        An estimate.
    cost_usd : float or None
        None where no price is configured.
    """

    options: dict[str, Any]
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


@runtime_checkable
class AsksModels(Protocol):
    """A generator with `capabilities.uses_llm`: whoever runs it hands it an assignment before `fit`."""

    def assigned(self, assignment: Assignment) -> Self:
        """Return the same generator, with the means to ask."""

    @classmethod
    def judge(cls, options: BaseModel, schema: TableSchema, rows: int, providers: Providers) -> Judged:
        """Judge options at the door: is there a provider, and is it not too much?"""
