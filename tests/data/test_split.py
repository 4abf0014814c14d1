"""A split: names as bytes in one array."""

import numpy as np

from dist_train.data.split import Split


def test_names_come_back_as_they_are_on_disk() -> None:
    split = Split(np.array([b"a/1.png", "é.png".encode(), b"\xff.png"], dtype=np.bytes_), np.array([0, 1, 1]))
    assert len(split) == 3
    assert [split.name(number) for number in range(3)] == ["a/1.png", "é.png", "\udcff.png"], (
        "not UTF-8, and still a name"
    )
