"""What `GET /v1/generators` says: each generator's name, needs and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.generators import registry


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A generator as it is offered. What is None is not known of one that cannot be used.

    Parameters
    ----------
    options : dict or None
        JSON Schema of its options.
    needs_reference : bool or None
        Cannot work without a real table.
    learns_from_reference : bool or None
        Learns from a real table wherever one is named; else only with the option `fit`, if it has that.
    honours : tuple of str
        Kinds of declarations that its rows follow; every other statement comes back as a warning.
    why_not : str or None
        Why it cannot be used here.
    """

    name: str
    description: str
    version: str | None
    options: dict[str, Any] | None
    needs_reference: bool | None
    learns_from_reference: bool | None
    honours: tuple[str, ...]
    reproducible: bool | None
    available: bool
    why_not: str | None


def entries() -> list[CatalogEntry]:
    """Return every generator that is installed, sorted by name."""
    found = [_available(name) for name in registry.names()]
    found += [
        CatalogEntry(item.name, "", None, None, None, None, (), None, False, item.reason)
        for item in registry.unavailable()
    ]
    return sorted(found, key=lambda entry: entry.name)


def _available(name: str) -> CatalogEntry:
    generator = registry.load(name)
    capabilities = generator.capabilities
    return CatalogEntry(
        name=name,
        description=generator.description,
        version=generator.version,
        options=generator.Options.model_json_schema(),
        needs_reference=capabilities.needs_reference,
        learns_from_reference=capabilities.needs_reference or capabilities.learns_from_reference,
        honours=tuple(sorted(capabilities.honours)),
        reproducible=capabilities.reproducible,
        available=True,
        why_not=None,
    )
