"""A language model's provider for tests: a real server on loopback that answers as it is scripted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.generators.llm.providers import Provider


@dataclass
class Reaction:
    """What the server does with one request."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang_up: bool = False
    trickles: float = 0.0
    """Seconds between one byte of the body and the next."""


def says(text: str | dict[str, Any] | list[Any], **changes: Any) -> Reaction:
    """A good answer; `changes` replace parts of its choice."""
    content = text if isinstance(text, str) else json.dumps(text)
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": content, "refusal": None},
    } | changes
    return Reaction(
        body={
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake-1",
            "choices": [choice],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
    )  # fmt: skip


def cut_off(text: str) -> Reaction:
    return says(text, finish_reason="length")


def refuses(words: str = "I cannot help with that.") -> Reaction:
    return says("", message={"role": "assistant", "content": None, "refusal": words})


def filtered() -> Reaction:
    return says("", finish_reason="content_filter", message={"role": "assistant", "content": None})


def no_choices() -> Reaction:
    reaction = says("")
    reaction.body["choices"] = []
    return reaction


def fails(status: int, message: str = "no", code: str | None = None, param: str | None = None,
          **headers: str) -> Reaction:  # fmt: skip
    error = {"message": message, "type": "error", "code": code, "param": param}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reaction(status, {"error": error}, named)


Script = Callable[[dict[str, Any]], Reaction]


def in_turn(*reactions: Reaction) -> Script:
    """One reaction after the other; the last for all further requests."""
    lock, left = threading.Lock(), list(reactions)

    def script(_request: dict[str, Any]) -> Reaction:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return script


def knowing_nothing(request: dict[str, Any]) -> Reaction:
    """Every answer has the asked shape and no knowledge in it: null where it may be, else empty."""
    return says(emptiest(request["response_format"]["json_schema"]["schema"]))


def emptiest(shape: dict[str, Any]) -> Any:
    kinds = [shape["type"]] if isinstance(shape["type"], str) else shape["type"]
    if "null" in kinds:
        return None
    if "enum" in shape:
        return shape["enum"][0]
    if kinds == ["object"]:
        return {name: emptiest(part) for name, part in shape["properties"].items()}
    return {"array": [], "string": "", "boolean": False, "integer": 0, "number": 0.0}[kinds[0]]


@dataclass
class FakeProvider:
    """A running server; `script` may be changed at any time."""

    script: Script
    port: int
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def provider(self, **changes: Any) -> Provider:
        known: dict[str, Any] = {
            "name": "fake", "base_url": self.base_url, "model": "fake-1", "api_key": "sk-secret-of-ours",
            "timeout": 5.0, "deadline": 60.0,
        }  # fmt: skip
        return Provider(**(known | changes))

    @property
    def prompts(self) -> list[str]:
        return [
            "\n".join(str(message["content"]) for message in request["messages"]) for request in self.requests
        ]


@contextmanager
def serving(script: Script) -> Iterator[FakeProvider]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                fake.requests.append(request)
                fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                fake.at_once += 1
                fake.most_at_once = max(fake.most_at_once, fake.at_once)
            try:
                reaction = fake.script(request)
                time.sleep(reaction.delay)
            finally:
                with lock:
                    fake.at_once -= 1
            if reaction.hang_up:
                self.close_connection = True
                return
            data = reaction.body if isinstance(reaction.body, bytes) else json.dumps(reaction.body).encode()
            self.send_response(reaction.status)
            for name, value in {"Content-Type": "application/json", **reaction.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if not reaction.trickles:
                self.wfile.write(data)
                return
            for place in range(len(data)):
                self.wfile.write(data[place : place + 1])
                time.sleep(reaction.trickles)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # a client that gave up waiting

    server = Server(("127.0.0.1", 0), Handler)
    fake = FakeProvider(script, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
