# ruff: noqa: E501  (a case a line reads better than a wrapped one)
"""What a schema document becomes, what is only warned of, and that no document whatever crashes the reading."""

from __future__ import annotations

import copy
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.schema.check_rows import check_row_count
from app.schema.parse import parse_schema
from app.schema.table import Condition, Statistics

FLAGSHIP = json.loads((Path(__file__).parents[3] / "examples" / "neurosurgery.schema.json").read_text())
CONTRACT: dict[str, Any] = {
    "title": "Older adults after cranial neurosurgery",
    "fields": [
        {
            "name": "age", "type": "integer", "unit": "years", "description": "Age at surgery",
            "constraints": {"required": True, "minimum": 65, "maximum": 95},
            "statistics": {"mean": 71.2, "sd": 4.3},
        },
        {"name": "sex", "type": "string", "categories": ["F", "M"],
         "statistics": {"proportions": {"F": 0.52, "M": 0.48}}},
        {"name": "height_cm", "type": "number", "decimals": 1},
        {"name": "weight_kg", "type": "number", "decimals": 1},
        {"name": "bmi", "type": "number", "formula": "weight_kg / (height_cm / 100) ** 2",
         "statistics": {"mean": 26.2, "sd": 4.1}},
        {
            "name": "los_days", "type": "integer", "constraints": {"minimum": 1},
            "statistics": {"quantiles": {"0.25": 4, "0.5": 6, "0.75": 9}, "distribution": "lognormal", "missing": 0.02},
        },
        {"name": "kps_deterioration", "type": "boolean", "statistics": {"proportions": {"true": 0.3, "false": 0.7}}},
    ],
    "associations": [
        {"fields": ["age", "los_days"], "measure": "spearman", "value": 0.2},
        {"fields": ["sex", "kps_deterioration"], "measure": "odds_ratio", "value": 0.7},
    ],
    "conditionals": [
        {"field": "height_cm", "given": {"sex": "F"}, "statistics": {"mean": 162, "sd": 7}},
        {"field": "height_cm", "given": {"sex": "M"}, "statistics": {"mean": 176, "sd": 7}},
    ],
    "rules": ["not (kps_deterioration and los_days < 2)"],
}  # fmt: skip


@pytest.mark.parametrize("document", [FLAGSHIP, CONTRACT], ids=["flagship", "contract"])
def test_the_examples_are_read_without_faults_or_warnings(document):
    schema, warnings = parse_schema(document)
    assert warnings == ()
    assert schema.names == tuple(field["name"] for field in document["fields"])
    assert schema.document is document


def test_the_contracts_example_is_read_as_it_is_meant():
    schema, _ = parse_schema(CONTRACT)
    assert schema["sex"].levels == ("F", "M")
    assert schema["sex"].statistics.proportions == (("F", 0.52), ("M", 0.48))
    assert schema["kps_deterioration"].statistics.proportions == ((False, 0.7), (True, 0.3))
    assert schema["los_days"].statistics == Statistics(
        quantiles=((0.25, 4.0), (0.5, 6.0), (0.75, 9.0)), missing=0.02, distribution="lognormal"
    )
    assert schema["bmi"].formula is not None
    assert schema["bmi"].formula.fields == ("weight_kg", "height_cm")
    assert schema["bmi"].places == 2
    assert schema.conditionals[0].given == (Condition("sex", ("F",)),)
    assert [rule.fields for rule in schema.rules] == [("kps_deterioration", "los_days")]
    assert (schema.index("bmi"), "bmi" in schema, "nope" in schema) == (4, True, False)


def test_an_association_says_in_which_rows_it_holds():
    pair = {"fields": ["height_cm", "age"], "measure": "spearman", "value": 0.1}
    given = {"sex": "F", "los_days": {"minimum": 3}}
    schema, warnings = parse_schema(CONTRACT | {"associations": [pair, pair | {"given": given}]})
    assert warnings == ()
    assert schema.associations[0].given == ()
    assert schema.associations[1].given == (Condition("sex", ("F",)), Condition("los_days", minimum=3))


def test_a_frictionless_schema_is_read_as_it_is():
    document = {
        "$schema": "https://datapackage.org/profiles/2.0/tableschema.json",
        "fields": [
            {"name": "id", "type": "string", "format": "uuid", "constraints": {"pattern": "[0-9a-f-]{36}"}},
            {"name": "when", "type": "date", "format": "%d.%m.%Y", "constraints": {"minimum": "31.01.2020"}},
            {"name": "seen", "type": "datetime", "format": "any",
             "constraints": {"maximum": "2024-01-01T00:00:00+02:00"}},
            {"name": "clock", "type": "time", "format": "default", "constraints": {"minimum": "08:00:00"}},
            {"name": "born", "type": "year", "constraints": {"minimum": 1900}},
            {"name": "dose", "type": "number", "bareNumber": False, "decimalChar": ",", "groupChar": "."},
            {"name": "count", "type": "integer", "constraints": {"exclusiveMinimum": 0, "exclusiveMaximum": "10"}},
            {"name": "flag", "type": "boolean", "trueValues": ["ja"], "falseValues": ["nein"],
             "constraints": {"enum": ["ja"]}},
            {"name": "stage", "type": "integer", "categoriesOrdered": True,
             "categories": [{"value": 1, "label": "early"}, {"value": 2, "label": "late"}]},
            {"name": "arm", "type": "string", "constraints": {"enum": ["a", "b"], "required": True}},
        ],
        "missingValues": ["", {"value": "-99", "label": "not asked"}],
        "primaryKey": ["id"],
    }  # fmt: skip
    schema, warnings = parse_schema(document)
    assert warnings == ()
    assert schema["id"].kind == "id"
    assert schema["when"].constraints.minimum == dt.date(2020, 1, 31)
    assert schema["seen"].constraints.maximum == dt.datetime(2023, 12, 31, 22)
    assert schema["clock"].constraints.minimum == dt.time(8)
    assert (schema["count"].constraints.minimum, schema["count"].constraints.maximum) == (1, 9)
    assert schema["flag"].levels == (True,)
    assert (schema["stage"].levels, schema["stage"].ordered) == ((1, 2), True)
    assert schema["arm"].levels == ("a", "b")
    assert schema.missing_values == ("", "-99")


def test_what_is_unknown_or_assumed_is_kept_and_warned_of():
    document = {
        "fields": [
            {"name": "a", "statistic": {"mean": 1}},
            {"name": "b", "type": "any"},
            {"name": "c", "type": "number", "constraints": {"exclusiveMinimum": 0, "jsonSchema": {}},
             "statistics": {"skew": 1}},
            {"name": "s", "type": "string", "categories": ["x", "y", "z"],
             "statistics": {"proportions": {"x": 0.333, "y": 0.333, "z": 0.333}}},
            {"name": "f", "type": "number", "formula": "c * 2", "statistics": {"missing": 0.1}},
        ],
        "foreignKeys": [],
        "rules": ["c > 1", "c > 1"],
    }  # fmt: skip
    schema, warnings = parse_schema(document)
    assert sorted(warning.pointer for warning in warnings) == [
        "/fields/0/statistic",
        "/fields/0/type",
        "/fields/1/type",
        "/fields/2/constraints/exclusiveMinimum",
        "/fields/2/constraints/jsonSchema",
        "/fields/2/statistics/skew",
        "/fields/3/statistics/proportions",
        "/fields/4/statistics/missing",
        "/foreignKeys",
        "/rules/1",
    ]
    assert any("did you mean 'statistics'" in warning.message for warning in warnings)
    assert schema["a"].type == "string"
    shares = [share for _, share in schema["s"].statistics.proportions or ()]
    assert sum(shares) == pytest.approx(1.0, abs=1e-15)


def test_statistics_of_moments_are_on_their_numeric_scale():
    fields = [
        {
            "name": "d",
            "type": "date",
            "statistics": {"mean": "1970-01-11T12:00", "sd": 2, "min": "1970-01-02"},
        },
        {"name": "t", "type": "time", "statistics": {"median": "01:00", "sd": 60}},
    ]
    schema, _ = parse_schema({"fields": fields})
    assert schema["d"].statistics == Statistics(mean=10.5, sd=2.0, minimum=1.0)
    assert schema["t"].statistics == Statistics(median=3600.0, sd=60.0)


def test_published_roundings_are_not_taken_for_contradictions():
    fields = [
        {"name": "binary", "type": "number", "constraints": {"minimum": 0, "maximum": 1},
         "statistics": {"mean": 0.5, "sd": 0.51}},
        {"name": "skewed", "type": "integer", "constraints": {"minimum": 1, "maximum": 60},
         "statistics": {"mean": 6.9, "sd": 4.1, "median": 6, "quantiles": {"0.25": 4, "0.75": 9}}},
        {"name": "constant", "type": "number", "constraints": {"minimum": 3, "maximum": 3},
         "statistics": {"mean": 3, "sd": 0}},
        {"name": "absent", "type": "number", "statistics": {"missing": 1}},
        {"name": "shifted", "type": "number", "constraints": {"minimum": -10},
         "statistics": {"mean": -1, "distribution": "lognormal"}},
    ]  # fmt: skip
    assert parse_schema({"fields": fields})[1] == ()


@pytest.mark.parametrize(
    "name", ["with space", "a.b", "âge", "lambda", "class", "True", "a'b\"c", "日本", "if", "x" * 255]
)
def test_a_field_may_be_called_anything(name):
    document = {
        "fields": [{"name": name, "type": "integer"}, {"name": "double", "type": "integer",
                                                       "formula": f"field({name!r}) * 2"}],
        "associations": [{"fields": [name, "double"], "measure": "pearson", "value": 0.9}],
        "rules": [f"field({name!r}) > 0"],
    }  # fmt: skip
    schema, warnings = parse_schema(document)
    assert warnings == ()
    assert schema.rules[0].fields == (name,)


def test_reading_a_schema_needs_no_numerics():
    code = "import sys, app.schema.parse, app.schema.check_rows; print(*{'numpy', 'pandas', 'pyarrow'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )


def unique(**more: Any) -> dict[str, Any]:
    field = {"name": "u", **more}
    return {"fields": [field | {"constraints": field.get("constraints", {}) | {"unique": True}}]}


@pytest.mark.parametrize(
    ("document", "room"),
    [
        (unique(type="string", categories=["a", "b", "c"]), 3),
        (unique(type="boolean"), 2),
        (unique(type="integer", constraints={"minimum": 1, "maximum": 100}), 100),
        (unique(type="number", decimals=1, constraints={"minimum": 0, "maximum": 1}), 11),
        (unique(type="date", constraints={"minimum": "2024-01-01", "maximum": "2024-01-31"}), 31),
        (unique(type="time"), 86_400),
        (unique(type="string", constraints={"pattern": r"[A-C]\d{2}(x|yy)?"}), 900),
        (unique(type="string", constraints={"pattern": "[AB]{0,3}"}), 15),
        ({"fields": [{"name": "u", "type": "boolean"}], "primaryKey": "u"}, 2),
        ({"fields": [{"name": "u", "type": "boolean"}, {"name": "v", "type": "boolean"}],
          "primaryKey": ["u", "v"]}, 4),
    ],
)  # fmt: skip
def test_a_row_count_beyond_what_a_unique_field_can_hold_is_a_fault(document, room):
    schema, _ = parse_schema(document)
    assert check_row_count(schema, room) == []
    (fault,) = check_row_count(schema, room + 1)
    assert fault.pointer in ("/fields/0/constraints/unique", "/primaryKey")
    assert str(room) in fault.message


@pytest.mark.parametrize("pattern", ["P.+", r"\w{3}", "a*"])
def test_a_pattern_without_a_certain_limit_is_not_judged(pattern):
    schema, _ = parse_schema(unique(type="string", constraints={"pattern": pattern}))
    assert check_row_count(schema, 10**9) == []


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += places(value, (*at, key))
    return found


BASES = [FLAGSHIP, CONTRACT]
PLACES = [(base, at) for base in BASES for at in places(base)[1:]]
KEYS = ["fields", "name", "type", "statistics", "mean", "sd", "proportions", "quantiles", "constraints", "minimum",
        "enum", "pattern", "formula", "relevant", "given", "value", "measure", "rules", "F", "0.5", "categories",
        "format", "missing", "missingValues", "primaryKey", "unique", "decimals", "categoriesOrdered"]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 120), st.integers(), st.floats(), st.text(max_size=6),
    st.sampled_from(["F", "M", "sex", "age", "bmi", "number", "integer", "date", "2024-01-01", "age > 3", "spearman",
                     "bmi", "age * 2", "(a+)+", "lognormal", "\ud800", "\0", "0", "true"]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=3)), inner),
    ),
    max_leaves=8,
)


def pointers_lead_into(document: Any, error: InvalidInput) -> bool:
    """Whether all but the last part of every pointer is there (what a fault says is missing is not)."""
    for fault in error.faults:
        node = document
        for part in fault.pointer.split("/")[1:-1]:
            key = part.replace("~1", "/").replace("~0", "~")
            node = node[int(key)] if isinstance(node, list) else node[key]
    return all(fault.message for fault in error.faults)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON, st.booleans()), min_size=1, max_size=4))
def test_a_mutated_schema_is_read_or_refused_with_pointers_into_it(mutations):
    document = copy.deepcopy(mutations[0][0][0])
    for (_, at), value, delete in mutations:
        node = document
        try:
            for key in at[:-1]:
                node = node[key]
            if delete:
                del node[at[-1]]
            else:
                node[at[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation took the place away
    try:
        schema, _ = parse_schema(document)
    except InvalidInput as error:
        assert pointers_lead_into(document, error)
    else:
        assert schema.names == tuple(field["name"] for field in document["fields"])
        assert check_row_count(schema, 10) is not None


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(document):
    try:
        parse_schema(document)
    except InvalidInput as error:
        assert error.faults


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6),
    st.sampled_from(["number", "string", "date", "boolean"]),
)
def test_any_field_is_read_or_refused(field, field_type):
    document = {"fields": [{"name": "x", "type": field_type, **field}, {"name": "age", "type": "integer"}]}
    try:
        parse_schema(document)
    except InvalidInput as error:
        assert pointers_lead_into(document, error)


def test_a_vocabulary_is_what_free_text_is_drawn_from() -> None:
    field: dict[str, Any] = {"name": "note", "type": "string", "vocabulary": ["worse", "better", "worse"]}
    schema, warnings = parse_schema({"fields": [field]})
    assert schema["note"].vocabulary == ("worse", "better") and not warnings
    for more, at in (
        ({"categories": ["worse"]}, "/fields/0/vocabulary"),
        ({"constraints": {"pattern": "[a-z]+"}}, "/fields/0/vocabulary"),
        ({"constraints": {"maxLength": 5}}, "/fields/0/vocabulary/1"),
        ({"vocabulary": []}, "/fields/0/vocabulary"),
        ({"vocabulary": ["", 3]}, "/fields/0/vocabulary/0"),
    ):
        with pytest.raises(InvalidInput) as caught:
            parse_schema({"fields": [field | more]})
        assert at in [fault.pointer for fault in caught.value.faults]
