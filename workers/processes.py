"""What every process here needs of the operating system: to die with its parent, and to end others surely."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1
_LONGEST_PAUSE = 10.0  # s before a part that keeps dying is started again
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that ends."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask
        os._exit(1)


def return_memory() -> None:
    """Give freed memory back to the system: the C library keeps what lies below something still in use."""
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):  # glibc has it, musl has not
        _LIBC.malloc_trim(0)


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a part of the service in a process group of its own; it dies with us.

    Only for processes with a single thread: `preexec_fn` is not safe with more.
    """
    parent = os.getpid()
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: die_with(parent),
    )


def stop(parts: Sequence[subprocess.Popen[bytes]], *, patience: float) -> None:
    """Ask parts to end (SIGTERM), and kill the groups of those that have not after `patience` seconds."""
    for part in parts:
        if part.poll() is None:
            part.terminate()
    deadline = time.monotonic() + patience
    for part in parts:
        with contextlib.suppress(subprocess.TimeoutExpired):
            part.wait(max(0.0, deadline - time.monotonic()))
        kill_group(part)


def kill_group(part: subprocess.Popen[bytes]) -> None:
    """Kill a part and all that it started in its group, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(part.pid, signal.SIGKILL)
    part.wait()


class Stopping(Exception):
    """This process was asked to end."""


class Part:
    """A process that is started again when it dies, after a pause that grows while it keeps dying."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.name, self._command, self._environment = name, command, environment
        self.process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._again_at = 0.0
        self._pause = 0.25
        self.restarts = -1

    def keep(self) -> bool:
        """Start the part where it does not run and its pause is over; return whether it was started."""
        moment = time.monotonic()
        if self.process is not None:
            if self.process.poll() is None:
                return False
            kill_group(self.process)
            self.process = None
            self._pause = 0.25 if moment - self._started_at > 30 else min(_LONGEST_PAUSE, self._pause * 2)
            self._again_at = moment + self._pause
        if moment < self._again_at:
            return False
        self.process = start(self._command, self._environment)
        self._started_at = moment
        self.restarts += 1
        return True


class StopSignal:
    """Wakes a `select` when the process is asked to stop (SIGTERM, Ctrl-C) or a child of it ends."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def wait(self, seconds: float) -> None:
        """Wait, or less where something happens."""
        ready, _, _ = select.select([self._read], [], [], max(0.0, seconds))
        if ready:
            os.read(self._read, 4096)
