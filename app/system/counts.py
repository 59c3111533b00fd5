"""Jobs as Prometheus gauges, counted in the database when they are asked for: it is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db import reading
from app.jobs import repository

_STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


class JobCounts(Collector):
    """Jobs by status, queue lengths, and clients that wait for a job to end."""

    def __init__(self, engine: Engine, waiting: Callable[[], int]) -> None:
        self._engine = engine
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """Count; nothing is said of jobs where the database does not answer."""
        clients = GaugeMetricFamily("synthward_waiting_clients", "Requests held until a job ends.")
        clients.add_metric([], self._waiting())
        yield clients
        try:
            with reading(self._engine) as connection:
                counts = repository.count_by_status(connection)
        except SQLAlchemyError:
            return
        jobs = GaugeMetricFamily("synthward_jobs", "Jobs that are kept, by status.", labels=["status"])
        for status in _STATUSES:
            jobs.add_metric([status], sum(number for found, _, number in counts if found == status))
        yield jobs
        queues = GaugeMetricFamily("synthward_queue_length", "Jobs that wait for a worker.", labels=["queue"])
        for queue in ("quick", "heavy"):
            queues.add_metric(
                [queue], sum(number for found, at, number in counts if (found, at) == ("queued", queue))
            )
        yield queues

    def describe(self) -> Iterable[Metric]:
        """Say nothing beforehand, so that no database is asked when this is registered."""
        return ()
