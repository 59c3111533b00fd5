"""Time, memory and growth of the evaluation, and its peers side by side.

    python -m benchmarks.evaluation [case …]

Cases: small (2,087 × 10,000 rows, core, with page), full (10,000 × 10,000), large (100,000 × 100,000), wide
(300 columns × 5,000), growth (core at 5,000 … 40,000), sdmetrics. All where none is named. Each runs in a
process of its own, one thread; the resident peak includes every import. Tables are made: 14 columns of mixed
types that follow one hidden severity, and an outcome.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from app.evaluation.base import Depth, Tables

LEVELS = ["none", "mild", "moderate", "severe", "critical"]


def fields(columns: int) -> list[dict[str, Any]]:
    kinds: list[dict[str, Any]] = [
        {"type": "boolean"},
        {"type": "number", "decimals": 2},
        {"type": "string", "categories": LEVELS},
        {"type": "integer"},
        {"type": "number", "decimals": 1},
        {"type": "string", "categories": LEVELS[:3]},
        {"type": "date"},
    ]
    return [kinds[place % len(kinds)] | {"name": f"column {place}"} for place in range(columns)]


def patients(columns: int, rows: int, seed: int) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    severity = rng.normal(size=rows)
    made: dict[str, Any] = {}
    for place, field in enumerate(fields(columns)):
        value = severity + (1 + place % 3) * rng.normal(size=rows)
        match field["type"]:
            case "boolean":
                made[field["name"]] = pd.array(value > 0.7, dtype="boolean")
            case "integer":
                made[field["name"]] = pd.array((60 + 10 * value).round().astype(int), dtype="Int64")
            case "number":
                present = rng.random(rows) > 0.05
                made[field["name"]] = np.where(present, value.round(field["decimals"]), np.nan)
            case "date":
                days = (200 * value).astype("timedelta64[D]")
                made[field["name"]] = (np.datetime64("2020-01-01") + days).astype("datetime64[s]")
            case _:
                levels = field["categories"]
                cuts = np.linspace(-1, 1.5, len(levels) - 1)
                made[field["name"]] = pd.Categorical.from_codes(np.digitize(value, cuts), categories=levels)
    return pd.DataFrame(made)


def tables(columns: int, real: int, synthetic: int, depth: Depth = "core") -> Tables:
    from app.evaluation.base import Tables
    from app.schema.check import check_frame
    from app.schema.parse import parse_schema

    schema, _ = parse_schema({"title": "A benchmark", "fields": fields(columns)})
    whole, made = patients(columns, real, 1), patients(columns, synthetic, 2)
    held = round(0.3 * real)
    return Tables(
        schema,
        (made,),
        whole.iloc[held:].reset_index(drop=True),
        whole.iloc[:held].reset_index(drop=True),
        target="column 0",
        quasi_identifiers=("column 2", "column 3", "column 5"),
        sensitive=("column 1",),
        depth=depth,
        seed=7,
        conformance=check_frame(schema, made),
    )


def report(columns: int, real: int, synthetic: int, depth: Depth = "core") -> float:
    """Evaluate and render; print what it took, and return the seconds."""
    from app.evaluation.document import JobFacts, ReferenceFacts
    from app.evaluation.html import render_page
    from app.evaluation.report import evaluate

    given = tables(columns, real, synthetic, depth)
    assert given.train is not None and given.holdout is not None
    marks: list[tuple[float, str]] = []
    began = time.perf_counter()
    document = evaluate(
        given,
        job=JobFacts(id="job_benchmark", generator="marginals", seed=7, rows=synthetic),
        reference=ReferenceFacts(
            id="ds_benchmark", attempts=1, train_rows=len(given.train), holdout_rows=len(given.holdout),
            trained_on=True,
        ),
        progress=lambda _, step: marks.append((time.perf_counter(), step)),
    )  # fmt: skip
    judged = time.perf_counter()
    page = render_page(document.as_json())
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{real:>8,} real × {synthetic:>8,} synthetic × {columns:>3} columns, {depth:<4}: "
        f"{ended - began:6.1f} s ({ended - judged:.1f} s of it the page, {len(page) / 1e6:.2f} MB), "
        f"peak {peak:,.0f} MB"
    )
    ends = [moment for moment, _ in marks[1:]] + [judged]
    slowest = sorted(
        ((end - start, step) for (start, step), end in zip(marks, ends, strict=True)), reverse=True
    )
    for seconds, step in slowest[:6]:
        print(f"    {seconds:6.2f} s  {step}")
    failed = [f"{item.name} ({item.reason})" for item in document.metrics if item.status == "failed"]
    if failed:
        print(f"    FAILED: {', '.join(failed)}")
    return ended - began


def growth() -> None:
    """Print how time grows with rows: n log n doubles it 2.1-fold."""
    sizes = (5_000, 10_000, 20_000, 40_000)
    seconds = [report(14, size, size) for size in sizes]
    factors = ", ".join(f"{after / before:.2f}" for before, after in pairwise(seconds))
    print(f"    each doubling of the rows multiplies the time by {factors}")


def sdmetrics() -> None:
    """Print the time of SDMetrics and ours for what both measure, at 10,000 rows."""
    warnings.simplefilter("ignore")
    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.single_table import DCRBaselineProtection, DCROverfittingProtection

    from app.evaluation.registry import METRICS

    given = tables(14, 10_000, 10_000)
    assert given.train is not None and given.holdout is not None
    sdtypes = {"boolean": "boolean", "string": "categorical", "date": "datetime"}
    columns = {field["name"]: {"sdtype": sdtypes.get(field["type"], "numerical")} for field in fields(14)}
    metadata = {"columns": columns}
    train, holdout, made = (_plain(frame) for frame in (given.train, given.holdout, given.synthetic[0]))

    def ours(*names: str) -> float:
        chosen = [metric() for metric in METRICS if metric.name in names]
        assert len(chosen) == len(names)
        return _seconds(lambda: [metric.measure(given) for metric in chosen])

    quality = _seconds(lambda: QualityReport().generate(train, made, metadata, verbose=False))
    shared = ours("ks_complement", "tv_complement", "correlation_similarity", "contingency_similarity")
    print(f"quality report: SDMetrics {quality:.2f} s, ours {shared:.2f} s: {quality / shared:.1f} × faster")
    theirs = _seconds(
        lambda: (
            DCRBaselineProtection.compute_breakdown(train, made, metadata, "table"),
            DCROverfittingProtection.compute_breakdown(train, made, holdout, metadata, "table"),
        )
    )
    near = ours("dcr_share", "nndr_share")
    print(f"distances (DCR): SDMetrics {theirs:.1f} s, ours {near:.2f} s: {theirs / near:.0f} × faster")


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the dtypes that other libraries expect."""
    plain = frame.astype(
        {name: object for name in frame if frame[name].dtype.name in ("category", "boolean")}
    )
    return plain.astype({name: "float64" for name in plain if plain[name].dtype.name == "Int64"})


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


CASES: dict[str, Callable[[], object]] = {
    "small": lambda: report(14, 2_087, 10_000),
    "full": lambda: report(14, 10_000, 10_000, "full"),
    "large": lambda: report(14, 100_000, 100_000),
    "wide": lambda: report(300, 5_000, 5_000),
    "growth": growth,
    "sdmetrics": sdmetrics,
}


def run(case: str) -> None:
    CASES[case]()


def main(chosen: Sequence[str]) -> None:
    context = multiprocessing.get_context("spawn")
    for case in chosen or CASES:
        print(f"{case}:", flush=True)
        process = context.Process(target=run, args=(case,))
        process.start()
        process.join()


if __name__ == "__main__":
    main(sys.argv[1:])
