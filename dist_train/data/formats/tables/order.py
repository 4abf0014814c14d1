"""The paths of a table in their order: which lines repeat an image, and which images share a folder."""

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import lt

import numpy as np

SOME = 4096
"""Paths that are looked at together: a look at their joined text takes a tenth of the time."""


@dataclass(frozen=True)
class Order:
    """The paths of a table, sorted.

    Attributes:
        names: ``os.path.normpath`` of each path, ascending.
        places: where the table has it.
        plain: every path is the same as its name.
    """

    names: Sequence[str]
    places: Sequence[int]
    plain: bool

    @classmethod
    def of(cls, paths: list[str]) -> "Order":
        """Return the order of the paths. Of a table that is sorted already they are not copied."""
        names = _normal(paths)
        if all(map(lt, names, islice(names, 1, None))):
            return cls(names, range(len(names)), names is paths)
        places = sorted(range(len(names)), key=names.__getitem__)
        return cls([names[place] for place in places], places, names is paths)

    @cached_property
    def repeats(self) -> dict[int, int]:
        """Return the places that repeat an image -> the first place that has it."""
        if isinstance(self.places, range):
            return {}
        found: dict[int, int] = {}
        for number in range(1, len(self.names)):
            if self.names[number] == self.names[number - 1]:
                before = self.places[number - 1]
                found[self.places[number]] = found.get(before, before)
        return found

    def folders(self) -> dict[str, Sequence[int]]:
        """Return the numbers of the names in each folder, by the folder's path with a "/" behind it."""
        found: dict[str, Sequence[int]] = {}
        for folder, start, stop in self._runs():
            some = self.names[start:stop]
            if "".join(some).count("/") == len(some) * folder.count("/"):
                found[folder] = range(start, stop)
            else:
                found |= _grouped(some, start)
        return found

    def named(self, numbers: Sequence[int]) -> Iterable[str]:
        """Return the names of these numbers."""
        if isinstance(numbers, range):
            return self.names[numbers.start : numbers.stop]
        return map(self.names.__getitem__, numbers)

    def first_place(self, numbers: Sequence[int]) -> int:
        """Return the first place that the names of these numbers have in the table."""
        if isinstance(self.places, range):
            return numbers[0]
        return min(map(self.places.__getitem__, numbers))

    def _runs(self) -> Iterator[tuple[str, int, int]]:
        """Yield folders, and the first and the last but one of the names that begin with them: deeper ones are among these."""
        start = 0
        while start < len(self.names):
            folder = folder_of(self.names[start])
            # The strings that begin with "a/" are those from "a/" to "a0": "0" follows "/".
            stop = bisect_left(self.names, f"{folder[:-1]}0", start) if folder else len(self.names)
            yield folder, start, stop
            start = stop


def folder_of(path: str) -> str:
    """Return the folder of a path with a "/" behind it; nothing where the path has no folder."""
    return path[: path.rfind("/") + 1]


def _grouped(names: Sequence[str], start: int) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names, start):
        found[folder_of(name)].append(number)
    return found


def _normal(paths: list[str]) -> list[str]:
    """Return ``os.path.normpath`` of each path; the same list if none differs."""
    for start in range(0, len(paths), SOME):
        text = "\0".join(["", *paths[start : start + SOME], ""])
        if _is_odd(text):
            normal = [*map(os.path.normpath, paths)]
            return paths if normal == paths else [*map(_same, paths, normal)]
    return paths


def _is_odd(text: str) -> bool:
    """Return whether a part of a path is empty or begins with a "."; each path has a "\\0" before and behind it."""
    # NumPy takes a quarter of the time of five searches.
    codes = np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)
    slash, zero = codes == ord("/"), codes == 0
    ends = slash | zero
    odd = ends[:-1] & (ends | (codes == ord(".")))[1:]
    return bool((odd > (zero[:-1] & slash[1:])).any())  # a "/" at the beginning ends no part


def _same(path: str, normal: str) -> str:
    """Return the same object for an equal text: a million copies take 120 MB."""
    return path if normal == path else normal
