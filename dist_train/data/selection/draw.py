"""Draw images of each class by their names and ``data.val_seed``: those with the lowest numbers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dist_train.seeding import fold_in_each


def drawn(
    seed: int, key: str, names: Sequence[str], classes: NDArray[np.int64], wanted: Callable[[int], int]
) -> NDArray[np.bool_]:
    """Return which images are drawn, bool [N].

    An image that a table repeats is one image: all its entries are drawn, or none.

    Args:
        key: what the images are drawn for: each purpose has numbers of its own.
        classes: one for each name.
        wanted: returns how many images of a class are drawn that has so many.
    """
    return drawn_by(fold_in_each(seed, key, names), names, classes, wanted)


def drawn_by(
    numbers: NDArray[np.int64], names: Sequence[str], classes: NDArray[np.int64], wanted: Callable[[int], int]
) -> NDArray[np.bool_]:
    """Return which images are drawn, as ``drawn`` does, by the numbers of their names: int64 [N]."""
    if has_repeats(numbers):
        return _drawn_with_repeats(numbers, names, classes, wanted)
    found = np.zeros(len(names), np.bool_)
    for places in _places_of_each(classes):
        most = wanted(len(places))
        if most > 0:
            own = numbers[places]
            found[places] = own <= np.partition(own, most - 1)[most - 1] if most < len(own) else True
    return found


def has_repeats(numbers: NDArray[np.int64]) -> bool:
    """Return whether a number comes twice. For the numbers of names this is far quicker than to compare the names."""
    ascending = np.sort(numbers)
    return bool((ascending[1:] == ascending[:-1]).any())


def _places_of_each(classes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(classes, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)


def _drawn_with_repeats(
    numbers: NDArray[np.int64], names: Sequence[str], classes: NDArray[np.int64], wanted: Callable[[int], int]
) -> NDArray[np.bool_]:
    of_class: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for name, kind, number in zip(names, classes.tolist(), numbers.tolist(), strict=True):
        of_class[kind][name] = number
    given: set[str] = set()
    for numbered in of_class.values():
        given.update(sorted(numbered, key=numbered.__getitem__)[: max(0, wanted(len(numbered)))])
    return np.fromiter((name in given for name in names), np.bool_, len(names))


def spread(numbers: NDArray[np.int64], classes: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Return the fold of each image, from 0: images in the order of their numbers, each into the best fold by the rule below.

    The best fold has the fewest images of the class, then the fewest in all, then the lowest number.

    Args:
        numbers: one for each image; none comes twice.
    """
    totals = [0] * folds
    fewest: defaultdict[int, list[int]] = defaultdict(list)  # class -> the folds with the fewest images of it
    order = np.argsort(numbers)
    found = []
    for kind in classes[order].tolist():
        among = fewest[kind]
        if not among:
            among.extend(range(folds))
        best = min(among, key=totals.__getitem__)
        among.remove(best)
        totals[best] += 1
        found.append(best)
    result = np.empty(len(found), np.int64)
    result[order] = found
    return result
