"""Rows that rules, keys and formulas bind together."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.random import SeedSequence

from app.errors import InvalidInput, RowShortfall
from app.generators.machinery import PATIENCE, TableSampler, assemble
from app.generators.marginals import Marginals
from app.schema.frames import conform
from app.schema.parse import parse_schema


def sampler(document: dict[str, Any], said: list[tuple[str, str]] | None = None) -> TableSampler:
    schema, _ = parse_schema(document)

    def warn(pointer: str, message: str) -> None:
        if said is not None:
            said.append((pointer, message))

    made = Marginals(Marginals.Options()).fit(
        schema, None, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=warn
    )
    assert isinstance(made, TableSampler)
    return made


def rows(document: dict[str, Any], n_rows: int, shard: int = 0) -> pd.DataFrame:
    return sampler(document).sample_shard(shard, n_rows, seed=SeedSequence(11))


def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def test_a_rule_leaves_the_declared_shares_as_they_are() -> None:
    shares = {"proportions": {"true": 0.17, "false": 0.83}}
    table = rows(
        {
            "fields": [
                field("lesion", "string", categories=["rare", "common"],
                      statistics={"proportions": {"rare": 0.01, "common": 0.99}}),
                field("irradiated", "boolean", statistics=shares),
            ],
            "rules": ["not (lesion == 'rare' and not irradiated)"],
        },
        100_000,
    )  # fmt: skip
    # By rejection alone the rare lesion would keep 0.17 of its share. 5 standard errors.
    assert (table["lesion"] == "rare").mean() == pytest.approx(0.01, abs=5 * (0.01 * 0.99 / 1e5) ** 0.5)
    assert table["irradiated"].mean() == pytest.approx(0.17, abs=5 * (0.17 * 0.83 / 1e5) ** 0.5)
    assert table["irradiated"][table["lesion"] == "rare"].all()


def test_an_order_rule_leaves_means_as_they_are_where_it_can() -> None:
    document = {
        "fields": [
            field("relapse", "integer", constraints={"minimum": 0}, statistics={"mean": 10, "sd": 5}),
            field("death", "integer", constraints={"minimum": 0}, statistics={"mean": 14, "sd": 6}),
        ],
        "rules": ["relapse <= death"],
    }
    table = rows(document, 50_000)
    assert (table["relapse"] <= table["death"]).all()
    assert table["relapse"].mean() == pytest.approx(10, abs=0.15)
    assert table["death"].mean() == pytest.approx(14, abs=0.15)


def test_rules_that_bend_what_is_declared_are_said_to() -> None:
    said: list[tuple[str, str]] = []
    same = {"statistics": {"mean": 10, "sd": 5}}
    sampler(
        {"fields": [field("a", "integer", **same), field("b", "integer", **same)], "rules": ["a < b"]}, said
    )
    assert ("/rules/0", "bend") in [(pointer, message[-5:-1]) for pointer, message in said]


def test_patience_ends_below_one_percent_and_not_above() -> None:
    rare = {
        "fields": [field("x", "integer", constraints={"minimum": 1, "maximum": 1000}), field("y", "boolean")],
        "rules": ["x in [500, 501]"],
    }
    assert len(rows(rare, 20)) == 20  # a few rows are found before patience ends
    with pytest.raises(RowShortfall, match="Loosen it") as caught:
        rows(rare, 50_000)
    assert 0 < caught.value.made < 50_000
    assert PATIENCE == 100


def test_ids_that_a_rule_reads_stay_unique_over_shards() -> None:
    document = {
        "fields": [field("id", "string", constraints={"pattern": "[A-F]\\d{12}"}), field("x", "boolean")],
        "primaryKey": "id",
        "rules": ["not (id == 'A000000000000' and x)", "x or id != 'B'"],
    }
    made = sampler(document)
    ids = pd.concat([made.sample_shard(shard, 2000, seed=SeedSequence(1))["id"] for shard in (0, 1, 5)])
    assert ids.is_unique


def test_a_key_of_several_columns_is_unique_as_a_whole() -> None:
    document = {
        "fields": [
            field("patient", "string"),
            field("visit", "integer", constraints={"minimum": 1, "maximum": 4}),
            field("x", "number"),
        ],
        "primaryKey": ["patient", "visit"],
    }
    made = sampler(document)
    table = pd.concat([made.sample_shard(shard, 1001, seed=SeedSequence(1)) for shard in (0, 1)])
    assert not table.duplicated(["patient", "visit"]).any()
    assert set(table["visit"]) == {1, 2, 3, 4}
    assert table["patient"].value_counts().max() == 4


def test_a_unique_column_that_may_be_missing_is_missing_as_often_as_declared() -> None:
    table = rows({"fields": [field("nhs", "string", constraints={"unique": True, "pattern": "\\d{10}"},
                                   statistics={"missing": 0.25})]}, 4000)  # fmt: skip
    assert table["nhs"].dropna().is_unique
    assert table["nhs"].isna().mean() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 4000) ** 0.5)


def test_two_ids_of_one_pattern_are_not_the_same_id() -> None:
    unique = {"constraints": {"unique": True, "pattern": "\\d{8}"}}
    table = rows({"fields": [field("a", "string", **unique), field("b", "string", **unique)]}, 100)
    assert not (table["a"] == table["b"]).any()


def test_an_ambiguous_pattern_is_refused_for_ids() -> None:
    document = {"fields": [field("id", "string", constraints={"unique": True, "pattern": "a?a?\\d"})]}
    with pytest.raises(InvalidInput) as caught:
        sampler(document)
    assert caught.value.faults[0].pointer == "/fields/0/constraints/pattern"


def test_chained_relevance_and_formulas_are_computed_in_order() -> None:
    document = {
        "fields": [
            field("weeks", "integer", relevant="pregnant", constraints={"minimum": 4, "maximum": 42}),
            field("days", "integer", formula="weeks * 7"),
            field("pregnant", "boolean", relevant="sex == 'F'"),
            field("sex", "string", categories=["F", "M"]),
        ]
    }
    table = rows(document, 3000)
    assert table["pregnant"][table["sex"] == "M"].isna().all()
    assert table["pregnant"][table["sex"] == "F"].notna().all()
    applies = table["pregnant"].fillna(False).astype(bool)
    assert table["weeks"][~applies].isna().all()
    assert table["weeks"][applies].notna().all()
    assert (table["days"][applies] == table["weeks"][applies] * 7).all()


def test_formulas_without_decimals_get_two_digits_finer_than_their_declared_sd() -> None:
    document = {
        "fields": [
            field("kg", "number", statistics={"mean": 75, "sd": 12}),
            field("m", "number", decimals=2, statistics={"mean": 1.7, "sd": 0.08}),
            field("bmi", "number", formula="kg / m ** 2", statistics={"sd": 4.1}),
        ]
    }
    bmi = rows(document, 500)["bmi"]
    assert np.allclose(bmi, bmi.round(2), atol=1e-9)
    assert not np.allclose(bmi, bmi.round(1), atol=1e-9)


def test_statistics_of_computed_columns_are_said_not_to_be_aimed_at() -> None:
    said: list[tuple[str, str]] = []
    x = field("x", "number", statistics={"mean": 1, "sd": 1})
    y = field("y", "number", formula="x * 2", statistics={"mean": 9, "sd": 1})
    sampler({"fields": [x, y]}, said)
    assert [pointer for pointer, _ in said] == ["/fields/1/statistics"]


def test_texts_obey_pattern_and_lengths() -> None:
    bounds = {"pattern": "[A-Z]+", "minLength": 3, "maxLength": 4}
    document = {"fields": [field("code", "string", constraints=bounds),
                           field("note", "string", constraints={"minLength": 20}),
                           field("flag", "string", constraints={"maxLength": 2})]}  # fmt: skip
    table = rows(document, 500)
    assert table["code"].str.fullmatch("[A-Z]{3,4}").all()
    assert table["note"].str.len().min() >= 20
    assert table["flag"].str.len().max() <= 2


@pytest.mark.parametrize(
    "pattern",
    [
        r"\u00e9{3}",
        r"\d{3}\Z",
        r"(?a:\w{3})",
        r"(?x) a b c",
        r"a(?#so called)b",
        r"[\U0001F600-\U0001F610]x",
        "a{,3}b",
    ],
)
def test_what_python_takes_for_a_pattern_is_made_and_matched_so(pattern: str) -> None:
    table = rows({"fields": [field("code", "string", constraints={"pattern": pattern})]}, 50)
    assert all(re.fullmatch(pattern, text) for text in table["code"])


def test_a_generator_that_forgets_a_column_is_told_so() -> None:
    schema, _ = parse_schema({"fields": [field("x", "number")]})
    with pytest.raises(ValueError, match="No part draws x"):
        assemble(schema, [], lambda pointer, message: None)


def test_ids_and_free_text_are_missing_as_often_as_in_the_real_table() -> None:
    schema, _ = parse_schema(
        {
            "fields": [
                field("empty", "string"),
                field("note", "string"),
                field("told", "string", statistics={"missing": 0.1}),
                field("needed", "string", constraints={"required": True}),
                field("code", "string", constraints={"unique": True}),
            ]
        }
    )
    gaps = [None, "seen", "seen", "seen"] * 50
    codes = [None if number % 2 else f"c{number}" for number in range(200)]
    cells = {"empty": [None] * 200, "note": gaps, "told": gaps, "needed": gaps, "code": codes}
    train = conform(pd.DataFrame(cells, dtype=object), schema)
    made = Marginals(Marginals.Options(fit=True)).fit(
        schema, train, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    missing = made.sample_shard(0, 4000, seed=SeedSequence(11)).isna().mean()
    assert missing["empty"] == 1
    assert missing["needed"] == 0
    # 5 standard errors of a share of one half.
    wanted = {"note": 0.25, "told": 0.1, "code": 0.5}
    assert missing[list(wanted)].to_dict() == pytest.approx(wanted, abs=5 * (0.25 / 4000) ** 0.5)


@pytest.mark.parametrize(
    "fields",
    [
        [field("a", "integer"), field("b", "integer", formula="1 + 1")],
        [field("b", "integer", formula="2")],
        [field("c", "integer", formula="b * 3"), field("b", "integer", formula="2")],
    ],
)
def test_a_formula_that_reads_no_field_is_the_same_in_every_row(fields: list[dict[str, Any]]) -> None:
    table = rows({"fields": fields}, 20_000)
    assert list(table) == [item["name"] for item in fields]
    assert table["b"].tolist() == [2] * 20_000


def test_a_value_that_one_person_has_many_times_is_not_learned() -> None:
    schema, _ = parse_schema(
        {"fields": [field("lab", "number", decimals=1), field("dx", "string", categories=["a", "b"])]}
    )
    train = pd.DataFrame(
        {"lab": [1.0 + k % 80 / 10 for k in range(286)] + [4242.5] * 14, "dx": ["a"] * 286 + ["b"] * 14}
    )
    train = conform(train, schema)
    train.attrs["min_cell"] = 140  # ten persons of at most 14 rows
    made = Marginals(Marginals.Options(fit=True)).fit(
        schema, train, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    table = made.sample_shard(0, 20_000, seed=SeedSequence(2))
    # Within a wide bin the value may come by chance; 14 of 300 rows would be 930 of 20,000.
    assert (table["lab"] == 4242.5).sum() < 20
    assert set(table["dx"]) == {"a"}


def test_no_number_is_made_that_the_file_would_read_as_missing() -> None:
    numbers = {"mean": -98, "sd": 2, "missing": 0.2}
    table = rows(
        {
            "fields": [field("i", "integer", statistics=numbers),
                       field("n", "number", decimals=0, statistics=numbers),
                       field("year", "year", statistics={"mean": 1999, "sd": 2}),
                       field("twice", "integer", formula="2 * i")],
            "missingValues": ["-99", "1999", "-200.0", "NA", "nan"],
        },
        4000,
    )  # fmt: skip
    assert not table["i"].isin([-99, -100]).any()
    assert not table["n"].isin([-99]).any()
    assert not (table["year"] == 1999).any()
    assert not (table["twice"] == -200).any()
    # 5 standard errors, and what the row loses with a value left out.
    assert table["i"].isna().mean() == pytest.approx(0.2, abs=0.08)
    with pytest.raises(RowShortfall, match="missingValues"):
        rows({"fields": [field("i", "integer", constraints={"minimum": 9, "maximum": 9})],
              "missingValues": ["9"]}, 5)  # fmt: skip
