"""Kills at random moments: every job ends once, with the bytes of an undisturbed run."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.house import Broker, House, wait_for

WHOLE: dict[str, Any] = {
    "rows": 20_000,
    "replicates": 3,
    "options": {"fit_seconds": 0.5, "shard_seconds": 0.2},
    "evaluation": {"enabled": True, "holdout": 0.3},
}
SHARED: dict[str, Any] = WHOLE | {"rows": 140_000, "replicates": 2, "queue": "heavy"}
STAGES = ("fit", "sample", "evaluate")
TARGETS = ("child", "pool", "main", "everything", "broker")
SEED = int(os.environ.get("SYNTHWARD_CHAOS_SEED", "20261124"))


class Chaos:
    """A house, undisturbed runs to compare with, and a hand that kills."""

    def __init__(self, house: House) -> None:
        self.house = house
        house.start()
        self.timelines: dict[str, dict[str, tuple[float, float]]] = {}
        self.bytes: dict[str, list[tuple[int, int, str]]] = {}
        for name, kind in (("whole", WHOLE), ("shared", SHARED)):
            if name == "whole":
                house.wait(house.post(), 60)  # the first one starts cold
            self.timelines[name] = self._observe(house.post(**kind))

    def _observe(self, job_id: str) -> dict[str, tuple[float, float]]:
        """Note when each stage begins and ends, in seconds since the job started."""
        first: dict[str, float] = {}
        while (job := self.house.job(job_id)).status in ("queued", "running"):
            if job.started_at is not None:
                stage = "evaluate" if job.sampled else "fit" if job.stage == "fit" else "sample"
                first.setdefault(stage, time.time() - job.started_at.timestamp())
        assert job.status == "succeeded", job.error
        end = (job.finished_at - job.started_at).total_seconds()
        self.bytes["shared" if job.queue == "heavy" else "whole"] = self.house.bytes_of(job_id)
        begins = [*first.values(), end]
        return {stage: (begins[i], begins[i + 1]) for i, stage in enumerate(first)}

    def round(self, dice: random.Random, name: str, stage: str, target: str) -> None:
        house = self.house
        begin, end = self.timelines[name][stage]
        moment = dice.uniform(begin, end)
        job_id = house.post(**(SHARED if name == "shared" else WHOLE))
        assert wait_for(lambda: house.job(job_id).started_at is not None), house.tail()
        time.sleep(max(0.0, house.job(job_id).started_at.timestamp() + moment - time.time()))
        before = house.job(job_id)
        house.kill(target, before.queue)
        job = house.wait(job_id)
        said = (
            f"{name} {stage} {target} at {moment:.3f} s: {before.stage} → {job.status}, attempt {job.attempt}"
        )
        print(said)  # noqa: T201 a failure is repeated by its seed
        assert job.status == "succeeded", (said, job.error, house.tail())
        assert house.bytes_of(job_id) == self.bytes[name], said
        assert len(house.artifacts(job_id, "report")) == 1, said
        recorded = {row.key for what in ("data", "report", "page") for row in house.artifacts(job_id, what)}
        assert wait_for(lambda: set(house.files(job_id)) == recorded), (said, house.files(job_id))


def settings() -> dict[str, Any]:
    return {"lease": 1.0, "heartbeat": 0.1, "sweep_every": 0.25, "max_attempts": 30}


@pytest.fixture(params=["sqlite", "postgresql"])
def chaos(request: pytest.FixtureRequest, tmp_path: Path, broker: Broker) -> Iterator[Chaos]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").fresh_url()
    house = House(tmp_path, broker, url, **settings())
    try:
        yield Chaos(house)
    finally:
        house.close()


def test_kills_at_random_moments_change_nothing(chaos: Chaos, request: pytest.FixtureRequest) -> None:
    dice = random.Random(SEED)
    rounds = [("whole", STAGES[i % 3], TARGETS[i % 5]) for i in range(7)]
    rounds += [("shared", "fit", "everything"), ("shared", "sample", "child"), ("shared", "evaluate", "main")]
    if "postgresql" in request.node.name:
        rounds = [
            ("whole", "sample", "everything"),
            ("shared", "sample", "pool"),
            ("whole", "evaluate", "child"),
        ]
    print(f"seed {SEED}")  # noqa: T201
    for name, stage, target in rounds:
        chaos.round(dice, name, stage, target)


@pytest.mark.slow
def test_ten_kills_in_each_stage_change_nothing(chaos: Chaos) -> None:
    dice = random.Random(SEED + 1)
    print(f"seed {SEED + 1}")  # noqa: T201
    for name in ("whole", "shared"):
        for stage in STAGES:
            for _ in range(10):
                chaos.round(dice, name, stage, dice.choice(TARGETS))
