"""`synthward worker`: two Celery nodes (quick and heavy) and the sweeper, kept alive until asked to stop."""

from __future__ import annotations

import argparse
import sys
import time

from app import config
from app.config import Settings, as_environment
from app.db import connect
from app.queue import CeleryQueue
from app.storage import open_store
from workers import log
from workers.processes import Part, StopSignal, stop
from workers.slot import QUEUE_VARIABLE
from workers.sweeper import Sweeper

_PATIENCE = 3.5  # s for a node to give its jobs back


def node(queue: str, slots: int, settings: Settings) -> Part:
    """Return the Celery node of a queue."""
    command = [
        sys.executable, "-m", "celery", "--quiet", "--app", "workers.celery_app", "worker", "--queues", queue,
        "--concurrency", str(slots), "--pool", "prefork", "--hostname", f"{queue}@%h",
        "--loglevel", settings.log_level,
        "--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair",
    ]  # fmt: skip
    return Part(queue, command, as_environment(settings) | {QUEUE_VARIABLE: queue})


def main() -> int:
    """Run until asked to stop."""
    parser = argparse.ArgumentParser(prog="synthward worker", description=__doc__)
    parser.add_argument(
        "--workers", type=int, default=1, help="slots for quick jobs, and as many for heavy ones"
    )
    slots = max(1, parser.parse_args().workers)
    settings = config.load()
    log.configure(settings.log_level)
    signals = StopSignal()
    parts = [node("quick", slots, settings), node("heavy", slots, settings)]
    sweeper = Sweeper(
        settings,
        connect(settings.database_url.get_secret_value(), pool_size=1),
        open_store(settings.artifacts_url.get_secret_value(), settings.artifacts_options.get_secret_value()),
        CeleryQueue(settings.broker_url.get_secret_value()),
    )
    next_sweep = 0.0
    while not signals.stopping:
        for part in parts:
            part.keep()
        if time.monotonic() >= next_sweep:
            sweeper.sweep()
            next_sweep = time.monotonic() + settings.sweep_every
        signals.wait(min(next_sweep - time.monotonic(), 0.25))
    stop([part.process for part in parts if part.process is not None], patience=_PATIENCE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
