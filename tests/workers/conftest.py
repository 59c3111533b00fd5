import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.house import Broker, House, Postgres
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = Path(
        tempfile.mkdtemp(prefix="sw-postgres-")
    )  # not pytest's: other runs clear away old ones there
    server = Postgres(folder)
    yield server
    server.server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
