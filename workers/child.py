"""The process that does a job's work: takes orders from its parent on stdin, answers in lines of JSON.

It touches no database. It ends when its parent does, and at any signal, also within native code.
"""

from __future__ import annotations

import sys

from workers.processes import die_with, return_memory

if __name__ == "__main__":
    die_with(int(sys.argv[1]))

import contextlib
import errno
import faulthandler
import gc
import importlib
import json
import logging
import os
import queue
import resource
import signal
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from app import config
from app.errors import GeneratorFailed, OutOfMemory, ServiceUnavailable, StorageFull, SynthwardError
from app.ids import new_id
from app.problem_objects import problem_of
from workers import log

logger = logging.getLogger("synthward.child")


OFTEN_WANTED = ("app.blueprint.compile", "scipy.optimize", "scipy.stats.qmc")
"""What a blueprint takes a second to import."""
WITH_A_MODEL = ("openai", "app.generators.llm.preview")
"""What asking a language model takes half a second to import."""
_MUCH = 64 * 1024 * 1024
"""Bytes beyond those at the start that are worth looking for what is free."""


class Mouth:
    """Says things to the parent, one line each."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def say(self, message: dict[str, Any]) -> None:
        """Send a message, with this process's resident memory in bytes."""
        self._pipe.write(json.dumps(message | {"resident": _resident()}).encode() + b"\n")

    def progress(
        self, stage: str, fraction: float, detail: str = "", eta_seconds: float | None = None, rows: int = 0
    ) -> None:
        """Say how far a stage is (`fraction` of the stage, 0 … 1)."""
        self.say(
            {
                "progress": {
                    "stage": stage,
                    "fraction": fraction,
                    "detail": detail,
                    "eta_seconds": eta_seconds,
                    "rows": rows,
                }
            }
        )

    def usage(self, usage: dict[str, Any]) -> None:
        """Say what a language model was asked and has answered so far, over all attempts."""
        self.say({"usage": usage})


def main() -> None:
    """Take orders until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to understand
    mouth = Mouth(os.fdopen(os.dup(1), "wb", buffering=0))
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, orders), daemon=True).start()
    settings = config.load()
    with contextlib.suppress(OSError):
        os.nice(settings.nice)
    sink = os.fdopen(os.dup(2), "w", buffering=1)
    log.configure(settings.log_level, sink)
    faulthandler.enable(sink)  # frames only, no values

    from workers.stages import Workroom  # numpy, pandas, pyarrow, generators, metrics: a second or so

    # What libraries print may hold cells of a real table.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    mouth.say({"ready": True})
    room = Workroom(settings, mouth)
    for wanted in OFTEN_WANTED + (WITH_A_MODEL if settings.llm else ()):  # while nobody waits, at best
        importlib.import_module(wanted)
    at_start = _resident()
    while True:
        order = orders.get()
        if order["do"] == "end":
            room.clear()  # no real row stays in the memory of a child that waits
            if _resident() - at_start > _MUCH:
                gc.collect()
                return_memory()
            mouth.say({"rested": True})
        else:
            mouth.say(_answer(room.carry_out, order))


def _answer(carry_out: Callable[[dict[str, Any]], dict[str, Any]], order: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"done": carry_out(order)}
    except MemoryError:
        return {
            "failed": problem_of(
                OutOfMemory(
                    "The job's process ran out of memory; ask for fewer columns or "
                    "levels, or let the operator give the workers more memory."
                )
            )
        }
    except ServiceUnavailable as error:
        return {"away": error.detail}
    except SynthwardError as error:
        return {"failed": problem_of(error)}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return {
                "failed": problem_of(
                    StorageFull(
                        "The worker's scratch folder has no room; free some, then post the job again."
                    )
                )
            }
        return {"failed": _incident(error)}
    except Exception as error:  # noqa: BLE001 a generator may raise anything
        return {"failed": _incident(error)}


def _incident(error: Exception) -> dict[str, Any]:
    incident = new_id("incident")
    logger.error("work failed", exc_info=error, extra={"incident": incident})
    return problem_of(
        GeneratorFailed(
            f"The work stopped with an unexpected error; tell the operator the incident id "
            f"{incident}. Another generator or other options may work."
        )
    ) | {"incident": incident}


def _listen(pipe: BinaryIO, orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in pipe:
        orders.put(json.loads(line))
    os.killpg(0, signal.SIGKILL)  # the parent is gone: so are we, and all that we started


def _resident() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 not a file of ours
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


if __name__ == "__main__":
    main()
