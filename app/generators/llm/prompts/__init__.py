"""What a language model is told: one text for each step, filled in with `text`."""

from __future__ import annotations

import functools
from importlib import resources
from string import Template

FRAMINGS = 3


def text(name: str, **values: object) -> str:
    """Return a prompt with its places filled in; raises KeyError where one is left open."""
    return _template(name).substitute({key: str(value) for key, value in values.items()})


def framing(elicitation: int) -> str:
    """Return how the k-th elicitation (from 0) looks at the matter."""
    said = text(f"framing_{elicitation % FRAMINGS + 1}")
    # The same question would be given the same answer again, from its receipt.
    return said if elicitation < FRAMINGS else f"{said} (This is independent judgement {elicitation + 1}.)"


@functools.cache
def _template(name: str) -> Template:
    return Template(resources.files(__package__).joinpath(f"{name}.txt").read_text("utf-8").strip())
