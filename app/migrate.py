"""Brings a database to the present schema. Migrations lie in `alembic/`, packaged as `app/_migrations`."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from app.db import connect

_LOCK = 0x53594E54  # any fixed number: two services that start at once migrate one after the other


def _config() -> Config:
    packaged = Path(__file__).parent / "_migrations"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent / "alembic"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _run(engine: Engine, direction: str, revision: str) -> None:
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config = _config()
        config.attributes["connection"] = connection
        (command.upgrade if direction == "up" else command.downgrade)(config, revision)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` up to `revision`; does nothing where it is there already."""
    engine = connect(url)
    try:
        _run(engine, "up", revision)
    finally:
        engine.dispose()


def downgrade(url: str, revision: str = "base") -> None:
    """Bring the database at `url` down to `revision`. Tables that `revision` does not know are dropped."""
    engine = connect(url)
    try:
        _run(engine, "down", revision)
    finally:
        engine.dispose()


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema that this version needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == head
