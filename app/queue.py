"""JobQueue: the only door from HTTP to the workers. A doorbell; the database is the truth."""

from __future__ import annotations

from typing import Literal, Protocol

QueueName = Literal["quick", "heavy"]


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
    """Rings through Celery, by task name, so that the HTTP side imports no worker code."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
