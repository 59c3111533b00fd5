import time

import psutil
import pytest
from house import House, wait_for


def cancel_and_measure(house: House, job_id: str) -> float:
    began = time.monotonic()
    house.cancel(job_id)
    job = house.wait(job_id, seconds=10)
    assert job.status == "cancelled"
    return time.monotonic() - began


@pytest.mark.parametrize("options", [{"trouble": "native"}, {"fit_seconds": 60.0}, {"shard_seconds": 60.0}])
def test_a_running_job_stops_within_five_seconds_and_the_slot_takes_the_next(
    house: House, options: dict
) -> None:
    job_id = house.post(options=options)
    assert wait_for(lambda: house.job(job_id).status == "running", 10)
    time.sleep(0.3)
    before = {process.pid for process in house.processes()["child"]}
    began = time.monotonic()
    next_one = house.post()
    assert cancel_and_measure(house, job_id) < 5.0
    assert house.wait(next_one, seconds=5).status == "succeeded"
    assert time.monotonic() - began < 5.0
    after = {process.pid for process in house.processes()["child"]}
    assert before - after, "the process of the cancelled job is gone"
    assert all(psutil.Process(pid).cpu_percent(0.2) < 50 for pid in after)
    assert house.files(job_id) == []
    assert list((house.folder / "scratch").iterdir()) == []


def test_a_large_job_is_cancelled_while_its_shards_are_made(house: House) -> None:
    job_id = house.post(rows=400_000, queue="heavy", options={"shard_seconds": 1.0})
    assert wait_for(lambda: house.job(job_id).rows_written > 0, 15), house.tail()
    assert cancel_and_measure(house, job_id) < 5.0
    assert wait_for(lambda: house.files(job_id) == [], 3)
    assert house.artifacts(job_id) == []


def test_a_job_that_nobody_holds_is_cancelled_by_the_sweeper(house: House) -> None:
    job_id = house.post(ring=False, status="running", phase="shards", cancel_requested=True)
    assert house.wait(job_id, seconds=5).status == "cancelled"
