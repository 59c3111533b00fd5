import re

import numpy as np
import pytest

from app.generators.patterns import LARGEST, PatternNotUnderstood, limit_lengths, parse_pattern, permute


def strings(pattern: str, most: int = 5000) -> list[str]:
    node = parse_pattern(pattern)
    size = min(node.count, LARGEST)
    return list(node.write(permute(np.arange(min(size, most), dtype="uint64"), size, 42)).to_pylist())


@pytest.mark.parametrize(
    "pattern",
    [
        r"^P\d{6}$", r"[A-Z]{2}-\d{4}", r"(ab|cd?)x{1,3}", r"\w+", r"[^a-z]{3}", r"(A|B)[0-9]{3,5}[a-f]?",
        "[A-Z0-9]{20}", "[a-z]{3}(-[a-z]{2,4})*", r"é\d\s日", r"a\.b|c\+", r"[\d_]{2}\D",
    ],
)  # fmt: skip
def test_every_string_matches_and_none_comes_twice(pattern: str) -> None:
    made = strings(pattern)
    assert all(re.fullmatch(pattern, text) for text in made)
    assert len(set(made)) == len(made)


def test_all_strings_of_a_small_pattern_are_made() -> None:
    assert sorted(strings("(a|bc)x?[01]")) == sorted(["a0", "a1", "ax0", "ax1", "bc0", "bc1", "bcx0", "bcx1"])


def test_characters_that_no_file_holds_are_left_out() -> None:
    assert sorted(strings(r"[\x00-\x02]")) == ["\x01", "\x02"]
    assert sorted(strings(r"[\ud7ff-\ue000]")) == ["\ud7ff", "\ue000"]


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", r"(?<!x)y", "[unclosed", r"[\ud800-\udfff]"])
def test_what_cannot_be_counted_is_refused(pattern: str) -> None:
    with pytest.raises(PatternNotUnderstood):
        parse_pattern(pattern)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 4097])
def test_a_permutation_reaches_every_number_once(size: int) -> None:
    assert sorted(permute(np.arange(size, dtype="uint64"), size, 7).tolist()) == list(range(size))


def test_another_key_is_another_order() -> None:
    numbers = np.arange(1000, dtype="uint64")
    assert (permute(numbers, 10**6, 1) != permute(numbers, 10**6, 2)).mean() > 0.99


def test_lengths_narrow_a_pattern() -> None:
    node = limit_lengths(parse_pattern("[A-Z]+(-[0-9]{1,4})?"), 4, 5)
    assert node is not None
    made = node.write(permute(np.arange(3000, dtype="uint64"), min(node.count, LARGEST), 3)).to_pylist()
    assert {len(text) for text in made} == {4, 5}
    assert all(re.fullmatch("[A-Z]+(-[0-9]{1,4})?", text) for text in made)
    assert limit_lengths(parse_pattern("[A-Z]{3}"), 4, 9) is None
