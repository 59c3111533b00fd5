"""The study again, end to end, through the HTTP interface (Barr, Guo & Sezgin 2025, arXiv 2502.09566).

    make study                                    # full: about half an hour
    python -m benchmarks.study --quick            # the same flow in a few minutes, to be tried
    python -m benchmarks.study --results r.json --only-page

The real 139 patients are not ours to use: a stand-in has the statistics that the flagship schema declares.
Everything is made and judged by a running service: rows are jobs, every table is uploaded and judged by
`POST /v1/evaluations`. What the published study says stands in `PUBLISHED`, each figure with its source.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import quality, talks, zero_shot_tables
from benchmarks.talks import Caller
from tests import recorded_talk
from tests.recorded_talk import Recording

PATIENTS, REPLICATES, TENFOLD = 139, 10, 1390
EPOCHS = 3000
TARGET = "kps_deterioration"
SEED = 2025
ONE_ROW = 0.001
"""The smallest holdout: one row. A generator that learns never sees all of a reference."""
PAGE = Path(__file__).parents[1] / "docs" / "study.md"

STAND_IN, SECOND = "stand-in", "second sample"
BLUEPRINT, ELICITED, CTGAN, MARGINALS = "blueprint", "elicited", "ctgan", "marginals"

PUBLISHED: Mapping[str, Any] = {
    # arXiv 2502.09566, abstract; journal version 10.3171/2025.4.FOCUS25225 (140 and 1,000 rows), abstract.
    "f1": {"GPT-4o": 0.706, "CTGAN": 0.705},
    "f1_journal": {"GPT-4o": 0.725, "CTGAN": 0.688},
    # Computed from the study's published synthetic tables.
    "any_complication_f1": 0.774,
    "kps_complications": (0.17, 0.85),
    "under_65": 92,
    "ages_on_one_clipped_value": 0.057,
    "heights": (140, 200),
}


@dataclass
class Candidate:
    """What was found of one way to make the tables.

    Parameters
    ----------
    means : mapping of column to list
        In each replicate.
    proportions : mapping of "column: level" to list
        In each replicate.
    tenfold_means, tenfold_proportions : mapping
        In the tenfold table.
    tests, tenfold_tests : mapping of kind to (without difference, comparisons)
        By the study's protocol against the stand-in; summed over the replicates.
    correlations : mapping of pair to list
        Spearman's, of the declared pairs, in each replicate.
    utility : list of dict
        Rows of the report's TSTR table for the tenfold table.
    copied, repeated : (share in the replicates, share in the tenfold table)
    """

    means: dict[str, list[float]] = field(default_factory=dict)
    proportions: dict[str, list[float]] = field(default_factory=dict)
    tenfold_means: dict[str, float] = field(default_factory=dict)
    tenfold_proportions: dict[str, float] = field(default_factory=dict)
    tests: dict[str, tuple[int, int]] = field(default_factory=dict)
    tenfold_tests: dict[str, tuple[int, int]] = field(default_factory=dict)
    correlations: dict[str, list[float]] = field(default_factory=dict)
    tenfold_correlations: dict[str, float] = field(default_factory=dict)
    utility: list[dict[str, Any]] = field(default_factory=list)
    copied: tuple[float, float] = (0.0, 0.0)
    repeated: tuple[float, float] = (0.0, 0.0)
    impossible: dict[str, float] = field(default_factory=dict)
    shares_draws: bool | None = None


@dataclass
class Study:
    """All that the page says."""

    epochs: int
    replicates: int
    recording: str | None
    learned_from: int
    found: dict[str, Candidate]
    declared_pairs: dict[str, float]
    second_tests: dict[str, tuple[int, int]]
    any_complication: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two replicates and few epochs")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument(
        "--page", type=Path, default=None, help="default: docs/study.md; --quick: a temporary file"
    )
    temporary = Path(tempfile.gettempdir())
    parser.add_argument("--results", type=Path, default=temporary / "synthward-study.json")
    parser.add_argument("--only-page", action="store_true", help="write the page from the results file")
    chosen = parser.parse_args()
    from benchmarks.study_page import page

    default = temporary / "synthward-study-quick.md" if chosen.quick else PAGE
    if chosen.only_page:
        study = read(chosen.results)
    else:
        epochs = chosen.epochs or (20 if chosen.quick else EPOCHS)
        study = run(epochs, 2 if chosen.quick else REPLICATES)
        chosen.results.write_text(json.dumps(asdict(study)), "utf-8")
    place = chosen.page or default
    place.write_text(page(study), "utf-8")
    print(f"written: {place}")


def read(path: Path) -> Study:
    """Return what a run found, from its results file."""
    said = json.loads(path.read_text("utf-8"))
    return Study(**{**said, "found": {name: Candidate(**item) for name, item in said["found"].items()}})


def run(epochs: int, replicates: int, recording: Recording | None = None) -> Study:
    """Do the study; the recording of the flagship's elicitation is the repository's where none is given."""
    path = recorded_talk.path_of("neurosurgery", "blueprint")
    if recording is None and path.exists():
        recording = recorded_talk.read(path)
    declared = zero_shot_tables.declared()
    with _service(recording) as caller:
        _say("the stand-in, and second samples of its population")
        stand_in = _rows(caller, _job(declared, BLUEPRINT, PATIENTS, 1, SEED, match="sample"), 1)[0]
        second = _rows(caller, _job(declared, BLUEPRINT, TENFOLD, 2, SEED + 1), 2)
        reference = caller.upload(STAND_IN, stand_in, declared)["id"]
        holdout = caller.upload("second-139", _first(second[1], PATIENTS), declared)["id"]
        learned = caller.upload("second-1390", second[0], declared)["id"]
        found, seconds = {}, list[dict[str, tuple[int, int]]]()
        for name, job in _candidates(declared, reference, recording, epochs).items():
            _say(name)
            tables = _rows(caller, {**job, "replicates": replicates + 1}, replicates + 1)
            few, many = [_first(table, PATIENTS) for table in tables[:-1]], tables[-1]
            found[name] = candidate = described(few, many)
            reports = _judge(caller, [*few, many], declared, reference, holdout)
            candidate.tests = _added([protocol(report) for report in reports[:-1]])
            candidate.tenfold_tests = protocol(reports[-1])
            seconds.append(protocol(reports[0], "baseline"))
            candidate.copied = _shares(reports, "identical_match_share")
            candidate.repeated = _shares(reports, "repeated_row_share")
            (report,) = _judge(caller, [many], declared, learned, reference)
            candidate.utility = _metric(report, "tstr")["details"]["table"]
    found[STAND_IN] = described([stand_in], stand_in)
    found[SECOND] = described([_first(second[1], PATIENTS)], second[0])
    frame = _frame(stand_in)
    return Study(
        epochs, replicates, None if recording is None else recording.made, PATIENTS - 1, found,
        {" × ".join(item["fields"]): item["value"] for item in declared["associations"]}, seconds[0],
        weighted_f1(frame[TARGET].to_numpy(bool), frame["complications"].to_numpy() > 0),
    )  # fmt: skip


def _candidates(
    declared: dict[str, Any], reference: str, recording: Recording | None, epochs: int
) -> dict[str, dict[str, Any]]:
    """Return each candidate's job; one fit gives the replicates and the tenfold table."""
    bare = zero_shot_tables.without_statistics(declared)
    jobs = {BLUEPRINT: _job(declared, BLUEPRINT, TENFOLD, 1, SEED + 2)}
    if recording is not None:
        options = {**recording.options, "provider": "kept"}
        jobs[ELICITED] = _job(bare, "llm", TENFOLD, 1, recording.seed, **options)
    jobs[CTGAN] = _job(bare, CTGAN, TENFOLD, 1, SEED + 3, epochs=epochs) | {
        "reference_id": reference,
        "evaluation": {"enabled": False, "holdout": ONE_ROW, "target": TARGET},
    }
    jobs[MARGINALS] = _job(declared, MARGINALS, TENFOLD, 1, SEED + 4)
    return jobs


def _job(
    schema: dict[str, Any], generator: str, rows: int, replicates: int, seed: int, **options: Any
) -> dict[str, Any]:
    return {
        "schema": schema, "generator": {"name": generator, "options": options}, "rows": rows,
        "replicates": replicates, "seed": seed, "evaluation": {"enabled": False},
    }  # fmt: skip


@contextmanager
def _service(recording: Recording | None) -> Iterator[Caller]:
    with ExitStack() as stack:
        providers = {}
        if recording is not None:
            provider, _ = stack.enter_context(recorded_talk.replaying(recording))
            providers["kept"] = provider.base_url
        yield stack.enter_context(talks.service(providers))


def _rows(caller: Caller, job: Mapping[str, Any], replicates: int) -> list[bytes]:
    done = caller.run(**job)
    return [caller.rows(done, number) for number in range(1, replicates + 1)]


def _first(csv: bytes, rows: int) -> bytes:
    """Return the first rows of a table: rows of one replicate are independent of one another."""
    return b"".join(csv.splitlines(keepends=True)[: rows + 1])


def _judge(
    caller: Caller, tables: Sequence[bytes], schema: dict[str, Any], reference: str, holdout: str
) -> list[dict[str, Any]]:
    """Return the service's report on each table."""

    def judge(numbered: tuple[int, bytes]) -> dict[str, Any]:
        number, table = numbered
        synthetic = caller.upload(f"synthetic-{number}", table, schema)["id"]
        return caller.evaluate(
            synthetic_id=synthetic, reference_id=reference, holdout_id=holdout, schema=schema,
            evaluation={"target": TARGET}, seed=SEED,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:  # as many as the service has workers
        return list(pool.map(judge, enumerate(tables)))


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


# What a report says ----------------------------------------------------------------------------------


def _metric(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in report["metrics"] if item["name"] == name)
    if found.get("value") is None:
        raise SystemExit(f"{name} was not measured: {found.get('reason')}")
    return found


def protocol(report: Mapping[str, Any], of: str = "value") -> dict[str, tuple[int, int]]:
    """Return by kind how many comparisons find no difference, and how many there are.

    Parameters
    ----------
    of : "value" or "baseline"
        Of the synthetic table, or of the holdout in its place.
    """
    rows = _metric(report, "study_protocol")["details"]["table"]
    return {row["kind"]: (round(row[of] * row["comparisons"]), row["comparisons"]) for row in rows}


def _added(those: Sequence[Mapping[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    kinds = dict.fromkeys(kind for one in those for kind in one)
    return {
        kind: (
            sum(one[kind][0] for one in those if kind in one),
            sum(one[kind][1] for one in those if kind in one),
        )
        for kind in kinds
    }


def _shares(reports: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    values = [float(_metric(report, name)["value"]) for report in reports]
    return float(np.mean(values[:-1])), values[-1]


# What the rows say -----------------------------------------------------------------------------------


def _frame(csv: bytes) -> pd.DataFrame:
    from app.schema.frames import conform

    frame = pd.read_csv(io.BytesIO(csv))
    return conform(frame, zero_shot_tables.load("neurosurgery").schema)


def described(few: Sequence[bytes], many: bytes) -> Candidate:
    """Return means, proportions and declared correlations of the replicates and of the tenfold table."""
    frames, tenfold = [_frame(table) for table in few], _frame(many)
    schema = zero_shot_tables.load("neurosurgery").schema
    pairs = [frozenset(item["fields"]) for item in zero_shot_tables.declared()["associations"]]
    numbers = [item.name for item in schema.fields if item.levels is None]
    levels = [(item.name, level) for item in schema.fields for level in item.levels or ()]
    correlations = [_correlations(frame, pairs) for frame in frames]
    return Candidate(
        means={name: [_mean(frame, name) for frame in frames] for name in numbers},
        proportions={_cell(*one): [_share(frame, *one) for frame in frames] for one in levels},
        tenfold_means={name: _mean(tenfold, name) for name in numbers},
        tenfold_proportions={_cell(*one): _share(tenfold, *one) for one in levels},
        correlations={name: [found[name] for found in correlations] for name in correlations[0]},
        tenfold_correlations=_correlations(tenfold, pairs),
        impossible=quality.impossible(zero_shot_tables.load("neurosurgery"), tenfold),
        shares_draws=_shares_draws(frames) if len(frames) > 1 else None,
    )


def _mean(frame: pd.DataFrame, name: str) -> float:
    return float(frame[name].astype("float64").mean())


def _cell(name: str, level: Any) -> str:
    return f"{name}: {str(level).lower() if isinstance(level, bool) else level}"


def _share(frame: pd.DataFrame, name: str, level: Any) -> float:
    return float((frame[name].astype(object) == level).mean())


def _correlations(frame: pd.DataFrame, pairs: Sequence[frozenset[str]]) -> dict[str, float]:
    schema = zero_shot_tables.load("neurosurgery").schema
    found = {frozenset(pair.columns): pair.value for pair in quality.associations(schema, frame, pairs)}
    named = [item["fields"] for item in zero_shot_tables.declared()["associations"]]
    return {" × ".join(names): found[frozenset(names)] for names in named}


def _shares_draws(frames: Sequence[pd.DataFrame]) -> bool:
    """Tell whether any two replicates have draws in common: the ten published tables have most of them."""
    from app.evaluation.fidelity_replicates import compare_replicates

    schema = zero_shot_tables.load("neurosurgery").schema
    found = compare_replicates(schema.fields, frames, 1, np.random.default_rng(SEED))
    return bool(found["share_draws"])


def weighted_f1(truth: np.ndarray[Any, Any], said: np.ndarray[Any, Any]) -> float:
    """Return the F1 of both classes, weighted by how many rows have them."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, said, average="weighted"))


if __name__ == "__main__":
    main()
