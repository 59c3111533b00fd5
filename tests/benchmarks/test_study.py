"""The study, done again: what its page says of the rows, and (slow) the whole of it through a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numpy.random import SeedSequence

from app.generators.llm.assignment import Assignment
from app.generators.llm.generator import LLM
from app.generators.llm.providers import Providers
from app.generators.llm.talk import Memory, Talks
from app.schema.check import check_frame
from app.schema.parse import parse_schema
from benchmarks import study, talks, zero_shot, zero_shot_tables
from benchmarks.study import BLUEPRINT, CTGAN, ELICITED, MARGINALS, SECOND, STAND_IN, Candidate, Study
from benchmarks.study_page import page
from tests import recorded_talk
from tests.fake_provider import serving
from tests.unit.generators.llm.oracle import Oracle

DECLARED = zero_shot_tables.declared()
TESTS = {"mean": (10, 10), "proportion": (30, 38), "distribution": (9, 10), "correlation": (20, 20)}


@pytest.fixture(scope="module")
def stand_in() -> bytes:
    return zero_shot.drawn_from(DECLARED, 139, 1).to_csv(index=False).encode()


def judged(few: list[bytes], many: bytes) -> Candidate:
    found = study.described(few, many)
    found.tests, found.tenfold_tests = dict(TESTS), dict(TESTS)
    found.utility = [
        {"model": "logistic regression", "kind": "model", "measure": measure, "tstr": 0.7, "trtr": 0.8,
         "tstr_interval": [0.6, 0.8]}
        for measure in ("F1 (weighted)", "AUROC")
    ]  # fmt: skip
    return found


def test_the_stand_in_keeps_the_schema_and_has_its_statistics(stand_in: bytes) -> None:
    frame = study._frame(stand_in)
    assert len(frame) == 139 and check_frame(parse_schema(DECLARED)[0], frame).good.all()
    found = study.described([stand_in], stand_in)
    assert found.tenfold_means["age"] == pytest.approx(71.2, abs=0.1)
    assert found.tenfold_proportions["kps_deterioration: true"] == pytest.approx(0.298, abs=0.01)
    assert found.tenfold_correlations["complications × kps_deterioration"] == pytest.approx(0.46, abs=0.03)


def test_tables_with_the_same_draws_are_found_out(stand_in: bytes) -> None:
    other = zero_shot.drawn_from(DECLARED, 139, 2).to_csv(index=False).encode()
    assert study.described([stand_in, stand_in], stand_in).shares_draws is True
    assert study.described([stand_in, other], stand_in).shares_draws is False


def test_the_page_names_the_stand_in_and_says_what_is_not_recorded(stand_in: bytes) -> None:
    found = {name: judged([stand_in, stand_in], stand_in) for name in (BLUEPRINT, CTGAN, MARGINALS)}
    found |= {name: judged([stand_in], stand_in) for name in (STAND_IN, SECOND)}
    pairs = {" × ".join(item["fields"]): item["value"] for item in DECLARED["associations"]}
    said = Study(7, 2, None, 138, found, pairs, dict(TESTS), 0.77)
    text = page(said)
    assert "**The real patients are not here.**" in text and "CTGAN, 7 epochs" in text
    assert "is not recorded yet: the candidate *elicited* is left out" in text
    assert "30 of 38 (79 %)" in text and "0.700 (0.60–0.80)" in text
    assert "$" not in text and "nan" not in text
    said.found[ELICITED], said.recording = said.found[BLUEPRINT], "2026-01-01"
    assert "not recorded yet" not in page(said) and "elicited, 1,390" in page(said)


def test_results_are_read_as_they_were_written(stand_in: bytes, tmp_path: Path) -> None:
    import json
    from dataclasses import asdict

    said = Study(7, 1, None, 138, {STAND_IN: judged([stand_in], stand_in)}, {}, dict(TESTS), 0.7)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(asdict(said)), "utf-8")
    assert study.read(path).found[STAND_IN].means == said.found[STAND_IN].means


def artificial_talk() -> recorded_talk.Recording:
    """A talk about the flagship with a model that knows two columns and one pair of them."""
    shelf, options = Memory(), dict(talks.OPTIONS["blueprint"])
    oracle = Oracle(
        columns={"age": ([65, 66, 68, 71, 75, 82, 92], 0), "los_days": ([1, 2, 4, 6, 9, 16, 40], 0)},
        pairs={("age", "los_days"): [0.2]},
    )
    with serving(oracle) as provider:
        means = Talks(Providers({"fake": provider.provider(mode="json_schema")}, offline=False), shelf)
        generator = LLM(LLM.Options(**options, provider="fake")).assigned(Assignment(means, 20, 1))
        schema, seed = zero_shot_tables.load("neurosurgery").schema, SeedSequence(7, spawn_key=(0,))
        generator.fit(schema, None, seed=seed, progress=_quiet, warn=_quiet)
    return recorded_talk.recorded(
        map(_json, shelf.read()), table="neurosurgery", options=options, rows=20, seed=7, made="2026-01-01"
    )


def _json(data: bytes) -> Any:
    import json

    return json.loads(data)


def _quiet(*_: Any, **__: Any) -> None:
    """Follow nothing."""


@pytest.mark.slow
def test_the_whole_study_runs_through_a_service_with_few_epochs() -> None:
    found = study.run(epochs=3, replicates=2, recording=artificial_talk())
    assert set(found.found) == {BLUEPRINT, ELICITED, CTGAN, MARGINALS, STAND_IN, SECOND}
    for name in (BLUEPRINT, ELICITED, CTGAN, MARGINALS):
        one = found.found[name]
        assert set(one.tests) == {"mean", "proportion", "distribution", "correlation"}, name
        assert one.shares_draws is False and one.utility and len(one.means["age"]) == 2, name
    assert found.found[BLUEPRINT].tests["proportion"][0] > found.found[ELICITED].tests["proportion"][0]
    assert "elicited, 1,390" in page(found)
