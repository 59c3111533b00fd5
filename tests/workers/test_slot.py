"""The child that waits for the next job: kept where it gives back what it took, else replaced."""

from __future__ import annotations

from typing import Any

from tests.workers.house import House, wait_for

MB = 1024 * 1024


def children(house: House) -> dict[int, int]:
    """Return the resident bytes of the quick queue's children by process."""
    return {process.pid: process.memory_info().rss for process in house.processes()["child"]}


def run(house: House, **options: Any) -> None:
    """Have the child that waits do a job."""
    job = house.wait(house.post(options=options))
    assert job.status == "succeeded", house.tail()


def test_a_child_that_a_job_made_large_gives_the_memory_back_and_is_kept(house: House) -> None:
    run(house)
    (before,) = children(house).items()
    run(house, uses_mb=500)
    assert wait_for(lambda: children(house).get(before[0], 10**12) < before[1] + 100 * MB, 10), (
        f"{before} became {children(house)}"
    )


def test_a_child_that_keeps_what_it_took_is_replaced(house: House) -> None:
    run(house)
    (before,) = children(house)
    run(house, leaks_mb=300)
    assert wait_for(lambda: before not in children(house) and len(children(house)) == 1, 20)
    run(house)
