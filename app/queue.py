"""JobQueue: the only door from HTTP to the workers. A doorbell; the database is the truth."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qs, urlsplit

from pydantic_core import to_json

from app.errors import ServiceUnavailable

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

QueueName = Literal["quick", "heavy"]
RUN_JOB = "synthward.run_job"
RUN_SHARDS = "synthward.run_shards"

_KEY_PREFIX = "synthward:"
_ALIVE_KEY = _KEY_PREFIX + "workers-alive"
_ALIVE_FOR = 10  # s
_WEEK = (
    7 * 86400
)  # s; longer than the longest job, for Redis transports redeliver what is not acknowledged by then
_HEADERS: dict[str, Any] = {
    "lang": "py", "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None,
    "retries": 0, "timelimit": [None, None], "parent_id": None, "kwargsrepr": "{}", "origin": "synthward",
    "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
}  # fmt: skip
_REPLY_TO = str(uuid.uuid4())  # nobody reads results; Celery names a queue for them all the same
_REST = 2.0  # s without a try after the broker did not answer, so that not every caller waits for the timeout


class JobQueue(Protocol):
    """Rings for work. A ring may be lost or come twice; the sweeper and the claim see to that."""

    def send(self, job_id: str, queue: QueueName) -> None:
        """Ring for a job.

        Raises
        ------
        ServiceUnavailable
            Where the broker does not answer. The job stays; the sweeper rings again.
        """

    def ping(self) -> None:
        """Return where the broker answers; raise ServiceUnavailable where not."""

    def workers_alive(self) -> bool:
        """Whether at least one worker has lately said that it lives."""


class CeleryQueue:
    """Rings for Celery workers, by task name, so that the HTTP side imports neither them nor Celery.

    A call takes a second or two at most where the broker is away, and none for a moment after that.
    """

    def __init__(self, broker_url: str) -> None:
        self._redis = connect_redis(broker_url)
        self._resting_until = 0.0
        self._lock = threading.Lock()

    def send(self, job_id: str, queue: QueueName) -> None:
        """Ring for a job; raise ServiceUnavailable where the broker does not answer."""
        self._ring(RUN_JOB, job_id, queue)

    def send_shards(self, job_id: str) -> None:
        """Ring for the shards of a large job; raise ServiceUnavailable where the broker does not answer."""
        self._ring(RUN_SHARDS, job_id, "heavy")

    def _ring(self, task: str, job_id: str, queue: QueueName) -> None:
        message = task_message(task, job_id, queue)
        self._asked(lambda: self._redis.lpush(_KEY_PREFIX + queue, message))

    def ping(self) -> None:
        """Return where the broker answers; raise ServiceUnavailable where not."""
        self._asked(self._redis.ping)

    def workers_alive(self) -> bool:
        """Whether at least one worker has lately said that it lives; False where the broker is away."""
        try:
            return bool(self._asked(lambda: self._redis.exists(_ALIVE_KEY)))
        except ServiceUnavailable:
            return False

    def say_alive(self) -> None:
        """Say, on behalf of a running worker, that one lives."""
        self._asked(lambda: self._redis.set(_ALIVE_KEY, b"1", ex=_ALIVE_FOR))

    def waiting(self, queue: QueueName) -> int:
        """Count the rings that no worker has taken yet."""
        return int(self._asked(lambda: self._redis.llen(_KEY_PREFIX + queue)))

    def _asked(self, question: Callable[[], Any]) -> Any:
        if time.monotonic() < self._resting_until:
            raise ServiceUnavailable("The broker does not answer; asking again later may work.")
        try:
            return question()
        except Exception as error:  # redis has errors of its own, sockets' among them
            with self._lock:
                self._resting_until = time.monotonic() + _REST
            raise ServiceUnavailable("The broker does not answer; asking again later may work.") from error


def task_message(task: str, job_id: str, queue: QueueName) -> bytes:
    """Write a task of one argument as Celery and kombu do for a Redis list.

    Celery's message protocol, version 2, in the envelope of kombu's virtual transports. Written by hand:
    Celery takes a third of a millisecond for the same bytes, a tenth of all that a submission costs
    (docs/decisions/0006-rings-without-celery.md). A test holds it against what Celery writes.
    """
    number = str(uuid.uuid4())
    body = [[job_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    message = {
        "body": base64.b64encode(to_json(body)).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            **_HEADERS,
            "task": task,
            "id": number,
            "root_id": number,
            "argsrepr": f"['{job_id}']",
        },
        "properties": {
            "correlation_id": number,
            "reply_to": _REPLY_TO,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return to_json(message)


def celery_app(broker_url: str) -> Celery:
    """Make the Celery application that both sides share: broker, names, no result store."""
    from celery import Celery

    app = Celery("synthward", broker=celery_url(broker_url), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue="quick",
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": _WEEK, "global_keyprefix": _KEY_PREFIX},
    )
    return app


def celery_url(broker_url: str) -> str:
    """Write a broker's URL as Celery wants it (`unix://` becomes `redis+socket://`)."""
    parts = urlsplit(broker_url)
    if parts.scheme != "unix":
        return broker_url
    return f"redis+socket://{parts.path}?virtual_host={parse_qs(parts.query).get('db', ['0'])[0]}"


def connect_redis(broker_url: str) -> Redis:
    """Open a client on the broker with short timeouts and no retries."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    parts = urlsplit(broker_url)
    url = broker_url
    if parts.scheme == "redis+socket":
        url = f"unix://{parts.path}?db={parse_qs(parts.query).get('virtual_host', ['0'])[0]}"
    client: Redis = Redis.from_url(
        url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
    )
    return client
