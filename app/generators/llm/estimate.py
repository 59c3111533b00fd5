"""What a job will take, before anything is asked: prompts are written, lengths of answers guessed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.generators.llm import marginals, pairs, rules, sizes
from app.generators.llm.client import Question
from app.generators.llm.dictionary import Known, blocks, subjects
from app.generators.llm.draft import Draft
from app.generators.llm.rows import Writing, batch_size, written_fields
from app.generators.llm.talk import estimated_tokens
from app.generators.llm.texts import ROWS_AT_ONCE, text_fields
from app.schema.table import Field, TableSchema

_CELL = 7
"""Tokens of a cell with its name, as JSON."""
_TEXT_CELL = 40
_ASKED_AGAIN = 1.15
"""Some answers are asked for again."""
_CRITIQUE = 3500


@dataclass(frozen=True, slots=True)
class Expected:
    """Roughly what a job takes."""

    requests: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        """Both ways."""
        return self.prompt_tokens + self.completion_tokens


def of_blueprint(schema: TableSchema, elicitations: int, critiques: int, texts: int = 0) -> Expected:
    """Estimate the strategy `blueprint`; rows play no part, but those that have free text written."""
    draft = Draft(schema.document, lambda _pointer, _message: None)
    fields = subjects(schema)
    asked: list[tuple[Question, float]] = []
    for group in blocks(schema.fields, 40):
        asked.append((rules.sheet(draft, group, "").question, 250))
    for group in blocks(fields):
        question = marginals.sheet(schema, group, 0, "").question
        asked += [(question, _answered(group))] * elicitations
    candidates = pairs.candidates(schema, fields)
    stated = pairs.most_pairs(len(candidates))
    told = {field.name: Known(mean=12.3, sd=4.56).told(field) for field in fields}
    for sheet in pairs.sheets(schema, candidates, told, 0):
        asked += [(sheet.question, 25.0 * stated / max(1, len(candidates) / 24))] * elicitations
    everything = list(itertools.combinations([field.name for field in candidates], 2))
    likely = everything[:: max(1, len(everything) // max(1, stated))][:stated]
    chosen = [sizes.asked_of(schema, pair, {}) for pair in likely]
    for part in sizes.groups(chosen):
        question = sizes.sheet(schema, part, told, 0, "").question
        asked += [(question, math.fsum(20 + 4 * item.count for item in part))] * elicitations
    prompt = sum(estimated_tokens(question) for question, _ in asked)
    answer = sum(length for _, length in asked)
    shown = min(len(fields), 60)
    prompt += critiques * (_CRITIQUE // 2 + 120 * shown)
    answer += critiques * 400.0
    written = len(text_fields(schema)) * texts
    batches = math.ceil(texts / ROWS_AT_ONCE) if written else 0
    prompt += batches * (700 + (30 + _CELL * ROWS_AT_ONCE) * len(fields))
    answer += written * 60.0
    requests = len(asked) + critiques + batches
    return Expected(requests, round(prompt * _ASKED_AGAIN), round(answer * _ASKED_AGAIN))


def of_rows(schema: TableSchema, rows: int, *, free_text: bool) -> Expected:
    """Estimate the strategy `rows`."""
    fields = written_fields(schema, free_text=free_text)
    size = batch_size(len(fields))
    requests = math.ceil(rows / size)
    prompt = Writing.prompt_tokens(schema, free_text=free_text)
    answer = rows * sum(_TEXT_CELL if field.kind == "text" else _CELL for field in fields)
    return Expected(
        math.ceil(requests * _ASKED_AGAIN),
        round(requests * prompt * _ASKED_AGAIN),
        round(answer * _ASKED_AGAIN),
    )


def _answered(group: Iterable[Field]) -> float:
    return math.fsum(30 + 5 * min(len(field.levels or (1,) * 5), 40) for field in group)
