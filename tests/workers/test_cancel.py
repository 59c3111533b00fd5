import psutil
import pytest

from tests.workers.house import House, wait_for


def cancelled(house: House, job_id: str) -> bool:
    house.cancel(job_id)
    return bool(house.wait(job_id).status == "cancelled")


# Each would go on for a minute or for ever: what ends sooner was stopped. `make bench` says how soon.
@pytest.mark.parametrize("options", [{"trouble": "native"}, {"fit_seconds": 600.0}, {"shard_seconds": 600.0}])
def test_a_running_job_stops_and_the_slot_takes_the_next(house: House, options: dict) -> None:
    job_id = house.post(options=options)
    assert wait_for(lambda: house.job(job_id).status == "running")
    assert wait_for(lambda: house.processes()["child"])
    before = {process.pid for process in house.processes()["child"]}
    next_one = house.post()
    assert cancelled(house, job_id)
    assert house.wait(next_one).status == "succeeded"
    assert before - {process.pid for process in house.processes()["child"]}, "the job's process is gone"
    assert wait_for(lambda: idle(house)), "nothing goes on working"
    assert wait_for(lambda: house.files(job_id) == [])
    assert wait_for(lambda: list((house.folder / "scratch").iterdir()) == [])


def idle(house: House) -> bool:
    try:
        return all(process.cpu_percent(0.2) < 50 for process in house.processes()["child"])
    except psutil.NoSuchProcess:
        return False  # one just ended: look again


def test_a_large_job_is_cancelled_while_its_shards_are_made(house: House) -> None:
    job_id = house.post(rows=400_000, queue="heavy", options={"shard_seconds": 2.0})
    assert wait_for(lambda: house.job(job_id).rows_written > 0), house.tail()
    assert cancelled(house, job_id)
    assert wait_for(lambda: house.files(job_id) == [])
    assert house.artifacts(job_id) == []


def test_a_job_that_nobody_holds_is_cancelled_by_the_sweeper(house: House) -> None:
    job_id = house.post(ring=False, status="running", phase="shards", cancel_requested=True)
    assert house.wait(job_id).status == "cancelled"
