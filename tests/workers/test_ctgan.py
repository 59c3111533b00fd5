"""A network that trains in a worker: it stops between two epochs, and killed it learns the same again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.workers.house import Broker, House, wait_for
from tests.workers.test_chaos_evaluation import SCHEMA, people

pytest.importorskip("ctgan")

HOLDOUT = {"enabled": False, "holdout": 0.3, "target": None, "group": None}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"), broker, max_attempts=3)
    made.upload("ds_real", people(300, 1), SCHEMA)
    made.start()
    yield made
    made.close()


def train(house: House, epochs: int) -> str:
    changes: dict[str, Any] = {
        "generator": "ctgan", "options": {"epochs": epochs}, "queue": "heavy", "reference_id": "ds_real",
        "schema_document": SCHEMA, "evaluation": HOLDOUT,
    }  # fmt: skip
    return house.post(100, **changes)


def epoch(house: House, job_id: str) -> int:
    """Return the epoch that the job says it has done, 0 before the first."""
    said = re.match(r"epoch (\d+) of", house.job(job_id).detail)
    return int(said[1]) if said else 0


def test_training_stops_in_the_midst_of_its_epochs(house: House) -> None:
    job_id = train(house, epochs=100_000)  # an hour and more: what ends sooner was stopped
    assert wait_for(lambda: epoch(house, job_id) > 1), house.tail()
    assert house.job(job_id).stage == "fit"
    children = house.processes()["child"]
    house.cancel(job_id)
    job = house.wait(job_id)
    assert (job.status, job.rows_written) == ("cancelled", 0)
    assert wait_for(lambda: house.files(job_id) == [])
    assert any(not psutil.pid_exists(child.pid) for child in children), "the process that trained is gone"


def test_killed_in_the_midst_of_its_epochs_it_learns_the_same_again(house: House) -> None:
    undisturbed = house.wait(train(house, epochs=250))
    assert undisturbed.status == "succeeded", (undisturbed.error, house.tail())
    job_id = train(house, epochs=250)
    assert wait_for(lambda: epoch(house, job_id) > 1), house.tail()
    house.kill("child")
    job = house.wait(job_id)
    assert (job.status, job.attempt) == ("succeeded", 2), (job.error, house.tail())
    assert house.bytes_of(job_id) == house.bytes_of(undisturbed.id)
