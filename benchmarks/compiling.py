"""Processor time to compile a wide blueprint, beside what is asked, and what its statements then miss.

    OMP_NUM_THREADS=1 python -m benchmarks.compiling [--only 50 200]

Two schemas: 50 columns with 200 associations, 300 with 2,000. Their statistics are those of 20,000 made
rows of mixed columns that a few hidden factors tie together, so all are possible together; pairs and measures
are drawn at random. Nothing is tuned to them: each has its own seed. Start-up is apart: a small schema is
compiled before, as in a worker's child, which has its imports before it takes a job.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import SeedSequence, default_rng

from app.generators.blueprint import Blueprint
from app.schema.frames import conform
from app.schema.parse import parse_schema
from benchmarks import declared

ROWS = 20_000
FACTORS = 6
ASKED = {(50, 200): 2.0, (300, 2000): 20.0}
"""Seconds, by columns and associations."""


def schema_of(columns: int, associations: int, seed: int) -> dict[str, Any]:
    """Return a schema with the statistics of made rows."""
    rng = default_rng([seed, columns, associations])
    document, frame = _made(columns, rng)
    bare, _ = parse_schema(document)
    frame = conform(frame, bare)
    for item, made in zip(bare.fields, document["fields"], strict=True):
        names = {"proportions"} if item.levels is not None else {"mean", "sd"}
        made["statistics"] = declared.of_field(item, frame, names | {"missing"})
    names = [item.name for item in bare.fields]
    found: list[dict[str, Any]] = []
    seen: set[tuple[int, int]] = set()
    while len(found) < associations:
        one, other = sorted(int(place) for place in rng.choice(columns, 2, replace=False))
        if (one, other) in seen:
            continue
        seen.add((one, other))
        pair = names[one], names[other]
        measure = str(rng.choice([m for m in declared.MEASURES if declared.fits(bare, *pair, m)]))
        value = declared.measured(bare, frame, *pair, measure, 10)
        if value is not None:
            found.append({"fields": list(pair), "measure": measure, "value": float(f"{value:.6g}")})
    return {**document, "associations": found}


def _made(columns: int, rng: np.random.Generator) -> tuple[dict[str, Any], pd.DataFrame]:
    loadings = rng.normal(0, 0.4, (columns, FACTORS)) * (rng.random((columns, FACTORS)) < 0.5)
    hidden = rng.standard_normal((ROWS, FACTORS))
    scores = hidden @ loadings.T + rng.standard_normal((ROWS, columns))
    scores /= np.sqrt(1 + (loadings**2).sum(axis=1))
    fields: list[dict[str, Any]] = []
    made: dict[str, Any] = {}
    for place in range(columns):
        name, score = f"c{place}", scores[:, place]
        kind = rng.choice(["normal", "skewed", "levels"], p=[0.35, 0.25, 0.4])
        if kind == "levels":
            count = int(rng.integers(2, 6))
            cuts = np.quantile(score, np.cumsum(rng.dirichlet(np.full(count, 4.0)))[:-1])
            levels = [f"l{level}" for level in range(count)]
            order = rng.permutation(count) if rng.random() < 0.5 else np.arange(count)
            column: Any = np.array(levels, object)[order[np.searchsorted(cuts, score)]]
            fields.append({"name": name, "type": "string", "categories": levels})
            if (order == np.arange(count)).all() and count > 2:
                fields[-1]["categoriesOrdered"] = True
        elif kind == "normal":
            column = np.round(100 + 15 * score, 1)
            fields.append({"name": name, "type": "number", "decimals": 1})
        else:
            column = np.round(np.exp(1 + 0.6 * score), 2)
            fields.append({"name": name, "type": "number", "decimals": 2, "constraints": {"minimum": 0.0}})
        if rng.random() < 0.3:
            column = pd.Series(column).mask(rng.random(ROWS) < 0.06)
        made[name] = column
    return {"fields": fields}, pd.DataFrame(made)


def compiled(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Compile a schema; return what became of its statements."""
    schema, _ = parse_schema(document)
    sampler = Blueprint(Blueprint.Options()).fit(
        schema, None, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    outcomes: list[dict[str, Any]] = json.loads(sampler.blueprint)["outcomes"]
    return outcomes


def measure(columns: int, associations: int, seed: int) -> None:
    """Compile one schema and print what it took and what it misses."""
    document = schema_of(columns, associations, seed)
    began, processor = time.perf_counter(), time.process_time()
    outcomes = compiled(document)
    wall, processor = time.perf_counter() - began, time.process_time() - processor
    missed = [one for one in outcomes if one.get("moved", 0) > 1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    limit = ASKED.get((columns, associations))
    beside = "" if limit is None else f", {processor / limit:.2f} of the {limit:g} s asked"
    print(
        f"{columns} columns, {associations:,} associations, seed {seed}: {processor:.2f} s of processor "
        f"time{beside} ({wall:.2f} s by the clock); {len(missed)} of {len(outcomes):,} statements beyond "
        f"their tolerance, the furthest {max(one.get('moved', 0) for one in outcomes):.2f}; "
        f"largest resident {peak:.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", type=int, nargs=2, metavar=("COLUMNS", "ASSOCIATIONS"))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    compiled(schema_of(5, 4, 0))
    for columns, associations in [tuple(chosen.only)] if chosen.only else ASKED:
        for seed in range(chosen.seeds):
            measure(columns, associations, seed)


if __name__ == "__main__":
    main()
