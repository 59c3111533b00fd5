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
