"""The measures of the zero-shot comparison, on tables whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.schema.evaluate import breaks
from app.schema.frames import conform
from app.schema.parse import parse_schema
from app.schema.rules import parse_expression
from benchmarks import quality, zero_shot_tables
from benchmarks.quality import Measured
from benchmarks.zero_shot_page import Standing, standing
from benchmarks.zero_shot_tables import Described

DOCUMENT: dict[str, Any] = {
    "fields": [
        {"name": "x", "type": "number"},
        {"name": "y", "type": "number"},
        {"name": "group", "type": "string", "categories": ["a", "b", "c"]},
        {"name": "sick", "type": "boolean"},
    ]
}
TABLE = Described("t", DOCUMENT, "sick", {"y below x": "x <= y"}, "developed on", None)
SCHEMA = parse_schema(DOCUMENT)[0]


def rows(n: int, seed: int, *, turned: bool = False) -> pd.DataFrame:
    """y and sick follow x (against it where `turned`); the group follows nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = (-x if turned else x) + rng.normal(size=n)
    return conform(
        pd.DataFrame(
            {"x": x, "y": y, "group": rng.choice(["a", "b", "c"], n), "sick": y + rng.normal(size=n) > 0}
        ),
        SCHEMA,
    )


def test_a_second_sample_is_near_and_a_shifted_one_is_not() -> None:
    real = rows(2000, 1)
    assert quality.marginal_error(SCHEMA, real, rows(2000, 2)) < 0.04  # 2,000 rows: KS of about 0.03
    assert quality.column_error(SCHEMA["x"], real["x"], real["x"] + 10) == 1.0


def test_other_shares_of_gaps_are_an_error_of_the_column() -> None:
    real = rows(1000, 1)
    gone = real["x"].mask(np.arange(1000) < 300)
    assert quality.column_error(SCHEMA["x"], real["x"], gone) == pytest.approx(0.3, abs=0.001)


def test_levels_are_compared_by_half_the_summed_differences() -> None:
    column = pd.Series(["a"] * 50 + ["b"] * 50)
    other = pd.Series(["a"] * 80 + ["c"] * 20)
    assert quality.column_error(SCHEMA["group"], column, other) == pytest.approx(0.5)


def test_turned_associations_have_the_wrong_sign_and_a_wrong_size() -> None:
    real = quality.associations(SCHEMA, rows(2000, 1))
    same = quality.sign_and_size(real, quality.associations(SCHEMA, rows(2000, 2)))
    turned = quality.sign_and_size(real, quality.associations(SCHEMA, rows(2000, 2, turned=True)))
    assert same[0] == 1.0 and same[1] < 0.05
    assert turned[0] == pytest.approx(1 / 3), "of x × y, x × sick and y × sick, the last is as it was"
    assert turned[1] > 0.3


def test_many_levels_in_few_rows_are_no_association() -> None:
    names = [f"c{place}" for place in range(13)]
    groups = [{"name": name, "type": "string", "categories": names} for name in "gh"]
    document = {"fields": [{"name": "x", "type": "number"}, *groups]}
    schema = parse_schema(document)[0]
    values = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {"x": rng.normal(size=128), "g": rng.choice(names, 128), "h": rng.choice(names, 128)}
        )
        values.append(
            {pair.columns: pair.value**2 for pair in quality.associations(schema, conform(frame, schema))}
        )
    # Uncorrected, η² would be 12/127 = 0.09 on average.
    for pair in values[0]:
        assert np.mean([found[pair] for found in values]) < 0.03, pair


def test_models_learn_from_good_rows_and_are_misled_by_turned_ones() -> None:
    real, held = rows(400, 1), rows(400, 3)
    assert quality.auroc(TABLE, real, held, real) > 0.75
    turned = rows(400, 2).assign(sick=lambda frame: ~frame["sick"])
    assert quality.auroc(TABLE, turned, held, real) < 0.3
    assert quality.auroc(TABLE, real.assign(sick=True), held, real) == 0.5


def test_impossible_rows_are_counted_by_rule_and_together() -> None:
    frame = rows(500, 1)
    expected = float((frame["x"] > frame["y"]).mean())
    assert quality.impossible(TABLE, frame) == {"y below x": expected, "": expected}


def test_repeated_and_copied_rows_are_counted() -> None:
    frame = rows(10, 1)
    twice = pd.concat([frame, frame.head(5)], ignore_index=True)
    assert quality.repeated(frame) == 0 and quality.repeated(twice) == pytest.approx(1 / 3)
    assert quality.copied(twice, frame.head(5)) == pytest.approx(10 / 15)


def test_the_standing_names_five_measures_each_by_its_better_direction() -> None:
    good = Measured(0.1, 0.9, 0.1, 0.8, 0.0, 0.0, 0.0)
    poor = Measured(0.2, 0.5, 0.2, 0.6, 0.0, 0.5, 0.5)
    four = ("marginals", "sign", "size", "TSTR")
    assert standing(good, poor) == Standing(four, ("impossible rows",), ())
    assert standing(poor, good) == Standing((), ("impossible rows",), four)


@pytest.mark.parametrize("name", zero_shot_tables.NAMES)
def test_dictionaries_hold_no_figure_from_the_rows_and_rules_that_can_be_read(name: str) -> None:
    table = zero_shot_tables.load(name)
    for item in table.document["fields"]:
        assert "statistics" not in item, item["name"]
    assert not {"associations", "conditionals"} & set(table.document)
    known = {item.name: item for item in table.schema.fields}
    assert table.target in known and known[table.target].type == "boolean"
    for rule in table.impossible.values():
        parse_expression(rule, known, expects="boolean")


def test_no_real_patient_of_the_example_is_impossible() -> None:
    table = zero_shot_tables.load("brain_cancer")
    real, known = table.rows(), {item.name: item for item in table.schema.fields}
    for what, rule in table.impossible.items():
        assert not np.asarray(breaks(parse_expression(rule, known, expects="boolean"), real)).any(), what
