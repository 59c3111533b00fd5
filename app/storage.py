"""ArtifactStore: writes, opens and deletes stored files, in a folder or any fsspec store."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from app.errors import ArtifactMissing, ServiceUnavailable, StorageFull

BLOCK = 1 << 20
_DELETE_TRIES = 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Stores that show an object only once it is whole; elsewhere a temporary name and a rename do that.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"})


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: its key, sha256 (hex) and size in bytes."""

    key: str
    sha256: str
    bytes: int


class ArtifactStore(Protocol):
    """Keys are relative, slash-separated, made by us and never by a caller.

    A key appears whole or not at all. Every method raises `ServiceUnavailable` where the store does not
    answer; the writing ones `StorageFull` where it has no room; the reading ones `ArtifactMissing`.
    """

    def put_file(self, key: str, path: Path) -> Stored:
        """Store a copy of a local file."""

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """Store some bytes."""

    def fetch(self, key: str, sha256: str, to: Path) -> None:
        """Copy to a local file, checking sha256; raise ArtifactMissing where absent or damaged."""

    def open(self, key: str, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open for reading, from byte `offset` on."""

    def chunks(self, key: str, start: int, stop: int, size: int = 1 << 18) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive) in pieces of at most `size`."""

    def keys(self, prefix: str) -> list[str]:
        """Return every key under the folder `prefix` (`jobs/x/`), in no order; none where it is absent."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete a folder of keys (`jobs/x/`), or one whole key; absent ones are fine."""

    def ping(self) -> None:
        """Return where the store answers."""


def open_store(url: str, options: str | Mapping[str, Any] = "{}") -> ArtifactStore:
    """Choose the store by its URL.

    Parameters
    ----------
    url : str
        A folder (or `file://` URL), or any fsspec URL such as `s3://bucket/prefix`.
    options : str or mapping
        fsspec options (`endpoint_url`, `key`, `secret` …), as JSON or a mapping; of no use for a folder.
    """
    if "://" not in url:
        return FolderStore(Path(url))
    if url.startswith("file://"):
        return FolderStore(Path(url.removeprefix("file://")))
    return FsspecStore(url, json.loads(options) if isinstance(options, str) else options)


class FolderStore:
    """Artifacts in a local folder: temporary name, fsync, rename, fsync of the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put_file(self, key: str, path: Path) -> Stored:
        """Store a copy of a local file; it survives a power cut once this returns."""
        with path.open("rb") as source:
            return self._put(key, iter(lambda: source.read(BLOCK), b""))

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """Store some bytes; they survive a power cut once this returns."""
        return self._put(key, iter((data,)))

    def _put(self, key: str, blocks: Iterator[bytes]) -> Stored:
        target = self._path(key)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        digest, size = hashlib.sha256(), 0
        with _translated(key):
            try:
                self._make_folder(target.parent)
                try:
                    with temporary.open("xb") as file:
                        for block in blocks:
                            file.write(block)
                            digest.update(block)
                            size += len(block)
                        file.flush()
                        os.fsync(file.fileno())
                    temporary.replace(target)
                except BaseException:
                    temporary.unlink(missing_ok=True)
                    raise
                _fsync_folder(target.parent)
            except FileNotFoundError as error:  # a job that is cancelled loses its folder to another process
                raise ServiceUnavailable(
                    "The artifact's folder was deleted while it was written; asking again later may work."
                ) from error
        return Stored(key, digest.hexdigest(), size)

    def fetch(self, key: str, sha256: str, to: Path) -> None:
        """Copy to a local file, checking sha256; raise ArtifactMissing where absent or damaged."""
        with self.open(key) as source, _whole_or_nothing(to) as file:
            _copy_checked(key, iter(lambda: source.read(BLOCK), b""), sha256, file)

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[BinaryIO]:
        """Open for reading, from byte `offset` on."""
        with _translated(key):
            file = self._path(key).open("rb")
        with file:
            file.seek(offset)
            yield file

    def chunks(self, key: str, start: int, stop: int, size: int = 1 << 18) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive) in pieces of at most `size`."""
        with self.open(key, start) as file:
            yield from _pieces(key, file, stop - start, size)

    def keys(self, prefix: str) -> list[str]:
        """Return every key under the folder `prefix`, in no order; none where it is absent."""
        found: list[Path] = []
        with _translated(prefix):
            for folder, _, names in os.walk(self._path(prefix), onerror=_unless_vanished):
                found += [Path(folder, name) for name in names]
        return [path.relative_to(self._root).as_posix() for path in found]

    def delete_prefix(self, prefix: str) -> None:
        """Delete a folder of keys, or one whole key; absent ones are fine."""
        path = self._path(prefix)
        with _translated(prefix):
            for tries_left in reversed(range(_DELETE_TRIES)):
                try:
                    for folder, _, names in os.walk(path, topdown=False, onerror=_unless_vanished):
                        for name in names:
                            Path(folder, name).unlink(missing_ok=True)
                        _remove_folder(Path(folder))
                    return
                except NotADirectoryError:
                    path.unlink(missing_ok=True)
                    return
                except OSError as error:
                    # A writer that is being stopped may add a file while we delete.
                    if error.errno != errno.ENOTEMPTY or not tries_left:
                        raise

    def ping(self) -> None:
        """Return where the folder is there (or can be made) and may be written to."""
        with _translated(""):
            self._root.mkdir(parents=True, exist_ok=True)
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise ServiceUnavailable(
                "The artifact folder cannot be written to; check its owner and permissions."
            )

    def _path(self, key: str) -> Path:
        return self._root / _checked(key)

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for item in reversed(missing):
            item.mkdir(exist_ok=True)
            _fsync_folder(item.parent)


class FsspecStore:
    """Artifacts in any store that fsspec knows, opened on first use: importing stays light."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url
        self._options = dict(options)
        self._opened: tuple[Any, str] | None = None
        self._protocol = url.split("://", 1)[0]
        if self._protocol in ("s3", "s3a"):
            self._options.setdefault("config_kwargs", {"connect_timeout": 5, "read_timeout": 60})
            self._options.setdefault("use_listings_cache", False)

    def put_file(self, key: str, path: Path) -> Stored:
        """Store a copy of a local file; the key appears once it is whole."""
        digest = hashlib.sha256()
        with path.open("rb") as source:
            for block in iter(lambda: source.read(BLOCK), b""):
                digest.update(block)
        size = path.stat().st_size
        with self._place(key) as (system, place):
            system.put_file(str(path), place)
            self._check_size(system, place, size)
        return Stored(key, digest.hexdigest(), size)

    def put_bytes(self, key: str, data: bytes) -> Stored:
        """Store some bytes; the key appears once it is whole."""
        with self._place(key) as (system, place):
            system.pipe_file(place, data)
            self._check_size(system, place, len(data))
        return Stored(key, hashlib.sha256(data).hexdigest(), len(data))

    def fetch(self, key: str, sha256: str, to: Path) -> None:
        """Copy to a local file, checking sha256; raise ArtifactMissing where absent or damaged."""
        with self.open(key) as source, _whole_or_nothing(to) as file:
            _copy_checked(key, iter(lambda: source.read(BLOCK), b""), sha256, file)

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[BinaryIO]:
        """Open for reading, from byte `offset` on."""
        with _translated(key):
            system, root = self._system()
            file = system.open(f"{root}/{_checked(key)}", "rb", block_size=4 * BLOCK, cache_type="readahead")
        with file:
            file.seek(offset)
            yield file

    def chunks(self, key: str, start: int, stop: int, size: int = 1 << 18) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive) in pieces of at most `size`."""
        with self.open(key, start) as file:
            yield from _pieces(key, file, stop - start, size)

    def keys(self, prefix: str) -> list[str]:
        """Return every key under the folder `prefix`, in no order; none where it is absent."""
        with _translated(prefix):
            system, root = self._system()
            system.invalidate_cache()
            try:
                found = system.find(f"{root}/{_checked(prefix)}")
            except FileNotFoundError:
                return []
            return [path.removeprefix(root).lstrip("/") for path in found]

    def delete_prefix(self, prefix: str) -> None:
        """Delete a folder of keys, or one whole key; absent ones are fine."""
        with _translated(prefix):
            system, root = self._system()
            for _ in range(_DELETE_TRIES):  # a store may take one vanished key for the absence of all
                system.invalidate_cache()
                try:
                    system.rm(f"{root}/{_checked(prefix)}", recursive=True)
                except FileNotFoundError:
                    if not system.exists(f"{root}/{_checked(prefix)}"):
                        return
                else:
                    return

    def ping(self) -> None:
        """Return where the store answers."""
        with _translated(""):
            system, root = self._system()
            system.invalidate_cache()
            if not system.exists(root.split("/", 1)[0] if self._protocol in ("s3", "s3a") else root):
                system.makedirs(root, exist_ok=True)

    @contextmanager
    def _place(self, key: str) -> Iterator[tuple[Any, str]]:
        """Give a place to write to; what was written there takes its key at the end."""
        with _translated(key):
            system, root = self._system()
            target = f"{root}/{_checked(key)}"
            if self._protocol in _OBJECT_STORES:
                yield system, target
                return
            folder, name = target.rsplit("/", 1)
            system.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
            yield system, temporary
            system.mv(temporary, target)

    @staticmethod
    def _check_size(system: Any, place: str, size: int) -> None:
        system.invalidate_cache()
        if system.info(place)["size"] != size:
            raise ServiceUnavailable(
                "The artifact store kept another size than was sent; the write will be tried again."
            )

    def _system(self) -> tuple[Any, str]:
        if self._opened is None:
            import fsspec

            system, root = fsspec.core.url_to_fs(self._url, **self._options)
            self._opened = system, root.rstrip("/")
        return self._opened


def _checked(key: str) -> str:
    parts = key.rstrip("/").split("/")
    if key.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError("an artifact's key is relative, without empty or dotted parts")
    return "/".join(parts)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Say a store's errors in the domain's words."""
    try:
        yield
    except (ArtifactMissing, ServiceUnavailable, StorageFull):
        raise
    except FileNotFoundError as error:
        raise ArtifactMissing(_missing(key)) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(
                "The artifact store has no room; free some, then post the job again."
            ) from error
        raise ServiceUnavailable(
            "The artifact store does not answer; asking again later may work."
        ) from error
    except Exception as error:
        raise ServiceUnavailable(
            "The artifact store does not answer; asking again later may work."
        ) from error


def _missing(key: str) -> str:
    return f"The stored file {key} is missing or damaged; restore it from a backup or make it again."


@contextmanager
def _whole_or_nothing(path: Path) -> Iterator[BinaryIO]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _copy_checked(key: str, blocks: Iterator[bytes], sha256: str, to: BinaryIO) -> None:
    digest = hashlib.sha256()
    with _translated(key):
        for block in blocks:
            digest.update(block)
            to.write(block)
        to.flush()
    if digest.hexdigest() != sha256:
        raise ArtifactMissing(_missing(key))


def _pieces(key: str, file: BinaryIO, count: int, size: int) -> Iterator[bytes]:
    while count > 0:
        with _translated(key):
            piece = file.read(min(size, count))
        if not piece:
            raise ArtifactMissing(_missing(key))
        count -= len(piece)
        yield piece


def _unless_vanished(error: OSError) -> None:
    """Let a walk pass over a folder that another process deletes at the same time."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _remove_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):
        folder.rmdir()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
