"""What the HTTP side is given by its composition root, `app.main.create_app`."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from app.config import Settings
from app.queue import JobQueue
from app.storage import ArtifactStore


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that routers hand to services: passed in, wired once."""

    settings: Settings
    engine: Engine
    store: ArtifactStore
    queue: JobQueue
