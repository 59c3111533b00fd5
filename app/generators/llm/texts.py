"""Free text for sampled rows: written by the model in batches, each text for the row that it stands in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.generators.base import SHARD_ROWS, Sampler
from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.dictionary import block, level_text, subjects
from app.generators.llm.interview import Sheet, fill
from app.generators.llm.structured import INTEGER, TEXT, listing, record
from app.generators.llm.talk import Talk
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import SeedSequence

MOST_TEXTS = 2000
"""Rows for which text is written, over all replicates; more are refused at the door."""
ROWS_AT_ONCE = 20
LONGEST = 600
"""Characters that a text may have where the schema sets no limit."""

Tell = Callable[[float, str], None]


def text_fields(schema: TableSchema) -> tuple[Field, ...]:
    """Return the columns of free text: texts that are neither categories, ids nor computed."""
    return tuple(field for field in schema.fields if field.kind == "text" and field.formula is None)


@dataclass(frozen=True)
class WithTexts:
    """A Sampler whose rows have texts of their own.

    Parameters
    ----------
    inner : Sampler
        Makes the rows; where no text was written, its placeholder stays.
    texts : mapping
        By column: one text, or None, for each row of each replicate, one replicate after the other.
    rows : int
        Of each replicate.
    """

    inner: Sampler
    texts: Mapping[str, Sequence[str | None]]
    rows: int
    blueprint: bytes | None = None

    def sample_shard(self, index: int, n_rows: int, *, seed: SeedSequence) -> pd.DataFrame:
        """Return rows of a shard; the replicate is the last part of the seed's key, counted from 1."""
        import pandas as pd

        frame = self.inner.sample_shard(index, n_rows, seed=seed)
        first = (_replicate(seed) - 1) * self.rows + index * SHARD_ROWS
        for name, texts in self.texts.items():
            given = list(texts[first : first + n_rows])
            given += [None] * (n_rows - len(given))
            column = frame[name]
            written = pd.Series(given, index=column.index, dtype=column.dtype)
            frame[name] = written.where(column.notna() & written.notna(), column)
        return frame


def _replicate(seed: SeedSequence) -> int:
    return seed.spawn_key[-1] if seed.spawn_key else 1


def write_texts(
    schema: TableSchema,
    sampler: Sampler,
    talk: Talk,
    seeds: Sequence[SeedSequence],
    rows: int,
    tell: Tell,
    warn: Callable[[str, str], None],
) -> WithTexts:
    """Have text written for every row that will be sampled.

    Parameters
    ----------
    seeds : sequence of SeedSequence
        Of the replicates.
    rows : int
        Of each replicate.

    Raises
    ------
    ProviderError
    """
    wanted = text_fields(schema)
    told = [field for field in subjects(schema) if field.kind != "text"]
    shown: list[dict[str, Any]] = []
    for seed in seeds:
        frame = sampler.sample_shard(0, rows, seed=seed)
        shown += [_row(told, frame, place) for place in range(len(frame))]
    starts = range(0, len(shown), ROWS_AT_ONCE)
    sheets = [_sheet(schema, wanted, told, shown[start : start + ROWS_AT_ONCE], start) for start in starts]
    filled = talk.side_by_side(
        lambda sheet: fill(talk, sheet),
        sheets,
        lambda done: tell(done / len(sheets), f"free text, {done} of {len(sheets)} batches"),
    )
    texts: dict[str, list[str | None]] = {field.name: [None] * len(shown) for field in wanted}
    for one in filled:
        for (place, name), text in one.entries.items():
            texts[name][place] = text
    lacking = sum(text is None for name in texts for text in texts[name])
    if lacking:
        warn("", f"{lacking} free texts could not be written and are placeholders.")
    return WithTexts(sampler, texts, rows, getattr(sampler, "blueprint", None))


def _sheet(
    schema: TableSchema,
    wanted: Sequence[Field],
    told: Sequence[Field],
    rows: Sequence[Mapping[str, Any]],
    start: int,
) -> Sheet:
    keys = {f"text_{place}": field for place, field in enumerate(wanted, start=1)}
    limits = [
        f" The texts of {key} have at most {_longest(field)} characters." for key, field in keys.items()
    ]
    lines = [json.dumps({"row": place, **row}, ensure_ascii=False) for place, row in enumerate(rows, start=1)]
    text = prompts.text(
        "texts",
        table=block(schema, [*told, *wanted], others=False),
        columns=", ".join(
            f"{key} ({json.dumps(field.name, ensure_ascii=False)})" for key, field in keys.items()
        ),
        limits="".join(limits),
        rows="\n".join(line.replace("<", "\\u003c") for line in lines),
        keys=", ".join(f'"{key}": text' for key in keys),
    )
    shape = record(texts=listing(record(row=INTEGER, **dict.fromkeys(keys, TEXT))))
    question = Question(
        f"free text from row {start + 1}",
        (("system", prompts.text("system_rows")), ("user", text)),
        "texts",
        shape,
        400 + len(rows) * sum(min(300, _longest(field) // 2) for field in wanted),
    )

    def read(value: Any) -> tuple[dict[tuple[int, str], str], list[str]]:
        found: dict[tuple[int, str], str] = {}
        faults: list[str] = []
        for item in value["texts"]:
            number = int(item["row"])
            if not 1 <= number <= len(rows):
                faults.append(f"there is no row {number}")
                continue
            for key, field in keys.items():
                written = " ".join(item[key].replace("\0", " ").split())
                fault = _fault(field, written)
                if fault:
                    faults.append(f"row {number}, {key}: {fault}")
                else:
                    found[start + number - 1, field.name] = written
        absent = [
            n for n in range(1, len(rows) + 1) if n not in {int(item["row"]) for item in value["texts"]}
        ]
        if absent:
            faults.append(f"no text for the rows {', '.join(map(str, absent))}")
        return found, faults

    return Sheet(question, read)


def _longest(field: Field) -> int:
    return min(field.constraints.max_length or LONGEST, LONGEST)


def _fault(field: Field, text: str) -> str | None:
    limits = field.constraints
    if not text:
        return "the text is empty"
    if len(text) > _longest(field):
        return f"the text has {len(text)} characters, and at most {_longest(field)} are allowed"
    if limits.min_length is not None and len(text) < limits.min_length:
        return f"the text has {len(text)} characters, and needs {limits.min_length}"
    if limits.pattern is not None and re.fullmatch(limits.pattern, text) is None:
        return "the text does not match the column's pattern"
    return None


def _row(told: Sequence[Field], frame: pd.DataFrame, place: int) -> dict[str, Any]:
    import pandas as pd

    row: dict[str, Any] = {}
    for field in told:
        value = frame[field.name].iloc[place]
        if pd.isna(value):
            continue
        if field.levels is not None:
            row[field.name] = level_text(field, value.item() if hasattr(value, "item") else value)
        elif field.kind == "temporal":
            row[field.name] = str(value)[:19].removesuffix(" 00:00:00")
        else:
            row[field.name] = float(f"{float(value):.6g}")
    return row
