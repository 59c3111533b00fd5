"""The zero-shot comparison runs from a recorded talk to a page, and what is recorded can be replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from numpy.random import SeedSequence

from app.generators.llm.assignment import Assignment
from app.generators.llm.generator import LLM
from app.generators.llm.providers import Providers
from app.generators.llm.talk import Memory, Talks
from benchmarks import talks, zero_shot, zero_shot_tables
from benchmarks.zero_shot import CTGAN, ELICITED, HALVES, INDEPENDENT, WRITTEN, Results
from benchmarks.zero_shot_page import page
from tests import recorded_talk
from tests.benchmarks.answerer import Answerer
from tests.fake_provider import serving

RECORDINGS = sorted(recorded_talk.FOLDER.glob("*.json"))


def artificial(path: Path) -> None:
    """Record an artificial talk about brain_cancer, without the service (see test_talks.py for that)."""
    shelf, options = Memory(), dict(talks.OPTIONS[ELICITED])
    with serving(Answerer()) as provider:
        means = Talks(Providers({"fake": provider.provider(mode="json_schema")}, offline=False), shelf)
        generator = LLM(LLM.Options(**options, provider="fake")).assigned(Assignment(means, 20, 1))
        schema = zero_shot_tables.load("brain_cancer").schema
        seed = SeedSequence(talks.SEED, spawn_key=(0,))
        generator.fit(schema, None, seed=seed, progress=_quiet, warn=_quiet)
    transcript = [json.loads(receipt) for receipt in shelf.read()]
    kept = recorded_talk.recorded(
        transcript, table="brain_cancer", options=options, rows=20, seed=talks.SEED, made="2026-01-01"
    )
    recorded_talk.write(kept, path)


def _quiet(*_: Any, **__: Any) -> None:
    """Follow nothing."""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> zero_shot.Compared:
    """brain_cancer, its blueprint talk answered artificially, CTGAN with one epoch."""
    folder = tmp_path_factory.mktemp("talks")
    artificial(folder / "brain_cancer-blueprint.json")
    results = Results(folder / "results.json")
    return zero_shot.compare("brain_cancer", results, epochs=1, splits=2, talks=folder)


def test_every_candidate_is_measured_and_what_is_not_recorded_is_left_out(
    comparison: zero_shot.Compared,
) -> None:
    assert set(comparison.found) == {ELICITED, CTGAN, INDEPENDENT, HALVES}
    for name, found in comparison.found.items():
        assert 0 <= found.figures.marginals < 1 and found.figures.tstr is not None, name
    assert comparison.found[ELICITED].impossible["a Karnofsky index between the tens"] == 0.0


def test_the_page_has_every_figure_and_says_what_is_not_recorded(comparison: zero_shot.Compared) -> None:
    text = page([comparison], 1)
    assert "Not recorded yet, and so not measured: brain_cancer (`rows`)." in text
    for name in (ELICITED, CTGAN, INDEPENDENT):
        figures = comparison.found[name].figures
        assert f"{figures.marginals:.3f} | {figures.sign:.3f} | {figures.size:.3f}" in text
    assert all(f"| {item.name} |" in text for item in comparison.table.schema.fields)
    assert "$" not in text and "nan" not in text


def test_figures_that_were_measured_are_not_measured_again(tmp_path: Path) -> None:
    results, calls = Results(tmp_path / "r.json"), []

    def measure() -> zero_shot.Found:
        calls.append(1)
        return zero_shot.Found(zero_shot.Measured(0.1, None, 0.2, 0.5, 0.0, 0.0, 0.0))

    first = results.of(("a", 1), measure)
    assert Results(tmp_path / "r.json").of(("a", 1), measure) == first and len(calls) == 1
    results.of(("a", 2), measure)
    assert len(calls) == 2, "another basis is another figure"


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_talk_gives_its_rows_and_holds_every_request(path: Path) -> None:
    recording = recorded_talk.read(path)
    table = zero_shot_tables.load(recording.table)
    assert path == recorded_talk.path_of(recording.table, recording.options["strategy"])
    rows = recording.rows if recording.options["strategy"] == WRITTEN else 500
    frame, said = zero_shot.replayed(table, recording, rows)
    assert len(frame) == rows and list(frame) == [item.name for item in table.schema.fields]
    assert said["tokens"] <= 40_000 or recording.options["strategy"] == WRITTEN
