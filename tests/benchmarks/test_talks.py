"""Recording a talk through the real service, and answering the same requests from the recording."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import talks
from tests import recorded_talk
from tests.benchmarks.answerer import Answerer
from tests.fake_provider import serving
from tests.recorded_talk import Recording, Replay, key_of, recorded

SHAPE = {"type": "object"}
ASKED = [{"role": "system", "content": "You know."}, {"role": "user", "content": "What is the age?"}]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Talks as `benchmarks.talks record` makes them; it checks itself that a replay gives the same bytes."""
    made = {}
    for strategy in ("blueprint", "rows"):
        path = tmp_path_factory.mktemp("talks") / f"{strategy}.json"
        with serving(Answerer()) as provider:
            talks.record("brain_cancer", strategy, provider.base_url, rows=30, path=path)
            made[strategy] = (recorded_talk.read(path), list(provider.requests), path)
    return made


@pytest.fixture(params=["blueprint", "rows"])
def recording(request: pytest.FixtureRequest, recordings: dict[str, Any]) -> Any:
    return recordings[request.param]


def test_every_request_of_the_job_is_kept_and_answered_again_word_for_word(recording: Any) -> None:
    kept, asked, _ = recording
    assert kept.kept and kept.tokens > 0
    replay = Replay([kept])
    for request in asked:
        reaction = replay(request)
        assert reaction.status == 200, reaction.body
    assert not replay.other_preview and not replay.unknown
    assert len(replay.answered) == len(asked)


def test_recorded_jobs_run_again_without_the_provider(recordings: dict[str, Any]) -> None:
    lines = talks.check([path for _, _, path in recordings.values()])
    for line, (kept, _, _) in zip(lines, recordings.values(), strict=True):
        assert f"{kept.rows} rows from {len(kept.kept)} answers" in line and "another preview" not in line


def test_the_file_has_an_answer_a_line_and_no_prompt(recording: Any) -> None:
    kept, asked, path = recording
    text = path.read_text("utf-8")
    assert len(text.splitlines()) == len(kept.kept) + 2
    assert asked[0]["messages"][0]["content"][:60] not in text
    assert "127.0.0.1" not in text


def one(text: str | None = '{"age": 1}') -> Recording:
    receipt: dict[str, Any] = {
        "purpose": "columns 1",
        "request": {"messages": ASKED, "shape": SHAPE, "model": "m", "max_tokens": 10},
        "answer": None if text is None else {"text": text, "prompt_tokens": 4, "completion_tokens": 3},
    }
    return recorded([receipt], table="t", options={}, rows=1, seed=1, made="2026-01-01")


def request_for(messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "columns", "strict": True, "schema": SHAPE}}
    return {"model": "other", "messages": messages, "response_format": form, "max_tokens": 999} | more


def test_a_request_is_known_by_its_meaning_not_by_model_or_limit() -> None:
    assert Replay([one()])(request_for(ASKED)).status == 200


@pytest.mark.parametrize("place", [0, 1])
def test_a_changed_prompt_is_refused_and_never_answered_with_something_else(place: int) -> None:
    changed = copy.deepcopy(ASKED)
    changed[place]["content"] += " In months."
    replay = Replay([one()])
    reaction = replay(request_for(changed))
    assert reaction.status == 400
    assert "this talk does not hold this request" in reaction.body["error"]["message"]
    assert replay.unknown and not replay.answered


def test_a_changed_shape_is_another_request() -> None:
    assert key_of(ASKED, SHAPE) != key_of(ASKED, {"type": "array"})


def test_what_was_not_answered_is_not_kept() -> None:
    assert not one(None).kept


def test_a_job_whose_prompt_changed_says_so_in_its_error(recordings: dict[str, Any]) -> None:
    kept, _, _ = recordings["blueprint"]
    fewer = Recording(kept.table, kept.options, kept.rows, kept.seed, kept.made, kept.kept[1:])
    replay = Replay([fewer])
    with serving(replay) as answering, talks.service({"kept": answering.base_url}) as caller:
        wanted = talks.request_of(kept.table, kept.options, kept.rows, kept.seed, "kept")
        with pytest.raises(SystemExit, match="this talk does not hold this request"):
            caller.run(**wanted)


def test_a_critique_of_another_preview_is_answered_and_counted(recordings: dict[str, Any]) -> None:
    kept, asked, _ = recordings["blueprint"]
    (critique,) = [request for request in asked if "Some rows, the most unusual" in json.dumps(request)]
    other = copy.deepcopy(critique)
    text = other["messages"][1]["content"]
    start = text.index("Columns (present values")
    place = next(at for at in range(start, len(text)) if text[at].isdigit())
    other["messages"][1]["content"] = text[:place] + "8765" + text[place + 1 :]
    replay = Replay([kept])
    assert replay(other).status == 200 and replay.other_preview == ["critique 1"]
    words = other["messages"][1]["content"].replace("Task: look at it", "Task: look hard at it")
    other["messages"][1]["content"] = words
    assert replay(other).status == 400, "its instructions are part of what is asked"


def test_the_provider_answers_over_http(tmp_path: Path) -> None:
    with recorded_talk.replaying(one()) as (provider, replay):
        answer = httpx.post(f"{provider.base_url}/chat/completions", json=request_for(ASKED))
    assert answer.json()["choices"][0]["message"]["content"] == '{"age": 1}'
    assert replay.answered == ["columns 1"]


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "talk.json"
    kept = one('{"name": "Ω",\n "n": 1}')
    recorded_talk.write(kept, path)
    assert recorded_talk.read(path) == kept
