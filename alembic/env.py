"""Runs the migrations on the connection that `app.migrate` hands over, or on SYNTHWARD_DATABASE_URL."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

import app.datasets.models
import app.jobs.models
import app.keys.models  # noqa: F401  (imported for their tables)
from app.config import load
from app.db import Base, UtcDateTime, connect


def render(kind: str, item: object, _context: object) -> str | bool:
    """Write our own column type as what the database keeps: a migration imports nothing of ours."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(connection: Connection) -> None:
    # SQLite cannot alter a table in place: batch mode copies it.
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        render_item=render,
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    engine = connect(load().database_url.get_secret_value())
    with engine.begin() as own:
        run(own)
