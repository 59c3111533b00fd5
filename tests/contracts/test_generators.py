"""Every registered generator, ours and strangers', is taken through every promise."""

from __future__ import annotations

import csv
import functools
import json
import pickle
import sys
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.random import SeedSequence

OUTSIDE = str(Path(__file__).parent / "outside_plugin")
if OUTSIDE not in sys.path:  # before the registry is asked for its names
    sys.path.append(OUTSIDE)

from app.errors import RowShortfall  # noqa: E402
from app.generators import registry  # noqa: E402
from app.generators.base import SHARD_ROWS, Capabilities, Declaration, Generator, Sampler, learns  # noqa: E402
from app.generators.llm.assignment import AsksModels, Assignment  # noqa: E402
from app.generators.llm.providers import Providers  # noqa: E402
from app.generators.llm.talk import Talks  # noqa: E402
from app.generators.machinery import breaks_constraints  # noqa: E402
from app.schema.evaluate import breaks, formula_column, holds_relevant  # noqa: E402
from app.schema.frames import conform, dtype_of, to_arrow  # noqa: E402
from app.schema.parse import parse_schema  # noqa: E402
from app.schema.table import TableSchema  # noqa: E402
from tests.fake_provider import knowing_nothing, serving  # noqa: E402

registry.refresh()
NAMES = registry.names()
EXAMPLES = Path(__file__).parents[2] / "examples"

QUICK: dict[str, dict[str, Any]] = {
    "ctgan": {"epochs": 2, "generator_dim": [32], "discriminator_dim": [32], "embedding_dim": 16},
    "llm": {"elicitations": 1, "critiques": 1},
}
"""Options with which generators that train long keep their promises in seconds."""

LONG_LEVEL = "Néoplasie maligne de l'encéphale, sans précision, diagnostiquée à l'étranger – éà"

CLINIC: dict[str, Any] = {
    "fields": [
        {"name": "patient id", "type": "string",
         "constraints": {"unique": True, "required": True, "pattern": "P0\\d{7}"}},
        {"name": "âge", "type": "integer", "constraints": {"required": True, "minimum": 18, "maximum": 99},
         "statistics": {"mean": 61, "sd": 14}},
        {"name": "lambda", "type": "number", "decimals": 2, "constraints": {"minimum": 0},
         "statistics": {"mean": 2.5, "sd": 1.9, "missing": 0.1}},
        {"name": "sex", "type": "string", "categories": ["F", "M"],
         "statistics": {"proportions": {"F": 0.6, "M": 0.4}}},
        {"name": "pregnant", "type": "boolean", "relevant": "sex == 'F'",
         "statistics": {"proportions": {"true": 0.2, "false": 0.8}, "missing": 0.05}},
        {"name": "diagnosis.1", "type": "string", "categories": [LONG_LEVEL, "日本, 語", "\"other\""],
         "statistics": {"missing": 0.02,
                        "proportions": {LONG_LEVEL: 0.7, "日本, 語": 0.2, "\"other\"": 0.1}}},
        {"name": "grade", "type": "integer", "categories": [1, 2, 3], "categoriesOrdered": True,
         "statistics": {"proportions": {"1": 0.5, "2": 0.3, "3": 0.2}}},
        {"name": "admitted", "type": "date",
         "constraints": {"minimum": "2020-01-01", "maximum": "2023-12-31"}},
        {"name": "discharged", "type": "date",
         "constraints": {"minimum": "2020-01-01", "maximum": "2024-12-31"}},
        {"name": "stay", "type": "integer", "formula": "days(discharged - admitted)",
         "constraints": {"maximum": 1500}},
        {"name": "seen", "type": "datetime"},
        {"name": "at", "type": "time"},
        {"name": "born", "type": "year", "constraints": {"minimum": 1930, "maximum": 2006}},
        {"name": "note", "type": "string", "constraints": {"maxLength": 12}, "statistics": {"missing": 0.3}},
        {"name": "twice", "type": "number", "decimals": 1, "formula": "field(\"lambda\") * 2"},
    ],
    "rules": ["admitted <= discharged", "not (sex == 'M' and grade == 3)"],
}  # fmt: skip

PLAIN: dict[str, Any] = {
    "fields": [
        {"name": "x", "type": "number", "statistics": {"mean": 10, "sd": 2}},
        {"name": "k", "type": "integer", "constraints": {"minimum": 0, "maximum": 50},
         "statistics": {"mean": 5, "sd": 3}},
        {"name": "c", "type": "string", "categories": ["a", "b"]},
        {"name": "d", "type": "date"},
        {"name": "id", "type": "string"},
    ],
    "primaryKey": "id",
}  # fmt: skip


def silent(*_: Any, **__: Any) -> None:
    """Progress that nobody follows, warnings that nobody reads."""


@functools.cache
def schema_of(text: str) -> TableSchema:
    return parse_schema(json.loads(text))[0]


def built(name: str, **wanted: Any) -> Generator:
    made = registry.load(name)
    wanted = QUICK.get(name, {}) | wanted
    offered = {key: value for key, value in wanted.items() if key in made.Options.model_fields}
    return made(made.Options(**offered))


def fit_of(
    generator: Generator, schema: TableSchema, train: pd.DataFrame | None, seed: SeedSequence
) -> Sampler:
    """Fit; one that asks a language model is given a real server to ask, whose model knows nothing.

    What is declared, and nothing else, is then what its rows must keep.
    """
    if not isinstance(generator, AsksModels):
        assert not generator.capabilities.uses_llm, "one that asks is handed the means by `assigned`"
        return generator.fit(schema, train, seed=seed, progress=silent, warn=silent)
    with serving(knowing_nothing) as fake:
        talks = Talks(Providers({"fake": fake.provider()}), sleep=silent)
        asking = generator.assigned(Assignment(talks, rows=1000, replicates=1))
        sampler = asking.fit(schema, train, seed=seed, progress=silent, warn=silent)
        assert fake.requests, "it asked"
    return sampler


def fitted(
    name: str, document: dict[str, Any], train: pd.DataFrame | None = None, seed: int = 1, **wanted: Any
) -> tuple[TableSchema, Sampler]:
    schema = schema_of(json.dumps(document))
    generator = built(name, **wanted)
    if generator.capabilities.needs_reference and train is None:
        train = stand_in(schema)
    return schema, fit_of(generator, schema, train, SeedSequence(seed))


def stand_in(schema: TableSchema) -> pd.DataFrame:
    """A reference for generators that need one: itself synthetic, rules aside where none can keep them."""
    marginals = built("marginals")
    try:
        sampler = marginals.fit(schema, None, seed=SeedSequence(99), progress=silent, warn=silent)
        return sampler.sample_shard(0, 500, seed=SeedSequence(99))
    except RowShortfall as shortfall:
        schema, n_rows = replace(schema, rules=()), shortfall.made or 500
        sampler = marginals.fit(schema, None, seed=SeedSequence(99), progress=silent, warn=silent)
        return sampler.sample_shard(0, n_rows, seed=SeedSequence(99))


def arrow_bytes(frame: pd.DataFrame, schema: TableSchema) -> bytes:
    sink = pa.BufferOutputStream()
    table = to_arrow(frame, schema)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def assert_conforms(frame: pd.DataFrame, schema: TableSchema, n_rows: int) -> None:
    assert len(frame) == n_rows
    assert tuple(frame.columns) == schema.names
    for rule in schema.rules:
        assert not breaks(rule, frame).any(), rule.text
    for field in schema.fields:
        assert frame[field.name].dtype == dtype_of(field), field.name
        assert not breaks_constraints(field, frame).any(), field.name
        if field.constraints.unique or schema.primary_key == (field.name,):
            assert frame[field.name].dropna().is_unique, field.name
        if field.relevant is not None:
            assert frame[field.name][~holds_relevant(field.relevant, frame)].isna().all(), field.name
        if field.formula is not None and field.decimals is not None:
            pd.testing.assert_series_equal(formula_column(field, frame), frame[field.name], check_names=False)


every = pytest.mark.parametrize("name", NAMES)


def test_a_generator_from_outside_came_through_its_entry_point() -> None:
    assert {"marginals", "evenly"} <= set(NAMES)


def test_one_that_cannot_be_imported_says_why_and_leaves_the_others_alone() -> None:
    (broken,) = [item for item in registry.unavailable() if item.name == "broken"]
    assert "a_package_that_is_not_installed" in broken.reason
    with pytest.raises(registry.UnknownGenerator) as caught:
        registry.load("broken")
    assert "not available here" in caught.value.faults[0].message


def test_an_unknown_name_is_told_the_closest() -> None:
    with pytest.raises(registry.UnknownGenerator) as caught:
        registry.load("marginal")
    assert "Did you mean `marginals`?" in caught.value.faults[0].message


@every
def test_it_is_classified(name: str) -> None:
    made = registry.load(name)
    assert isinstance(made.capabilities, Capabilities)
    assert made.capabilities.honours, "a generator says which declarations it honours"
    assert made.capabilities.honours <= set(typing.get_args(Declaration))
    assert made.description and made.version
    assert made.Options.model_config.get("extra") == "forbid"
    assert made.Options.model_json_schema()["type"] == "object"


@every
@pytest.mark.parametrize("n_rows", [1, 2, 13, 257, 5000])
def test_exactly_the_rows_asked_for_and_nothing_broken(name: str, n_rows: int) -> None:
    schema, sampler = fitted(name, CLINIC)
    assert_conforms(sampler.sample_shard(0, n_rows, seed=SeedSequence(7)), schema, n_rows)


@every
def test_missing_rates_hold(name: str) -> None:
    schema, sampler = fitted(name, CLINIC)
    frame = sampler.sample_shard(0, 20_000, seed=SeedSequence(7))
    for field in schema.fields:
        rows = frame if field.relevant is None else frame[holds_relevant(field.relevant, frame)]
        share = field.statistics.missing or 0.0
        if field.formula is not None:
            continue
        # Five standard errors of a binomial share: one false alarm in a million.
        allowed = 5 * np.sqrt(share * (1 - share) / len(rows))
        assert abs(rows[field.name].isna().mean() - share) <= allowed, field.name


@every
def test_same_seed_same_bytes_and_another_seed_other_bytes(name: str) -> None:
    if not registry.load(name).capabilities.reproducible:
        pytest.skip("is not marked reproducible")
    schema, sampler = fitted(name, CLINIC)
    _, again = fitted(name, CLINIC)
    once = arrow_bytes(sampler.sample_shard(0, 3000, seed=SeedSequence(7)), schema)
    assert once == arrow_bytes(again.sample_shard(0, 3000, seed=SeedSequence(7)), schema)
    assert once != arrow_bytes(sampler.sample_shard(0, 3000, seed=SeedSequence(8)), schema)


@every
@pytest.mark.parametrize("document", [CLINIC, PLAIN], ids=["clinic", "plain"])
def test_a_shorter_shard_is_the_prefix_of_a_longer_one(name: str, document: dict[str, Any]) -> None:
    if not registry.load(name).capabilities.prefix:
        pytest.skip("does not promise it")
    _schema, sampler = fitted(name, document)
    longest = sampler.sample_shard(1, 20_001, seed=SeedSequence(7))
    for n_rows in (1, 300, 1400, 20_000):
        pd.testing.assert_frame_equal(
            sampler.sample_shard(1, n_rows, seed=SeedSequence(7)), longest.iloc[:n_rows]
        )


@every
def test_replicates_and_shards_share_no_draws(name: str) -> None:
    _schema, sampler = fitted(name, PLAIN)
    first, second = SeedSequence(7).spawn(2)
    tables = [
        sampler.sample_shard(0, 2000, seed=first),
        sampler.sample_shard(0, 2000, seed=second),
        sampler.sample_shard(1, 2000, seed=first),
    ]
    for one in range(3):
        for other in range(one):
            # Independent normals of sd 2 with two decimals agree in one row of 700; shared draws in all.
            assert (tables[one]["x"] == tables[other]["x"]).mean() < 0.02
            assert abs(np.corrcoef(tables[one]["x"], tables[other]["x"])[0, 1]) < 0.12  # 5 standard errors


@every
def test_ids_of_different_shards_never_meet(name: str) -> None:
    _schema, sampler = fitted(name, CLINIC)
    seen = pd.concat(
        [sampler.sample_shard(index, 4000, seed=SeedSequence(7))["patient id"] for index in (0, 1, 37)]
    )
    assert seen.is_unique
    assert seen.str.fullmatch("P0[0-9]{7}").all()
    assert seen.str.startswith("P0").all()  # the leading zero is there: ids are strings


@every
def test_the_sampler_survives_the_way_to_another_worker(name: str) -> None:
    schema, sampler = fitted(name, CLINIC)
    travelled = pickle.loads(pickle.dumps(sampler))
    one, other = (
        arrow_bytes(each.sample_shard(2, 500, seed=SeedSequence(3)), schema) for each in (sampler, travelled)
    )
    assert one == other


@every
def test_two_hundred_columns(name: str) -> None:
    kinds = [{"type": "number"}, {"type": "integer"}, {"type": "boolean"}, {"type": "date"}]
    schema, sampler = fitted(name, {"fields": [{"name": f"c {k}", **kinds[k % 4]} for k in range(200)]})
    assert_conforms(sampler.sample_shard(0, 77, seed=SeedSequence(7)), schema, 77)


@every
def test_a_rule_that_nothing_can_keep_is_named(name: str) -> None:
    document = PLAIN | {"rules": ["k > 40 and x < 0"]}
    _, sampler = fitted(name, document)
    with pytest.raises(RowShortfall, match=r"k > 40 and x < 0.*held for none") as caught:
        sampler.sample_shard(0, 10, seed=SeedSequence(7))
    assert (caught.value.asked, caught.value.made) == (10, 0)


@every
def test_more_unique_values_than_there_are_is_a_shortfall(name: str) -> None:
    document = {
        "fields": [
            {"name": "bed", "type": "integer", "constraints": {"unique": True, "minimum": 1, "maximum": 40}}
        ]
    }
    _schema, sampler = fitted(name, document)
    assert sorted(sampler.sample_shard(0, 40, seed=SeedSequence(7))["bed"]) == list(range(1, 41))
    with pytest.raises(RowShortfall, match="bed"):
        sampler.sample_shard(0, 41, seed=SeedSequence(7))


@every
def test_the_flagship_schema(name: str) -> None:
    document = json.loads((EXAMPLES / "neurosurgery.schema.json").read_text())
    schema, sampler = fitted(name, document)
    assert_conforms(sampler.sample_shard(0, 1390, seed=SeedSequence(7)), schema, 1390)


@functools.cache
def brain_cancer() -> tuple[dict[str, Any], pd.DataFrame]:
    document = {
        "fields": [
            {"name": "sex", "type": "string", "categories": ["Female", "Male"]},
            {
                "name": "diagnosis",
                "type": "string",
                "categories": ["HG glioma", "LG glioma", "Meningioma", "Other"],
            },
            {"name": "loc", "type": "string", "categories": ["Infratentorial", "Supratentorial"]},
            {"name": "ki", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}},
            {"name": "gtv", "type": "number", "constraints": {"minimum": 0}},
            {"name": "stereo", "type": "string", "categories": ["SRS", "SRT"]},
            {"name": "status", "type": "boolean"},
            {"name": "time", "type": "number", "constraints": {"minimum": 0}},
        ]
    }
    with (EXAMPLES / "brain_cancer.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    columns: dict[str, Any] = {name: [row[name] or None for row in rows] for name in rows[0]}
    columns["status"] = [cell == "1" for cell in columns["status"]]
    columns["diagnosis"] = [None if cell == "NA" else cell for cell in columns["diagnosis"]]
    frame = conform(
        pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()}),
        schema_of(json.dumps(document)),
    )
    return document, frame


@every
def test_a_real_table_is_learned_from(name: str) -> None:
    document, train = brain_cancer()
    schema, sampler = fitted(name, document, train, fit=True)
    frame = sampler.sample_shard(0, 4000, seed=SeedSequence(7))
    assert_conforms(frame, schema, 4000)
    if not learns(built(name, fit=True), getattr(built(name, fit=True), "options", None)):  # type: ignore[arg-type]
        return
    # The learned ends are rounded outward and small bins pooled: a fifth of an sd is what 88 rows allow.
    for column in ("ki", "gtv", "time"):
        assert abs(frame[column].mean() - train[column].mean()) < 0.2 * train[column].std(), column
    assert abs((frame["sex"] == "Female").mean() - (train["sex"] == "Female").mean()) < 0.06
    assert set(frame["ki"].dropna() % 10) == {0}, "a heaped scale stays on its grid"


REFERENCES: dict[str, dict[str, list[Any]]] = {
    "one row": {"x": [3.25], "k": [7], "c": ["b"], "d": ["2024-02-29"], "id": ["007412"]},
    "constant": {"x": [3.25] * 60, "k": [7] * 60, "c": ["b"] * 60, "d": ["2024-02-29"] * 60,
                 "id": ["007412"] * 60},
    "all missing": {"x": [None] * 40, "k": [None] * 40, "c": [None] * 40, "d": [None] * 40,
                    "id": ["007"] * 40},
    "partly missing": {
        "x": [1.5, None] * 30, "k": [None, 2] * 30, "c": ["a", None] * 30, "d": [None, "2020-01-01"] * 30,
        "id": [f"00{k}" for k in range(60)],
    },
}  # fmt: skip


@every
@pytest.mark.parametrize("reference", REFERENCES)
def test_odd_references_work(name: str, reference: str) -> None:
    document = PLAIN | {
        "fields": [{k: v for k, v in field.items() if k != "statistics"} for field in PLAIN["fields"]]
    }
    schema = schema_of(json.dumps(document))
    rows = {column: pd.Series(cells, dtype=object) for column, cells in REFERENCES[reference].items()}
    _, sampler = fitted(name, document, conform(pd.DataFrame(rows), schema), fit=True)
    frame = sampler.sample_shard(0, 333, seed=SeedSequence(7))
    assert_conforms(frame, schema, 333)
    if reference == "constant" and "fit" in registry.load(name).Options.model_fields:
        assert set(frame["k"]) == {7}
        assert set(frame["x"]) == {3.25}
    if reference == "all missing" and "fit" in registry.load(name).Options.model_fields:
        assert frame[["x", "k", "c", "d"]].isna().all().all()


@every
def test_no_real_text_or_id_travels_with_the_sampler_or_its_rows(name: str) -> None:
    document = {
        "fields": [
            {"name": "id", "type": "string", "constraints": {"unique": True}},
            {"name": "note", "type": "string"},
            {"name": "x", "type": "number"},
        ]
    }
    secrets = [f"Frau Müller-{k}" for k in range(50)]
    train = conform(
        pd.DataFrame(
            {"id": [f"GEHEIM{k:04d}" for k in range(50)], "note": secrets, "x": np.arange(50.0) + 0.123456}
        ),
        schema_of(json.dumps(document)),
    )
    _schema, sampler = fitted(name, document, train, fit=True)
    pickled = pickle.dumps(sampler)
    frame = sampler.sample_shard(0, 200, seed=SeedSequence(7))
    for text in ("GEHEIM", "Müller"):
        assert text.encode() not in pickled
        assert not frame["note"].str.contains(text).any()
        assert not frame["id"].str.contains(text).any()


@every
def test_a_full_shard_and_the_next_have_the_rows_of_their_place(name: str) -> None:
    _schema, sampler = fitted(name, PLAIN)
    whole = sampler.sample_shard(0, SHARD_ROWS, seed=SeedSequence(7))
    rest = sampler.sample_shard(1, 3, seed=SeedSequence(7))
    assert len(whole) == SHARD_ROWS
    assert pd.concat([whole["id"], rest["id"]]).is_unique
