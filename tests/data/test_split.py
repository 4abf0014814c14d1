"""A split: names as bytes in one array."""

import os

import numpy as np
import pytest

from dist_train.data.split import AT_ONCE, Split, encoded


def test_names_come_back_as_they_are_on_disk() -> None:
    split = Split(np.array([b"a/1.png", "é.png".encode(), b"\xff.png"], dtype=np.bytes_), np.array([0, 1, 1]))
    assert len(split) == 3
    assert [split.name(number) for number in range(3)] == ["a/1.png", "é.png", "\udcff.png"], (
        "not UTF-8, and still a name"
    )


@pytest.mark.parametrize("odd", [[], ["a\0b.png"], ["é\udcff.png"], [""]])
@pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 1])
def test_names_are_encoded_together_as_one_by_one(odd: list[str], count: int) -> None:
    names = [*odd, *(f"n/{number}.png" for number in range(count))]
    expected = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
    np.testing.assert_array_equal(encoded(names), expected, strict=True)
