"""Composition root of the worker side: the Celery application, and what each of its processes works with."""

from __future__ import annotations

import os
import select
from typing import Any

from celery import signals

from app import config
from app.db import connect
from app.queue import CeleryQueue, celery_app
from app.storage import open_store
from workers import log
from workers.pipeline import Desk
from workers.processes import die_with
from workers.slot import QUEUE_VARIABLE, Slot

settings = config.load()
app = celery_app(settings.broker_url.get_secret_value())
app.conf.update(
    imports=("workers.tasks",),
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_proc_alive_timeout=30,
    broker_connection_max_retries=None,
    broker_transport_options={
        **app.conf.broker_transport_options,
        # A node that waits for rings finds out that the broker is gone, and comes back when it is.
        "health_check_interval": 5,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
    },
)

# The main process closes its end of this pipe by ending; it writes to it when it is asked to stop. Pool
# processes look at it beside their child's answers.
_stop_read, _stop_write = os.pipe()
_main = os.getpid()
_desk: Desk | None = None


def desk() -> Desk:
    """Return what this pool process works with."""
    assert _desk is not None, "only pool processes have a desk"
    return _desk


def is_stopping() -> bool:
    """Whether this worker was asked to end."""
    return bool(select.select([_stop_read], [], [], 0)[0])


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: Any) -> None:
    log.configure(settings.log_level)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _open_desk(**_: Any) -> None:
    global _desk
    die_with(_main)
    os.close(_stop_write)
    _desk = Desk(
        settings=settings,
        engine=connect(settings.database_url.get_secret_value(), pool_size=1),
        store=open_store(
            settings.artifacts_url.get_secret_value(), settings.artifacts_options.get_secret_value()
        ),
        queue=CeleryQueue(settings.broker_url.get_secret_value()),
        slot=Slot(settings, warm=os.environ.get(QUEUE_VARIABLE) == "quick"),
        stopping=_stop_read,
    )


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _close_desk(**_: Any) -> None:
    if _desk is not None:
        _desk.slot.close()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _tell_pool(**_: Any) -> None:
    os.write(_stop_write, b"!")
