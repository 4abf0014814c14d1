"""Images of a class are drawn by the lowest numbers of their names."""

import random
from collections import defaultdict

import numpy as np
import pytest

from dist_train.data.selection.draw import drawn, has_repeats, spread
from dist_train.seeding import AT_ONCE, fold_in

NAMES = [f"{number}.png" for number in range(60)]
ODD = ["it's", "a\\b", "\udcff\udc80.png", "ü\n", "日本.png", "a'\"b", "\x7f", " ", "a/", "\x00z"]


def expected(seed: int, key: str, names: list[str], kinds: list[int], most: int) -> list[bool]:
    """Return what ``drawn`` returns, by the words of its docstring."""
    of_class: defaultdict[int, set[str]] = defaultdict(set)
    for name, kind in zip(names, kinds, strict=True):
        of_class[kind].add(name)
    lowest = (sorted(group, key=lambda name: fold_in(seed, key, name))[:most] for group in of_class.values())
    given = set().union(*lowest)
    return [name in given for name in names]


@pytest.mark.parametrize("most", [0, 1, 3, 999])
@pytest.mark.parametrize("repeats", [0, 1, 25])
@pytest.mark.parametrize("kinds", [1, 7, 70])
def test_the_lowest_numbers_of_each_class_are_drawn(most: int, repeats: int, kinds: int) -> None:
    draw = random.Random(repeats)
    names = [*NAMES, *ODD]
    names += draw.choices(names, k=repeats)
    draw.shuffle(names)
    targets = [hash_of(name) % kinds for name in names]
    found = drawn(5, "val", names, np.array(targets), lambda images: most)
    assert found.tolist() == expected(5, "val", names, targets, most)


def hash_of(name: str) -> int:
    return fold_in(0, name.encode(errors="surrogateescape").hex())


def test_classes_of_several_sizes_have_their_own_share() -> None:
    targets = [0] * 50 + [1] * 9 + [2]
    asked: list[int] = []

    def share(images: int) -> int:
        asked.append(images)
        return images // 5

    found = drawn(0, "val", NAMES, np.array(targets), share)
    assert asked == [50, 9, 1]
    assert np.bincount(targets, weights=found).tolist() == [10, 1, 0]


def test_nothing_is_drawn_of_nothing() -> None:
    assert drawn(0, "val", [], np.zeros(0, np.int64), lambda images: 1).tolist() == []
    assert not has_repeats(np.zeros(0, np.int64))
    assert has_repeats(np.array([3, 1, 3]))


def test_more_names_than_are_held_at_a_time() -> None:
    names = [f"class/{number}" for number in range(2 * AT_ONCE + 5)]
    found = drawn(0, "val", names, np.zeros(len(names), np.int64), lambda images: 11)
    assert found.tolist() == expected(0, "val", names, [0] * len(names), 11)


@pytest.mark.parametrize("folds", [2, 3, 5, 11])
def test_each_image_goes_to_the_fold_with_the_fewest_of_its_class_then_the_fewest_in_all(folds: int) -> None:
    draw = random.Random(folds)
    classes = np.array(draw.choices(range(9), weights=range(1, 10), k=500))
    numbers = np.array(draw.sample(range(10**9), 500))
    counts, found = np.zeros((9, folds), int), np.zeros(500, int)
    for place in np.argsort(numbers):
        kind = classes[place]
        found[place] = min(range(folds), key=lambda fold: (counts[kind, fold], counts[:, fold].sum()))
        counts[kind, found[place]] += 1
    assert spread(numbers, classes, folds).tolist() == found.tolist()
