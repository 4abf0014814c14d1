"""One split of a data set: names, targets and sizes of its images, in arrays that loader processes share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dist_train.data.label_sets import LabelSets

SplitName = Literal["train", "val"]

AT_ONCE = 1024
"""Names that are encoded at a time."""


@dataclass(frozen=True)
class Split:
    """Images and their targets, in the order of the names.

    Attributes:
        paths: bytes in one array: loader processes share its memory, and would copy a list of strings by counting references.
        labels: int64 [N], float32 [N, K] for regression, or sparse for multilabel; ``labels[places]`` is an array for all.
        sizes: int64 [N], in bytes, or [0] where nobody has asked for them.
        columns: numbers for each image, float64 [N], by what they are for: ``further.WEIGHT``, ``sampling.SAMPLING``.
    """

    paths: NDArray[np.bytes_]
    labels: NDArray[Any] | LabelSets
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_sizes(self) -> bool:
        return len(self.sizes) == len(self.paths)

    def part(self, places: NDArray[np.int64]) -> "Split":
        """Return the images at ``places``, without ``columns``."""
        return Split(self.paths[places], self.labels[places], self.sizes[places] if self.has_sizes else self.sizes)

    def name(self, index: int) -> str:
        """Return the name of image ``index``: its path below the root, or ``<split>/<number>`` in a data set object."""
        return os.fsdecode(self.paths[index])


def encoded(names: Sequence[str]) -> NDArray[np.bytes_]:
    """Return the names as the file system has them."""
    width = max(map(len, names), default=0) or 1
    found = np.empty(len(names), f"S{width}")
    for start in range(0, len(names), AT_ONCE):
        text = "".join([name.ljust(width, "\0") for name in names[start : start + AT_ONCE]])
        if not text.isascii():
            return _encoded(names)
        found[start : start + AT_ONCE] = np.frombuffer(text.encode(), found.dtype)
    return found


def _encoded(names: Sequence[str]) -> NDArray[np.bytes_]:
    """Return any names as bytes. Joined names are encoded in a tenth of the time that single ones take."""
    blocks = range(0, len(names), AT_ONCE)
    found = np.empty(len(names), f"S{max(_width(names[start : start + AT_ONCE]) for start in blocks)}")
    for start in blocks:
        some = names[start : start + AT_ONCE]
        encoded = os.fsencode("\0".join(some)).split(b"\0")
        # The name of a member of an archive may have a zero byte.
        found[start : start + AT_ONCE] = encoded if len(encoded) == len(some) else list(map(os.fsencode, some))
    return found


def _width(names: Sequence[str]) -> int:
    """Return the number of bytes of the longest name."""
    return max(map(len, names if "".join(names).isascii() else map(os.fsencode, names)))
