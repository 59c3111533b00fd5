"""A talk with a language model that was recorded once, and a provider that answers the same requests again.

A request is known by what it means: its messages and the shape of its answer, not by the model's name, limits
or the order of requests. What was never recorded is refused with a sentence, and never answered with
something else. One exception, which is counted: a critique is also known without the preview that it judges,
since the preview's last digits follow the sampler's.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from tests.fake_provider import FakeProvider, Reaction, fails, says, serving

FOLDER = Path(__file__).parent / "fixtures" / "talks"
_KEY_LENGTH = 16


@dataclass(frozen=True)
class Kept:
    """One request's key and its answer, word for word."""

    purpose: str
    key: str
    without_preview: str | None
    answer: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Recording:
    """A job's talk.

    Parameters
    ----------
    table, options, rows, seed
        What was asked for.
    made : str
        The date.
    kept : tuple of Kept
        In the order in which they were answered.
    reader : str
        What the one who answered said of the answers afterwards, such as that he knew the table.
    """

    table: str
    options: Mapping[str, Any]
    rows: int
    seed: int
    made: str
    kept: tuple[Kept, ...]
    reader: str = ""

    @property
    def tokens(self) -> int:
        """Both ways, as the provider counted."""
        return sum(item.prompt_tokens + item.completion_tokens for item in self.kept)


def path_of(table: str, strategy: str) -> Path:
    """Return where a table's recording lies, whether there is one or not."""
    return FOLDER / f"{table}-{strategy}.json"


def recorded(
    transcript: Iterable[Mapping[str, Any]],
    *,
    table: str,
    options: Mapping[str, Any],
    rows: int,
    seed: int,
    made: str,
) -> Recording:
    """Return the recording of a job's transcript, as `GET /v1/jobs/{id}/transcript` gives it."""
    kept = [
        Kept(
            receipt["purpose"],
            key_of(receipt["request"]["messages"], receipt["request"]["shape"]),
            key_without_preview(receipt["request"]["messages"], receipt["request"]["shape"]),
            receipt["answer"]["text"],
            receipt["answer"]["prompt_tokens"],
            receipt["answer"]["completion_tokens"],
        )
        for receipt in transcript
        if receipt["answer"] is not None
    ]
    return Recording(table, dict(options), rows, seed, made, tuple(kept))


def write(recording: Recording, path: Path) -> None:
    """Write a recording, an answer a line."""
    head = {"table": recording.table, "options": dict(recording.options), "rows": recording.rows,
            "seed": recording.seed, "made": recording.made,
            **({"reader": recording.reader} if recording.reader else {})}  # fmt: skip
    lines = [json.dumps(vars(item), ensure_ascii=False) for item in recording.kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(head, ensure_ascii=False)[:-1] + ', "kept": [\n' + ",\n".join(lines) + "\n]}\n"
    path.write_text(text, "utf-8")


def read(path: Path) -> Recording:
    """Read what `write` wrote."""
    said = json.loads(path.read_text("utf-8"))
    return Recording(**{**said, "kept": tuple(Kept(**item) for item in said["kept"])})


# Keys ------------------------------------------------------------------------------------------------


def key_of(messages: Sequence[Mapping[str, Any]], shape: Any) -> str:
    """Return the digest of what is asked."""
    what = [[[message["role"], message["content"]] for message in messages], shape]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


def key_without_preview(messages: Sequence[Mapping[str, Any]], shape: Any) -> str | None:
    """Return the digest of a critique without the preview in it; None where there is none."""
    before, after = _around_the_preview()
    bare, found = [], False
    for message in messages:
        text = message["content"]
        start = text.find(before)
        end = text.find(after, start + len(before)) if start >= 0 else -1
        if end >= 0:
            found = True
            text = text[: start + len(before)] + text[end:]
        bare.append({"role": message["role"], "content": text})
    return key_of(bare, shape) if found else None


@functools.cache
def _around_the_preview() -> tuple[str, str]:
    """Return the sentences of the prompt between which the preview stands."""
    prompt = resources.files("app.generators.llm.prompts").joinpath("critique.txt").read_text("utf-8")
    before, after = prompt.split("$preview")
    return before.rsplit("\n\n", 2)[-2].strip(), after.strip().split("$", 1)[0].split(". ", 1)[0]


# Replaying -------------------------------------------------------------------------------------------


@dataclass
class Replay:
    """Answers from recordings: a script of `tests.fake_provider`."""

    recordings: Sequence[Recording]
    answered: list[str] = field(default_factory=list)
    other_preview: list[str] = field(default_factory=list)
    """Purposes of critiques that were answered although the preview differs from the recorded one."""
    unknown: list[str] = field(default_factory=list)

    def __call__(self, request: dict[str, Any]) -> Reaction:
        """Answer a request, or refuse it with a sentence."""
        shape = request.get("response_format", {}).get("json_schema", {}).get("schema")
        key = key_of(request["messages"], shape)
        bare = key_without_preview(request["messages"], shape)
        kept = [item for recording in self.recordings for item in recording.kept]
        exact = next((item for item in kept if item.key == key), None)
        found = exact or next((item for item in kept if bare and item.without_preview == bare), None)
        if found is None:
            self.unknown.append(key)
            what = request.get("response_format", {}).get("json_schema", {}).get("name", "something")
            # A definite no (400): a passing failure would be asked again, and its words would be lost.
            return fails(
                400,
                f"this talk does not hold this request ({what}, key {key}): a prompt, the dictionary or an "
                f"earlier answer has changed since {self._names()} was recorded; record it again",
            )
        self.answered.append(found.purpose)
        if exact is None:
            self.other_preview.append(found.purpose)
        reaction = says(found.answer)
        reaction.body["model"] = "recorded"
        reaction.body["usage"] = {
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens,
            "total_tokens": found.prompt_tokens + found.completion_tokens,
        }
        return reaction

    def _names(self) -> str:
        return ", ".join(f"{item.table} ({item.made})" for item in self.recordings) or "nothing"


@contextmanager
def replaying(*recordings: Recording) -> Iterator[tuple[FakeProvider, Replay]]:
    """Run a provider on loopback that answers from recordings."""
    replay = Replay(recordings)
    with serving(replay) as provider:
        yield provider, replay
