"""Starts what the benchmarks measure, on loopback, and ends it by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], port: int, path: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[psutil.Process, float]]:
    """Run a command until the block ends; yield its process and the seconds until `path` answered 200."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.01)
        yield psutil.Process(process.pid), time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def serve(data_dir: Path, port: int, *more: str) -> list[str]:
    command = [sys.executable, "-m", "app.cli", "serve", "--no-auth", "--workers", "1"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir), *more]


def resident(process: psutil.Process) -> dict[str, float]:
    """Return resident MB by command line's tail, for a process and all below it."""
    sizes: dict[str, float] = {}
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            sizes[f"{one.pid} {' '.join(one.cmdline())[-60:]}"] = one.memory_info().rss / 1e6
    return sizes
