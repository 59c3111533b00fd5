"""Scratch folders, locked while their owner lives, so that those of the dead go with the rows in them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "synthward-work-"
_LOCK = ".lock"
_YOUNG = 60.0  # s in which a folder may not have been locked yet


class Scratch:
    """A folder for the length of an upload, a download or an attempt at a job."""

    def __init__(self, parent: Path | None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_leftovers(parent: Path | None) -> int:
    """Delete the folders of processes that have died; return how many."""
    removed = 0
    for path in Path(parent or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _is_abandoned(path: Path) -> bool:
    try:
        if path.stat().st_mtime > time.time() - _YOUNG:
            return False
        lock = os.open(path / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return path.exists()
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
