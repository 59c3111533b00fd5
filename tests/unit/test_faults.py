"""What pydantic finds wrong, told with pointers into the caller's document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.faults import faults_of


class Inner(BaseModel):
    depth: int


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    widths: (
        Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, strict=False)]
        | Literal["auto"]
    ) = "auto"
    inner: Inner | Literal["none"] = "none"
    seed: int = 0


def told(document: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(document)
    return [(fault.pointer, fault.message) for fault in faults_of(caught.value, document)]


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ({"epochs": 0}, [("/epochs", "This must be greater than or equal to 1, or 'auto'.")]),
        ({"epochs": "lots"}, [("/epochs", "This must be an integer, or 'auto'.")]),
        ({"widths": 256}, [("/widths", "This must be a JSON array, or 'auto'.")]),
        ({"widths": []}, [("/widths", "This must have at least 1 item, not 0, or 'auto'.")]),
        ({"widths": [8, 0]}, [("/widths/1", "This must be greater than or equal to 1.")]),
        ({"inner": {}}, [("/inner/depth", "This property is required.")]),
        ({"inner": "some"}, [("/inner", "This must be a JSON object, or 'none'.")]),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_of_several_kinds_has_one_fault_at_its_own_place(
    document: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    assert told(document) == faults


def test_every_fault_is_told_and_those_of_one_kind_as_they_are() -> None:
    found = told({"epochs": "lots", "seed": "x", "colour": "red"})
    assert sorted(pointer for pointer, _ in found) == ["/colour", "/epochs", "/seed"]
    assert ("/seed", "This must be an integer.") in found


def test_a_faulty_value_is_not_repeated() -> None:
    assert "canary" not in str(told({"epochs": "canary", "inner": {"depth": "canary"}}))
