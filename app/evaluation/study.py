"""The report's section on the study's protocol (arXiv 2502.09566): each test, and replicates side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["mean", "proportion", "distribution", "correlation"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StudyKind(_Part):
    """The comparisons of one kind, counted."""

    kind: Kind
    test: str = Field(description="the test, in words")
    comparisons: int
    without_difference: int = Field(description="of them, with p ≥ 0.05")
    value: float = Field(description="share without difference; a perfect generator has 0.95 on average")
    baseline: float | None = Field(default=None, description="the same of the holdout")


class StudyTest(_Part):
    """One comparison of the real train part with the synthetic rows of all replicates."""

    kind: Kind
    what: str = Field(description="column, column: level, or column × column")
    real: float | None = Field(default=None, description="None for distributions")
    real_interval: tuple[float, float] | None = Field(default=None, description="95 %")
    synthetic: float | None = None
    synthetic_interval: tuple[float, float] | None = None
    size: float | None = Field(description="of the difference; None where the scale is 0")
    size_is: str = Field(description="what the size counts in")
    p: float
    p_holdout: float | None = Field(default=None, description="p of train part against holdout")


class ReplicateStatistic(_Part):
    """One statistic in every replicate."""

    kind: Literal["mean", "proportion", "correlation"]
    what: str
    values: tuple[float, ...] = Field(description="one for each replicate, in their order")
    spread: float = Field(description="standard deviation of the values")
    expected_spread: float = Field(description="that of independent samples of as many rows")
    ratio: float | None = Field(description="spread over expected spread; None where none is expected")


class EqualColumn(_Part):
    """A column in which two replicates are equal in the same place more often than in other places."""

    column: str
    equal: float = Field(description="share of places")
    by_chance: float = Field(description="the same in other places")


class ReplicatePair(_Part):
    """What two replicates share."""

    replicates: tuple[int, int]
    beyond_chance: bool
    rows_in_common: float | None = Field(
        default=None, description="share of one's rows that stand in the other"
    )
    rows_in_common_by_chance: float | None = Field(
        default=None, description="share of one's rows that stand in the rest of itself"
    )
    rows_beyond_chance: float
    columns_equal_in_the_same_place: tuple[EqualColumn, ...] = ()


class Replicates(_Part):
    """Independent samples of one fit, side by side."""

    reading: str
    count: int
    rows: tuple[int, ...]
    statistics: tuple[ReplicateStatistic, ...]
    share_draws: bool = Field(description="whether any pair shares draws beyond chance")
    pairs: tuple[ReplicatePair, ...]


class Study(_Part):
    """The study's protocol."""

    reading: str
    rows: dict[str, int] = Field(description="compared rows of `train` and `synthetic`")
    rows_taken_as_independent: bool = Field(description="false where persons have several rows")
    kinds: tuple[StudyKind, ...]
    tests: tuple[StudyTest, ...] = Field(
        description="the smallest p first; the first 200 of each kind where there are more"
    )
    tests_in_all: int
    differing: tuple[str, ...] = Field(description="beyond chance over all tests (Holm), at 5 %")
    replicates: Replicates | None = Field(default=None, description="None where there is one")

    @classmethod
    def of(cls, reading: str, details: Mapping[str, Any]) -> Study:
        """Return the section that the details of `study_protocol` hold."""
        return cls.model_validate(
            {
                "reading": reading,
                "kinds": details["table"],
                **{
                    name: details[name]
                    for name in (
                        "rows", "rows_taken_as_independent", "tests", "tests_in_all", "differing"
                    )
                },
                "replicates": details.get("replicates"),
            }
        )  # fmt: skip
