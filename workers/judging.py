"""How a child judges what it made: the check of each shard, the real table's two parts, the report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import app
from app.config import Settings
from app.datasets.reference import load_columns, load_reference
from app.datasets.split import holdout_mask
from app.errors import Fault, GeneratorFailed, ReferenceTooSmall, RowShortfall
from app.evaluation.base import MatchTally, Tables
from app.evaluation.document import JobFacts, MetricResult, ReferenceFacts, ReportDocument
from app.evaluation.html import render_page
from app.evaluation.privacy import MatchCounter
from app.evaluation.registry import METRICS
from app.evaluation.report import evaluate, release_decision
from app.generators import registry
from app.generators.base import MIN_CELL, learns
from app.schema import frames
from app.schema.check import Conformance, check_frame
from app.schema.infer import names_a_person, person_column
from app.schema.table import TableSchema

MOST_ROWS = 200_000
MOST_ROWS_IN_ALL = 2_000_000
"""Rows of a replicate, and of all, that metrics are given; conformance and matches are counted over all."""


_READ, _MEASURED = 0.25, 0.95  # of an evaluation: until all rows are read, and until all is measured


@dataclass(frozen=True, slots=True)
class RealTable:
    """The parts of the reference, and what had to be adapted to read it."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    warnings: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The report, its page, and the decision on the release."""

    report: bytes
    page: bytes
    release: dict[str, Any]


def read_reference(
    path: Path,
    reference: Mapping[str, Any],
    schema: TableSchema,
    evaluation: Mapping[str, Any],
    min_cell: int,
) -> RealTable:
    """Read the real table under the job's schema and split off its holdout.

    Raises
    ------
    ReferenceTooSmall
        Where nothing is left to learn from.
    """
    stored = pq.read_schema(path).names
    target, group = evaluation.get("target"), evaluation.get("group")
    wanted = [name for name in dict.fromkeys((target, group)) if name is not None and name in stored]
    columns = load_columns(path, wanted)
    mask = holdout_mask(
        reference["sha256"],
        columns,
        evaluation.get("holdout", 0.0),
        target if target in wanted else None,
        group if group in wanted else None,
    )
    if mask.all():
        raise ReferenceTooSmall(
            "The holdout leaves no row to learn from; upload more rows or choose a smaller one."
        )
    loaded = load_reference(path, schema, min_cell=min_cell)
    train, holdout = loaded.frame[~mask].reset_index(drop=True), loaded.frame[mask].reset_index(drop=True)
    train.attrs[MIN_CELL] = _rows_of_enough_persons(path, stored, group, mask, min_cell)
    return RealTable(train, holdout, _told(loaded.warnings))


def _rows_of_enough_persons(
    path: Path, stored: list[str], group: str | None, held: NDArray[np.bool_], min_cell: int
) -> int:
    """Return how many rows of the train part are of `min_cell` persons, whichever rows they are.

    That is one more than the `min_cell` - 1 persons with the most rows have together. Whose a row is says the
    group, else a column by its name; a row of nobody is a person's only one.
    """
    named = [group] if group in stored else [name for name in stored if names_a_person(name)]
    person = group if group in stored else None
    if named and person is None:
        person = person_column(pq.read_table(path, columns=named, use_threads=False))
    if person is None:
        return min_cell
    most = load_columns(path, [person])[~held][person].value_counts().nlargest(min_cell - 1)
    return int(most.sum()) + min_cell - len(most)


def read_parts(train: Path, holdout: Path, schema: TableSchema, min_cell: int) -> RealTable:
    """Read a real table whose holdout was uploaded by itself; all of the reference is the train part."""
    known = load_reference(train, schema, min_cell=min_cell)
    held = load_reference(holdout, schema, min_cell=min_cell, called="holdout")
    return RealTable(known.frame, held.frame, _told((*known.warnings, *held.warnings)))


def read_uploaded(path: Path, target: Path, schema: TableSchema, min_cell: int) -> tuple[dict[str, str], ...]:
    """Read an uploaded synthetic table under the job's schema and write it as a part of a job's rows.

    Returns
    -------
    tuple of {"pointer", "message"}
        What had to be adapted.
    """
    loaded = load_reference(path, schema, min_cell=min_cell, called="synthetic table")
    pq.write_table(frames.to_arrow(loaded.frame, schema), target, compression="zstd", compression_level=1)
    return _told(loaded.warnings)


def _told(warnings: Sequence[Fault]) -> tuple[dict[str, str], ...]:
    return tuple({"pointer": fault.pointer, "message": fault.message} for fault in warnings)


def check_shard(frame: pd.DataFrame, schema: TableSchema, rows: int) -> None:
    """Check that a generator kept its word on a shard: columns, order, row count.

    Raises
    ------
    RowShortfall
        Where rows are missing.
    GeneratorFailed
        Where the columns are not those of the schema.
    """
    if len(frame) < rows:
        raise RowShortfall(
            rows, len(frame), "the generator gave fewer and did not say why; choose another one."
        )
    if len(frame) > rows or tuple(frame.columns) != schema.names:
        raise GeneratorFailed(
            "The generator gave another table than asked for; choose another one, and tell its author."
        )


def judge(
    job: Mapping[str, Any],
    schema: TableSchema,
    parts: Sequence[tuple[int, Path]],
    real: RealTable | None,
    *,
    warnings: Sequence[Mapping[str, str]],
    settings: Settings,
    progress: Callable[[float, str], None],
    blueprint: Mapping[str, Any] | None = None,
) -> Judged:
    """Evaluate stored rows, read part by part; memory does not grow with their number.

    Parameters
    ----------
    parts : sequence of (replicate, path)
        Parquet parts, in order.
    progress : callable
        Told how far the evaluation is (0 … 1), and what is done next.
    blueprint : mapping, optional
        The JSON of the blueprint that the rows were drawn from.
    """
    seen = _read(job, schema, parts, real, progress)
    evaluation = job["evaluation"]
    tables = Tables(
        schema=schema,
        synthetic=seen.samples,
        train=real.train if real is not None else None,
        holdout=real.holdout if real is not None and len(real.holdout) else None,
        target=evaluation.get("target"),
        group=evaluation.get("group"),
        quasi_identifiers=tuple(evaluation.get("quasi_identifiers") or ()),
        sensitive=tuple(evaluation.get("sensitive") or ()),
        min_cell=settings.min_cell,
        seed=job["seed"],
        conformance=seen.conformance,
        matches=seen.matches,
        depth=evaluation.get("depth", "core"),
        independent=job["options"].get("match") != "sample",
    )
    made = job["rows"] * job["replicates"]
    report = evaluate(
        tables,
        job=_facts(job),
        reference=_reference(job, real),
        rows_made=made,
        warnings=warnings,
        blueprint=blueprint,
        progress=lambda share, title: progress(_READ + (_MEASURED - _READ) * share, title),
    )
    progress(_MEASURED, "Writing the report")
    return _judged(report, report, job, settings)


def without_figures(
    job: Mapping[str, Any],
    schema: TableSchema,
    reason: str,
    *,
    warnings: Sequence[Mapping[str, str]],
    settings: Settings,
) -> Judged:
    """Write the report of an evaluation that failed; requested limits withhold."""
    made = job["rows"] * job["replicates"]
    tables = Tables(schema=schema, synthetic=(), min_cell=settings.min_cell)
    report = evaluate(tables, job=_facts(job), rows_made=made, warnings=warnings, metrics=())
    failed = tuple(
        MetricResult(
            name=metric.name, title=metric.title, dimension=metric.dimension, status="failed",
            reading=f"Not measured: {reason}.", reason=reason,
        )
        for metric in METRICS
    )  # fmt: skip
    return _judged(report.model_copy(update={"metrics": failed + report.metrics}), None, job, settings)


@dataclass(frozen=True, slots=True)
class _Seen:
    samples: tuple[pd.DataFrame, ...]
    conformance: Conformance
    matches: MatchTally | None


def _read(
    job: Mapping[str, Any],
    schema: TableSchema,
    parts: Sequence[tuple[int, Path]],
    real: RealTable | None,
    progress: Callable[[float, str], None],
) -> _Seen:
    counter = MatchCounter(schema, real.train) if real is not None else None
    most = min(MOST_ROWS, MOST_ROWS_IN_ALL // job["replicates"])
    step = max(1, -(-job["rows"] // most))  # every step-th row: even over the parts
    samples: dict[int, list[pd.DataFrame]] = {}
    tallies: dict[int, Conformance] = {}
    offset = dict.fromkeys(range(1, job["replicates"] + 1), 0)
    for number, (replicate, path) in enumerate(parts):
        frame = frames.from_arrow(pq.read_table(path, use_threads=False), schema)
        checked = check_frame(schema, frame)
        tallies[replicate] = tallies[replicate] + checked if replicate in tallies else checked
        if counter is not None:
            counter.add(frame)
        first = -offset[replicate] % step
        offset[replicate] += len(frame)
        samples.setdefault(replicate, []).append(frame if step == 1 else frame.iloc[first::step])
        progress(_READ * (number + 1) / len(parts), "")
    joined = tuple(_join(samples[replicate]) for replicate in sorted(samples))
    # A value that is unique in each replicate may come again in another: only counts are added here.
    total = reduce(add, (Conformance.from_json(tally.to_json()) for tally in tallies.values()))
    return _Seen(joined, total, counter.tally if counter is not None else None)


def _join(pieces: list[pd.DataFrame]) -> pd.DataFrame:
    return pieces[0].reset_index(drop=True) if len(pieces) == 1 else pd.concat(pieces, ignore_index=True)


def _facts(job: Mapping[str, Any]) -> JobFacts:
    return JobFacts(
        id=job["id"],
        kind=job["kind"],
        generator=job["generator"],
        generator_version=job["generator_version"],
        options=job["options"],
        seed=job["seed"],
        rows=job["rows"],
        replicates=job["replicates"],
        created_at=job["created_at"],
        labels=job["labels"],
    )


def _reference(job: Mapping[str, Any], real: RealTable | None) -> ReferenceFacts | None:
    if real is None:
        return None
    return ReferenceFacts(
        id=job["reference"]["id"],
        attempts=job["reference"]["attempts"],
        train_rows=len(real.train),
        holdout_rows=len(real.holdout),
        trained_on=_trained_on(job),
    )


def _trained_on(job: Mapping[str, Any]) -> bool | None:
    if job["kind"] == "evaluation":
        return None  # whoever made the table knows
    generator = registry.load(job["generator"])
    options = generator.Options.model_validate(job["options"])
    return learns(generator(options), options)


def _judged(
    report: ReportDocument, measured: ReportDocument | None, job: Mapping[str, Any], settings: Settings
) -> Judged:
    decision = release_decision(measured, job["release_limits"])
    complete = report.with_release(decision).model_copy(update={"provenance": provenance(settings)})
    document = complete.as_json()
    text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    return Judged(text, render_page(document).encode(), decision.model_dump(mode="json"))


def provenance(settings: Settings) -> dict[str, str]:
    """Return what the bytes depend on beside request and seed: versions and thread counts."""
    return {
        "synthward": app.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "pyarrow": pa.__version__,
        "machine": platform.machine(),
        "threads": str(settings.threads),
    }
