"""Where Anonymeter defines the same attack, ours agrees within the sampling error that it states.

Its figures are recorded from its own environment (`python -m benchmarks.anonymeter --record`); the tables are
drawn anew here from the same seed.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from benchmarks.anonymeter import OURS, RECORD, ROWS, SHARES, case, ours

RECORDED: dict[str, Any] = json.loads(RECORD.read_text())


@functools.cache
def found(share: float) -> dict[str, dict[str, float]]:
    return ours(case(share))


@pytest.mark.parametrize("said", RECORDED["cases"], ids=lambda said: f"{said['share']:.0%} copied")
@pytest.mark.parametrize("attack", OURS)
def test_the_advantage_is_anonymeters_within_its_stated_error(said: dict[str, Any], attack: str) -> None:
    own = found(said["share"])[attack]
    assert own["advantage"] == pytest.approx(said[attack]["advantage"], abs=said[attack]["error"])


@pytest.mark.parametrize("attack", OURS)
def test_its_errors_are_small_enough_to_tell_shares_of_copies_apart(attack: str) -> None:
    by_share = [case[attack] for case in RECORDED["cases"]]
    assert by_share[-1]["advantage"] - by_share[0]["advantage"] > 5 * max(one["error"] for one in by_share)


def test_the_record_is_of_these_tables() -> None:
    assert [said["share"] for said in RECORDED["cases"]] == list(SHARES)
    assert RECORDED["attacks"] == ROWS
