"""A member that lies outside its archive."""

import random

import numpy as np
import pytest

from dist_train.data.shards.members import FoundImages, Member, is_inside, walk_order, walked


@pytest.mark.parametrize(("offset", "length", "inside"), [(0, 10, True), (5, 6, False), (-1, 3, False), (4, -1, False)])
def test_is_inside(offset: int, length: int, inside: bool) -> None:
    assert is_inside(Member("a", offset, length, length), 10) == inside


FLAT = [f"train/a/{number}.png" for number in range(30)]
DEEP = [
    "a/1.png",
    "a/b/0.png",
    "a/B/2.png",
    "a/10.png",
    "a/b.png",
    "a/b/c/1.png",
    "1.png",
    "a/b!/1.png",
    "\udcff/\udc80.png",
]


@pytest.mark.parametrize("names", [FLAT, DEEP, [*FLAT, *DEEP], ["train/a/b", "train/ab"], ["a", "b/a"], []])
@pytest.mark.parametrize("classes", [1, 3])
def test_classes_come_in_their_order_and_names_as_a_folder_is_walked(names: list[str], classes: int) -> None:
    shuffled = random.Random(0).sample(names, len(names))
    labels = np.array([len(name) % (classes + 1) - 1 for name in shuffled], np.int64)
    expected = sorted(
        (place for place in range(len(names)) if labels[place] >= 0),
        key=lambda place: (labels[place], walk_order(shuffled[place])),
    )
    assert walked(shuffled, labels).tolist() == expected


def test_columns_and_labels() -> None:
    images = FoundImages()
    for number, name in enumerate(["cat", "dog", "cat", "bird"]):
        images.add(f"{number}.png", name, number // 2, Member("", 1 << 40, 2, 3, number == 1))
    assert len(images) == 4
    assert images.class_numbers == {"cat": 0, "dog": 1, "bird": 2}
    assert images.labels({"cat": 5, "dog": None, "bird": 0}).tolist() == [5, -1, 5, 0]
    assert (images.offsets[3], images.lengths[3], images.sizes[3]) == (1 << 40, 2, 3)
    assert (list(images.deflated), list(images.shards)) == ([0, 1, 0, 0], [0, 0, 1, 1])
    assert FoundImages().labels({}).tolist() == []
