from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.datasets.reference import load_columns, load_reference
from app.datasets.split import holdout_mask
from app.disclosure import POOLED_LEVEL
from app.errors import InvalidInput
from app.schema.frames import dtype_of
from app.schema.parse import parse_schema

Read = Callable[..., Any]
EXAMPLE = Path(__file__).parents[3] / "examples" / "brain_cancer.csv"


def _schema(*fields: dict[str, Any]) -> Any:
    return parse_schema({"fields": list(fields)})[0]


def test_a_reference_under_its_inferred_schema_has_every_row_and_the_schema_s_dtypes(read: Read) -> None:
    outcome = read(EXAMPLE)
    schema = parse_schema(outcome.answer["schema"])[0]
    reference = load_reference(outcome.parquet, schema)
    assert reference.warnings == ()
    assert list(reference.frame.columns) == list(schema.names)
    assert [reference.frame[field.name].dtype for field in schema.fields] == [
        dtype_of(f) for f in schema.fields
    ]
    assert len(reference.frame) == 88
    # 9 low-grade gliomas are fewer than ten persons: they and the next smallest level are one.
    assert reference.frame["diagnosis"].value_counts().to_dict() == {
        "Meningioma": 42,
        "HG glioma": 22,
        POOLED_LEVEL: 23,
    }
    assert reference.frame["diagnosis"].isna().sum() == 1


def test_the_stored_table_itself_is_not_pooled(read: Read) -> None:
    outcome = read(EXAMPLE)
    assert set(outcome.column("diagnosis")) == {"Meningioma", "HG glioma", "LG glioma", "Other", None}


def test_declared_levels_are_all_used_whatever_their_number(read: Read) -> None:
    levels = ["Meningioma", "LG glioma", "HG glioma", "Other"]
    frame = load_reference(
        read(EXAMPLE).parquet, _schema({"name": "diagnosis", "type": "string", "categories": levels})
    ).frame
    assert frame["diagnosis"].value_counts()["LG glioma"] == 9


def test_values_that_are_no_level_become_missing_and_are_said(read: Read) -> None:
    schema = _schema({"name": "diagnosis", "type": "string", "categories": ["Meningioma", "LG glioma"]})
    reference = load_reference(read(EXAMPLE).parquet, schema)
    assert reference.frame["diagnosis"].isna().sum() == 88 - 42 - 9
    assert reference.warnings[0].pointer == "/schema/fields/0/categories"
    assert reference.warnings[0].message.startswith("36 rows")
    assert "glioma" not in str(reference.warnings)
    few = _schema({"name": "diagnosis", "type": "string", "categories": ["Meningioma", "HG glioma", "Other"]})
    assert load_reference(read(EXAMPLE).parquet, few).warnings[0].message.startswith("fewer than 10 rows")
    numbers = _schema({"name": "status", "type": "integer", "categories": [1]})
    assert load_reference(read(EXAMPLE).parquet, numbers).frame["status"].isna().sum() == 53


@pytest.mark.parametrize(
    ("name", "declared", "first"),
    [
        ("status", {"type": "boolean"}, False),
        ("status", {"type": "string", "categories": ["0", "1"]}, "0"),
        ("status", {"type": "number"}, 0.0),
        ("ki", {"type": "string"}, "90"),
        ("time", {"type": "string"}, "57.64"),
    ],
)
def test_a_column_can_be_taken_as_another_type(
    read: Read, name: str, declared: dict[str, Any], first: Any
) -> None:
    schema = _schema({"name": name, **declared})
    frame = load_reference(read(EXAMPLE).parquet, schema).frame
    assert frame[name].dtype == dtype_of(schema.fields[0])
    assert frame[name].iloc[0] == first


def test_a_type_that_cannot_hold_the_column_is_a_fault_without_a_value(read: Read) -> None:
    schema = _schema({"name": "sex", "type": "integer"}, {"name": "nothing", "type": "string"})
    with pytest.raises(InvalidInput) as caught:
        load_reference(read(EXAMPLE).parquet, schema)
    faults = caught.value.faults
    assert [fault.pointer for fault in faults] == ["/schema/fields/0/type", "/schema/fields/1"]
    assert "88 cells" in faults[0].message
    assert "male" not in str(faults).lower()


def test_formulas_are_computed_where_the_column_is_absent(read: Read) -> None:
    schema = _schema(
        {"name": "years", "type": "number", "formula": "months / 12", "decimals": 2},
        {"name": "months", "type": "number", "formula": "time * 1", "decimals": 2},
        {"name": "time", "type": "number", "decimals": 2},
    )
    frame = load_reference(read(EXAMPLE).parquet, schema).frame
    assert list(frame.columns) == ["years", "months", "time"]
    assert frame["years"].iloc[0] == pytest.approx(57.64 / 12, abs=0.005)


def test_columns_left_out_are_counted(read: Read) -> None:
    warnings = load_reference(read(EXAMPLE).parquet, _schema({"name": "sex", "type": "string"})).warnings
    assert warnings[0].message.startswith("7 columns")


def test_the_holdout_of_the_stored_table_does_not_know_the_schema(read: Read) -> None:
    outcome = read(EXAMPLE)
    frame = load_columns(outcome.parquet, ["diagnosis", "status"])
    declared = read(
        EXAMPLE,
        {
            "fields": [
                *outcome.answer["schema"]["fields"][:6],
                {"name": "status", "type": "string", "categories": ["0", "1"]},
                {"name": "time", "type": "number"},
            ],
            "missingValues": ["NA"],
        },
    )
    other = load_columns(declared.parquet, ["diagnosis", "status"])
    for target in ("diagnosis", "status"):
        assert (holdout_mask("ab", frame, 0.3, target) == holdout_mask("ab", other, 0.3, target)).all()


def test_a_holdout_without_target_and_group_has_every_row_to_choose_from(read: Read) -> None:
    frame = load_columns(read(EXAMPLE).parquet, [])
    assert len(frame) == 88
    assert holdout_mask("ab", frame, 0.25).sum() in (21, 22, 23)
