"""A pool process's place for one child process, kept warm between jobs; the parent's end of its pipes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from typing import Any

from app.config import Settings, as_environment

QUEUE_VARIABLE = "SYNTHWARD_WORKER_QUEUE"
"""Environment variable by which a Celery node is told its queue: the slots of `quick` keep a child warm."""

_MOST_JOBS = 200  # a child that has done so many is replaced: libraries leak
_MOST_GROWTH = 256 * 1024 * 1024  # bytes of resident memory that a child may gain before it is replaced
_PATIENCE = 2.0  # s that a child may take to forget a job
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "ARROW_IO_THREADS",
)  # fmt: skip


class ChildDied(Exception):
    """The child ended without an answer.

    Parameters
    ----------
    status : int
        Exit status; negative where a signal ended it.
    out_of_memory : bool
        Whether the kernel ended a process for want of memory while it lived.
    """

    def __init__(self, status: int, *, out_of_memory: bool) -> None:
        super().__init__(status, out_of_memory)
        self.status, self.out_of_memory = status, out_of_memory


class Child:
    """One running `python -m workers.child`."""

    def __init__(self, settings: Settings) -> None:
        self._kills_before = _kills_for_memory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(settings),
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._answers.fileno(), False)
        self._rest = b""
        self.jobs = 0
        self.resident_at_start = 0
        self.resident = 0

    @property
    def pid(self) -> int:
        """The process's id, which is its group's, too."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor to `select` on for answers."""
        return self._answers.fileno()

    def order(self, order: dict[str, Any]) -> None:
        """Send an order; raise ChildDied where nobody reads it."""
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()
        except OSError as error:
            raise self._died() from error

    def first_answer(self) -> dict[str, Any]:
        """Wait for a message; for those who have nothing else to look after."""
        while not (found := self.answers()):
            select.select([self], [], [])
        return found[0]

    def answers(self) -> deque[dict[str, Any]]:
        """Return the messages that have arrived; raise ChildDied at the end of the pipe."""
        messages: deque[dict[str, Any]] = deque()
        while True:
            try:
                piece = os.read(self.fileno(), 1 << 16)
            except BlockingIOError:
                return messages
            if not piece:
                if messages:
                    return messages  # the end is met again at the next call
                raise self._died()
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self.resident = message.pop("resident", self.resident)
                self.resident_at_start = self.resident_at_start or self.resident
                messages.append(message)

    def _died(self) -> ChildDied:
        self.end(0.0)
        memory = self._process.returncode == -signal.SIGKILL and _kills_for_memory() > self._kills_before
        return ChildDied(self._process.returncode, out_of_memory=memory)

    def rest(self) -> bool:
        """Have it forget its job and give memory back; return whether it did so in time."""
        self.order({"do": "end"})
        late = time.monotonic() + _PATIENCE
        while (left := late - time.monotonic()) > 0:
            select.select([self], [], [], left)
            if any("rested" in message for message in self.answers()):
                return True
        return False

    @property
    def healthy(self) -> bool:
        """Whether it may be given another job; what it holds is what it held when it last said something."""
        grown = self.resident - self.resident_at_start
        return self._process.poll() is None and self.jobs < _MOST_JOBS and grown < _MOST_GROWTH

    def end(self, patience: float) -> None:
        """End the child and its group: SIGTERM, then SIGKILL after `patience` seconds. Gone on return."""
        group = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            self._orders.close()
        self._answers.close()


class Slot:
    """Where a pool process keeps its child for the next job. `warm` slots have one ready before the first."""

    def __init__(self, settings: Settings, *, warm: bool) -> None:
        self._settings, self._warm = settings, warm
        self._idle: Child | None = None
        self.refill()

    def refill(self) -> None:
        """Start the next child where none waits and this slot is kept warm."""
        if self._warm and self._idle is None:
            self._idle = Child(self._settings)

    def take(self) -> Child:
        """Return a child to work with."""
        child, self._idle = self._idle, None
        if child is not None and not child.healthy:
            child.end(0.0)
            child = None
        return child or Child(self._settings)

    def put_back(self, child: Child) -> None:
        """Keep a child that ended its job well, where it is still good for another."""
        child.jobs += 1
        with contextlib.suppress(ChildDied):
            if self._idle is None and child.rest() and child.healthy:
                self._idle = child
                return
        child.end(0.0)
        self.refill()

    def discard(self, child: Child, *, patience: float) -> None:
        """End a child in the middle of its work. Gone on return."""
        child.end(patience)
        self.refill()

    def close(self) -> None:
        """End the child that waits."""
        if self._idle is not None:
            self._idle.end(0.0)
            self._idle = None


def child_environment(settings: Settings) -> dict[str, str]:
    """Return a child's environment: what numerics depend on is fixed before they are imported."""
    threads = str(settings.threads)
    return as_environment(settings) | dict.fromkeys(_THREADS, threads) | {
        "OMP_DYNAMIC": "FALSE",
        "MKL_DYNAMIC": "FALSE",
        "PYTHONHASHSEED": "0",  # the order of sets of strings must not differ between processes
        "MALLOC_ARENA_MAX": "2",
        "MPLBACKEND": "Agg",
    }  # fmt: skip


def _kills_for_memory() -> int:
    try:
        with open("/proc/vmstat", encoding="ascii") as file:  # noqa: PTH123 not a file of ours
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
