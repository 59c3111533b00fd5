"""One sheet of questions: asked, read, and a few times asked again with the fault named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import AnswerInvalid, ProviderError
from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.structured import usable_part
from app.generators.llm.talk import Talk

ASKED_AGAIN = 2
"""Times that a fault is named and the answer asked for again."""
_MOST_FAULTS = 12

Read = Callable[[Any], tuple[Mapping[Any, Any], list[str]]]
"""From an answer of the right shape: usable entries by key, and faults in words that a model can act on."""


@dataclass(frozen=True)
class Sheet:
    """A question and how its answer is read."""

    question: Question
    read: Read


@dataclass
class Filled:
    """What a sheet came to.

    Parameters
    ----------
    entries : dict
        What can be used.
    faults : list of str
        What was still wrong at the end.
    problem : ProviderError or None
        Why there is no answer at all: refused, filtered, cut off, or never of the right form.
    """

    entries: dict[Any, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    problem: ProviderError | None = None


def fill(talk: Talk, sheet: Sheet) -> Filled:
    """Ask a sheet's question until its answer can be used, at most a few times.

    Raises
    ------
    ProviderError
        Where nothing can be asked at all, or the budget does not allow it.
    """
    filled, question = Filled(), sheet.question
    for turn in range(1 + ASKED_AGAIN):
        reply = talk.ask(question)
        if reply.problem is not None and not isinstance(reply.problem, AnswerInvalid):
            filled.problem = None if filled.entries else reply.problem
            return filled
        faults = [] if reply.problem is None else [reply.problem.detail]
        part = reply.value if reply.problem is None else usable_part(reply.value, question.shape)
        if part is not None:
            entries, more = sheet.read(part)
            # What was good stays: an answer to a complaint may leave it out, or spoil it.
            filled.entries = {**entries, **filled.entries}
            faults += more
        filled.problem = None if filled.entries else reply.problem
        filled.faults = faults
        if not faults or turn == ASKED_AGAIN:
            break
        told = "; ".join(faults[:_MOST_FAULTS])
        # The first question with the last answer: a conversation that grows with every turn costs more.
        question = sheet.question.again(
            reply.text[:6000] or "(nothing)", prompts.text("again", fault=told), turn
        )
    return filled
