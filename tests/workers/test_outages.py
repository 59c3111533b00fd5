import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from app.db import now, transaction
from app.errors import ServiceUnavailable
from app.jobs.leases import ARTIFACTS, DATASETS, SHARDS
from app.queue import CeleryQueue
from tests.workers.house import Broker, House, Postgres, wait_for


@pytest.fixture
def on_postgres(tmp_path: Path, broker: Broker, postgres: Postgres) -> Iterator[House]:
    made = House(tmp_path, broker, postgres.fresh_url())
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_job_outlives_a_postgresql_that_goes_away(
    on_postgres: House, postgres: Postgres, seconds: float
) -> None:
    house = on_postgres
    job_id = house.post(options={"fit_seconds": 1.5, "shard_seconds": 0.5})
    house.wait_for_stage(job_id, "fit")
    time.sleep(0.5)
    postgres.stop()
    house.engine.dispose()
    time.sleep(seconds)
    postgres.start()
    assert wait_for(house.reachable)
    job = house.wait(job_id)
    assert (job.status, job.rows_written) == ("succeeded", 50)
    assert wait_for(lambda: len(house.files(job_id)) == 1)


def test_a_job_waits_for_a_locked_sqlite(house: House) -> None:
    job_id = house.post(options={"fit_seconds": 1.0})
    house.wait_for_stage(job_id, "fit")
    path = house.settings.database_url.get_secret_value().removeprefix("sqlite:///")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(4)
        other.execute("ROLLBACK")
    other.close()
    job = house.wait(job_id)
    assert job.status == "succeeded"
    assert wait_for(lambda: len(house.files(job_id)) == 1)


def test_a_job_posted_while_the_broker_is_away_runs_when_it_is_back(house: House) -> None:
    assert house.wait(house.post()).status == "succeeded"
    house.broker.kill()
    queue = CeleryQueue(house.broker.url)
    with pytest.raises(ServiceUnavailable):
        queue.send("job_x", "quick")
    assert not queue.workers_alive()
    job_id = house.post(ring=False)
    house.broker.start()
    assert house.wait(job_id).status == "succeeded"
    assert wait_for(queue.workers_alive)


def test_rows_are_kept_where_the_real_table_of_their_evaluation_is_missing(house: House) -> None:
    with transaction(house.engine) as connection:
        connection.execute(
            insert(DATASETS).values(
                id="ds_gone", owner="o", name="gone", rows=5, columns=1, schema_document={}, sha256="0" * 64,
                key="datasets/ds_gone/table.parquet", key_sha256="0" * 64, bytes=1, attempts=1,
                created_at=now(), expires_at=now(),
            )
        )  # fmt: skip
    job = house.wait(house.post(reference_id="ds_gone", evaluation={"enabled": True, "holdout": 0.3}))
    assert (job.status, job.rows_written) == ("succeeded", 50)
    (report,) = house.artifacts(job.id, "report")
    with house.store.open(report.key) as file:
        assert b"missing or damaged" in file.read()


def test_a_missing_model_of_a_large_job_is_a_clear_problem(house: House) -> None:
    job_id = house.post(rows=400_000, queue="heavy", ring=False, status="running", phase="shards")
    shard = {
        "job_id": job_id,
        "replicate": 1,
        "number": 0,
        "rows": 400_000,
        "status": "waiting",
        "attempt": 0,
    }
    model = {
        "job_id": job_id,
        "name": "model",
        "replicate": 0,
        "part": 0,
        "key": f"jobs/{job_id}/model",
        "bytes": 1,
    }
    with transaction(house.engine) as connection:
        connection.execute(insert(SHARDS).values(shard))
        connection.execute(insert(ARTIFACTS).values(model | {"sha256": "0" * 64}))
    job = house.wait(job_id)
    assert (job.status, job.error["type"]) == ("failed", "/problems/artifact-missing")
    assert house.artifacts(job_id, "model") == []


def test_a_store_without_room_is_a_clear_problem(tiny_store: House) -> None:
    house = tiny_store
    job = house.wait(house.post(rows=100_000))
    assert (job.status, job.error["type"]) == ("failed", "/problems/storage-full")
    assert wait_for(lambda: house.files(job.id) == [])
    assert house.wait(house.post(rows=10)).status == "succeeded"


@pytest.fixture
def tiny_store(tmp_path: Path, broker: Broker) -> Iterator[House]:
    import os
    import subprocess

    folder = tmp_path / "artifacts"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    made = House(tmp_path, broker)
    made.start()
    yield made
    made.close()
    subprocess.run(["umount", folder], check=True)
