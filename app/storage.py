"""ArtifactStore: writes, opens and deletes stored files, in a folder or any fsspec store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: its key, sha256 (hex) and size in bytes."""

    key: str
    sha256: str
    bytes: int


class ArtifactStore(Protocol):
    """Keys are relative, slash-separated, made by us and never by a caller."""

    def put_file(self, key: str, path: Path) -> Stored: ...
    def put_bytes(self, key: str, data: bytes) -> Stored: ...
    def fetch(self, key: str, sha256: str, to: Path) -> None:
        """Copy to a local file, checking sha256; raise ArtifactMissing where absent or damaged."""

    def open(self, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]: ...
    def chunks(self, key: str, start: int, stop: int, size: int = 1 << 18) -> Iterator[bytes]: ...
    def delete_prefix(self, prefix: str) -> None: ...
    def ping(self) -> None: ...
