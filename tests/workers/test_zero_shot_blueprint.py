"""Strategy `blueprint` through a real worker: what the model says becomes rows, a blueprint and a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.blueprint.model import Blueprint
from tests.fake_provider import Reaction, says, serving
from tests.unit.generators.llm.oracle import Oracle
from tests.workers.asking import EVALUATED, open_house, rows_of, stored, transcript
from tests.workers.house import Broker, House, wait_for

SCHEMA: dict[str, Any] = {
    "title": "A cohort",
    "fields": [
        {"name": "sex", "type": "string", "categories": ["F", "M"],
         "statistics": {"proportions": {"F": 0.3, "M": 0.7}}},
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}},
        {"name": "months", "type": "number", "constraints": {"minimum": 0}},
        {"name": "reason", "type": "string", "constraints": {"maxLength": 60}},
    ],
}  # fmt: skip
BLUEPRINT: dict[str, Any] = {"strategy": "blueprint", "provider": "fake"}
PATCH: dict[str, Any] = {
    "kind": "pair", "columns": ["age", "months"], "level": None, "numbers": [-0.6], "rule": None,
    "why": "the old die sooner",
}  # fmt: skip
LATE: dict[str, Any] = {
    "kind": "column", "columns": ["sex"], "level": None, "numbers": [50, 50], "rule": None, "why": "parity",
}  # fmt: skip


def knowing(**changes: Any) -> Oracle:
    known: dict[str, Any] = {
        "columns": {"age": ([20, 35, 50, 60, 70, 82, 95], 0), "months": ([1, 2, 10, 24, 40, 60, 80], 5),
                    "sex": ([50, 50], 0)},
        "pairs": {("age", "months"): [-0.4]},
        "rules": {"rules": [{"rule": "not (age > 98 and months > 99)", "why": "frail"}]},
        "patches": [dict(PATCH)],
    }  # fmt: skip
    return Oracle(**(known | changes))


def ask(house: House, rows: int = 300, **changes: Any) -> str:
    wanted: dict[str, Any] = {
        "generator": "llm", "options": BLUEPRINT, "schema_document": SCHEMA, "evaluation": EVALUATED,
    }  # fmt: skip
    return house.post(rows, **(wanted | changes))


def test_the_rows_the_blueprint_and_the_report_say_what_the_model_said(
    tmp_path: Path, broker: Broker
) -> None:
    with serving(knowing(shaken=0.9)) as fake, open_house(tmp_path, broker, fake) as house:
        job = house.wait(ask(house, 4000))
        assert job.status == "succeeded", (job.error, house.tail())
        blueprint = json.loads(stored(house, job.id, "blueprint"))
        report = json.loads(stored(house, job.id, "report"))
        page = stored(house, job.id, "page").decode()
        frame = rows_of(house, job.id)
        assert len(transcript(house, job.id)) == len(fake.requests) == job.usage["requests"]

    sex, age, months, reason = blueprint["columns"]
    assert sex["marginal"]["proportions"]["source"] == "declared"
    assert age["marginal"]["quantiles"]["source"] == months["missing"]["source"] == "elicited"
    assert "marginal" not in reason, "free text is not asked about"
    assert [rule["source"] for rule in blueprint["rules"]] == ["elicited"]
    (pair,) = blueprint["dependence"]
    assert pair["source"] == "elicited" and pair.get("asked", pair["value"]) == -0.6, "as it was patched"

    record = blueprint["elicitation"]
    assert (record["provider"], record["model"], record["elicitations"]) == ("fake", "fake-1", 3)
    said = {at: entry for entry in record["statements"] for at in entry["at"]}
    of_months = said["/columns/2/marginal/quantiles/value"]
    assert [answer[3] for answer in of_months["answers"]] == pytest.approx([24, 45.6, 2.4])
    assert of_months["sure"] == ["medium"] * 3 and of_months["spread"] > 0.75 and of_months["unsure"]
    assert said["/rules/0/rule"]["why"] == "frail"
    assert said["/dependence/0"]["why"] == PATCH["why"] and said["/dependence/0"]["critique"]
    assert record["critiques"] == [
        {"patches": [{name: value for name, value in PATCH.items() if value is not None}], "not_made": []}
    ]

    unsure = [item for item in report["warnings"] if "unsure about `months`" in item["message"]]
    assert unsure and unsure[0]["pointer"] == "/schema/fields/2" and unsure[0] in job.warnings
    assert "unsure about `months`" in page.replace("&#96;", "`")

    # Five standard errors at 4,000 rows.
    assert abs((frame["sex"] == "F").mean() - 0.3) < 0.037
    assert abs(frame["months"].median() - 24) < 3, "between what the other two say"
    assert abs(frame["months"].isna().mean() - 0.05) < 0.018
    assert frame[["age", "months"]].corr("spearman").iloc[0, 1] < -0.5


def test_the_same_talk_gives_the_same_bytes_and_costs_the_same_for_ten_rows_as_for_many(
    tmp_path: Path, broker: Broker
) -> None:
    with serving(knowing()) as fake, open_house(tmp_path, broker, fake) as house:
        found = []
        for rows in (10, 600, 600):
            fake.script = knowing()
            found.append(house.wait(ask(house, rows)))
            assert found[-1].status == "succeeded", (found[-1].error, house.tail())
        few, many, again = found
        assert few.usage == many.usage == again.usage
        assert house.bytes_of(many.id) == house.bytes_of(again.id)
        assert stored(house, few.id, "blueprint") == stored(house, again.id, "blueprint")
        whole = rows_of(house, many.id)
        assert rows_of(house, few.id).equals(whole.iloc[:10])


def test_a_blueprint_that_was_posted_back_gives_the_same_rows_and_asks_nobody(
    tmp_path: Path, broker: Broker
) -> None:
    with serving(knowing()) as fake, open_house(tmp_path, broker, fake) as house:
        asked = house.wait(ask(house))
        told = Blueprint.from_json(stored(house, asked.id, "blueprint"))
        fake.requests.clear()
        again = house.wait(ask(house, generator="blueprint", options={"blueprint": told.lean()}))
        assert again.status == "succeeded", (again.error, house.tail())
        assert not fake.requests
        assert house.bytes_of(again.id) == house.bytes_of(asked.id)
        kept = json.loads(stored(house, again.id, "blueprint"))
        assert kept["elicitation"] == json.loads(stored(house, asked.id, "blueprint"))["elicitation"]


def test_a_patch_of_what_is_declared_is_recorded_and_not_made(tmp_path: Path, broker: Broker) -> None:
    pair = {"fields": ["age", "months"], "measure": "spearman", "value": -0.2}
    with (
        serving(knowing(patches=[dict(PATCH), dict(LATE)])) as fake,
        open_house(tmp_path, broker, fake) as house,
    ):
        job = house.wait(ask(house, schema_document=SCHEMA | {"associations": [pair]}))
        assert job.status == "succeeded", (job.error, house.tail())
        blueprint = json.loads(stored(house, job.id, "blueprint"))
    (kept,) = blueprint["dependence"]
    assert kept["source"] == "declared" and kept.get("asked", kept["value"]) == -0.2
    (told,) = blueprint["elicitation"]["critiques"]
    assert not told["patches"] and [item["why"] for item in told["not_made"]] == [PATCH["why"]]


# Free text --------------------------------------------------------------------------------------------


class Clerk:
    """Knows the cohort, and writes for each row what stands in it."""

    def __init__(self) -> None:
        self.knows, self.written = knowing(), 0
        self.instead: dict[int, Reaction] = {}

    def __call__(self, request: dict[str, Any]) -> Reaction:
        if request["response_format"]["json_schema"]["name"] != "texts":
            return self.knows(request)
        self.written += 1
        if self.written in self.instead:
            return self.instead[self.written]
        prompt = request["messages"][1]["content"]
        rows = [json.loads(line) for line in re.findall(r'^\{"row".*$', prompt, re.MULTILINE)]
        return says({"texts": [{"row": row["row"], "text_1": f"{row['sex']}, {row['age']:.0f} years old"}
                               for row in rows]})  # fmt: skip


def consistent(house: House, job_id: str, replicates: int = 1) -> bool:
    frames = [rows_of(house, job_id, number) for number in range(1, replicates + 1)]
    return all(
        (frame["reason"] == frame["sex"].astype(str) + ", " + frame["age"].astype(str) + " years old").all()
        for frame in frames
    )


def test_free_text_is_written_only_where_it_is_asked_for_and_for_its_row(
    tmp_path: Path, broker: Broker
) -> None:
    with serving(Clerk()) as fake, open_house(tmp_path, broker, fake) as house:
        without = house.wait(ask(house, 50))
        assert without.status == "succeeded", (without.error, house.tail())
        assert not [prompt for prompt in fake.prompts if "Task: write free text" in prompt]
        assert not consistent(house, without.id)
        fake.script = Clerk()
        options = BLUEPRINT | {"free_text": True}
        job = house.wait(ask(house, 50, options=options, replicates=2))
        assert job.status == "succeeded", (job.error, house.tail())
        assert consistent(house, job.id, 2)
        same = [column for column in rows_of(house, job.id) if column != "reason"]
        assert rows_of(house, job.id)[same].equals(rows_of(house, without.id)[same]), "only text is added"


def test_a_worker_killed_while_text_is_written_pays_for_no_answer_twice(
    tmp_path: Path, broker: Broker
) -> None:
    options = BLUEPRINT | {"free_text": True}
    with serving(Clerk()) as fake, open_house(tmp_path, broker, fake) as house:
        undisturbed = house.wait(ask(house, 90, options=options))
        asked = len(fake.requests)
        clerk = Clerk()
        hanging = says({"texts": []})
        hanging.delay = 4.0
        clerk.instead = {3: hanging}
        fake.script = clerk
        fake.requests.clear()
        job_id = ask(house, 90, options=options)
        assert wait_for(lambda: clerk.written == 3), house.tail()
        house.kill("child")
        job = house.wait(job_id)
        assert job.status == "succeeded" and job.attempt == 2, (job.error, house.tail())
        assert len(fake.prompts) == asked + 1 and len(set(fake.prompts)) == asked, "only the unanswered one"
        assert job.usage == undisturbed.usage
        assert consistent(house, job_id)
        assert house.bytes_of(job_id) == house.bytes_of(undisturbed.id)
        assert stored(house, job_id, "blueprint") == stored(house, undisturbed.id, "blueprint")
