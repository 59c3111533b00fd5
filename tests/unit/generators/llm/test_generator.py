"""The generator as a whole: what the model says becomes rows, and a blueprint that says who said what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from numpy.random import SeedSequence

from app.generators.llm.assignment import Assignment
from app.generators.llm.generator import LLM
from app.generators.llm.providers import Providers
from app.generators.llm.talk import Talks
from app.schema.parse import parse_schema
from tests.fake_provider import serving
from tests.unit.generators.llm.oracle import Oracle

DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "sex", "type": "string", "categories": ["F", "M"],
         "statistics": {"proportions": {"F": 0.3, "M": 0.7}}},
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}},
        {"name": "months", "type": "number", "constraints": {"minimum": 0}},
    ]
}  # fmt: skip
ORACLE = Oracle(
    columns={
        "age": ([20, 35, 50, 60, 70, 82, 95], 0),
        "months": ([1, 2, 10, 24, 40, 60, 80], 0),
        "sex": ([50, 50], 0),
    },
    pairs={("age", "months"): [-0.4]},
    rules={"rules": [{"rule": "not (age > 98 and months > 99)", "why": "frail"}]},
)


def test_the_blueprint_says_what_was_declared_and_what_was_elicited_and_the_rows_have_both() -> None:
    schema = parse_schema(DOCUMENT)[0]
    warnings: list[str] = []
    with serving(ORACLE) as fake:
        talks = Talks(Providers({"fake": fake.provider()}), sleep=lambda _: None)
        generator = LLM(LLM.Options(critiques=0)).assigned(Assignment(talks, 1000, 1))
        sampler = generator.fit(
            schema, None, seed=SeedSequence(1), progress=lambda *_, **__: None,
            warn=lambda _at, said: warnings.append(said),
        )  # fmt: skip
    told = json.loads(sampler.blueprint)  # type: ignore[attr-defined]
    sex, age, months = told["columns"]
    assert sex["marginal"]["proportions"]["source"] == "declared"
    assert age["marginal"]["quantiles"]["source"] == months["marginal"]["quantiles"]["source"] == "elicited"
    assert [item["source"] for item in told["dependence"]] == ["elicited"]
    assert [item["source"] for item in told["rules"]] == ["elicited"]
    frame = sampler.sample_shard(0, 20_000, seed=SeedSequence(2))
    # Five standard errors at 20,000 rows: 0.016 of a share; less than what is allowed of the others.
    assert abs((frame["sex"] == "F").mean() - 0.3) < 0.016, "declared, whatever the model says"
    assert abs(frame["age"].median() - 60) <= 1
    assert abs(frame["months"].median() - 24) < 1.5
    assert abs(frame[["age", "months"]].corr("spearman").iloc[0, 1] + 0.4) < 0.04


@pytest.mark.parametrize("rule", ["age > 200 / 2", "age < 30", "age > 90", "sex == 'M'", "months == 3.14159"])
def test_whatever_rule_a_model_gives_the_rows_have_what_is_declared(rule: str) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["fields"][1]["statistics"] = {"mean": 60, "sd": 12, "missing": 0.05}
    document["fields"][2]["statistics"] = {"median": 24, "missing": 0.3}
    said = {"rules": [{"rule": rule, "why": ""}], "applies": [{"column": "months", "when": rule, "why": ""}]}
    patches = [{"kind": "rule", "columns": [], "level": None, "numbers": [], "rule": rule, "why": ""}]
    with serving(Oracle(columns=ORACLE.columns, pairs=ORACLE.pairs, rules=said, patches=patches)) as fake:
        talks = Talks(Providers({"fake": fake.provider()}), sleep=lambda _: None)
        frame = LLM(LLM.Options()).assigned(Assignment(talks, 1000, 1)).fit(
            parse_schema(document)[0], None, seed=SeedSequence(1), progress=lambda *_, **__: None,
            warn=lambda *_: None,
        ).sample_shard(0, 20_000, seed=SeedSequence(2))  # fmt: skip
    # Five standard errors at 20,000 rows, and what the blueprint's tolerances allow.
    assert abs((frame["sex"] == "F").mean() - 0.3) < 0.02
    assert abs(frame["age"].mean() - 60) < 0.6 and abs(frame["age"].std() - 12) < 0.5
    assert abs(frame["age"].isna().mean() - 0.05) < 0.01
    assert abs(frame["months"].isna().mean() - 0.3) < 0.02 and abs(frame["months"].median() - 24) < 1.5
