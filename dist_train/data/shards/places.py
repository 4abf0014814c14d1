"""Where each image of a data set lies in its archives: arrays that loader processes share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.data.shards.members import FoundImages, Member
from dist_train.data.split import encoded


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
    def of(cls, found: Sequence[FoundImages]) -> "Places":
        """Return the places of the images."""
        names = encoded([name for images in found for name in images.names])
        order = np.argsort(names, kind="stable")

        def column(key: str, kind: Any) -> NDArray[Any]:
            parts = [np.frombuffer(getattr(images, key), kind) for images in found if len(images)]
            return np.concatenate([np.zeros(0, kind), *parts])[order]

        offsets, lengths, sizes = (column(key, np.int64) for key in ("offsets", "lengths", "sizes"))
        return cls(names[order], column("shards", np.int32), offsets, lengths, sizes, column("deflated", np.bool_))

    def twice(self) -> NDArray[np.bytes_]:
        """Return the names of several images."""
        return np.unique(self.names[1:][self.names[1:] == self.names[:-1]])

    def shards_of(self, name: bytes) -> list[int]:
        """Return the numbers of the archives that have an image of that name."""
        return sorted(set(map(int, self.shards[self.names == name])))

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
