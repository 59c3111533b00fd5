# ruff: noqa: E501  (a case a line reads better than a wrapped one)
"""The document: what it states, that nothing is lost on the way, and that an edit counts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.blueprint.declare import declare, provenance_of, schema_document, stated_defaults
from app.blueprint.marginal_declared import declared_marginal
from app.blueprint.model import SCHEMA_FILE, Blueprint, blueprint_schema
from app.blueprint.outcomes import Guessed, Settled, with_outcomes
from app.errors import InvalidInput
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

FLAGSHIP = json.loads((Path(__file__).parents[3] / "examples" / "neurosurgery.schema.json").read_text())
UNSIGNED: dict[str, Any] = {
    **FLAGSHIP,
    "associations": [
        FLAGSHIP["associations"][0],
        {"fields": ["heart_disease", "diabetes"], "measure": "cramers_v", "value": 0.15},
    ],
}
EVERYTHING: dict[str, Any] = {
    "title": "Everything at once",
    "primaryKey": "patient",
    "missingValues": ["", "NA"],
    "homepage": "https://example.org",
    "fields": [
        {"name": "patient", "type": "string", "constraints": {"pattern": "P[0-9]{5}"}},
        {"name": "note", "type": "string", "vocabulary": ["no change", "worse"], "statistics": {"missing": 0.4}},
        {"name": "remark", "type": "string"},
        {"name": "country", "type": "string", "categories": ["IT"], "statistics": {"proportions": {"IT": 1}}},
        {"name": "score", "type": "number", "statistics": {"mean": 3.5, "sd": 0}},
        {"name": "unused", "type": "number", "statistics": {"missing": 1}},
        {"name": "seen on", "type": "date", "format": "%d.%m.%Y",
         "statistics": {"mean": "2020-06-30", "sd": 90, "quantiles": {"0.250": "2020-04-01"}}},
        {"name": "left", "type": "datetime", "statistics": {"median": "2020-07-01T12:00:00"}},
        {"name": "at", "type": "time"},
        {"name": "born", "type": "year", "constraints": {"maximum": 1960}},
        {"name": "died", "type": "boolean", "trueValues": ["yes"], "falseValues": ["no"],
         "statistics": {"proportions": {"yes": 0.2, "no": 0.8}}},
        {"name": "cause", "type": "string", "categories": ["a/b", "c~d", "e"], "relevant": "died", "own": {"x": 1}},
        {"name": "stage", "type": "integer", "categories": [3, 1, 2], "categoriesOrdered": True},
        {"name": "weight", "type": "number", "constraints": {"minimum": 30.0, "maximum": 180}},
        {"name": "half", "type": "number", "formula": "weight / 2", "statistics": {"mean": 35}},
        {"name": "stay", "type": "integer", "statistics": {"quantiles": {"0.25": 4, "0.5": 6, "0.75": 9}}},
    ],
    "associations": [
        {"fields": ["died", "stage"], "measure": "cramers_v", "value": 0.3},
        {"fields": ["weight", "stay"], "measure": "spearman", "value": 0.2, "given": {"died": True}},
        {"fields": ["weight", "stage"], "measure": "correlation_ratio", "value": 0.3, "sign": -1},
    ],
    "conditionals": [
        {"field": "stay", "given": {"weight": {"minimum": 80}}, "statistics": {"mean": 8, "missing": 0.1}},
        {"field": "cause", "given": {"stage": [1, 2]}, "statistics": {"proportions": {"a/b": 1, "c~d": 0, "e": 0}}},
    ],
    "rules": ["isnull(stay) or stay >= 0"],
}  # fmt: skip


def parsed(document: dict[str, Any]) -> TableSchema:
    return parse_schema(document)[0]


def edited(blueprint: Blueprint, change: Any) -> Blueprint:
    document = blueprint.lean()
    change(document)
    return Blueprint.model_validate(document)


@pytest.mark.parametrize("document", [FLAGSHIP, EVERYTHING], ids=["flagship", "everything"])
def test_a_schema_comes_back_as_it_was(document: dict[str, Any]) -> None:
    schema = parsed(document)
    back = declare(schema).to_schema()
    assert back == schema
    assert dict(back.document) == document


@pytest.mark.parametrize("document", [FLAGSHIP, EVERYTHING], ids=["flagship", "everything"])
def test_the_text_comes_back_byte_for_byte(document: dict[str, Any]) -> None:
    text = declare(parsed(document)).to_json()
    assert Blueprint.from_json(text).to_json() == text
    assert Blueprint.from_json(json.dumps(json.loads(text))).to_json() == text


def test_every_number_says_where_it_comes_from() -> None:
    blueprint = declare(
        parsed(EVERYTHING), {"/fields/15/statistics": "fitted", "/associations/1": "elicited"}
    )
    assert blueprint.columns[15].marginal is not None
    assert blueprint.columns[15].marginal.quantiles is not None
    assert blueprint.columns[15].marginal.quantiles.source == "fitted"
    assert [item.source for item in blueprint.dependence] == ["declared", "elicited", "declared"]
    weight = blueprint.columns[13]
    assert weight.marginal is not None and weight.marginal.mean is not None and weight.missing is not None
    assert (weight.marginal.mean.value, weight.marginal.mean.source) == (105, "default")
    assert (weight.missing.value, weight.missing.source) == (0, "default")

    def bare(value: Any, at: str) -> list[str]:
        """Numbers of statistics that stand without a source beside or above them."""
        if isinstance(value, dict):
            if "source" in value and "value" in value:
                return []
            return [found for key, item in value.items() for found in bare(item, f"{at}/{key}")]
        return [at] if isinstance(value, int | float) else []

    lean = blueprint.lean()
    for column in lean["columns"]:
        assert bare({key: column.get(key) for key in ("marginal", "missing", "decimals")}, "") == []
    assert all("source" in item for item in lean["dependence"])


@pytest.mark.parametrize("name", [field["name"] for field in EVERYTHING["fields"]])
def test_stated_defaults_are_those_that_are_drawn_from(name: str) -> None:
    schema = parsed(EVERYTHING)
    field = schema[name]
    stated = stated_defaults(schema, field)
    if not {"mean", "sd", "min", "max", "proportions"} & set(stated):
        return
    drawn = declared_marginal(schema, field, lambda at, message: None)
    if "proportions" in stated:
        assert list(stated["proportions"].values()) == pytest.approx(drawn.weights.tolist(), rel=1e-5)
    for key in ("mean", "sd"):
        if key in stated and not isinstance(stated[key], str):
            assert stated[key] == pytest.approx(getattr(drawn, key), rel=1e-3)
    if "min" in stated and field.type == "year":
        assert stated["min"] == drawn.first[0]


def test_a_default_that_was_edited_is_a_statement() -> None:
    blueprint = declare(parsed(EVERYTHING))

    def heavier(document: dict[str, Any]) -> None:
        document["columns"][13]["marginal"]["mean"]["value"] = 82

    changed = edited(blueprint, heavier)
    statistics = changed.to_schema()["weight"].statistics
    assert statistics.mean == 82
    # Nothing was said of the sd; it is still what would be taken, and binds nothing.
    assert statistics.sd is None
    assert provenance_of(changed)["/fields/13/statistics/mean"] == "declared"


def test_a_default_that_an_edit_elsewhere_would_change_stays_as_the_document_says() -> None:
    document = {"fields": [{"name": "x", "type": "number", "statistics": {"mean": 40}}]}
    blueprint = declare(parsed(document))

    def higher(lean: dict[str, Any]) -> None:
        lean["columns"][0]["marginal"]["mean"]["value"] = 80

    statistics = edited(blueprint, higher).to_schema()["x"].statistics
    assert (statistics.mean, statistics.sd) == (80, 10)


def test_an_edited_statement_says_what_the_edit_says() -> None:
    def older(document: dict[str, Any]) -> None:
        document["columns"][1]["marginal"]["mean"]["value"] = 75
        document["dependence"][0]["value"] = 0.2
        document["rules"].append({"rule": "age < 95", "source": "declared"})

    schema = edited(declare(parsed(FLAGSHIP)), older).to_schema()
    assert schema["age"].statistics.mean == 75
    assert schema.associations[0].value == 0.2
    assert schema.rules[-1].text == "age < 95"


def settled(schema: TableSchema) -> Blueprint:
    return with_outcomes(
        declare(schema),
        schema,
        [
            Settled("/fields/1/statistics/mean", 71.2, 71.2003, 0.1),
            Settled("/fields/0/statistics/proportions/F", 0.517, 0.55, 6.6, "the bound of 65 years"),
            Settled("/associations/0/value", 0.46, 0.4, 3.0),
            Settled("/conditionals/0/statistics/mean", 158, math.nan, math.nan),
        ],
        [Guessed("/associations/1", -1, "no sign is declared")],
        [Settled("/fields/3/statistics/mean", 92.5, 70.4, 115.0)],
    )


def test_repairs_say_asked_achieved_and_how_far_furthest_first() -> None:
    blueprint = settled(parsed(UNSIGNED))
    assert [(item.at, item.asked, item.achieved, item.moved) for item in blueprint.repairs] == [
        ("/columns/0/marginal/proportions/value/F", 0.517, 0.55, 6.6),
        ("/dependence/0/value", 0.46, 0.4, 3),
        ("/columns/3/marginal/mean/value", 92.5, 70.4, None),
    ]
    assert [item.moved for item in blueprint.outcomes] == [6.6, 3, 0.1, None]
    weight = blueprint.columns[3].marginal
    assert weight is not None and weight.mean is not None
    assert (weight.mean.value, weight.mean.asked, weight.mean.source) == (70.4, 92.5, "default")
    assert blueprint.dependence[1].sign is not None
    assert (blueprint.dependence[1].sign.value, blueprint.dependence[1].sign.source) == (-1, "guessed")


def test_a_repaired_blueprint_posted_back_asks_for_what_was_asked() -> None:
    schema = parsed(UNSIGNED)
    blueprint = settled(schema)
    again = Blueprint.from_json(blueprint.to_json())
    assert again == blueprint
    assert again.to_schema() == schema


def test_an_edited_repair_an_edited_guess_and_an_edited_default_count() -> None:
    def change(document: dict[str, Any]) -> None:
        document["columns"][0]["marginal"]["proportions"]["value"] |= {"F": 0.6, "M": 0.4}
        document["columns"][3]["marginal"]["mean"]["value"] = 72
        document["dependence"][0]["value"] = 0.41
        document["dependence"][1]["sign"]["value"] = 1

    schema = edited(settled(parsed(UNSIGNED)), change).to_schema()
    assert dict(schema["sex"].statistics.proportions or ()) == {"F": 0.6, "M": 0.4}
    assert schema["weight_kg"].statistics.mean == 72
    assert schema.associations[0].value == 0.41
    assert schema.associations[1].sign == 1


def test_outcomes_find_levels_and_probabilities_as_they_were_written() -> None:
    schema = parsed(EVERYTHING)
    blueprint = with_outcomes(
        declare(schema),
        schema,
        [
            Settled("/fields/6/statistics/quantiles/0.25", 18353.0, 18360.0, 2.0),
            Settled("/conditionals/1/statistics/proportions/a~1b", 1.0, 0.9, 4.0),
        ],
    )
    assert [item.at for item in blueprint.repairs] == [
        "/conditionals/1/statistics/proportions/value/a~1b",
        "/columns/6/marginal/quantiles/value/0.250",
    ]
    assert blueprint.repairs[1].achieved == "2020-04-08"
    assert blueprint.to_schema() == schema


def test_faults_point_into_the_blueprint() -> None:
    def wrong(document: dict[str, Any]) -> None:
        document["columns"][1]["marginal"]["sd"]["value"] = -1
        document["columns"][0]["marginal"]["proportions"]["value"]["F"] = 0.9
        document["dependence"][0]["fields"][0] = "nobody"
        document["rules"][0]["rule"] = "nothing > 1"

    with pytest.raises(InvalidInput) as caught:
        edited(declare(parsed(FLAGSHIP)), wrong).to_schema()
    assert {fault.pointer for fault in caught.value.faults} == {
        "/columns/1/marginal/sd/value",
        "/columns/0/marginal/proportions/value",
        "/dependence/0/fields/0",
        "/rules/0/rule",
    }


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (lambda d: d.update(blueprint="2"), ("blueprint",)),
        (lambda d: d["columns"][0].pop("name"), ("columns", 0, "name")),
        (lambda d: d["columns"][1]["marginal"]["mean"].update(value=True), ("columns", 1, "marginal", "mean", "value")),
        (lambda d: d["columns"][1]["marginal"]["mean"].update(source="me"), ("columns", 1, "marginal", "mean", "source")),
        (lambda d: d["columns"][1]["marginal"].update(mode=3), ("columns", 1, "marginal", "mode")),
        (lambda d: d["columns"][0].update(statistics={}), ("columns", 0)),
    ],
)  # fmt: skip
def test_what_is_no_blueprint_is_refused_where_it_is_wrong(change: Any, at: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        edited(declare(parsed(FLAGSHIP)), change)
    assert [error["loc"] for error in caught.value.errors()] == [at]


def test_a_schema_in_the_place_of_a_blueprint_is_told_so() -> None:
    with pytest.raises(ValidationError, match="post it as the job's `schema`"):
        Blueprint.model_validate(FLAGSHIP)


def test_the_published_json_schema_is_the_models_own() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == blueprint_schema()


def test_reading_a_blueprint_loads_no_numerics() -> None:
    text = declare(parsed(FLAGSHIP)).to_json()
    code = (
        "import sys; from app.blueprint.model import Blueprint; Blueprint.from_json(sys.stdin.read()).to_schema();"
        "print([name for name in ('numpy', 'pandas', 'scipy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_person_can_read_fourteen_columns() -> None:
    text = declare(parsed(FLAGSHIP)).to_json()
    assert len(text.splitlines()) < 110
    assert schema_document(Blueprint.from_json(text)) == FLAGSHIP
