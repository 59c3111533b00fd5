import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.errors import ServiceUnavailable
from app.queue import RUN_JOB, CeleryQueue, celery_app, task_message


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


def told(message: dict[str, Any]) -> dict[str, Any]:
    """What a message says, its ids and where it comes from left out."""
    headers = {
        name: value for name, value in message["headers"].items() if name not in ("id", "root_id", "origin")
    }
    ids = ("correlation_id", "reply_to", "delivery_tag")
    properties = {name: value for name, value in message["properties"].items() if name not in ids}
    body = json.loads(base64.b64decode(message["body"]))
    return message | {"headers": headers, "properties": properties, "body": body}


def test_a_ring_is_what_celery_would_have_written() -> None:
    celery = celery_app("memory://")
    celery.send_task(RUN_JOB, args=["job_x"], queue="quick", ignore_result=True)
    with celery.connection_for_read() as connection:
        theirs = connection.channel()._get("quick")
    ours = json.loads(task_message(RUN_JOB, "job_x", "quick"))
    assert told(ours) == told(theirs)
    assert ours.keys() == theirs.keys()
    assert ours["headers"].keys() == theirs["headers"].keys()
    assert ours["properties"].keys() == theirs["properties"].keys()
    assert ours["headers"]["id"] == ours["headers"]["root_id"] == ours["properties"]["correlation_id"]


def test_no_two_rings_are_the_same() -> None:
    first, second = (json.loads(task_message(RUN_JOB, "job_x", "quick")) for _ in range(2))
    assert first["headers"]["id"] != second["headers"]["id"]
    assert first["properties"]["delivery_tag"] != second["properties"]["delivery_tag"]


def test_the_http_side_does_not_load_celery() -> None:
    code = "import sys; from app.main import create_app; from app.config import Settings; "
    code += "create_app(Settings(database_url='sqlite://')); sys.exit('celery' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
