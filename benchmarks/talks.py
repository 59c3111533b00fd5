"""Record a talk with a language model: one real job through the service, kept for the comparisons and tests.

    python -m benchmarks.talks record cgd blueprint --provider http://127.0.0.1:8099/v1
    python -m benchmarks.talks record cgd rows --provider http://127.0.0.1:8099/v1
    python -m benchmarks.talks check [--rows 1000000]

`record` starts the whole service, has the generator `llm` ask the provider that is named, and writes what
was asked (as digests) and answered to `tests/fixtures/talks/`. Then the same job runs against the recording,
and must give the same rows. `check` does that last step for every recording there is. The provider may be a
person: no request of a job is given up before a day is over.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import zero_shot_tables
from benchmarks.service import free_port, running, serve
from tests import recorded_talk
from tests.fake_provider import serving
from tests.recorded_talk import Recording, Replay

DAY = 86_400.0
SEED = 7
ROWS = 200
"""Rows of a recorded job; of strategy `rows`, those that are written."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "blueprint": {"strategy": "blueprint", "elicitations": 3, "critiques": 1},
    "rows": {"strategy": "rows"},
}


@dataclass(frozen=True)
class Caller:
    """Talks to a running service."""

    base: str

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        **headers: str,
    ) -> bytes:
        """Make one request; a refusal ends the program with the service's own words."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.base + path, data=body, method=method, headers={"Content-Type": kind, **named}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                content: bytes = answer.read()
        except urllib.error.HTTPError as refusal:
            raise SystemExit(f"{method} {path}: {refusal.code}\n{refusal.read().decode()}") from refusal
        return content

    def run(self, tell: bool = False, **request: Any) -> dict[str, Any]:
        """Post a job and return it once it has succeeded."""
        return self._ended("/v1/jobs", request, tell)

    def evaluate(self, **request: Any) -> dict[str, Any]:
        """Have an uploaded table judged; return the report."""
        job = self._ended("/v1/evaluations", request, tell=False)
        report: dict[str, Any] = json.loads(self.call("GET", f"/v1/jobs/{job['id']}/report?format=json"))
        return report

    def _ended(self, path: str, request: Mapping[str, Any], tell: bool) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(
            self.call("POST", path, json.dumps(request).encode(), Prefer="wait=30")
        )
        said = ""
        while job["status"] in ("queued", "running"):
            time.sleep(0.2)
            job = json.loads(self.call("GET", f"/v1/jobs/{job['id']}"))
            progress = f"{job['progress']['stage']} {job['progress'].get('detail') or ''}".strip()
            if tell and progress != said:
                said = progress
                print(f"  {dt.datetime.now():%H:%M:%S} {said}", flush=True)
        if job["status"] != "succeeded":
            raise SystemExit(f"The job {job['status']}: {json.dumps(job['error'], indent=1)}")
        return job

    def rows(self, job: Mapping[str, Any], replicate: int = 1) -> bytes:
        """Return a job's rows as CSV."""
        return self.call("GET", f"/v1/jobs/{job['id']}/data?format=csv&replicate={replicate}")

    def transcript(self, job: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return every request to the model and its answer."""
        found: list[dict[str, Any]] = json.loads(self.call("GET", f"/v1/jobs/{job['id']}/transcript"))
        return found

    def upload(self, name: str, csv: bytes, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Upload a table; return the dataset."""
        mark = uuid.uuid4().hex
        parts = [(f'name="file"; filename="{name}.csv"', "text/csv", csv)]
        if schema is not None:
            parts.append(('name="schema"', "application/json", json.dumps(schema).encode()))
        body = b"".join(
            f"--{mark}\r\nContent-Disposition: form-data; {head}\r\nContent-Type: {kind}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for head, kind, content in parts
        )
        answer: dict[str, Any] = json.loads(
            self.call(
                "POST",
                "/v1/datasets",
                body + f"--{mark}--\r\n".encode(),
                f"multipart/form-data; boundary={mark}",
            )
        )
        return answer


@contextlib.contextmanager
def service(providers: Mapping[str, str]) -> Iterator[Caller]:
    """Run `synthward serve` with providers by name and address; its data are gone with the block."""
    settings = {"MODEL": "recorded", "MODE": "json_schema", "TIMEOUT": DAY, "DEADLINE": DAY, "CONCURRENCY": 8}
    environment = {
        f"SYNTHWARD_LLM__{name.upper()}__{key}": str(value)
        for name, address in providers.items()
        for key, value in {"BASE_URL": address, **settings}.items()
    }
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="synthward-") as folder,
        running(serve(Path(folder), port, "--workers", "2"), port, "/readyz", environment),
    ):
        yield Caller(f"http://127.0.0.1:{port}")


def request_of(table: str, options: Mapping[str, Any], rows: int, seed: int, provider: str) -> dict[str, Any]:
    """Return the job of a recording."""
    return {
        "schema": zero_shot_tables.load(table).document,
        "generator": {"name": "llm", "options": {**options, "provider": provider}},
        "rows": rows,
        "seed": seed,
        "evaluation": {"enabled": False},
    }


def record(
    table: str, strategy: str, provider: str, *, rows: int = ROWS, path: Path | None = None
) -> Recording:
    """Have a job's requests answered by a provider and keep them; check that they give the rows again."""
    path = path or recorded_talk.path_of(table, strategy)
    replay = Replay([])
    with serving(replay) as answering, service({"asked": provider, "kept": answering.base_url}) as caller:
        asked = caller.run(tell=True, **request_of(table, OPTIONS[strategy], rows, SEED, "asked"))
        recording = recorded_talk.recorded(
            caller.transcript(asked), table=table, options=OPTIONS[strategy], rows=rows, seed=SEED,
            made=f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
        )  # fmt: skip
        recorded_talk.write(recording, path)
        replay.recordings = [recording]
        again = caller.run(**request_of(table, OPTIONS[strategy], rows, SEED, "kept"))
        if caller.rows(asked) != caller.rows(again):
            raise SystemExit(f"{path.name} is written, but gives other rows than the job it was made of.")
        for warning in asked["warnings"]:
            print(f"  note {warning['pointer']}: {warning['message']}")
    return recording


def check(paths: Sequence[Path], rows: int | None = None) -> list[str]:
    """Run each recording's job again, with other rows where asked; return a line for each.

    The seconds are those of the whole job, beside a model that answers at once: from being accepted to
    having its rows stored.
    """
    told = []
    replay = Replay([])
    with serving(replay) as answering, service({"kept": answering.base_url}) as caller:
        for path in paths:
            recording = recorded_talk.read(path)
            written = recording.options["strategy"] == "rows"
            replay.recordings, replay.other_preview = [recording], []
            job = caller.run(
                **request_of(
                    recording.table, recording.options, recording.rows if written else rows or recording.rows,
                    recording.seed, "kept",
                )
            )  # fmt: skip
            other = f", {len(replay.other_preview)} to another preview" if replay.other_preview else ""
            began, ended = (dt.datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
            told.append(
                f"{path.stem}: {job['rows_written']} rows from {len(recording.kept)} answers{other}, "
                f"{recording.tokens:,} tokens as the provider counted, "
                f"{(ended - began).total_seconds():.1f} s"
            )
            print(told[-1], flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("table", choices=zero_shot_tables.NAMES)
    recording.add_argument("strategy", choices=tuple(OPTIONS))
    recording.add_argument("--provider", required=True, help="OpenAI-compatible address, up to and with /v1")
    recording.add_argument("--rows", type=int, default=ROWS)
    recording.add_argument("--out", type=Path, default=None)
    checking = commands.add_parser("check")
    checking.add_argument("--rows", type=int, default=None, help="of `blueprint`; default: as recorded")
    chosen = parser.parse_args()
    if chosen.command == "check":
        check(sorted(recorded_talk.FOLDER.glob("*.json")), chosen.rows)
        return
    kept = record(chosen.table, chosen.strategy, chosen.provider, rows=chosen.rows, path=chosen.out)
    print(f"{len(kept.kept)} answers kept; {kept.tokens:,} tokens as the provider counted")


if __name__ == "__main__":
    main()
