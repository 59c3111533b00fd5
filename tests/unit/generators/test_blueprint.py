"""The generator `blueprint`: what its options do. What every generator promises is in `tests/contracts`."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.random import SeedSequence

from app.blueprint.declare import declare, schema_of
from app.blueprint.matching import rows_of
from app.blueprint.model import Blueprint as Document
from app.blueprint.statements import measure
from app.errors import InvalidInput, RowShortfall
from app.generators.base import refusals, remarks
from app.generators.blueprint import Blueprint, BlueprintSampler, sampler_of
from app.generators.machinery import breaks_constraints
from app.schema.evaluate import breaks, formula_column
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

FLAGSHIP = json.loads((Path(__file__).parents[3] / "examples" / "neurosurgery.schema.json").read_text())


def silent(*_: Any, **__: Any) -> None:
    """Progress that nobody follows, warnings that nobody reads."""


def fitted(document: dict[str, Any], **options: Any) -> BlueprintSampler:
    schema = parse_schema(document)[0]
    generator = Blueprint(Blueprint.Options(**options))
    return generator.fit(schema, None, seed=SeedSequence(0), progress=silent, warn=silent)


def elicited(document: dict[str, Any]) -> BlueprintSampler:
    """As `fitted`, of what a model said: nothing of it is corrected by reweighting."""
    schema = parse_schema(document)[0]
    return sampler_of(schema, declare(schema, {"": "elicited"}), progress=silent, warn=silent)


@functools.cache
def flagship() -> tuple[TableSchema, BlueprintSampler]:
    return parse_schema(FLAGSHIP)[0], fitted(FLAGSHIP)


def gaps(frame: pd.DataFrame) -> np.ndarray:
    schema, sampler = flagship()
    rows = rows_of(schema, frame)
    return np.array([abs(measure(statement, rows).gap) for statement in sampler.aims])


def test_a_table_of_139_rows_has_the_declared_statistics_itself() -> None:
    schema, sampler = flagship()
    seed = SeedSequence(7)
    plain = sampler.sample_shard(0, 139, seed=seed)
    chosen = sampler.matched().sample_shard(0, 139, seed=seed)
    assert len(chosen) == 139 and tuple(chosen.columns) == schema.names
    for rule in schema.rules:
        assert not breaks(rule, chosen).any()
    for field in schema.fields:
        assert not breaks_constraints(field, chosen).any(), field.name
    # A share of 139 rows is a multiple of 0.72 %, half of which is 0.72 of its tolerance of 0.5 %.
    assert np.quantile(gaps(chosen), 0.95) <= 1.0 < np.median(gaps(plain))


def test_matched_replicates_are_different_tables() -> None:
    _, sampler = flagship()
    first, second = SeedSequence(7).spawn(2)
    tables = [sampler.matched().sample_shard(0, 139, seed=seed) for seed in (first, second)]
    assert (tables[0]["height_cm"].to_numpy() == tables[1]["height_cm"].to_numpy()).mean() < 0.05


def test_a_matching_sampler_survives_the_way_to_another_worker() -> None:
    matched = flagship()[1].matched()
    again = pickle.loads(pickle.dumps(matched))
    pd.testing.assert_frame_equal(
        matched.sample_shard(0, 50, seed=SeedSequence(3)), again.sample_shard(0, 50, seed=SeedSequence(3))
    )


def test_a_rule_that_reads_an_id_does_not_hinder_the_choice() -> None:
    document = {
        "fields": [
            {"name": "bed", "type": "integer", "constraints": {"unique": True, "minimum": 1, "maximum": 600}},
            {"name": "x", "type": "number", "decimals": 2, "statistics": {"mean": 5, "sd": 1}},
            {"name": "row", "type": "integer", "formula": "bed * 2", "statistics": {"mean": 600}},
            {"name": "last", "type": "boolean", "relevant": "row > 700"},
        ],
        "rules": ["bed > 0", "row > 3 or x > 4"],
    }
    frame = fitted(document, match="sample").sample_shard(0, 100, seed=SeedSequence(1))
    assert len(frame) == 100 and frame["bed"].is_unique
    assert (frame["row"] == 2 * frame["bed"]).all() and ((frame["row"] > 3) | (frame["x"] > 4)).all()
    assert (frame["last"].isna() == (frame["row"] <= 700)).all()
    assert abs(frame["x"].mean() - 5) < 0.02  # drawn at random its standard error is 0.1


def test_only_small_tables_are_matched() -> None:
    schema, _ = flagship()
    matched = Blueprint.Options(match="sample")
    assert [fault.pointer for fault in Blueprint.refusals(matched, schema, 5001)] == ["/rows"]
    assert not list(Blueprint.refusals(matched, schema, 5000))
    assert not list(Blueprint.refusals(Blueprint.Options(), schema, 10_000_000))


def test_a_blueprint_of_another_table_is_refused() -> None:
    other = {"fields": [{"name": "weight", "type": "number", "statistics": {"mean": 70, "sd": 9}}]}
    document = Document.from_json(fitted(other).blueprint)
    with pytest.raises(InvalidInput) as refused:
        fitted({"fields": [{"name": "height", "type": "number"}]}, blueprint=document)
    (fault,) = refused.value.faults
    assert fault.pointer == "/columns" and "other columns" in fault.message


def test_a_repaired_statement_is_matched_to_what_can_be() -> None:
    fields = [
        {"name": name, "type": "number", "decimals": 3, "statistics": {"mean": 0, "sd": 1}} for name in "abc"
    ]
    associations = [
        {"fields": list(pair), "measure": "pearson", "value": value}
        for pair, value in (("ab", 0.9), ("bc", 0.9), ("ac", -0.9))
    ]
    sampler = fitted({"fields": fields, "associations": associations})
    assert len(sampler.repairs) == 3
    asked = {statement.pointer: statement.asked for statement in sampler.aims}
    assert all(abs(asked[f"/associations/{k}/value"]) < 0.9 for k in range(3))
    assert replace(sampler).repairs[0]["moved"] >= sampler.repairs[-1]["moved"]


BOUND: dict[str, Any] = {
    "fields": [
        {"name": "a", "type": "number", "decimals": 2, "statistics": {"mean": 0, "sd": 1}},
        {"name": "b", "type": "number", "decimals": 2, "statistics": {"mean": 0, "sd": 1}},
        {"name": "c", "type": "number", "decimals": 2, "statistics": {"mean": 0, "sd": 1}},
        {"name": "half", "type": "number", "decimals": 2, "constraints": {"minimum": 0, "maximum": 100}},
        {"name": "double", "type": "number", "formula": "half * 2", "statistics": {"mean": 40, "sd": 10}},
        {"name": "group", "type": "string", "categories": ["x", "y"]},
    ],
    "associations": [
        {"fields": ["a", "b"], "measure": "pearson", "value": 0.9},
        {"fields": ["b", "c"], "measure": "pearson", "value": 0.9},
        {"fields": ["a", "c"], "measure": "pearson", "value": -0.9},
        {"fields": ["group", "half"], "measure": "correlation_ratio", "value": 0.3},
    ],
}


@functools.cache
def bound() -> BlueprintSampler:
    return fitted(BOUND)


def test_a_default_that_gave_way_shows_what_the_rows_have_and_what_it_was() -> None:
    document = Document.from_json(bound().blueprint)
    mean = document.columns[3].marginal.mean  # what the formula's declared mean makes of it
    assert mean.source == "default" and abs(mean.value - 20) < 0.2 and mean.asked == 50
    told = [repair for repair in document.repairs if repair.at == "/columns/3/marginal/mean/value"]
    assert [repair.moved for repair in told] == [None]


def test_a_blueprint_posted_back_gives_the_same_blueprint_and_the_same_rows() -> None:
    again = fitted(BOUND, blueprint=Document.from_json(bound().blueprint))
    assert again.blueprint == bound().blueprint
    seed = SeedSequence(5)
    pd.testing.assert_frame_equal(
        again.sample_shard(0, 500, seed=seed), bound().sample_shard(0, 500, seed=seed)
    )


def test_an_edit_that_resolves_a_contradiction_leaves_no_repair_behind() -> None:
    lean = Document.from_json(bound().blueprint).lean()
    lean["dependence"][2]["value"] = 0.8
    edited = Document.from_json(fitted(BOUND, blueprint=Document.model_validate(lean)).blueprint)
    assert [item.value for item in edited.dependence] == [0.9, 0.9, 0.8, 0.3]
    assert not [repair for repair in edited.repairs if repair.moved is not None]
    assert [guess.at for guess in edited.guesses] == ["/dependence/3/sign/value"]


def test_a_posted_blueprint_with_faults_is_refused_before_anything_is_queued() -> None:
    schema = parse_schema(BOUND)[0]
    lean = Document.from_json(bound().blueprint).lean()
    lean["columns"][0]["marginal"]["sd"]["value"] = -1
    options = Blueprint.Options(blueprint=Document.model_validate(lean))
    pointers = [fault.pointer for fault in refusals(Blueprint, options, schema, 10)]
    assert pointers == ["/generator/options/blueprint/columns/0/marginal/sd/value"]


def test_a_mean_by_one_field_holds_where_a_rule_ties_the_column_to_another_too() -> None:
    followed = {
        "fields": [
            {"name": "died", "type": "boolean", "statistics": {"proportions": {"true": 0.3, "false": 0.7}}},
            {"name": "arm", "type": "string", "categories": ["a", "b"],
             "statistics": {"proportions": {"a": 0.5, "b": 0.5}}},
            {"name": "days", "type": "integer", "constraints": {"minimum": 0, "maximum": 700},
             "statistics": {"quantiles": {"0.05": 20, "0.25": 90, "0.5": 240, "0.75": 350, "0.95": 480}}},
        ],
        "associations": [{"fields": ["died", "arm"], "measure": "odds_ratio", "value": 1.5}],
        "conditionals": [
            {"field": "days", "given": {"arm": ["a"]}, "statistics": {"mean": 260}},
            {"field": "days", "given": {"arm": ["b"]}, "statistics": {"mean": 200}},
        ],
        "rules": ["not died or days > 0"],
    }  # fmt: skip
    frame = elicited(followed).sample_shard(0, 50_000, seed=SeedSequence(4))
    by_arm = frame.groupby("arm", observed=True)["days"].mean()
    # 0.03 sd of 155 days are allowed, and four standard errors of 25,000 rows: 4.7 + 3.9.
    assert abs(by_arm["a"] - 260) < 8.6 and abs(by_arm["b"] - 200) < 8.6
    assert not (frame["died"] & (frame["days"] == 0)).any()


def test_what_is_declared_holds_beside_elicited_statements_that_contradict_one_another() -> None:
    number = {"type": "number", "decimals": 2, "statistics": {"mean": 50, "sd": 10}}
    whole = Document.model_validate_json(
        fitted(
            {
                "fields": [{"name": name, **number} for name in "abcd"],
                "associations": [
                    {"fields": ["a", "b"], "measure": "pearson", "value": 0.9},
                    {"fields": ["b", "c"], "measure": "pearson", "value": 0.9},
                    {"fields": ["a", "c"], "measure": "pearson", "value": 0.9},
                    {"fields": ["c", "d"], "measure": "pearson", "value": 0.5},
                ],
            }
        ).blueprint
    )
    said = [item.model_copy(update={"source": "elicited"}) for item in whole.dependence[:3]]
    said[2] = said[2].model_copy(update={"value": -0.9})
    edited = whole.model_copy(
        update={"dependence": [*said, *whole.dependence[3:]], "outcomes": [], "repairs": []}
    )
    schema = schema_of(edited)
    generator = Blueprint(Blueprint.Options(blueprint=edited))
    sampler = generator.fit(schema, None, seed=SeedSequence(0), progress=silent, warn=silent)
    frame = sampler.sample_shard(0, 50_000, seed=SeedSequence(4))
    assert abs(frame["c"].corr(frame["d"]) - 0.5) < 0.02 + 4 * 0.0034
    # All three correlations of 0.9, 0.9 and −0.9 give way, and nothing else.
    assert {item["at"] for item in json.loads(sampler.blueprint)["repairs"]} == {
        f"/dependence/{place}/value" for place in range(3)
    }


def test_a_column_that_follows_from_a_formula_has_the_decimals_that_its_blueprint_says() -> None:
    schema, sampler = flagship()
    frame = sampler.sample_shard(0, 5_000, seed=SeedSequence(1))
    column = next(one for one in json.loads(sampler.blueprint)["columns"] if one["name"] == "weight_kg")
    places = column["decimals"]["value"]
    assert column["decimals"]["source"] == "default" and places <= 2
    assert (frame["weight_kg"] == frame["weight_kg"].round(places)).all()
    formula = schema["bmi"].formula
    assert formula is not None
    again = formula_column(schema["bmi"], frame)
    pd.testing.assert_series_equal(frame["bmi"], again, check_names=False)


def test_a_computed_input_is_fine_enough_for_a_value_that_hardly_varies() -> None:
    sampler = fitted(
        {"fields": [
            {"name": "salt", "type": "number", "constraints": {"minimum": 0, "maximum": 1000}},
            {"name": "litres", "type": "number", "decimals": 2, "statistics": {"mean": 1000, "sd": 1}},
            {"name": "share", "type": "number", "decimals": 7, "formula": "salt / litres",
             "statistics": {"mean": 0.5, "sd": 0.00001}},
        ]}
    )  # fmt: skip
    frame = sampler.sample_shard(0, 5_000, seed=SeedSequence(1))
    assert abs(frame["share"].std() / 0.00001 - 1) < 0.1
    column = json.loads(sampler.blueprint)["columns"][0]
    assert (frame["salt"] == frame["salt"].round(column["decimals"]["value"])).all()


@pytest.mark.parametrize("limits", [{"categories": [0, 1, 2]}, {"constraints": {"enum": [0, 1, 2]}}])
def test_a_computed_column_keeps_to_its_levels(limits: dict[str, Any]) -> None:
    a = {"name": "a", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}}
    z = {"name": "z", "type": "integer", "formula": "a % 5"} | limits
    frame = fitted({"fields": [a, z]}).sample_shard(0, 500, seed=SeedSequence(1))
    assert set(frame["z"]) == {0, 1, 2} and (frame["z"] == frame["a"] % 5).all()
    with pytest.raises(RowShortfall, match="the constraints of `z`"):
        fitted({"fields": [a, z | {"formula": "7"}]}).sample_shard(0, 50, seed=SeedSequence(1))


def warned(document: dict[str, Any], rows: int = 20_000) -> tuple[pd.DataFrame, list[str]]:
    told: list[str] = []
    sampler = Blueprint(Blueprint.Options()).fit(
        parse_schema(document)[0], None, seed=SeedSequence(0), progress=silent,
        warn=lambda _at, said: told.append(said),
    )  # fmt: skip
    return sampler.sample_shard(0, rows, seed=SeedSequence(1)), told


RARE: list[dict[str, Any]] = [
    {"name": "sex", "type": "string", "categories": ["F", "M"],
     "statistics": {"proportions": {"F": 0.5, "M": 0.5}}},
    {"name": "ill", "type": "boolean", "statistics": {"proportions": {"true": 0.1, "false": 0.9}}},
]  # fmt: skip


@pytest.mark.parametrize("asked", [0.8, 0.9, 0.99, 1.0])
def test_an_association_that_is_out_of_reach_is_as_strong_as_the_shares_allow(asked: float) -> None:
    pair = {"fields": ["sex", "ill"], "measure": "cramers_v", "value": asked}
    frame, told = warned({"fields": RARE, "associations": [pair]})
    # All of the one in ten are of one sex: V = sqrt(0.1 / 0.9) = 1/3. Five standard errors are 0.035.
    table = pd.crosstab(frame["sex"].astype(object), frame["ill"].astype(object)).to_numpy(float)
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    assert abs(np.sqrt(((table - expected) ** 2 / expected).sum() / table.sum()) - 1 / 3) < 0.035
    assert abs(frame["ill"].mean() - 0.1) < 0.011
    assert any(f"{asked:.4g} was asked" in said and "0.33" in said for said in told)


@pytest.mark.parametrize("asked", [0.4, 0.5, 0.7, 0.9])
def test_a_share_within_a_group_that_is_out_of_reach_is_as_large_as_the_whole_allows(asked: float) -> None:
    stated = {"field": "ill", "given": {"sex": "F"},
              "statistics": {"proportions": {"true": asked, "false": 1 - asked}}}  # fmt: skip
    frame, _ = warned({"fields": RARE, "conditionals": [stated]})
    assert abs(frame["ill"].mean() - 0.1) < 0.011
    assert abs(frame.loc[frame["sex"] == "F", "ill"].mean() - 0.2) < 0.02


def test_what_does_not_vary_is_as_asked_in_every_group() -> None:
    seven = {"mean": 7, "sd": 0.0, "quantiles": {"0.25": 7, "0.5": 7, "0.75": 7}}
    field = {
        "name": "c",
        "type": "integer",
        "constraints": {"minimum": 5, "maximum": 10},
        "statistics": seven,
    }
    uneven = json.loads(json.dumps(RARE[0]))
    uneven["statistics"]["proportions"] = {"F": 0.48, "M": 0.52}
    given = [{"field": "c", "given": {"sex": sex}, "statistics": seven} for sex in ("F", "M")]
    frame, told = warned({"fields": [uneven, RARE[1], field], "conditionals": given}, 500)
    assert (frame["c"] == 7).all() and not told


def test_dates_and_times_are_told_as_such() -> None:
    _, told = warned(
        {
            "fields": [
                {"name": "d", "type": "date", "statistics": {"mean": "2020-06-01", "sd": 100}},
                {"name": "e", "type": "date", "statistics": {"mean": "2020-01-01", "sd": 100}},
                {"name": "t", "type": "time", "statistics": {"mean": "12:00:00", "sd": 7200}},
                {"name": "u", "type": "time", "statistics": {"mean": "06:00:00", "sd": 3600}},
            ],
            "rules": ["e >= d", "u >= t"],
        }
    )
    said = " ".join(told)
    assert "2020-06-01 was asked" in said and "12:00:00 was asked" in said and "e+0" not in said


def posted(edit: Callable[[dict[str, Any]], Any], document: dict[str, Any]) -> Blueprint.Options:
    lean = Document.from_json(fitted(document).blueprint).lean()
    edit(lean["columns"][1])
    return Blueprint.Options(blueprint=Document.model_validate(lean))


AGES: dict[str, Any] = {
    "fields": [
        RARE[0],
        {"name": "age", "type": "integer", "constraints": {"minimum": 65, "maximum": 110},
         "statistics": {"mean": 71.2, "sd": 4.1, "quantiles": {"0.25": 68, "0.75": 74}}},
    ]
}  # fmt: skip


@pytest.mark.parametrize("limits", [{"minimum": 18, "maximum": 110}, {}, {"minimum": 65}])
def test_a_posted_blueprint_allows_no_value_that_the_schema_does_not(limits: dict[str, Any]) -> None:
    options = posted(lambda column: column.update(constraints=limits), AGES)
    (fault,) = refusals(Blueprint, options, parse_schema(AGES)[0], 10)
    assert fault.pointer == "/generator/options/blueprint/columns/1/constraints" and "`age`" in fault.message


def test_an_edit_that_differs_from_the_schema_is_remarked_and_one_that_does_not_is_not() -> None:
    schema = parse_schema(AGES)[0]
    same = posted(lambda _: None, AGES)
    edited = posted(lambda column: column["marginal"]["mean"].update(value=75), AGES)
    assert not list(remarks(Blueprint, same, schema)) and not list(refusals(Blueprint, edited, schema, 10))
    (told,) = remarks(Blueprint, edited, schema)
    assert told.pointer == "/generator/options/blueprint" and "`age`" in told.message


@pytest.mark.parametrize("asked", [0.97, 0.6, 0.3])
def test_an_elicited_correlation_never_comes_out_the_other_way_round(asked: float) -> None:
    def day(name: str, years: tuple[int, ...]) -> dict[str, Any]:
        low, *inner, high = (f"{year}-01-01" for year in years)
        quantiles = dict(zip(("0.05", "0.25", "0.5", "0.75", "0.95"), inner, strict=True))
        return {"name": name, "type": "date", "statistics": {"min": low, "max": high, "quantiles": quantiles}}

    early, late = (2005, 2007, 2010, 2012, 2014, 2017, 2019), (2006, 2008, 2011, 2013, 2015, 2018, 2020)
    names = ("diagnosed", "operated", "discharged", "relapsed")
    document = {
        "fields": [day(name, late if name == "relapsed" else early) for name in names],
        "associations": [{"fields": list(pair), "measure": "spearman", "value": asked}
                         for pair in itertools.pairwise(names)],
        "rules": ["operated >= diagnosed", "discharged >= operated"],
    }  # fmt: skip
    frame = elicited(document).sample_shard(0, 2_000, seed=SeedSequence(1))
    days = frame.apply(lambda column: column.astype("int64"))
    found = days.corr("spearman").loc["discharged", "relapsed"]
    assert abs(found - asked) < 0.1
