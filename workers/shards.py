"""How a job is cut into shards: by rows alone, never by workers, so that its bytes stay the same."""

from __future__ import annotations

from app.generators.base import SHARD_ROWS


def plan_shards(rows: int, replicates: int) -> list[tuple[int, int, int]]:
    """Return (replicate from 1, number from 0, rows) of every shard of a job."""
    return [
        (replicate, number, min(SHARD_ROWS, rows - start))
        for replicate in range(1, replicates + 1)
        for number, start in enumerate(range(0, rows, SHARD_ROWS))
    ]
