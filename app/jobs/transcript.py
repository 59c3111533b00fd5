"""The receipts of a job's talk with a language model: put into the store as they come, read in order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from app.errors import ArtifactMissing
from app.storage import ArtifactStore


def folder(job_id: str) -> str:
    """Return where a job's receipts lie. They belong to the job, not to one of its attempts."""
    return f"jobs/{job_id}/transcript/"


class Receipts:
    """A shelf (see `app.generators.llm.talk`) in the artifact store.

    Parameters
    ----------
    patiently : callable
        Does something with the store, again where it is away.
    """

    def __init__(
        self,
        store: ArtifactStore,
        job_id: str,
        patiently: Callable[[Callable[[], Any]], Any] = lambda action: action(),
    ) -> None:
        self._store, self._folder, self._patiently = store, folder(job_id), patiently

    def read(self) -> Iterator[bytes]:
        """Give the receipts, oldest first; one that is deleted meanwhile is left out."""
        for key in sorted(self._patiently(lambda: self._store.keys(self._folder))):
            try:
                yield self._patiently(functools.partial(self._whole, key))
            except ArtifactMissing:
                continue

    def put(self, name: str, data: bytes) -> None:
        """Add a receipt."""
        self._patiently(lambda: self._store.put_bytes(f"{self._folder}{name}", data))

    def _whole(self, key: str) -> bytes:
        with self._store.open(key) as file:
            return file.read()
