"""Rows per second of `blueprint` on one core, 14 mixed columns, associations and an order rule.

    python -m benchmarks.blueprint_speed [rows] [--http] [--http-rows 10000000]

Beside NumPy's time to draw as many normals and to multiply them by a mixing matrix, in float64 and in
float32, measured in turns in the same process. With `--http` a service is started, and a job timed from
POST to succeeded. One core: the process, and with `--http` the whole service, is bound to one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

COLUMNS = 14
TURNS = 5
POLLED = 0.25
"""Seconds between a client's questions, which are answered on the same core."""

SCHEMA: dict[str, Any] = {
    "title": "Follow-up after surgery: as many kinds of columns as a clinical table has",
    "fields": [
        {
            "name": "age",
            "type": "integer",
            "constraints": {"minimum": 18, "maximum": 100},
            "statistics": {"mean": 63.1, "sd": 13.2},
        },
        {
            "name": "sex",
            "type": "string",
            "categories": ["female", "male"],
            "statistics": {"proportions": {"female": 0.54, "male": 0.46}},
        },
        {
            "name": "bmi",
            "type": "number",
            "decimals": 1,
            "constraints": {"minimum": 12, "maximum": 70},
            "statistics": {"mean": 27.4, "sd": 5.1, "missing": 0.04},
        },
        {
            "name": "systolic",
            "type": "integer",
            "constraints": {"minimum": 70, "maximum": 250},
            "statistics": {"mean": 134, "sd": 18},
        },
        {
            "name": "creatinine",
            "type": "number",
            "decimals": 2,
            "constraints": {"minimum": 0.2},
            "statistics": {"mean": 1.05, "sd": 0.6, "missing": 0.08},
        },
        {
            "name": "haemoglobin",
            "type": "number",
            "decimals": 1,
            "constraints": {"minimum": 4, "maximum": 20},
            "statistics": {"mean": 13.2, "sd": 1.7, "missing": 0.05},
        },
        {
            "name": "smoking",
            "type": "string",
            "categories": ["never", "former", "current"],
            "categoriesOrdered": True,
            "statistics": {"proportions": {"never": 0.5, "former": 0.3, "current": 0.2}},
        },
        {"name": "diabetes", "type": "boolean", "statistics": {"proportions": {"true": 0.19, "false": 0.81}}},
        {
            "name": "stage",
            "type": "string",
            "categories": ["I", "II", "III", "IV"],
            "categoriesOrdered": True,
            "statistics": {"proportions": {"I": 0.35, "II": 0.3, "III": 0.22, "IV": 0.13}, "missing": 0.02},
        },
        {
            "name": "hospital",
            "type": "string",
            "categories": ["A", "B", "C", "D", "E", "F"],
            "statistics": {"proportions": {"A": 0.3, "B": 0.22, "C": 0.18, "D": 0.14, "E": 0.1, "F": 0.06}},
        },
        {
            "name": "admitted",
            "type": "date",
            "constraints": {"minimum": "2015-01-01", "maximum": "2024-12-31"},
        },
        {
            "name": "stay_days",
            "type": "integer",
            "constraints": {"minimum": 0},
            "statistics": {"mean": 7.2, "sd": 6.1},
        },
        {
            "name": "relapse_days",
            "type": "integer",
            "constraints": {"minimum": 1},
            "statistics": {"mean": 480, "sd": 390},
        },
        {
            "name": "followup_days",
            "type": "integer",
            "constraints": {"minimum": 1, "maximum": 4000},
            "statistics": {"mean": 1150, "sd": 680},
        },
    ],
    "associations": [
        {"fields": ["age", "systolic"], "measure": "pearson", "value": 0.32},
        {"fields": ["age", "creatinine"], "measure": "spearman", "value": 0.28},
        {"fields": ["bmi", "systolic"], "measure": "pearson", "value": 0.24},
        {"fields": ["haemoglobin", "creatinine"], "measure": "spearman", "value": -0.25},
        {"fields": ["relapse_days", "followup_days"], "measure": "spearman", "value": 0.6},
        {"fields": ["age", "stay_days"], "measure": "spearman", "value": 0.2},
        {"fields": ["sex", "smoking"], "measure": "cramers_v", "value": 0.15},
        {"fields": ["diabetes", "bmi"], "measure": "correlation_ratio", "value": 0.22, "sign": 1},
        {"fields": ["stage", "followup_days"], "measure": "spearman", "value": -0.3},
        {"fields": ["hospital", "stay_days"], "measure": "correlation_ratio", "value": 0.2},
    ],
    "rules": ["relapse_days <= followup_days"],
}


def one_core() -> None:
    """Bind this process, and what it starts, to one core."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def in_memory(rows: int) -> None:
    """Time frames in memory, beside NumPy's normals and matrix product."""
    import numpy as np
    from numpy.random import SeedSequence

    from app.generators.base import SHARD_ROWS
    from app.generators.blueprint import Blueprint
    from app.schema.parse import parse_schema

    schema, _ = parse_schema(SCHEMA)
    began = time.perf_counter()
    sampler = Blueprint(Blueprint.Options()).fit(
        schema, None, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    print(f"compile                              {time.perf_counter() - began:8.3f} s")
    shards = max(1, -(-rows // SHARD_ROWS))
    rows = shards * SHARD_ROWS
    sampler.sample_shard(0, 1, seed=SeedSequence(1))

    def ours() -> float:
        began = time.perf_counter()
        for shard in range(shards):
            sampler.sample_shard(shard, SHARD_ROWS, seed=SeedSequence(2))
        return time.perf_counter() - began

    def numpy_alone(dtype: type[np.floating[Any]]) -> tuple[float, float]:
        rng = np.random.default_rng(1)
        mixing = np.eye(COLUMNS, dtype=dtype) + dtype(0.1)
        drawing = 0.0
        began = time.perf_counter()
        for _ in range(shards):
            start = time.perf_counter()
            normal = rng.standard_normal((SHARD_ROWS, COLUMNS), dtype=dtype)
            drawing += time.perf_counter() - start
            normal @ mixing
        return drawing, time.perf_counter() - began

    taken: dict[str, list[float]] = {"ours": [], "double": [], "single": [], "draws": []}
    for _ in range(TURNS):
        taken["ours"].append(ours())
        draws, double = numpy_alone(np.float64)
        taken["draws"].append(draws)
        taken["double"].append(double)
        taken["single"].append(numpy_alone(np.float32)[1])
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    for name, label in (
        ("ours", "blueprint, frames in memory"),
        ("draws", "NumPy normals alone, float64"),
        ("double", "NumPy normals and product, float64"),
        ("single", "NumPy normals and product, float32"),
    ):
        print(f"{label:<36} {seconds[name]:8.3f} s  {rows / seconds[name]:>12,.0f} rows/s")
    for name in ("double", "single"):
        ratios = [mine / other for mine, other in zip(taken["ours"], taken[name], strict=True)]
        print(
            f"times NumPy's {name:<6}                  {statistics.median(ratios):8.2f}  (at most 1.5 asked)"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"resident peak                        {peak:8.0f} MB (of this process, NumPy's arrays included)")


def over_http(rows: int) -> None:
    """Time a job from POST to succeeded, and the largest process of the service meanwhile."""
    from benchmarks import service

    with tempfile.TemporaryDirectory() as folder:
        port = service.free_port()
        with service.running(service.serve(Path(folder), port), port, "/readyz") as (process, _):
            base = f"http://127.0.0.1:{port}"
            peaks: dict[str, float] = {}
            over = threading.Event()

            def watch() -> None:
                while not over.wait(0.2):
                    for name, size in service.resident(process).items():
                        peaks[name] = max(peaks.get(name, 0.0), size)

            _job(base, 1000)  # the worker's imports are not the job's
            watcher = threading.Thread(target=watch)
            watcher.start()
            seconds = _job(base, rows)
            over.set()
            watcher.join()
            print(f"POST to succeeded, {rows:,} rows   {seconds:8.2f} s  {rows / seconds:>12,.0f} rows/s")
            name, size = max(peaks.items(), key=lambda item: item[1])
            print(f"largest process                      {size:8.0f} MB  ({name})")


def _job(base: str, rows: int) -> float:
    body = {
        "schema": SCHEMA,
        "generator": "blueprint",
        "rows": rows,
        "seed": 1,
        "evaluation": {"enabled": False},
    }
    began = time.perf_counter()
    job = _call(f"{base}/v1/jobs", json.dumps(body).encode())
    while job["status"] in ("queued", "running"):
        time.sleep(POLLED)
        job = _call(f"{base}/v1/jobs/{job['id']}")
    if job["status"] != "succeeded":
        raise SystemExit(json.dumps(job["error"]))
    return time.perf_counter() - began


def _call(url: str, body: bytes | None = None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} if body else {}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--http-rows", type=int, default=10_000_000)
    chosen = parser.parse_args()
    one_core()
    in_memory(chosen.rows)
    if chosen.http:
        over_http(chosen.http_rows)


if __name__ == "__main__":
    main()
