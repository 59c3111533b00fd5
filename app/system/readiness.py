"""Whether the parts that the service needs are there: asked in threads, each with a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select

from app.db import reading
from app.errors import SynthwardError
from app.jobs.models import JobRow
from app.services import Services

_TIME_LIMIT = 2.0  # s
_REMEMBERED = 1.0  # s; a storm of probes asks the parts no more often than that


@dataclass(frozen=True, slots=True)
class PartState:
    """One part: whether it is there, and if not, why in a few words."""

    name: str
    ready: bool
    detail: str


class Readiness:
    """Asks database, broker, store and workers. One for each process."""

    def __init__(self, services: Services) -> None:
        self._checks: dict[str, Callable[[], None]] = {
            "database": lambda: _database(services),
            "broker": services.queue.ping,
            "store": services.store.ping,
            "worker": lambda: _worker(services),
        }
        # Threads of its own: a part that hangs must not take those that answer requests.
        self._threads = ThreadPoolExecutor(len(self._checks), thread_name_prefix="readiness")
        self._hanging: set[str] = set()
        self._alone = asyncio.Lock()
        self._last: tuple[float, list[PartState]] = (float("-inf"), [])

    async def states(self) -> list[PartState]:
        """Return how every part is, within a little more than two seconds."""
        async with self._alone:
            at, states = self._last
            if time.monotonic() - at > _REMEMBERED:
                states = list(await asyncio.gather(*(self._state(name) for name in self._checks)))
                self._last = (time.monotonic(), states)
            return states

    def close(self) -> None:
        """Ask no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _state(self, name: str) -> PartState:
        if name in self._hanging:
            return PartState(name, False, "does not answer")
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._checks[name])
        done, _ = await asyncio.wait({asked}, timeout=_TIME_LIMIT)
        if not done:
            self._hanging.add(name)
            asked.add_done_callback(lambda late: self._answered_late(name, late))
            return PartState(name, False, f"does not answer within {_TIME_LIMIT:g} s")
        error = asked.exception()
        if error is None:
            return PartState(name, True, "ready")
        # Only our own words: a driver's message can hold a URL with its password.
        return PartState(
            name, False, error.detail if isinstance(error, SynthwardError) else "does not answer"
        )

    def _answered_late(self, name: str, late: asyncio.Future[None]) -> None:
        self._hanging.discard(name)
        if not late.cancelled():
            late.exception()


class _Absent(SynthwardError):
    """A part answers, and says that what is needed is not there."""


def _database(services: Services) -> None:
    with reading(services.engine) as connection:
        connection.execute(select(JobRow.id).limit(1))  # also where the tables were never made


def _worker(services: Services) -> None:
    if not services.queue.workers_alive():
        raise _Absent("no worker has lately said that it lives")
