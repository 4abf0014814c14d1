"""Draw images of each class by their names and ``data.val_seed``: those with the lowest numbers."""

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from dist_train.data.formats.base import Entries, class_of
from dist_train.seeding import fold_in_each


def drawn(seed: int, key: str, entries: Entries, wanted: Callable[[int], int]) -> NDArray[np.bool_]:
    """Return which entries are drawn, bool [N]. Multilabel and regression count as one class.

    An image that a table repeats is one image: all its entries are drawn, or none.

    Args:
        key: what the images are drawn for: each purpose has numbers of its own.
        wanted: how many images of a class that has so many.
    """
    numbers = fold_in_each(seed, key, entries.names)
    if has_repeats(numbers):
        return _drawn_with_repeats(numbers, entries, wanted)
    found = np.zeros(len(entries), np.bool_)
    for places in _classes(entries):
        most = wanted(len(places))
        if most > 0:
            own = numbers[places]
            found[places] = own <= np.partition(own, most - 1)[most - 1] if most < len(own) else True
    return found


def has_repeats(numbers: NDArray[np.int64]) -> bool:
    """Return whether a number comes twice. For the numbers of names this is far quicker than to compare the names."""
    ascending = np.sort(numbers)
    return bool((ascending[1:] == ascending[:-1]).any())


def _classes(entries: Entries) -> Iterator[NDArray[np.int64]]:
    """Yield the places of the entries of each class."""
    single = len(entries) > 0 and isinstance(entries.targets[0], int)
    kinds = np.array(entries.targets, np.int64) if single else np.zeros(len(entries), np.int64)
    order = np.argsort(kinds, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1)


def _drawn_with_repeats(
    numbers: NDArray[np.int64], entries: Entries, wanted: Callable[[int], int]
) -> NDArray[np.bool_]:
    of_class: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for entry, number in zip(entries, numbers.tolist(), strict=True):
        of_class[class_of(entry)][entry[0]] = number
    given: set[str] = set()
    for numbered in of_class.values():
        given.update(sorted(numbered, key=numbered.__getitem__)[: max(0, wanted(len(numbered)))])
    return np.fromiter((name in given for name in entries.names), np.bool_, len(entries))
