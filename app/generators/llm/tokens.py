"""How many tokens a text takes, before anybody counts them: rather too many, and in every script."""

from __future__ import annotations

CHARACTERS_PER_TOKEN = 3.5
"""Of English and JSON, rather too few: an estimate that is used to stop must not be too low."""
_TOKENS_BEYOND = 3
"""Of a character outside the Basic Multilingual Plane (emoji, rare Han); one within it takes one."""


def weight_of(text: str) -> float:
    """Return a text's length in ASCII characters that would take as many tokens."""
    plain = len(text.encode("ascii", "ignore"))
    if plain == len(text):
        return plain
    beyond = sum(character > "\uffff" for character in text)
    return plain + CHARACTERS_PER_TOKEN * (len(text) - plain - beyond + _TOKENS_BEYOND * beyond)


def tokens_of(text: str) -> int:
    """Estimate what a text takes."""
    return int(weight_of(text) / CHARACTERS_PER_TOKEN) + 1
