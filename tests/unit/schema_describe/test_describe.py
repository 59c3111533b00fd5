from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.errors import InvalidInput
from app.schema.describe import Amount, Described, describe_frame
from app.schema.frames import conform
from app.schema.parse import parse_schema
from app.schema.table import TableSchema

CANARY = "XQZ-CANARY"


def table(n: int = 300, seed: int = 1) -> tuple[TableSchema, pd.DataFrame]:
    """Patients: an outcome, numbers and categories that depend on it, times in an order, an id, a text."""
    rng = np.random.default_rng(seed)
    died = rng.random(n) < 0.4
    age = np.round(rng.normal(60, 10, n) + 6 * died).astype(int)
    relapse = np.round(rng.exponential(300, n)).astype(int) + 1
    stay = np.where(died, 0, np.round(rng.exponential(200, n))).astype(int)
    frame = pd.DataFrame(
        {
            "id": [f"P-{index:06d}" for index in range(n)],
            "note": [f"seen on day {index}" for index in range(n)],
            "died": died,
            "age": age,
            "stage": rng.choice(["I", "II", "III"], n, p=[0.5, 0.3, 0.2]),
            "sex": np.where(rng.random(n) < 0.45 + 0.2 * died, "M", "F"),
            "relapse_days": relapse,
            "death_days": relapse + stay,
            "weight": np.round(rng.normal(75, 12, n), 1),
            "height": np.round(rng.normal(170, 9, n), 0),
            "seen": [dt.date(2020, 1, 1) + dt.timedelta(days=int(day)) for day in rng.integers(0, 900, n)],
        }
    )
    frame["bmi"] = np.round(frame.weight / (frame.height / 100) ** 2, 1)
    frame["cause"] = np.where(died, rng.choice(["cancer", "other"], n), None)
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "string", "constraints": {"unique": True}},
        {"name": "note", "type": "string"},
        {"name": "died", "type": "boolean"},
        {"name": "age", "type": "integer"},
        {"name": "stage", "type": "string", "categories": ["I", "II", "III"]},
        {"name": "sex", "type": "string", "categories": ["F", "M"]},
        {"name": "relapse_days", "type": "integer"},
        {"name": "death_days", "type": "integer"},
        {"name": "weight", "type": "number", "decimals": 1},
        {"name": "height", "type": "number", "decimals": 0},
        {"name": "seen", "type": "date"},
        {"name": "bmi", "type": "number", "decimals": 1},
        {"name": "cause", "type": "string", "categories": ["cancer", "other"]},
    ]
    schema, _ = parse_schema({"fields": fields})
    return schema, conform(frame, schema)


def described(schema: TableSchema, frame: pd.DataFrame, **more: Any) -> Described:
    return describe_frame(schema, frame, target="died", **more)


def field(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in document["fields"] if item["name"] == name)
    return found


def test_a_description_is_a_schema_that_can_be_posted() -> None:
    schema, frame = table()
    document = json.loads(json.dumps(described(schema, frame).document))
    read, warnings = parse_schema(document)
    assert read.names == schema.names and not warnings
    age = read["age"].statistics
    assert age.mean == pytest.approx(frame.age.mean(), abs=0.1)
    assert age.sd == pytest.approx(frame.age.std(), rel=0.02)
    assert all(0.05 <= p <= 0.95 for p, _ in age.quantiles) and len(age.quantiles) >= 5


def test_it_says_signed_associations_and_each_column_by_the_target() -> None:
    schema, frame = table()
    document = described(schema, frame).document
    said = {(*item["fields"], item["measure"]): item["value"] for item in document["associations"]}
    assert said["died", "age", "spearman"] > 0.15
    assert said["died", "sex", "odds_ratio"] > 1
    by_target = {(item["field"], item["given"].get("died")) for item in document["conditionals"]}
    assert {("age", True), ("age", False), ("stage", True), ("sex", False), ("weight", True)} <= by_target


def test_it_finds_orders_equalities_formulas_and_what_applies_where() -> None:
    schema, frame = table()
    document = described(schema, frame).document
    assert "relapse_days <= death_days" in document["rules"]
    assert "not (died == True and relapse_days < death_days)" in document["rules"]
    assert field(document, "bmi")["formula"] == "weight / (height / 100) ** 2"
    assert field(document, "cause")["relevant"] == "died == True"
    assert "missing" not in field(document, "cause")["statistics"]


def test_levels_that_never_meet_are_a_rule() -> None:
    schema, frame = table()
    frame.loc[frame.stage == "III", "sex"] = "F"
    assert "not (stage == 'III' and sex == 'M')" in described(schema, frame).document["rules"]


def test_nothing_of_ids_and_texts_is_said() -> None:
    schema, frame = table()
    text = json.dumps(described(schema, frame).document)
    assert "P-0" not in text and "seen on day" not in text


def test_of_a_column_without_values_it_says_that_all_are_missing() -> None:
    schema, frame = table()
    frame = frame.assign(note=pd.Series(pd.NA, frame.index, "string"), weight=np.nan)
    told = {raw["name"]: raw.get("statistics") for raw in describe_frame(schema, frame).document["fields"]}
    assert told["note"] == told["weight"] == {"missing": 1.0}
    assert told["id"] is None


def test_singletons_extremes_and_canaries_are_not_in_it() -> None:
    schema, frame = table()
    frame.loc[7, "age"], frame.loc[8, "weight"], frame.loc[9, "death_days"] = 113, 987.7, 76543
    frame.loc[10, "seen"] = pd.Timestamp("1931-07-19")
    frame.loc[11, "note"] = frame.loc[11, "id"] = CANARY
    document = schema.document | {
        "fields": [
            {**item, "categories": ["I", "II", "III", CANARY]} if item["name"] == "stage" else item
            for item in schema.document["fields"]
        ]
    }
    # A level that the caller declared is the caller's: it is named, and its count is not told.
    widened, _ = parse_schema(document)
    frame["stage"] = pd.Categorical(frame.stage.astype(object), ["I", "II", "III", CANARY])
    told = []
    for rare in (0, 1, 4):
        one = frame.copy()
        one.loc[20 : 19 + rare, "stage"] = CANARY
        found = described(widened, one)
        text = json.dumps([found.document, [str(fault) for fault in found.warnings]])
        for planted in ("113", "987.7", "76543", "1931-07-19", "1931"):
            assert planted not in text
        assert text.count(CANARY) == text.count(f'"{CANARY}"')
        told.append(field(found.document, "stage")["statistics"]["proportions"][CANARY])
    assert len(set(told)) == 1


def test_an_extreme_moves_mean_and_sd_no_further_than_the_fence() -> None:
    schema, frame = table()
    before = field(described(schema, frame).document, "weight")["statistics"]
    frame.loc[8, "weight"] = 98765.4
    after = field(described(schema, frame).document, "weight")["statistics"]
    assert abs(after["mean"] - before["mean"]) < 0.5 and abs(after["sd"] / before["sd"] - 1) < 0.1


@pytest.mark.parametrize("few", [1, 3, 6, 9])
def test_who_knows_all_margins_cannot_tell_a_small_cell(few: int) -> None:
    """The same margins and 1, 3, 6 or 9 persons in a cell: the description says the same."""

    def with_cell(count: int) -> dict[str, Any]:
        n = 200
        died = np.arange(n) < 80
        smoker = np.zeros(n, bool)
        smoker[:count], smoker[80 : 80 + 60 - count] = True, True
        frame = pd.DataFrame({"died": died, "smoker": smoker})
        schema, _ = parse_schema(
            {"fields": [{"name": "died", "type": "boolean"}, {"name": "smoker", "type": "boolean"}]}
        )
        return described(schema, conform(frame, schema)).document

    assert with_cell(few) == with_cell(5)
    assert with_cell(5) != with_cell(30)


@pytest.mark.parametrize("few", [1, 4, 9])
def test_how_few_have_no_value_is_not_told(few: int) -> None:
    schema, frame = table()
    frame.loc[: few - 1, "weight"] = np.nan
    said = field(described(schema, frame).document, "weight")["statistics"]["missing"]
    assert said == pytest.approx(5 / 300, abs=0.005)


def test_marginal_less_conditional_counts_never_leave_fewer_than_a_cell() -> None:
    for seed in range(6):
        schema, frame = table(240, seed)
        frame.loc[frame.sample(30, random_state=seed).index, "stage"] = None
        document = described(schema, frame).document
        died = frame.died.sum()
        for name in ("stage", "sex"):
            rows = frame[name].notna()
            whole = field(document, name)["statistics"]["proportions"]
            parts = [
                (item["given"]["died"], item["statistics"]["proportions"])
                for item in document["conditionals"]
                if item["field"] == name
            ]
            for level, share in whole.items():
                counts = [share * rows.sum()]
                for stratum, shares in parts:
                    n = (rows & (frame.died == stratum)).sum()
                    counts += [shares[level] * n, share * rows.sum() - shares[level] * n]
                assert all(count > 9 for count in counts), (seed, name, level, died)


def test_what_is_declared_is_kept_and_nothing_contradicts_it() -> None:
    schema, frame = table()
    document = json.loads(json.dumps(schema.document))
    field(document, "age")["statistics"] = {"mean": 41, "sd": 5}
    document["associations"] = [{"fields": ["age", "weight"], "measure": "spearman", "value": 0.9}]
    declared, _ = parse_schema(document)
    found = described(declared, frame)
    assert field(found.document, "age")["statistics"] == {"mean": 41, "sd": 5}
    assert found.document["associations"][0] == document["associations"][0]
    assert not [item for item in found.document["conditionals"] if item["field"] == "age"]
    pairs = [frozenset(item["fields"]) for item in found.document["associations"]]
    assert pairs.count(frozenset(("age", "weight"))) == 1
    assert "/associations/0" not in found.fitted and found.fitted["/associations/1"] == "fitted"


def test_a_person_with_many_rows_is_one_person() -> None:
    schema, frame = table()
    persons = np.arange(len(frame)) // 30  # ten persons
    with pytest.raises(InvalidInput):
        described(schema, frame, persons=persons)


def test_the_weakest_associations_are_left_out_first_and_that_is_said() -> None:
    schema, frame = table()
    found = described(schema, frame, amount=Amount(associations=5, within=0))
    assert len(found.document["associations"]) == 5
    assert any("associations are left out" in warning.message for warning in found.warnings)


@pytest.mark.parametrize(("numbers", "twice"), [(20, True), (21, False)])
def test_of_many_numbers_each_pair_is_said_once_and_by_the_target_only_what_is_missing(
    numbers: int, twice: bool
) -> None:
    rng = np.random.default_rng(3)
    died = rng.random(600) < 0.4
    shared = rng.normal(size=600) + 0.8 * died
    frame = pd.DataFrame(
        {f"x{k}": np.round(np.exp(shared + rng.normal(0, 0.3, 600)), 2) for k in range(numbers)}
    )
    frame.loc[rng.random(600) < 0.1 + 0.3 * died, "x0"] = np.nan
    frame["stage"], frame["died"] = rng.choice(["I", "II", "III"], 600), died
    schema, _ = parse_schema(
        {
            "fields": [
                *({"name": f"x{k}", "type": "number", "decimals": 2} for k in range(numbers)),
                {"name": "stage", "type": "string", "categories": ["I", "II", "III"]},
                {"name": "died", "type": "boolean"},
            ]
        }
    )
    document = described(schema, conform(frame, schema)).document
    measures = {one["measure"] for one in document["associations"] if one["fields"][0][0] == "x"}
    assert ("pearson" in measures, "spearman" in measures) == (twice, True)
    said = {(one["field"], key) for one in document["conditionals"] for key in one["statistics"]}
    assert (("x1", "mean") in said) == twice
    assert {("x0", "missing"), ("stage", "proportions")} <= said


def test_too_few_rows_are_refused() -> None:
    schema, frame = table(19)
    with pytest.raises(InvalidInput):
        described(schema, frame)


def test_an_unknown_target_is_refused() -> None:
    schema, frame = table()
    with pytest.raises(InvalidInput) as caught:
        describe_frame(schema, frame, target="dead")
    assert caught.value.faults[0].pointer == "/target"
