"""API keys: making, revoking, listing, and knowing whose key came with a request. Knows no FastAPI."""

from __future__ import annotations

from dataclasses import dataclass

LOCAL_OWNER = "local"
"""Who owns what is made while the service runs without keys."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `owner` scopes every query."""

    owner: str
