"""Strings by a pattern: counts what a regular expression admits, and writes its n-th string.

A pattern is read by the standard library's own parser. Literals, classes, quantifiers, groups and
alternation are understood; anchors are ignored, since a pattern describes the whole value. No generator
learns a text: this is how ids are made, each from its own number, so that none comes twice.
"""

from __future__ import annotations

import itertools
import re
import re._constants as code  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = NDArray[np.uint64]

OPEN_REPEATS = 8
"""Repetitions that an open quantifier (`*`, `+`, `{2,}`) goes beyond its minimum, at most."""

LARGEST = 2**62
PRINTABLE = "".join(chr(point) for point in range(0x20, 0x7F))
CLASSES = {
    code.CATEGORY_DIGIT: string.digits,
    code.CATEGORY_WORD: string.ascii_letters + string.digits + "_",
    code.CATEGORY_SPACE: " ",
}
CLASSES |= {
    code.CATEGORY_NOT_DIGIT: string.ascii_letters,
    code.CATEGORY_NOT_WORD: " -",
    code.CATEGORY_NOT_SPACE: string.ascii_letters + string.digits,
}


class PatternNotUnderstood(ValueError):
    """The pattern uses what cannot be counted: look-around, back references, conditions."""


@dataclass(frozen=True)
class OneOf:
    """One string out of a list."""

    strings: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many strings there are."""
        return len(self.strings)

    def write(self, numbers: Numbers) -> pa.Array:
        """Return the strings of these numbers (each below `count`)."""
        import pyarrow as pa

        return pa.array(self.strings, pa.string()).take(pa.array(numbers))


@dataclass(frozen=True)
class Sequence:
    """One string after another; the last varies fastest."""

    parts: tuple[Node, ...]

    @property
    def count(self) -> int:
        """How many strings there are."""
        total = 1
        for part in self.parts:
            total *= part.count
        return total

    def write(self, numbers: Numbers) -> pa.Array:
        """Return the strings of these numbers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.parts:
            return pa.array([""] * len(numbers), pa.string())
        written: list[Any] = []
        left, room = numbers, LARGEST
        for place, part in enumerate(reversed(self.parts)):
            size = min(part.count, LARGEST)
            if size <= room:
                digit, left, room = left % np.uint64(size), left // np.uint64(size), room // size
            else:  # beyond 62 bits the number is used up: the rest only has to look alike
                digit = mix(numbers, place + 1) % np.uint64(size)
            written.append(part.write(digit))
        return written[0] if len(written) == 1 else pc.binary_join_element_wise(*reversed(written), "")


@dataclass(frozen=True)
class Either:
    """A string of one of several nodes."""

    options: tuple[Node, ...]

    @property
    def count(self) -> int:
        """How many strings there are, each counted once per way to write it."""
        return sum(option.count for option in self.options)

    def write(self, numbers: Numbers) -> pa.Array:
        """Return the strings of these numbers."""
        import pyarrow as pa

        ends = np.array(
            [min(end, LARGEST) for end in itertools.accumulate(o.count for o in self.options)], "uint64"
        )
        which = np.minimum(np.searchsorted(ends, numbers, side="right"), len(self.options) - 1)
        starts = np.append(np.uint64(0), ends[:-1])
        order = np.argsort(which, kind="stable")
        chunks = [self.options[k].write(numbers[which == k] - starts[k]) for k in np.unique(which)]
        back = np.empty(len(order), "int64")
        back[order] = np.arange(len(order))
        return pa.concat_arrays(chunks).take(pa.array(back)) if chunks else pa.array([], pa.string())


Node = OneOf | Sequence | Either


def parse_pattern(pattern: str) -> Node:
    """Return what writes the strings of a regular expression.

    Raises
    ------
    PatternNotUnderstood
        With the part that cannot be counted.
    """
    try:
        return _sequence(parser.parse(pattern))
    except re.error as error:
        raise PatternNotUnderstood(str(error)) from error


def limit_lengths(node: Node, shortest: int, longest: int | None) -> Node | None:
    """Return what writes only the node's strings of these lengths (characters), None where there is none."""
    kept = [part for size, part in sorted(_by_length(node, longest).items()) if size >= shortest]
    return _either(kept) if kept else None


def _by_length(node: Node, longest: int | None) -> dict[int, Node]:
    found: dict[int, list[Node]] = {}
    if isinstance(node, OneOf):
        lengths: dict[int, list[str]] = {}
        for text in node.strings:
            lengths.setdefault(len(text), []).append(text)
        found = {size: [OneOf(tuple(texts))] for size, texts in lengths.items()}
    elif isinstance(node, Either):
        for option in node.options:
            for size, part in _by_length(option, longest).items():
                found.setdefault(size, []).append(part)
    else:
        done: dict[int, Node] = {0: Sequence(())}
        for part in node.parts:
            longer: dict[int, list[Node]] = {}
            for (before, head), (size, tail) in itertools.product(
                done.items(), _by_length(part, longest).items()
            ):
                if longest is None or before + size <= longest:
                    longer.setdefault(before + size, []).append(_compact([*_flat(head), *_flat(tail)]))
            done = {size: _either(parts) for size, parts in longer.items()}
        return done
    return {size: _either(parts) for size, parts in found.items() if longest is None or size <= longest}


def _either(options: list[Node]) -> Node:
    return options[0] if len(options) == 1 else Either(tuple(options))


def mix(numbers: Numbers, salt: int) -> Numbers:
    """Scatter numbers over 64 bits (the finaliser of splitmix64, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        x = numbers + np.uint64(salt * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)), "uint64")


def permute(numbers: Numbers, size: int, key: int) -> Numbers:
    """Walk [0, size) in a keyed order: distinct numbers below `size` go to distinct numbers below `size`.

    A four-round Feistel network on the next even number of bits, walked on until it lands inside (Black,
    Rogaway, CT-RSA 2002).
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    shift = np.uint64(half)

    def rounds(x: Numbers) -> Numbers:
        left, right = x >> shift, x & low
        for salt in range(4):
            left, right = right, left ^ (mix(right, key + salt) & low)
        return np.asarray((left << shift) | right, "uint64")

    found = rounds(numbers.astype("uint64"))
    while (outside := np.flatnonzero(found >= size)).size:
        found[outside] = rounds(found[outside])
    return found


def _sequence(tokens: Any) -> Node:
    parts: list[Node] = []
    for token in tokens:
        node = _node(*token)
        if isinstance(node, Sequence):
            parts.extend(node.parts)
        elif node is not None:
            parts.append(node)
    return _compact(parts)


def _compact(parts: list[Node]) -> Node:
    # Neighbouring short lists become one list: three digits are one look-up among a thousand.
    merged: list[Node] = []
    for part in parts:
        before = merged[-1] if merged else None
        if isinstance(part, OneOf) and isinstance(before, OneOf) and before.count * part.count <= 4096:
            merged[-1] = OneOf(tuple(a + b for a in before.strings for b in part.strings))
        else:
            merged.append(part)
    return merged[0] if len(merged) == 1 else Sequence(tuple(merged))


def _node(operation: Any, argument: Any) -> Node | None:
    if operation is code.LITERAL:
        return OneOf((chr(argument),))
    if operation is code.NOT_LITERAL:
        return OneOf(tuple(char for char in PRINTABLE if char != chr(argument)))
    if operation is code.ANY:
        return OneOf(tuple(string.ascii_letters + string.digits))
    if operation is code.IN:
        return OneOf(_class(argument))
    if operation is code.SUBPATTERN:
        return _sequence(argument[3])
    if operation is code.BRANCH:
        return Either(tuple(_sequence(option) for option in argument[1]))
    if operation in (code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT):
        least, most, inner = argument
        most = least + OPEN_REPEATS if most is code.MAXREPEAT else most
        once = _sequence(inner)
        lengths = [_compact(_flat(once) * times) for times in range(least, most + 1)]
        return lengths[0] if len(lengths) == 1 else Either(tuple(lengths))
    if operation is code.AT:
        return None
    raise PatternNotUnderstood(f"{str(operation).lower()} is not supported")


def _flat(node: Node) -> list[Node]:
    return list(node.parts) if isinstance(node, Sequence) else [node]


def _class(items: Any) -> tuple[str, ...]:
    negated = items[0][0] is code.NEGATE
    members: dict[str, None] = {}
    for operation, argument in items[1:] if negated else items:
        if operation is code.LITERAL:
            members.update({chr(argument): None} if _writable(argument) else {})
        elif operation is code.RANGE:
            points = range(argument[0], argument[1] + 1)
            members.update(dict.fromkeys(chr(point) for point in points if _writable(point)))
        else:
            members.update(dict.fromkeys(CLASSES[argument]))
    chosen = tuple(char for char in PRINTABLE if char not in members) if negated else tuple(members)
    if not chosen:
        raise PatternNotUnderstood("a class has no character that can be written")
    return chosen


def _writable(point: int) -> bool:
    """Whether a file can hold a character: neither NUL nor half a surrogate pair."""
    return point != 0 and not 0xD800 <= point <= 0xDFFF
