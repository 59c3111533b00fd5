import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.errors import ServiceUnavailable
from app.queue import CeleryQueue


@pytest.fixture
def deaf() -> Iterator[tuple[str, socket.socket]]:
    """A broker that lets everyone in and never answers: its URL, and the door where callers stand."""
    with TemporaryDirectory(prefix="sw-", dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as door:
        door.bind(str(Path(folder) / "b.sock"))
        door.listen(100)
        door.setblocking(False)
        yield f"unix://{folder}/b.sock", door


def test_of_many_callers_of_a_broker_that_does_not_answer_only_the_first_waits(
    deaf: tuple[str, socket.socket],
) -> None:
    url, door = deaf
    queue = CeleryQueue(url)
    for _ in range(100):
        with pytest.raises(ServiceUnavailable):
            queue.send("job_x", "quick")
    came = 0
    try:
        while True:
            door.accept()[0].close()
            came += 1
    except BlockingIOError:
        pass
    assert 1 <= came < 10, "each that comes waits for a second"
    assert not queue.workers_alive()
