"""Answers of the right shape and of no sense at all: a job says so, and never crashes."""

from __future__ import annotations

import json
import random
from typing import Any

import pandas as pd
import pytest
from numpy.random import SeedSequence

from app import errors
from app.generators.llm.assignment import Assignment
from app.generators.llm.generator import LLM
from app.generators.llm.providers import Providers
from app.generators.llm.structured import read_json
from app.generators.llm.talk import Talks
from app.schema.check import check_frame
from app.schema.parse import parse_schema
from tests.fake_provider import Reaction, says, serving
from tests.unit.generators.llm.test_elicit import COHORT

NUMBERS = ("1e999", "-1e999", "1e308", "-1e308", "0", "-0.0", "1e-300", "50", "100", "101", "-1", "7", "2.5",
           "99999999999999999999", "1" + "0" * 400)  # fmt: skip
WORDS = ("", " ", "sex", "ki", "gtv", "dead", "months", "treated", "id", "note", "diagnosis", "Female",
         "HG glioma", "ki > 9 and", "ki > gtv", "not (dead and months > 500)", "gtv / 0", "log(-1) < gtv",
         "months", "field('x')", "__import__('os')", "dead", "ki * 1e308", "isnull(ki)", "\0",
         "\u202e", "🧠" * 50)  # fmt: skip


class Wild:
    """Answers every question in its shape, with whatever comes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def __call__(self, request: dict[str, Any]) -> Reaction:
        return says(self.text(request["response_format"]["json_schema"]["schema"]))

    def text(self, shape: dict[str, Any]) -> str:
        kinds = [shape["type"]] if isinstance(shape["type"], str) else shape["type"]
        if "enum" in shape:
            return json.dumps(self.dice.choice(shape["enum"]))
        match self.dice.choice(kinds):
            case "object":
                parts = (
                    f"{json.dumps(name)}: {self.text(part)}" for name, part in shape["properties"].items()
                )
                return "{" + ", ".join(parts) + "}"
            case "array":
                return (
                    "[" + ", ".join(self.text(shape["items"]) for _ in range(self.dice.randint(0, 9))) + "]"
                )
            case "string":
                return json.dumps(self.dice.choice(WORDS))
            case "null":
                return "null"
            case "boolean":
                return self.dice.choice(("true", "false"))
            case "integer":
                return str(self.dice.choice((-3, 0, 1, 2, 3, 10**20, 10**400)))
        return self.dice.choice(NUMBERS)


def made(seed: int, **options: Any) -> pd.DataFrame:
    schema = parse_schema(COHORT)[0]
    with serving(Wild(seed)) as fake:
        talks = Talks(Providers({"fake": fake.provider()}), sleep=lambda _: None)
        generator = LLM(LLM.Options(**options)).assigned(Assignment(talks, 40, 1))
        sampler = generator.fit(
            schema, None, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=lambda _at, _said: None
        )
    frame: pd.DataFrame = sampler.sample_shard(0, 40, seed=SeedSequence(2))
    assert len(frame) == check_frame(schema, frame).conforming == 40
    return frame


@pytest.mark.parametrize("seed", range(80))
def test_a_blueprint_of_senseless_answers_has_conforming_rows_or_a_reason(seed: int) -> None:
    try:
        made(seed, elicitations=2, critiques=2, free_text=bool(seed % 2))
    except (errors.ProviderError, errors.InvalidInput, errors.RowShortfall) as reason:
        assert str(reason)


@pytest.mark.parametrize("seed", range(30))
def test_senseless_rows_are_a_shortfall_with_reasons(seed: int) -> None:
    with pytest.raises((errors.RowShortfall, errors.AnswerInvalid)):
        made(seed, strategy="rows")


def test_a_bracket_that_is_opened_for_ever_is_not_json() -> None:
    with pytest.raises(ValueError, match="not one JSON object"):
        read_json('{"a": ' + "[" * 200_000)
