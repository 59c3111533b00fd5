import json

import pytest

from app.config import Settings
from tests.workers.house import House, wait_for

SECRET_CELL = "a-cell-of-a-real-table"


@pytest.fixture
def house(either_house: House) -> House:
    return either_house


def test_a_small_job_gives_exactly_the_rows_asked_for(house: House) -> None:
    job = house.wait(house.post(rows=123))
    (part,) = house.artifacts(job.id)
    assert (job.status, job.rows_written, part.rows, job.fraction) == ("succeeded", 123, 123, 1.0)
    assert house.files(job.id) == [part.key]
    assert job.release_decision["decision"] == "not_assessed"
    assert job.warnings == [{"pointer": "/schema/fields/0", "message": "it takes its time"}]
    assert job.expires_at > job.finished_at


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(house: House) -> None:
    first, second, other = (house.post(seed=seed) for seed in (5, 5, 6))
    for job_id in (first, second, other):
        house.wait(job_id)
    assert house.bytes_of(first) == house.bytes_of(second) != house.bytes_of(other)


def test_an_evaluated_job_records_rows_report_and_page(house: House) -> None:
    job = house.wait(house.post(rows=200, evaluation={"enabled": True, "holdout": 0.3}))
    assert job.status == "succeeded", job.error
    (report,) = house.artifacts(job.id, "report")
    with house.store.open(report.key) as file:
        document = json.load(file)
    assert document["rows_made"] == document["rows_evaluated"] == 200
    assert document["provenance"]["threads"] == "1"
    assert len(house.artifacts(job.id, "page")) == len(house.artifacts(job.id)) == 1
    assert len(house.files(job.id)) == 3


def test_a_limit_that_was_not_measured_withholds(house: House) -> None:
    limits = {"max_identical_match_share": 0.0}
    job = house.wait(house.post(evaluation={"enabled": True, "holdout": 0.3}, release_limits=limits))
    assert (job.status, job.release_decision["decision"]) == ("succeeded", "withheld")


def test_replicates_are_parts_of_their_own_and_share_no_bytes(house: House) -> None:
    job = house.wait(house.post(rows=40, replicates=3))
    found = house.bytes_of(job.id)
    assert [place[:2] for place in found] == [(1, 0), (2, 0), (3, 0)]
    assert len({digest for _, _, digest in found}) == 3


@pytest.mark.parametrize(
    ("trouble", "slug"),
    [
        ("raise", "generator-failed"),
        ("memory", "out-of-memory"),
        ("shortfall", "row-shortfall"),
        ("full", "storage-full"),
        ("few", "row-shortfall"),
    ],
)
def test_what_cannot_be_done_is_a_problem_that_says_so_and_leaves_no_file(
    house: House, trouble: str, slug: str
) -> None:
    job = house.wait(house.post(options={"trouble": trouble}))
    assert (job.status, job.error["type"], job.attempt) == ("failed", f"/problems/{slug}", 1)
    assert SECRET_CELL not in json.dumps(job.error)
    assert wait_for(lambda: house.files(job.id) == [])


def test_what_a_generator_prints_or_raises_reaches_neither_log_nor_protocol(house: House) -> None:
    assert house.wait(house.post(options={"trouble": "print"})).status == "succeeded"
    failed = house.wait(house.post(options={"trouble": "raise"}))
    log = house.log.read_text()
    assert SECRET_CELL not in log
    (line,) = [
        event
        for event in house.events()
        if event.get("incident") == failed.error["incident"] and "frames" in event
    ]
    assert line["error"] == "builtins.ValueError"
    assert any("slowpoke.py" in frame and frame.endswith(":fit") for frame in line["frames"])


def test_a_second_ring_finds_the_lease_and_leaves(house: House) -> None:
    job_id = house.post(options={"fit_seconds": 0.5})
    for _ in range(5):
        house.queue.send(job_id, "heavy")
    assert house.wait(job_id).attempt == 1
    assert len(house.artifacts(job_id)) == 1


def test_a_job_whose_ring_was_lost_is_rung_for_again(house: House) -> None:
    assert house.wait(house.post(ring=False)).status == "succeeded"


def test_progress_never_falls_and_is_renewed_within_a_stage(house: House) -> None:
    assert Settings().heartbeat < 2.0, "a job says at least every two seconds that it goes on"
    job_id = house.post(options={"fit_seconds": 30.0})
    seen = []

    def renewed_often() -> bool:
        job = house.job(job_id)
        seen.append((job.updated_at, job.fraction))
        return job.stage == "fit" and job.fraction > 0 and len({moment for moment, _ in seen}) >= 5

    assert wait_for(renewed_often)
    house.cancel(job_id)
    house.wait(job_id)
    assert seen == sorted(seen), "neither falls"
    assert seen[-1][1] < 1.0


def test_a_child_that_keeps_dying_ends_the_job_after_the_tolerated_attempts(house: House) -> None:
    job = house.wait(house.post(options={"trouble": "segfault"}))
    assert (job.status, job.error["type"]) == ("failed", "/problems/worker-lost")
    assert job.attempt == house.settings.max_attempts + 1
    assert wait_for(lambda: house.files(job.id) == [])


def test_a_large_job_made_in_shards_has_the_bytes_of_one_made_whole(house: House) -> None:
    whole, shared = (
        house.post(rows=150_000, replicates=2),
        house.post(rows=150_000, replicates=2, queue="heavy"),
    )
    house.wait(whole)
    job = house.wait(shared)
    assert (job.status, job.phase, job.rows_written, job.attempt) == ("succeeded", "finish", 300_000, 1)
    assert house.bytes_of(shared) == house.bytes_of(whole)
    # Two shards of each replicate; the fitted model goes.
    assert wait_for(lambda: len(house.files(shared)) == 4)
