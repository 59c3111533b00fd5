"""Rows written by the model itself: in batches side by side, each from another slice of the declared margins.

Every row is held against the schema by the schema's own checker. Broken rows go back once with the fault
named; repetitions are dropped; what is then missing is asked for again, boundedly. Dice are not the model's
strength, which is why `blueprint` is the default.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from app.errors import AnswerInvalid, ProviderError, RowShortfall
from app.generators.fresh import is_fresh, is_numbered
from app.generators.llm import prompts
from app.generators.llm.client import Question
from app.generators.llm.dictionary import block, level_text, quoted
from app.generators.llm.marginals import declared_of, from_scale
from app.generators.llm.structured import LARGEST, MAX_CHOICES, Shape, listing, record
from app.generators.llm.talk import Talk
from app.generators.llm.tokens import CHARACTERS_PER_TOKEN
from app.schema.check_rows import capacity
from app.schema.rules import parse_moment
from app.schema.table import Field, TableSchema

if TYPE_CHECKING:
    import pandas as pd

CELLS_AT_ONCE = 350
"""Cells of a batch: an answer of some 2,500 tokens, which every model may give."""
MOST_AT_ONCE = 40
MOST_ROWS = 2000
"""Rows that are written for one job; more are refused at the door."""
EXTRA_BATCHES = 4
"""Batches beyond the planned ones, and as many again as were planned, before what is missing is given up."""
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_PLAIN_LEVEL = re.compile(r"[^\W_][\w.:/+%'’-]{0,24}(?: [\w.:/+%'’-]{1,24}){0,3}")
_MOST_FAULTS = 4

Progress = Callable[[float, str], None]


def written_fields(schema: TableSchema, *, free_text: bool) -> tuple[Field, ...]:
    """Return the columns that a model writes: not ids, not what is computed, free text only where asked."""
    return tuple(
        item
        for item in schema.fields
        if item.formula is None
        and not is_numbered(schema, item)
        and (free_text or not is_fresh(schema, item))
    )


def batch_size(columns: int) -> int:
    """Return how many rows one request asks for."""
    return max(3, min(MOST_AT_ONCE, CELLS_AT_ONCE // max(1, columns)))


@dataclass
class Writing:
    """One job's rows in the making."""

    schema: TableSchema
    talk: Talk
    total: int
    free_text: bool
    tell: Progress
    quantiles: Callable[[Field], Sequence[float] | None]
    """Gives 101 ascending quantiles of a column whose distribution is declared; None where it is not."""
    lost: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Plan the batches."""
        self.fields = written_fields(self.schema, free_text=self.free_text)
        self.size = batch_size(len(self.fields))
        self._keys = _keys(self.fields)
        self._slices = _Slices(self.schema, self.fields, self.quantiles)
        self._seen: set[tuple[Any, ...]] = set()
        self._distinct = _has_room(self.fields, self.total)

    def run(self) -> pd.DataFrame:
        """Return all rows, with every column that is neither an id nor free text that was not asked for.

        Raises
        ------
        RowShortfall
            With what was lost, and why.
        ProviderError
        """
        kept: list[dict[str, Any]] = []
        planned = math.ceil(self.total / self.size)
        left, number = planned + planned + EXTRA_BATCHES, 0
        problem: ProviderError | None = None
        while len(kept) < self.total and left > 0:
            missing = self.total - len(kept)
            counts = [min(self.size, missing - start) for start in range(0, missing, self.size)][:left]
            batches = [
                _Batch(number + place, len(kept) + place * self.size, count)
                for place, count in enumerate(counts)
            ]
            number, left, before = number + len(batches), left - len(batches), len(kept)
            written = self.talk.side_by_side(self._write, batches, self._teller(before, len(batches)))
            for rows in written:
                if isinstance(rows, ProviderError):
                    problem = rows
                else:
                    kept += self._new(rows)
            if len(kept) == before and before == 0 and problem is not None and not self.lost:
                raise problem
        if len(kept) < self.total:
            raise RowShortfall(self.total, len(kept), self._why(problem))
        return self._frame(kept[: self.total])

    def _teller(self, before: int, many: int) -> Callable[[int], None]:
        share = before / self.total

        def tell(done: int) -> None:
            self.tell(min(0.99, share + (1 - share) * done / many), f"{done} of {many} batches")

        return tell

    def _why(self, problem: ProviderError | None) -> str:
        reasons = [f"{count} × {reason}" for reason, count in self.lost.most_common(6)]
        if problem is not None:
            reasons.append(problem.detail)
        return (
            "what the language model wrote beyond them could not be kept: "
            f"{'; '.join(reasons) or 'nothing came'}. Loosen what is named, or use the strategy `blueprint`."
        )

    # One batch ---------------------------------------------------------------------------------------

    def _write(self, batch: _Batch) -> list[dict[str, Any]] | ProviderError:
        """Return the rows of a batch that keep the schema; count what the others break."""
        question = self._question(batch)
        reply = self.talk.ask(question)
        if reply.problem is not None and isinstance(reply.problem, AnswerInvalid) and reply.value is None:
            fault = prompts.text("again", fault=reply.problem.detail)
            reply = self.talk.ask(question.again(reply.text[:2000] or "(nothing)", fault))
        raw = reply.value.get("rows") if isinstance(reply.value, dict) else None
        if not isinstance(raw, list):
            return reply.problem or AnswerInvalid("The answer holds no rows.")
        good, broken = self._judge(raw[: batch.count])
        if broken:
            again = self._sent_back(question, broken)
            repaired, still = self._judge(again)
            good += repaired
            for _, faults in still:
                self.lost[faults[0]] += 1
            if len(broken) > len(again):
                self.lost["a broken row that did not come back"] += len(broken) - len(again)
        return good

    @classmethod
    def prompt_tokens(cls, schema: TableSchema, *, free_text: bool) -> int:
        """Estimate what the prompt of one batch takes."""
        shown = written_fields(schema, free_text=free_text)
        rules = sum(len(rule.text) for rule in schema.rules[:40])
        text = block(schema, shown, {item.name: {"known": declared_of(item)} for item in shown})
        shape = sum(90 + len(json.dumps(_cell_shape(item))) for item in shown)
        return int((2600 + len(text) + rules + shape) / CHARACTERS_PER_TOKEN)

    def _question(self, batch: _Batch) -> Question:
        more = {
            item.name: {"key": self._keys[item.name] if self._keys[item.name] != item.name else None,
                        "known": declared_of(item), "required": item.constraints.required}
            for item in self.fields
        }  # fmt: skip
        rules = ""
        if self.schema.rules:
            told = "\n".join("- " + rule.text.replace("<table", "< table") for rule in self.schema.rules[:40])
            rules = f"\nNo row may break these rules:\n{told}"
        text = prompts.text(
            "rows",
            table=block(self.schema, self.fields, more),
            part=batch.number + 1,  # asked again, it is another question, and not answered from its receipt
            first=batch.first + 1,
            last=batch.first + batch.count,
            total=self.total,
            slice=self._slices.of(batch, self.total),
            rules=rules,
            keys=", ".join(f"{json.dumps(key)}: …" for key in self._keys.values()),
            count=batch.count,
        )
        shape = record(
            rows=listing(record(**{self._keys[item.name]: _cell_shape(item) for item in self.fields}))
        )
        room = 300 + batch.count * sum(24 if item.kind != "text" else 80 for item in self.fields)
        messages = (("system", prompts.text("system_rows")), ("user", text))
        return Question(f"rows {batch.number + 1}", messages, "rows", shape, room)

    def _sent_back(
        self, question: Question, broken: Sequence[tuple[Mapping[str, Any], Sequence[str]]]
    ) -> list[Any]:
        lines = [
            f"{place}. {json.dumps(row, ensure_ascii=False)}\n   fault: {'; '.join(faults[:_MOST_FAULTS])}"
            for place, (row, faults) in enumerate(broken, start=1)
        ]
        told = prompts.text("rows_again", faults="\n".join(lines), count=len(broken))
        # The faulty rows stand in the complaint: the whole first answer need not be sent again.
        reply = self.talk.ask(question.again("(rows as asked)", told))
        rows = reply.value.get("rows") if isinstance(reply.value, dict) else None
        return rows[: len(broken)] if isinstance(rows, list) else []

    def _judge(
        self, raw: Sequence[Any]
    ) -> tuple[list[dict[str, Any]], list[tuple[Mapping[str, Any], list[str]]]]:
        """Split rows into typed good ones and broken ones with their faults."""
        typed: list[dict[str, Any]] = []
        whole: list[Mapping[str, Any]] = []
        broken: list[tuple[Mapping[str, Any], list[str]]] = []
        for row in raw:
            if not isinstance(row, dict):
                broken.append(({}, ["a row must be an object"]))
                continue
            cells: dict[str, Any] = {}
            faults = []
            for item in self.fields:
                try:
                    cells[item.name] = _cell(item, row.get(self._keys[item.name]))
                except ValueError as error:
                    faults.append(f"{item.name}: {error}")
            if faults:
                broken.append((row, faults))
            else:
                typed.append(cells)
                whole.append(row)
        good, bad = self._held_against_the_schema(typed)
        return good, broken + [(whole[place], faults) for place, faults in bad]

    def _held_against_the_schema(
        self, rows: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[tuple[int, list[str]]]]:
        from app.schema.check import check_frame

        if not rows:
            return [], []
        schema = self._judged_by()
        frame = self._frame(rows)
        tally = check_frame(schema, frame)
        good: list[dict[str, Any]] = []
        bad: list[tuple[int, list[str]]] = []
        for place, keeps in enumerate(tally.good):
            idle = self._where_it_does_not_apply(rows[place], frame.iloc[place])
            if keeps and not idle:
                good.append(rows[place])
            elif idle:
                bad.append((place, idle))
            else:  # one by one: the tally of a table does not say which row breaks what
                alone = check_frame(schema, self._frame([rows[place]]))
                bad.append(
                    (
                        place,
                        [f"it must hold that {check.statement}" for check in alone.checks if check.broken],
                    )
                )
        return good, bad

    def _where_it_does_not_apply(self, row: Mapping[str, Any], completed: Any) -> list[str]:
        import pandas as pd

        return [
            f"it must hold that `{item.name}` is missing where `{item.relevant.text}` is not true"
            for item in self.fields
            if item.relevant is not None and row[item.name] is not None and pd.isna(completed[item.name])
        ]

    def _judged_by(self) -> TableSchema:
        return without_fresh(self.schema, {item.name for item in self.fields})

    def _frame(self, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
        return completed(self._judged_by(), rows)

    def _new(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self._distinct:
            return list(rows)
        fresh = []
        for row in rows:
            key = tuple(str(row[item.name]) for item in self.fields)
            if key in self._seen:
                self.lost["the repetition of another row"] += 1
            else:
                self._seen.add(key)
                fresh.append(row)
        return fresh


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    first: int
    count: int


# Rows and tables ------------------------------------------------------------------------------------


def without_fresh(schema: TableSchema, written: set[str]) -> TableSchema:
    """Return the schema of what is written and computed: ids and free text are made elsewhere.

    Rules and conditions that read such a column fall away with it.
    """
    fields = tuple(item for item in schema.fields if item.name in written or item.formula is not None)
    names = {item.name for item in fields}

    def readable(expression: Any) -> bool:
        return expression is None or set(expression.fields) <= names

    fields = tuple(
        replace(item, relevant=item.relevant if readable(item.relevant) else None)
        for item in fields
        if readable(item.formula)
    )
    rules = tuple(rule for rule in schema.rules if readable(rule))
    document = {"fields": [raw for raw in schema.document.get("fields", ()) if raw.get("name") in
                           {item.name for item in fields}]}  # fmt: skip
    return replace(schema, fields=fields, rules=rules, primary_key=(), document=document)


def completed(schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return typed rows as a frame: formulas computed, and empty where a column does not apply."""
    import pandas as pd

    from app.generators.machinery import complete
    from app.schema.frames import conform

    written = [item for item in schema.fields if item.formula is None]
    frame = conform(
        pd.DataFrame(
            {item.name: pd.Series([row[item.name] for row in rows], dtype=object) for item in written}
        ),
        replace(schema, fields=tuple(written), rules=()),
    )
    return complete(schema, frame)


def _keys(fields: Sequence[Field]) -> dict[str, str]:
    plain = {item.name for item in fields if _PLAIN_KEY.fullmatch(item.name)}
    return {
        item.name: item.name if item.name in plain else f"column_{place}"
        for place, item in enumerate(fields, start=1)
    }


def _cell_shape(item: Field) -> Shape:
    nullable = not item.constraints.required or item.relevant is not None
    if item.levels is not None and item.type == "string" and len(item.levels) <= MAX_CHOICES:
        values: list[Any] = [str(level) for level in item.levels]
        return (
            {"type": ["string", "null"], "enum": [*values, None]}
            if nullable
            else {"type": "string", "enum": values}
        )
    kind = {"integer": "integer", "year": "integer", "number": "number", "boolean": "boolean"}.get(
        item.type, "string"
    )
    return {"type": [kind, "null"]} if nullable else {"type": kind}


def _cell(item: Field, value: Any) -> Any:
    """Return a written value as the field has it; raises ValueError with what would be right."""
    if value is None or (item.type != "string" and value == ""):
        return None
    if item.levels is not None and isinstance(value, str):
        # Levels are told as texts, and so a model may write them that holds to no schema.
        value = next((level for level in item.levels if level_text(item, level) == value), value)
        if value in item.levels:
            return value
    match item.type:
        case "boolean":
            if isinstance(value, bool):
                return value
            raise ValueError("must be true or false")
        case "integer" | "year":
            if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
                raise ValueError("must be a whole number")
            value = int(value)
            if abs(value) >= 2**53:
                raise ValueError("is too large")
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
                raise ValueError("must be a number")
            value = float(value) if item.places is None else round(float(value), item.places)
        case "date" | "datetime" | "time":
            moment = parse_moment(value, item.type) if isinstance(value, str) else None
            if moment is None:
                raise ValueError(f"must be a {item.type} in ISO 8601")
            value = moment
        case _:
            if not isinstance(value, str) or "\0" in value:
                raise ValueError("must be a text")
    if item.levels is not None and value not in item.levels:
        shown = ", ".join(level_text(item, level) for level in item.levels[:20])
        raise ValueError(f"must be one of {shown}")
    return value


def _has_room(fields: Sequence[Field], total: int) -> bool:
    """Whether the columns have so many combinations that equal rows are copies rather than chance."""
    room = 1
    for item in fields:
        count = capacity(item)
        if count is None:
            return True
        room *= count
        if room > 50 * total:
            return True
    return False


# Slices ---------------------------------------------------------------------------------------------


class _Slices:
    """What each batch is about: a band of one column's distribution, and counts of another's levels."""

    def __init__(
        self,
        schema: TableSchema,
        fields: Sequence[Field],
        quantiles: Callable[[Field], Sequence[float] | None],
    ) -> None:
        del schema
        self._bands = [(item, points) for item in fields if item.levels is None
                       and item.kind in ("numeric", "temporal")
                       and (points := quantiles(item)) is not None and points[0] < points[-1]]  # fmt: skip
        self._shares = [
            item for item in fields if item.statistics.proportions is not None and item.relevant is None
        ]

    def of(self, batch: _Batch, total: int) -> str:
        """Return what a batch is told; several batches together have the declared margins."""
        said = []
        if self._bands:
            item, points = self._bands[0]
            low, high = (
                _at(points, rank / total)
                for rank in (batch.first % total, min(batch.first + batch.count, total))
            )
            said.append(
                f"These rows are a slice of the table by {quoted(item.name)}: here it lies between "
                f"{_plain(item, low)} and {_plain(item, high)}; other rows have the rest."
            )
        if self._shares:
            item = self._shares[batch.number % len(self._shares)]
            counts = _counts(item, batch, total)
            told = ", ".join(f"{count} × {_quoted(level)}" for level, count in counts if count)
            said.append(f"Of these rows by {quoted(item.name)}: {told}.")
        if not said:
            said.append(
                f"This is part {batch.number + 1}: write other kinds of patients than the first that come to "
                "mind, so that all parts together have realistic proportions."
            )
        return " ".join(said)


def _quoted(level: str) -> str:
    """Return a level as it may stand outside the data: a few plain words as they are, else in quotes."""
    return level if _PLAIN_LEVEL.fullmatch(level) else quoted(level)


def _at(points: Sequence[float], probability: float) -> float:
    place = min(max(probability, 0.0), 1.0) * (len(points) - 1)
    below = min(int(place), len(points) - 2)
    return points[below] + (place - below) * (points[below + 1] - points[below])


def _plain(item: Field, value: float) -> str:
    if item.type in ("integer", "year"):
        return str(round(value))
    written = from_scale(item, value)
    return f"{written:.4g}" if isinstance(written, float) else str(written)


def _counts(item: Field, batch: _Batch, total: int) -> list[tuple[str, int]]:
    """Give each level the rows of the batch that systematic sampling of the whole table gives it."""
    assert item.statistics.proportions is not None
    ends, end = [], 0.0
    for level, share in item.statistics.proportions:
        end += share
        ends.append((level_text(item, level), end))
    tally: Counter[str] = Counter()
    # The golden ratio's multiples fill the unit interval evenly, whichever stretch of rows is looked at.
    for row in range(batch.first, batch.first + batch.count):
        place = (row + 0.5) * 0.6180339887498949 % 1.0
        tally[next((level for level, end in ends if place < end), ends[-1][0])] += 1
    del total
    return [(level, tally[level]) for level, _ in ends]
