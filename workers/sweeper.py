"""The sweeper: rings again for what nobody heard, ends what nobody holds, deletes what has had its time.

It runs in every worker's supervisor; many do no harm.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable

from sqlalchemy import Engine

from app.config import Settings
from app.db import now
from app.errors import SynthwardError
from app.jobs import leases
from app.jobs.leases import Ring
from app.queue import CeleryQueue, QueueName
from app.scratch import remove_leftovers
from app.storage import ArtifactStore
from workers.pipeline import database_is_away, settle_cancelled, tidy

logger = logging.getLogger("synthward.sweeper")

_UNHEARD = 3.0  # s after which a queued job is rung for again where the broker's list is empty
_LONG_UNHEARD = 300.0  # s after which it is rung for in any case
_HOUSEKEEPING = 10  # rounds between those that also expire and tidy
_MOST_RINGS = 16
_QUEUES: tuple[QueueName, ...] = ("quick", "heavy")


class Sweeper:
    """Sweeps when it is told to. Holds only what makes sweeping cheaper, nothing that may be lost."""

    def __init__(self, settings: Settings, engine: Engine, store: ArtifactStore, queue: CeleryQueue) -> None:
        self._settings, self._engine, self._store, self._queue = settings, engine, store, queue
        self._tidied_until = now() - dt.timedelta(hours=1)
        self._next_housekeeping = 0.0
        self._rest_until = 0.0

    def sweep(self) -> None:
        """Do one round; where database, broker or store are away, the next round does it."""
        self._guarded(self._say_alive)
        if time.monotonic() >= self._rest_until:
            self._guarded(self._ring_again)
            self._guarded(self._settle_cancelled)
            self._guarded(lambda: leases.touch_sharing(self._engine))
        if time.monotonic() >= self._next_housekeeping:
            self._next_housekeeping = time.monotonic() + _HOUSEKEEPING * self._settings.sweep_every
            for chore in (
                self._tidy,
                self._expire_jobs,
                self._purge_jobs,
                self._expire_datasets,
                self._forget,
            ):
                self._guarded(chore)

    def _guarded(self, chore: Callable[[], None]) -> None:
        try:
            chore()
        except SynthwardError as error:
            logger.warning("put off", extra={"because": error.slug})
        except Exception as error:
            if not database_is_away(error):
                logger.error("a chore went wrong", exc_info=error)
                return
            logger.warning("the database is away")
            # Once it is back, those who hold leases renew them before we take them for dead.
            self._rest_until = time.monotonic() + self._settings.lease

    def _say_alive(self) -> None:
        self._queue.say_alive()

    def _ring_again(self) -> None:
        rung = []
        unheard = leases.unheard(self._engine, older_than=_UNHEARD)
        if unheard:
            empty = {name: self._queue.waiting(name) == 0 for name in _QUEUES}
            long_unheard = {ring.job_id for ring in leases.unheard(self._engine, older_than=_LONG_UNHEARD)}
            rung = [ring for ring in unheard if empty[ring.queue] or ring.job_id in long_unheard]
        rung += leases.abandoned(self._engine, older_than=self._settings.sweep_every)
        for ring in rung:
            self._ring(ring)
        leases.note_rung(self._engine, [ring.job_id for ring in rung])
        if rung:
            logger.info("rung again", extra={"jobs": len(rung)})

    def _ring(self, ring: Ring) -> None:
        if not ring.shards:
            self._queue.send(ring.job_id, ring.queue)
        elif self._queue.waiting("heavy") == 0:
            for _ in range(min(ring.shards, _MOST_RINGS)):
                self._queue.send_shards(ring.job_id)

    def _settle_cancelled(self) -> None:
        for job_id in leases.to_be_cancelled(self._engine):
            settle_cancelled(self._engine, self._store, job_id, self._settings)

    def _tidy(self) -> None:
        """Delete what dead attempts of ended jobs have left, once late ones have surely ended, too."""
        until = now() - dt.timedelta(seconds=2 * self._settings.lease)
        for job_id in leases.ended_untidily(self._engine, self._tidied_until, until):
            tidy(self._engine, self._store, job_id)
        self._tidied_until = until
        remove_leftovers(self._settings.scratch_dir)

    def _expire_jobs(self) -> None:
        for job_id in leases.expired_jobs(self._engine):
            self._store.delete_prefix(f"jobs/{job_id}/")
            leases.files_gone(self._engine, job_id)
            logger.info("expired", extra={"job": job_id})

    def _purge_jobs(self) -> None:
        for job_id in leases.outlived_jobs(self._engine, self._settings):
            self._store.delete_prefix(f"jobs/{job_id}/")
            leases.delete_job(self._engine, job_id)
            logger.info("purged", extra={"job": job_id})

    def _expire_datasets(self) -> None:
        for dataset_id, key in leases.expired_datasets(self._engine):
            if leases.delete_dataset(self._engine, dataset_id):
                self._store.delete_prefix(key)
                logger.info("expired", extra={"dataset": dataset_id})

    def _forget(self) -> None:
        leases.forget_idempotency(self._engine, self._settings)
