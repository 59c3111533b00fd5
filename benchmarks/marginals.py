"""Rows per second of `marginals` to Parquet, 1,000,000 × 14 columns, beside NumPy's own draws.

    python benchmarks/marginals.py [rows]

One core, one process; the resident peak includes every import.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path


def main(n_rows: int) -> None:
    started = time.perf_counter()
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.random import SeedSequence

    from app.formats import Label, render
    from app.generators.base import SHARD_ROWS
    from app.generators.marginals import Marginals
    from app.schema.frames import arrow_schema, to_arrow
    from app.schema.parse import parse_schema

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    example = Path(__file__).parents[1] / "examples" / "neurosurgery.schema.json"
    schema, _ = parse_schema(json.loads(example.read_text()))
    print(f"imports                 {time.perf_counter() - started:8.3f} s")

    started = time.perf_counter()
    sampler = Marginals(Marginals.Options()).fit(
        schema, None, seed=SeedSequence(1), progress=lambda *_, **__: None, warn=lambda *_: None
    )
    print(f"fit                     {time.perf_counter() - started:8.3f} s")

    for few in (1, 1000):
        started = time.perf_counter()
        sampler.sample_shard(0, few, seed=SeedSequence(1))
        print(f"{few:>9,} rows          {time.perf_counter() - started:8.4f} s")

    sampling = arrow = parquet = 0.0
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.parquet"
        with pq.ParquetWriter(part, arrow_schema(schema), compression="zstd") as writer:
            for shard in range(-(-n_rows // SHARD_ROWS)):
                marks = [time.perf_counter()]
                frame = sampler.sample_shard(
                    shard, min(SHARD_ROWS, n_rows - shard * SHARD_ROWS), seed=SeedSequence(1)
                )
                marks.append(time.perf_counter())
                table = to_arrow(frame, schema)
                marks.append(time.perf_counter())
                writer.write_table(table)
                marks.append(time.perf_counter())
                sampling += marks[1] - marks[0]
                arrow += marks[2] - marks[1]
                parquet += marks[3] - marks[2]
        total = sampling + arrow + parquet
        print(f"{n_rows:>9,} rows: sample {sampling:.3f} s, Arrow {arrow:.3f} s, Parquet {parquet:.3f} s")
        print(
            f"rows per second: {n_rows / total:,.0f} to Parquet, {n_rows / (sampling + arrow):,.0f} to Arrow"
        )

        started = time.perf_counter()
        rng = np.random.Generator(np.random.SFC64(1))
        for _ in schema.fields:
            rng.standard_normal(n_rows)
        normals = time.perf_counter() - started
        print(
            f"NumPy's normals         {normals:8.3f} s for as many numbers: {total / normals:.1f}x to Parquet"
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak resident           {peak:8.0f} MB")

        label = Label("job_benchmark", 1, 1, Marginals.name, Marginals.version)
        for fmt in ("csv", "jsonl", "parquet"):
            started = time.perf_counter()
            size = render([part], schema, fmt, Path(folder) / f"out.{fmt}", label=label)
            print(f"deliver {fmt:<8}        {time.perf_counter() - started:8.3f} s, {size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
