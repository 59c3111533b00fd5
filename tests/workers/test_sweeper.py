import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from app.db import now, reading, transaction
from app.errors import ServiceUnavailable
from app.jobs.leases import ARTIFACTS, DATASETS, JOBS
from app.scratch import Scratch, remove_leftovers
from tests.workers.house import Broker, House
from workers.sweeper import Sweeper


class Bell:
    """A queue that writes down its rings; `away` as a broker that does not answer."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []
        self.waits = 0
        self.away = False

    def send(self, job_id: str, queue: str) -> None:
        self._answer()
        self.rung.append((job_id, queue))

    def send_shards(self, job_id: str) -> None:
        self._answer()
        self.rung.append((job_id, "shards"))

    def waiting(self, queue: str) -> int:
        self._answer()
        return self.waits

    def say_alive(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.away:
            raise ServiceUnavailable("away")


@pytest.fixture
def quiet(tmp_path: Path, broker: Broker) -> Iterator[House]:
    made = House(tmp_path, broker)  # without a worker
    yield made
    made.close()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def sweeper(quiet: House, bell: Bell) -> Sweeper:
    return Sweeper(quiet.settings, quiet.engine, quiet.store, bell)  # type: ignore[arg-type]


def ago(seconds: float) -> dt.datetime:
    return now() - dt.timedelta(seconds=seconds)


def put(house: House, job_id: str, key: str) -> str:
    full = f"jobs/{job_id}/{key}"
    stored = house.store.put_bytes(full, b"x")
    values = {
        "job_id": job_id,
        "name": "data",
        "replicate": 1,
        "part": 0,
        "key": full,
        "sha256": stored.sha256,
    }
    with transaction(house.engine) as connection:
        connection.execute(insert(ARTIFACTS).values(values | {"bytes": 1}))
    return full


def test_a_long_queue_is_not_flooded(quiet: House, sweeper: Sweeper, bell: Bell) -> None:
    old = quiet.post(ring=False, rung_at=ago(10))
    very_old = quiet.post(ring=False, rung_at=ago(1000))
    bell.waits = 50
    sweeper.sweep()
    assert bell.rung == [(very_old, "quick")]
    bell.waits = 0
    sweeper.sweep()
    assert bell.rung == [(very_old, "quick"), (old, "quick")]
    sweeper.sweep()
    assert len(bell.rung) == 2, "rung for a moment ago"


def test_what_was_not_rung_for_is_remembered_until_the_broker_is_back(
    quiet: House, sweeper: Sweeper, bell: Bell
) -> None:
    job_id = quiet.post(ring=False, rung_at=ago(10))
    bell.away = True
    sweeper.sweep()
    bell.away = False
    sweeper.sweep()
    assert bell.rung == [(job_id, "quick")]


def test_the_files_of_expired_jobs_go_and_then_their_rows(quiet: House, sweeper: Sweeper, bell: Bell) -> None:
    bell.away = True  # no reason not to tidy up
    expired = quiet.post(ring=False, status="succeeded", expires_at=ago(1))
    outlived = quiet.post(ring=False, status="succeeded", expires_at=ago(quiet.settings.job_ttl + 1))
    kept = quiet.post(ring=False, status="succeeded", expires_at=now() + dt.timedelta(hours=1))
    keys = {job_id: put(quiet, job_id, "a1/data") for job_id in (expired, outlived, kept)}
    sweeper.sweep()
    assert quiet.store.keys("jobs/") == [keys[kept]]
    assert quiet.artifacts(expired) == []
    with reading(quiet.engine) as connection:
        assert set(connection.scalars(select(JOBS.c.id))) == {expired, kept}


def test_what_dead_attempts_left_goes_and_what_is_recorded_stays(quiet: House, sweeper: Sweeper) -> None:
    job_id = quiet.post(ring=False, status="succeeded", attempt=2, finished_at=ago(60))
    kept = put(quiet, job_id, "a2/data")
    quiet.store.put_bytes(f"jobs/{job_id}/a1/data", b"x")
    sweeper.sweep()
    assert quiet.files(job_id) == [kept]


def test_an_expired_dataset_goes_unless_a_job_uses_it(quiet: House, sweeper: Sweeper) -> None:
    dataset = {
        "owner": "o", "name": "n", "rows": 1, "columns": 1, "schema_document": {}, "sha256": "0",
        "key_sha256": "0", "bytes": 1, "attempts": 0, "created_at": now(), "expires_at": ago(1),
    }  # fmt: skip
    with transaction(quiet.engine) as connection:
        for name in ("idle", "used"):
            key = f"datasets/{name}/table.parquet"
            connection.execute(insert(DATASETS).values(dataset | {"id": name, "key": key}))
            quiet.store.put_bytes(key, b"x")
    quiet.post(ring=False, reference_id="used")
    sweeper.sweep()
    assert quiet.store.keys("datasets/") == ["datasets/used/table.parquet"]


def test_scratch_folders_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    living, dead, young = Scratch(tmp_path), Scratch(tmp_path), Scratch(tmp_path)
    for scratch in (dead, young):
        os.close(scratch._lock)  # as the kernel does when a process dies
    for scratch in (living, dead):
        os.utime(scratch.path, (0, 0))
    assert remove_leftovers(tmp_path) == 1
    assert living.path.exists() and young.path.exists() and not dead.path.exists()
    living.remove()
    assert not living.path.exists()
