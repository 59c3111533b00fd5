import datetime as dt
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, select

from app.datasets.models import DatasetRow
from app.db import Base, connect, now, transaction
from app.jobs.models import JobLabelRow, JobRow
from app.migrate import downgrade, is_current, upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


JOB = {
    "id": "job_1",
    "owner": "o",
    "kind": "generation",
    "status": "queued",
    "queue": "quick",
    "generator": "marginals",
    "generator_version": "1",
    "options": {"fit": True},
    "schema_document": {"fields": [{"name": "größe, cm"}]},
    "rows": 2**40,
    "replicates": 1,
    "seed": 2**53 - 1,
    "evaluation": {},
    "labels": {"a": "b"},
    "warnings": [],
}
DATASET = {
    "id": "ds_1",
    "owner": "o",
    "name": "n",
    "rows": 3,
    "columns": 1,
    "schema_document": {},
    "sha256": "0" * 64,
    "key": "k",
    "key_sha256": "0" * 64,
    "bytes": 1,
}


def put_rows(url: str) -> None:
    engine, moment = connect(url), now()
    with transaction(engine) as connection:
        connection.execute(insert(DatasetRow).values(**DATASET, created_at=moment, expires_at=moment))
        connection.execute(
            insert(JobRow).values(**JOB, reference_id="ds_1", created_at=moment, updated_at=moment)
        )
        connection.execute(insert(JobLabelRow).values(job_id="job_1", key="a", value="b"))
    engine.dispose()


def test_migrations_go_up_from_empty_down_and_up_again_with_rows(database_url: str) -> None:
    upgrade(database_url)
    put_rows(database_url)
    upgrade(database_url)  # a second start changes nothing
    engine = connect(database_url)
    with engine.connect() as connection:
        row = connection.execute(select(JobRow.__table__)).mappings().one()
    assert row["rows"] == 2**40 and row["seed"] == 2**53 - 1
    assert row["schema_document"] == {"fields": [{"name": "größe, cm"}]}
    assert row["created_at"].tzinfo is dt.UTC
    engine.dispose()

    downgrade(database_url)
    upgrade(database_url)
    put_rows(database_url)


def test_a_migrated_database_is_what_the_models_say(database_url: str) -> None:
    upgrade(database_url)
    engine = connect(database_url)
    assert is_current(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_a_database_that_was_never_migrated_is_not_current(database_url: str) -> None:
    engine = connect(database_url)
    assert not is_current(engine)
    engine.dispose()


def test_a_naive_time_never_reaches_the_database(database_url: str) -> None:
    upgrade(database_url)
    engine = connect(database_url)
    naive = dt.datetime(2026, 1, 1)
    with pytest.raises(Exception, match="naive"), transaction(engine) as connection:
        connection.execute(insert(DatasetRow).values(**DATASET, created_at=naive, expires_at=naive))
    engine.dispose()
