from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.disclosure import POOLED_LEVEL
from app.schema.infer import Inferred, infer_schema, person_column
from app.schema.parse import parse_schema

N = 200
RNG = np.random.default_rng(5)


def _infer(min_cell: int = 10, **columns: Any) -> Inferred:
    return infer_schema(pa.table(columns), min_cell=min_cell)


def _field(values: Any, name: str = "column", min_cell: int = 10) -> dict[str, Any]:
    fields = _infer(min_cell, **{name: values}).document["fields"]
    assert len(fields) == 1
    return fields[0]  # type: ignore[no-any-return]


def test_levels_of_enough_persons_are_categories() -> None:
    assert _field(["F", "M"] * 100) == {
        "name": "column",
        "type": "string",
        "categories": ["F", "M"],
        "constraints": {"required": True},
    }


def test_a_rare_level_is_pooled_and_never_named() -> None:
    inferred = _infer(
        column=["common"] * 150 + ["usual"] * 30 + ["Fabry disease"] * 6 + ["Gaucher disease"] * 8
    )
    assert inferred.document["fields"][0]["categories"] == ["common", "usual", POOLED_LEVEL]
    assert "2 levels are not named" in inferred.warnings[0].message
    assert "disease" not in str(inferred)


def test_a_column_of_rare_levels_alone_has_the_pooled_one() -> None:
    assert _field(["a", "b", "c", "d"] * 4)["categories"] == [POOLED_LEVEL]


def test_free_text_shows_nothing() -> None:
    texts = [f"Seen by Dr. {name}, complains of headache" for name in RNG.integers(0, 90, N)]
    assert _field(texts) == {"name": "column", "type": "string", "constraints": {"required": True}}


def test_prose_is_never_a_level() -> None:
    assert "categories" not in _field(["the same long report " * 20, "another one " * 30] * 100)


def test_frequent_codes_are_named_and_the_long_tail_is_pooled() -> None:
    codes = ["C71.1"] * 80 + ["C71.2"] * 60 + [f"D{i:03d}" for i in range(60)]
    assert _field(codes)["categories"] == ["C71.1", "C71.2", POOLED_LEVEL]


@pytest.mark.parametrize(
    ("name", "values", "pattern"),
    [
        ("patient_id", [f"{i * 37:06d}" for i in range(N)], "[0-9]{6}"),
        ("code", [f"BC-{i:06d}" for i in range(N)], "[A-Z]{2}-[0-9]{6}"),
        ("sample", [f"{i:04d}.xY.{i:04d}" for i in range(N)], r"[0-9]{4}\.[a-z][A-Z]\.[0-9]{4}"),
        ("mrn", [1_000_000 + i * 37 for i in range(N)], "[0-9]{7}"),
        ("id", list(range(1, N + 1)), None),
        ("rownames", [str(i) for i in range(1, N + 1)], None),
        ("anything", list(range(1, N + 1)), None),
        ("visitId", [f"v{i}" for i in range(N)], None),
    ],
)
def test_ids_are_unique_text(name: str, values: list[Any], pattern: str | None) -> None:
    field = _field(values, name)
    assert field["type"] == "string"
    assert field["constraints"].pop("pattern", None) == pattern
    assert field["constraints"] == {"required": True, "unique": True}
    assert "categories" not in field


def test_measurements_that_happen_to_differ_are_no_ids() -> None:
    platelets = RNG.permutation(np.arange(100, 100 + 2 * N, 2))
    assert _field(platelets, "platelets")["type"] == "integer"


def test_two_valued_whole_numbers_are_categories() -> None:
    assert _field([0, 1] * 100)["categories"] == [0, 1]
    assert _field([1, 2, None, 2] * 50)["categories"] == [1, 2]


def test_a_rare_value_of_two_is_not_told() -> None:
    field = _field([1] * 195 + [2] * 5)
    assert field["type"] == "integer"
    assert "categories" not in field
    assert field["constraints"] == {"required": True, "minimum": 0, "maximum": 5}


def test_zeros_and_ones_are_said_alike_whether_or_not_one_of_them_is_rare() -> None:
    same = [_field(values) for values in ([0] * 100, [1] * 100, [0] * 99 + [1], [0, 1] * 50)]
    assert same == [same[0]] * 4
    assert same[0]["categories"] == [0, 1]


def test_other_whole_numbers_have_coarse_bounds() -> None:
    ages = [*RNG.integers(30, 80, N - 1).tolist(), 107]
    assert _field(ages)["constraints"] == {"required": True, "minimum": 20, "maximum": 120}
    assert _field([1, 2, 3, 4] * 50)["constraints"] == {"required": True, "minimum": 0, "maximum": 5}


def test_numbers_have_decimals_and_coarse_bounds() -> None:
    values = [*np.round(RNG.uniform(3, 30, N - 1), 2), 87.65]
    assert _field(values) == {
        "name": "column",
        "type": "number",
        "decimals": 2,
        "constraints": {"required": True, "minimum": 0.0, "maximum": 100.0},
    }


def test_dates_are_bounded_by_coarse_years() -> None:
    days = [dt.date(1998, 3, 7) + dt.timedelta(days=int(i)) for i in RNG.integers(0, 4000, N)]
    assert _field(days)["constraints"] == {"required": True, "minimum": "1995-01-01", "maximum": "2009-12-31"}


def test_a_column_of_too_few_values_tells_its_type_alone() -> None:
    assert _field([None] * 100 + [1.25] * 9) == {"name": "column", "type": "number"}
    assert _field([None] * 100 + [7, 8, 9]) == {"name": "column", "type": "integer"}


def test_whole_numbers_that_look_like_dates_stay_whole_numbers_and_are_mentioned() -> None:
    inferred = _infer(column=[20240131, 20231231] * 30 + [20240229])
    assert inferred.document["fields"][0]["type"] == "integer"
    assert "%Y%m%d" in inferred.warnings[0].message


def test_persons_are_counted_where_one_has_several_rows() -> None:
    # Level "rare" has 30 rows of 3 persons.
    person = [f"p{i // 10:03d}" for i in range(N)]
    level = ["rare" if i < 30 else "common" for i in range(N)]
    table = pa.table({"patient_id": person, "level": level})
    assert person_column(table) == "patient_id"
    fields = infer_schema(table, min_cell=10).document["fields"]
    assert "rare" not in str(fields)
    assert fields[0] == {"name": "patient_id", "type": "string", "constraints": {"required": True}}


def test_a_site_is_no_person() -> None:
    assert person_column(pa.table({"site_id": ["a", "b"] * 100, "hospital": ["x", "y"] * 100})) is None


def test_an_empty_column_is_text_and_said_to_be_empty() -> None:
    inferred = _infer(column=pa.nulls(30, pa.string()))
    assert inferred.document["fields"] == [{"name": "column", "type": "string"}]
    assert "empty" in inferred.warnings[0].message


def test_missing_texts_are_named() -> None:
    inferred = infer_schema(pa.table({"a": [1, None]}), min_cell=10, missing_values=("NA", "."))
    assert inferred.document["missingValues"] == ["", ".", "NA"]


def test_no_extreme_singleton_or_text_is_ever_in_a_schema() -> None:
    inferred = _infer(
        age=[*RNG.integers(30, 80, N - 1).tolist(), 113],
        dose=[*np.round(RNG.uniform(1, 9, N - 1), 1), 777.7],
        born=[*[dt.date(1950, 6, 1)] * (N - 1), dt.date(1911, 3, 9)],
        ward=[*["surgery"] * (N - 1), "canary ward"],
        note=[f"canary note {i}" for i in range(N)],
        patient=[f"canary{i:05d}" for i in range(N)],
    )
    for planted in ("113", "777.7", "1911-03-09", "canary"):
        assert planted not in str(inferred)


def test_what_is_inferred_is_a_schema_without_a_warning() -> None:
    inferred = _infer(
        patient_id=[f"{i:07d}" for i in range(N)],
        sex=["F", "M"] * 100,
        event=[0, 1] * 100,
        alive=[True, False] * 100,
        x=RNG.normal(size=N),
        day=[dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(N)],
        moment=[dt.datetime(2020, 1, 1) + dt.timedelta(hours=i) for i in range(N)],
        clock=pa.array([dt.time(i % 24, 30) for i in range(N)], pa.time32("s")),
        ward=["a"] * 150 + ["b"] * 40 + ["c"] * 7 + ["d"] * 3,
    )
    schema, warnings = parse_schema(inferred.document)
    assert warnings == ()
    assert [field.kind for field in schema.fields] == [
        "id",
        "categorical",
        "categorical",
        "categorical",
        "numeric",
        "temporal",
        "temporal",
        "temporal",
        "categorical",
    ]
