"""Free text for sampled rows: consistent with the row, bounded, repeatable from its receipts."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pandas as pd
from numpy.random import SeedSequence

from app.generators.llm.providers import Providers
from app.generators.llm.talk import Budget, Memory, Talks
from app.generators.llm.texts import WithTexts, write_texts
from app.generators.marginals import Marginals
from app.schema.parse import parse_schema
from tests.fake_provider import FakeProvider, Reaction, Script, refuses, says, serving

DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 18, "maximum": 90}},
        {"name": "sex", "type": "string", "categories": ["F", "M"]},
        {"name": "reason for referral", "type": "string", "constraints": {"maxLength": 40},
         "statistics": {"missing": 0.2}},
    ]
}  # fmt: skip
SCHEMA = parse_schema(DOCUMENT)[0]


def rows_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    prompt = request["messages"][1]["content"]
    return [json.loads(line) for line in re.findall(r'^\{"row".*$', prompt, re.MULTILINE)]


def clerk(request: dict[str, Any]) -> Reaction:
    return says({"texts": [{"row": row["row"], "text_1": f"{row['sex']}, {row['age']:.0f} years"}
                           for row in rows_of(request)]})  # fmt: skip


class Written:
    def __init__(
        self, script: Script, rows: int = 50, replicates: int = 2, shelf: Memory | None = None
    ) -> None:
        self.warnings: list[str] = []
        seed = SeedSequence(7)
        inner = Marginals(Marginals.Options()).fit(
            SCHEMA, None, seed=seed, progress=lambda *_, **__: None, warn=lambda *_: None
        )
        self.fake: FakeProvider
        with serving(script) as self.fake:
            talks = Talks(Providers({"fake": self.fake.provider()}), shelf or Memory(), sleep=lambda _: None)
            self.sampler: WithTexts = write_texts(
                SCHEMA, inner, talks.open("fake", Budget()),
                [self.seed(number) for number in range(1, replicates + 1)], rows,
                lambda *_: None, lambda _at, said: self.warnings.append(said),
            )  # fmt: skip

    @staticmethod
    def seed(replicate: int) -> SeedSequence:
        return SeedSequence(7, spawn_key=(replicate,))

    def table(self, replicate: int = 1, rows: int = 50) -> pd.DataFrame:
        return self.sampler.sample_shard(0, rows, seed=self.seed(replicate))


def test_each_text_is_of_the_row_that_it_stands_in_in_every_replicate() -> None:
    made = Written(clerk)
    for replicate in (1, 2):
        frame = made.table(replicate)
        said = frame["sex"].astype(str) + ", " + frame["age"].astype(str) + " years"
        present = frame["reason for referral"].notna()
        assert (frame["reason for referral"][present] == said[present]).all()
        assert 0 < (~present).sum() < 25, "what is missing stays missing"
    assert len(made.fake.requests) == 5, "a hundred rows by twenty: fifty of each replicate, together"


def test_a_text_that_is_too_long_is_asked_again_with_the_fault() -> None:
    complaints: list[str] = []

    def script(request: dict[str, Any]) -> Reaction:
        if len(request["messages"]) == 4:
            complaints.append(request["messages"][3]["content"])
            return clerk(request)
        reaction = clerk(request)
        choice = reaction.body["choices"][0]["message"]
        value = json.loads(choice["content"])
        value["texts"][0]["text_1"] = "x" * 41
        choice["content"] = json.dumps(value)
        return reaction

    made = Written(script)
    assert "at most 40" in complaints[0]
    assert not made.table()["reason for referral"].str.contains("xxx").any()
    assert not made.warnings


def test_where_no_text_comes_placeholders_stay_and_are_told() -> None:
    made = Written(lambda _request: refuses())
    assert made.table()["reason for referral"].notna().any()
    assert "100 free texts" in made.warnings[0]


def test_the_sampler_travels_and_a_shorter_shard_is_a_prefix() -> None:
    made = Written(clerk)
    travelled = pickle.loads(pickle.dumps(made.sampler))
    pd.testing.assert_frame_equal(travelled.sample_shard(0, 9, seed=made.seed(2)), made.table(2).iloc[:9])


def test_text_is_paid_for_once() -> None:
    shelf = Memory()
    before = Written(clerk, shelf=shelf)
    after = Written(lambda _request: refuses(), shelf=shelf)
    assert not after.fake.requests
    pd.testing.assert_frame_equal(before.table(), after.table())
