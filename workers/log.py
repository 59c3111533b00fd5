"""One-line JSON logs of the worker side: no bodies, cells or keys; of an exception only type and frames."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import traceback
from typing import Any, TextIO

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Celery says at INFO what each task was and returned; ours say what a job did.
_QUIET = ("alembic", "celery.worker.strategy", "celery.app.trace", "celery.worker.consumer", "kombu", "amqp")


class JsonLine(logging.Formatter):
    """Formats a record as one line of JSON; what was given as `extra` becomes its properties."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info and record.exc_info[1] is not None:
            line |= without_message(record.exc_info[1])
        return json.dumps(line, default=str, ensure_ascii=False)


def without_message(error: BaseException) -> dict[str, Any]:
    """Return the type and frames of an exception: its message may hold a cell of a real table."""
    frames = traceback.extract_tb(error.__traceback__)
    named = [f"{_short(frame.filename)}:{frame.lineno}:{frame.name}" for frame in frames]
    said: dict[str, Any] = {"error": f"{type(error).__module__}.{type(error).__qualname__}", "frames": named}
    if error.__cause__ is not None:
        said["cause"] = f"{type(error.__cause__).__module__}.{type(error.__cause__).__qualname__}"
    return said


def _short(path: str) -> str:
    return "/".join(path.split("/")[-3:])


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to stderr (or `stream`) as JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
