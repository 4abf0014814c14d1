"""The decoded images as training reads them: each is compared with its digest when this rank reads it first.

A damaged image is decoded again from its file, with all others of its piece, and replaced.
"""

import logging
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dist_train.data.decoding.picture import RGB, BadImage, Decoded, Picture
from dist_train.data.pixels.originals import Originals
from dist_train.data.pixels.part_file import locked, unlock
from dist_train.data.pixels.pixel_file import PixelFile, digest_of
from dist_train.data.split import SplitName
from dist_train.errors import DataError
from dist_train.system.private_folder import OwnFile

log = logging.getLogger(__name__)


@lru_cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def _shared_flags(count: int) -> NDArray[np.uint8]:
    """Return zeros in memory that processes share which are forked later."""
    return np.frombuffer(mmap.mmap(-1, max(count, 1)), dtype=np.uint8)


@dataclass(frozen=True)
class Cache:
    """The cache of a data set, open.

    Attributes:
        compared: uint8 [N], 1 for each image that had its digest when it was read; loader processes share it.
    """

    file: PixelFile
    originals: Originals
    compared: NDArray[np.uint8] = field(repr=False)

    @classmethod
    def of(cls, file: PixelFile, originals: Originals) -> "Cache":
        return cls(file, originals, _shared_flags(len(originals)))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.file.layout.shape[1:3]

    def reader(self, split: SplitName) -> Callable[[int], Picture]:
        """Return a function that opens an image of a split by its index; it raises ``BadImage`` as decoding it did."""

        def read(number: int) -> Picture:
            return Decoded(self.pixels(self.originals.place(split, number)))

        return read

    def pixels(self, place: int) -> RGB:
        """Read an image, uint8 [H, W, 3].

        Raises:
            BadImage: it could not be decoded when the file was built.
            DataError: the file cannot be read; or it is damaged, and so are the data.
        """
        if self.file.is_bad(place):
            self.originals.pixels(place)  # says why, if it still cannot be decoded
            raise BadImage(f"{self.originals.name(place)} could not be decoded when {self.file.path} was built")
        image = self.file.pixels(place)
        if self.compared[place]:
            return image
        if not self.file.is_right(place, image):
            self._mend(self.file.layout.piece_of(place))
            image = self.file.pixels(place)
            if not self.file.is_right(place, image):  # it could not be replaced
                return self._decoded_again(place)
        self.compared[place] = 1
        return image

    def _mend(self, piece: int) -> None:
        """Replace the damaged images of a piece. One process of a node does so and warns; the others wait for it."""
        try:
            file = self.file.file.for_writing()
        except OSError as error:
            _warn_once(
                f"{self.file.path} is damaged and cannot be written ({error.strerror}): some images are decoded each time"
            )
            return
        locked(file, piece, wait=True)
        try:
            self._replace_damaged(file, piece)
        finally:
            unlock(file, piece)

    def _replace_damaged(self, file: OwnFile, piece: int) -> None:
        places = self.file.layout.places(piece)
        damaged = [place for place in places if self._is_damaged(place)]
        for place in damaged:
            image = self._decoded_again(place)
            try:
                file.write(place * image.nbytes, image.data)
            except OSError as error:
                _warn_once(f"{self.file.path} cannot be written ({error.strerror}): some images are decoded each time")
        if damaged:
            log.warning(
                "%s: %d of its images %d to %d are damaged (%s ...); they are decoded again from the data set",
                *(self.file.path, len(damaged), places.start, places.stop - 1, self.originals.name(damaged[0])),
            )

    def _is_damaged(self, place: int) -> bool:
        return not self.file.is_bad(place) and not self.file.is_right(place, self.file.pixels(place))

    def _decoded_again(self, place: int) -> RGB:
        """Decode an image that is damaged in the cache.

        Raises:
            DataError: it cannot be decoded; or it has other pixels than when the cache was built: the cache is then removed.
        """
        name, path = self.originals.name(place), self.file.path
        try:
            image = np.ascontiguousarray(self.originals.pixels(place))
        except DataError as error:
            raise DataError(
                f"{name} is damaged in {path}, and cannot be decoded again: {error}; restore the file and start the run again"
            ) from None
        if digest_of(image) != bytes(self.file.digests[place]):
            path.unlink(missing_ok=True)
            raise DataError(
                f"{name} is damaged in {path}, and its file has other pixels now than when that was built; {path} is removed: "
                "start the run again to rebuild it"
            )
        return image
