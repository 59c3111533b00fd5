"""Which generators there are: our own and strangers', through one door, imported only when asked for.

A package offers a generator by an entry point of the group `synthward.generators`; the entry point's name
is the generator's name.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from app.errors import Fault, InvalidInput
from app.generators.base import Generator

GROUP = "synthward.generators"

BUILT_IN = {
    "blueprint": "app.generators.blueprint:Blueprint",
    "ctgan": "app.generators.ctgan:CTGAN",
    "llm": "app.generators.llm.generator:LLM",
    "marginals": "app.generators.marginals:Marginals",
}
"""Our own, so that they are found also where the package's metadata is absent or older than the code."""


class UnknownGenerator(InvalidInput):
    """No generator of that name can be used; says which there are."""

    slug = "unknown-generator"
    title = "There is no such generator"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A generator that is installed and cannot be imported."""

    name: str
    reason: str


def names() -> tuple[str, ...]:
    """Return the names of all generators that can be used, sorted."""
    return tuple(name for name in sorted(_entry_points()) if not isinstance(_import(name), Unavailable))


def unavailable() -> tuple[Unavailable, ...]:
    """Return the generators that are installed and cannot be used, with the reason."""
    found = (_import(name) for name in sorted(_entry_points()))
    return tuple(item for item in found if isinstance(item, Unavailable))


def load(name: str) -> type[Generator]:
    """Return the generator class of that name.

    Raises
    ------
    UnknownGenerator
        With the names there are, the closest first, or the reason why this one cannot be used.
    """
    if name not in _entry_points():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"Did you mean `{close[0]}`? " if close else ""
        raise UnknownGenerator(
            [
                Fault(
                    "/generator/name",
                    f"There is no generator `{name}`. {hint}There are: {', '.join(names())}.",
                )
            ]
        )
    found = _import(name)
    if isinstance(found, Unavailable):
        raise UnknownGenerator(
            [Fault("/generator/name", f"The generator `{name}` is not available here: {found.reason}")]
        )
    return found


def refresh() -> None:
    """Forget what was found: packages were installed or removed since."""
    _entry_points.cache_clear()
    _import.cache_clear()


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, target, GROUP) for name, target in BUILT_IN.items()}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)  # nobody takes a built-in's name
    return found


@functools.cache
def _import(name: str) -> type[Generator] | Unavailable:
    try:
        loaded = _entry_points()[name].load()
    except Exception as error:  # noqa: BLE001  a stranger's import may fail in any way, and the others must work
        return Unavailable(name, f"{type(error).__name__}: {error}")
    lacking = [
        word
        for word in ("name", "description", "version", "capabilities", "Options", "fit")
        if not hasattr(loaded, word)
    ]
    if lacking:
        return Unavailable(name, f"its class lacks {', '.join(lacking)}")
    if loaded.name != name:
        return Unavailable(name, f"its class calls itself `{loaded.name}`")
    generator: type[Generator] = loaded
    return generator
