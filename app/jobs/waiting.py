"""Waiting for jobs to end, without a thread or a query for each client: one poller in the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db import reading
from app.jobs import repository

_log = logging.getLogger(__name__)
_AFTER_AN_ERROR = 1.0  # s


class EndedJobs:
    """Tells when jobs end. One for each process, used from its event loop alone.

    While anyone waits, one query asks which of the jobs that are waited for have ended: every 20 ms for a
    few, every 100 ms for hundreds, in a thread of its own so that it never queues behind requests.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ended-jobs")

    async def wait(self, job_id: str, seconds: float, gone: Callable[[], Awaitable[None]]) -> bool:
        """Wait until a job ends, the time is over, or the client is gone.

        Parameters
        ----------
        job_id : str
            A job that the caller may see.
        seconds : float
            How long at most.
        gone : callable
            Its awaitable ends when the client is no longer there.

        Returns
        -------
        bool
            Whether the job has ended.
        """
        ended = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(ended)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({ended, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return ended.done()
        finally:
            left.cancel()
            ended.cancel()
            others = self._waiting.get(job_id, set())
            others.discard(ended)
            if not others:
                self._waiting.pop(job_id, None)

    @property
    def count(self) -> int:
        """How many clients wait."""
        return sum(map(len, self._waiting.values()))

    async def close(self) -> None:
        """Stop asking."""
        if self._poller is not None:
            self._poller.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            try:
                ended = await loop.run_in_executor(self._thread, self._ask, list(self._waiting))
            except SQLAlchemyError as error:
                _log.warning("could not ask which jobs have ended: %s", type(error).__name__)
                await asyncio.sleep(_AFTER_AN_ERROR)
                continue
            for job_id in ended:
                for future in self._waiting.get(job_id, ()):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(min(0.1, 0.02 + 0.0002 * len(self._waiting)))

    def _ask(self, job_ids: list[str]) -> set[str]:
        ended: set[str] = set()
        for begin in range(0, len(job_ids), 500):  # databases limit the parameters of a statement
            with reading(self._engine) as connection:
                ended |= repository.ended(connection, job_ids[begin : begin + 500])
        return ended
