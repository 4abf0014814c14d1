"""The labels of many images of a multilabel data set: only those that an image has, side by side in one array."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

ONE = ord("1")


@dataclass(frozen=True)
class LabelSets:
    """Label sets of N images over K labels, as compressed sparse rows (CSR; ``indptr`` and ``indices`` of SciPy).

    Attributes:
        starts: int64 [N + 1]. The labels of image ``i`` are ``numbers[starts[i]:starts[i + 1]]``.
        numbers: int32, one for each label of each image: an index below K; those of one image ascend.
        outputs: K.

    Raises:
        ValueError: the arrays do not fit together.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.int32]
    outputs: int

    def __post_init__(self) -> None:
        lengths = np.diff(self.starts)
        if self.starts[0] != 0 or self.starts[-1] != len(self.numbers) or lengths.min(initial=0) < 0:
            raise ValueError("the starts of the label sets do not fit their numbers")
        if self.numbers.min(initial=0) < 0 or self.numbers.max(initial=-1) >= self.outputs:
            raise ValueError(f"a label that is not a number from 0 to {self.outputs - 1}")
        ascends = np.diff(self.numbers, prepend=-1) > 0
        ascends[self.starts[:-1][lengths > 0]] = True
        if not ascends.all():
            raise ValueError("the labels of an image must ascend")

    @classmethod
    def of(cls, sets: Sequence[Sequence[int]], outputs: int) -> "LabelSets":
        """Return the label sets of images.

        Args:
            sets: for each image the numbers of its labels, ascending.

        Raises:
            TypeError: a number is not an int, such as those of rows of 0.0 and 1.0.
        """
        starts = np.zeros(len(sets) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, sets), np.int64, len(sets)), out=starts[1:])
        return cls(starts, np.array(array("i", chain.from_iterable(sets)), np.int32), outputs)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, places: Any) -> NDArray[Any]:
        """Return what a dense float32 array [N, K] of 0 and 1 has at ``places``, an index of its first axis, such as [B, K]."""
        first, last = self.starts[:-1][places], self.starts[1:][places]
        rows = np.zeros((*np.shape(first), self.outputs), np.float32)
        for row, start, end in zip(rows.reshape(-1, self.outputs), np.ravel(first), np.ravel(last), strict=True):
            row[self.numbers[start:end]] = 1
        return rows

    def sets(self) -> Iterator[list[int]]:
        """Yield the numbers of each image's labels, ascending."""
        for start, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            yield self.numbers[start:end].tolist()

    def counts(self) -> NDArray[np.int64]:
        """Return how many images have each label: int64 [K]."""
        return np.bincount(self.numbers, minlength=self.outputs).astype(np.int64)

    def texts(self, kind: type[tuple[float, ...] | list[float]]) -> Iterator[bytes]:
        """Yield for each image the text of its row of 0.0 and 1.0 as a tuple or list: ``(0.0, 1.0, 0.0)``.

        Fingerprints and listings of data sets are made of these texts, since before labels were sparse.
        """
        text = bytearray(str(kind([0.0] * self.outputs)).encode())
        width = len("0.0, ")
        for numbers in self.sets():
            places = [1 + width * number for number in numbers]
            for place in places:
                text[place] = ONE
            yield bytes(text)
            for place in places:
                text[place] = ord("0")
