"""Where each image of a data set lies in its archives: arrays that loader processes share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dist_train.data.shards.members import Member


@dataclass(frozen=True)
class Shard:
    """An archive as it was when it was scanned.

    Attributes:
        path: relative to the folder of the archives.
        size: in bytes.
        changed_ns: when it was last changed, in ns since 1970; of a remote one a number of its ETag.
    """

    path: str
    size: int
    changed_ns: int

    @property
    def version(self) -> tuple[int, int]:
        """Return size and time, as ``files.version_of`` does."""
        return self.size, self.changed_ns


@dataclass(frozen=True)
class Places:
    """Members of archives by the names of images.

    Attributes:
        names: bytes [N], ascending.
        shards: int32 [N], indices of archives.
        offsets, lengths, sizes: int64 [N], see ``Member``.
        deflated: bool [N], or int8.
    """

    names: NDArray[np.bytes_]
    shards: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sizes: NDArray[np.int64]
    deflated: NDArray[np.bool_ | np.int8]

    @classmethod
    def of(cls, found: Sequence[tuple[str, int, Member]]) -> "Places":
        """Return the places of (name of the image, index of the archive, member)."""
        names = np.array([os.fsencode(name) for name, _, _ in found], dtype=np.bytes_)
        order = np.argsort(names)
        numbers = [(shard, m.offset, m.length, m.size, m.deflated) for _, shard, m in found]
        shards, offsets, lengths, sizes, deflated = np.array(numbers, dtype=np.int64).reshape(-1, 5)[order].T.copy()
        return cls(names[order], shards.astype(np.int32), offsets, lengths, sizes, deflated.astype(np.bool_))

    def find(self, name: str) -> tuple[int, Member]:
        """Return the index of the archive, and the member.

        Raises:
            KeyError: there is no image of that name.
        """
        wanted = os.fsencode(name)
        place = int(self.names.searchsorted(wanted))
        if place == len(self.names) or self.names.item(place) != wanted:
            raise KeyError(name)
        offset, length, size = self.offsets.item(place), self.lengths.item(place), self.sizes.item(place)
        return self.shards.item(place), Member(name, offset, length, size, bool(self.deflated.item(place)))
