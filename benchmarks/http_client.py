"""A small keep-alive HTTP/1.1 client for loopback load: cheap enough not to be what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Connection:
    """One keep-alive connection; requests on it follow one another."""

    host: str
    port: int
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: str = ""
    ) -> tuple[int, bytes]:
        # A server may close an idle connection at any time (uvicorn after 5 s): then a fresh one is opened.
        if self.reader is None or self.writer is None or self.reader.at_eof():
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        self.writer.write((head + headers + "\r\n").encode() + body)
        block = await self.reader.readuntil(b"\r\n\r\n")
        status = int(block.split(b" ", 2)[1])
        length = 0
        for line in block.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, await self.reader.readexactly(length) if length else b""

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


@dataclass
class Tally:
    """What happened to a stream of requests; latencies in seconds, from the moment each was due."""

    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def line(self, what: str) -> str:
        middle, late = self.quantile(0.5) * 1000, self.quantile(0.99) * 1000
        return (
            f"{what}: {len(self.latencies)} answers {self.statuses}, failures {self.failures or 0}, "
            f"median {middle:.1f} ms, p99 {late:.1f} ms, max {max(self.latencies) * 1000:.1f} ms"
        )


async def open_loop(
    host: str, port: int, rate: float, seconds: float, make: Callable[[int], tuple[str, str, bytes]]
) -> Tally:
    """Send `rate` requests a second for `seconds`, each when it is due, answered or not the earlier ones."""
    tally, free, running = Tally(), [Connection(host, port) for _ in range(8)], set()
    start = time.perf_counter()

    async def one(number: int, due: float) -> None:
        connection = free.pop() if free else Connection(host, port)
        method, path, body = make(number)
        try:
            status, answer = await asyncio.wait_for(connection.request(method, path, body), 30)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            tally.failures += 1
            connection.close()
            return
        tally.latencies.append(time.perf_counter() - due)
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        tally.bodies.append(answer)
        free.append(connection)

    for number in range(int(rate * seconds)):
        due = start + number / rate
        delay = due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        task = asyncio.create_task(one(number, due))
        running.add(task)
        task.add_done_callback(running.discard)
    while running:
        await asyncio.gather(*running)
    return tally


async def closed_loop(
    host: str, port: int, clients: int, seconds: float, make: Callable[[int], tuple[str, str, bytes]]
) -> float:
    """Keep `clients` connections busy for `seconds`; return successful answers a second."""
    done, until = 0, time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal done
        connection = Connection(host, port)
        while time.perf_counter() < until:
            method, path, body = make(number)
            status, _ = await connection.request(method, path, body)
            done += status < 300
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / seconds


async def until(check: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait for `check` to hold, for at most `seconds`."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        if await check():
            return True
        await asyncio.sleep(0.25)
    return False


def as_json(document: object) -> bytes:
    return json.dumps(document).encode()
