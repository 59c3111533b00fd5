"""Ids that sort by the time they were made and cannot be guessed."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case: sorts as its numbers do


def _base32(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def new_id(prefix: str) -> str:
    """Return `prefix_` and 26 characters: 48 bits of microseconds-scaled time, then 80 random bits.

    Sortable like a ULID, with the millisecond clock refined to 1/16 ms so that ids made one after the
    other by one process mostly sort in that order too.
    """
    ticks = time.time_ns() // 62_500  # 1/16 ms; 52 bits last until the year 2248
    return f"{prefix}_{_base32(ticks & (2**55 - 1), 11)}{_base32(secrets.randbits(80), 16)}"
