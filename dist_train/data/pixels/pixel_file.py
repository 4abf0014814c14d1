"""The file of decoded images: its layout, and how it is opened and read.

Pixels, uint8 [N, H, W, 3], training images first; a digest of each image; a JSON description; the length of the description. The
description has the digest of all digests, so that opening the file reads 16 bytes per image. An image is compared with its digest
when it is read (``images``).
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from dist_train.data.decoding.picture import RGB
from dist_train.errors import DataError
from dist_train.system.private_folder import OwnFile, open_own

FORMAT = 2
LENGTH_BYTES = 8
DIGEST_BYTES = 16
PIECE_BYTES, PIECE_IMAGES = 16 * 2**20, 256
"""The most bytes and images of a piece, the work that a killed process loses."""
KEY = "data.cache"

BAD = b"\xff" * DIGEST_BYTES
"""Stands for the digest of an image that could not be decoded."""

Digests = NDArray[np.uint8]
"""The digests of N images: uint8 [N, 16], zeros for an image that is not decoded yet."""


class Unusable(Exception):
    """The reason why a file at the place of a cache cannot be used, in words that follow its name."""


@dataclass(frozen=True)
class Layout:
    """Where things are in the file. A piece is a range of consecutive images.

    Attributes:
        shape: N, H, W, 3.
    """

    shape: tuple[int, int, int, int]

    @property
    def image_bytes(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def digests_at(self) -> int:
        return math.prod(self.shape)

    @property
    def end_at(self) -> int:
        """Return where the description begins."""
        return self.digests_at + self.shape[0] * DIGEST_BYTES

    @property
    def _images_per_piece(self) -> int:
        return max(1, min(PIECE_IMAGES, PIECE_BYTES // self.image_bytes))

    @property
    def pieces(self) -> int:
        return -(-self.shape[0] // self._images_per_piece)

    def places(self, piece: int) -> range:
        """Return the images of a piece."""
        first = piece * self._images_per_piece
        return range(first, min(first + self._images_per_piece, self.shape[0]))

    def images_in(self, pieces: Sequence[int]) -> int:
        """Return the number of images in ``pieces``, ascending. All pieces have the same number, except the last of the file."""
        missing = self.pieces * self._images_per_piece - self.shape[0]
        ends = bool(pieces) and pieces[-1] == self.pieces - 1
        return len(pieces) * self._images_per_piece - ends * missing

    def piece_of(self, place: int) -> int:
        return place // self._images_per_piece


@dataclass(frozen=True)
class PixelFile:
    """An open file, whose description and digests are whole."""

    path: Path
    layout: Layout
    digests: Digests = field(repr=False)
    file: OwnFile = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """Return the digest of all pixels."""
        return digest_of_all(self.layout, self.digests)

    def pixels(self, place: int) -> RGB:
        """Read an image, uint8 [H, W, 3].

        Raises:
            DataError: the file was truncated while it is in use, or its disk fails.
        """
        image = np.empty(self.layout.shape[1:], dtype=np.uint8)
        try:
            self.file.read(place * image.nbytes, image.data)
        except (EOFError, OSError) as error:
            reason = getattr(error, "strerror", None) or "it was cut while this run uses it"
            raise DataError(f"{self.path} cannot be read: {reason}; start the run again to rebuild it") from None
        return image

    def is_right(self, place: int, image: RGB) -> bool:
        """Return whether an image has the digest that the file states."""
        return digest_of(image) == bytes(self.digests[place])

    def is_bad(self, place: int) -> bool:
        """Return whether an image could not be decoded."""
        return bytes(self.digests[place]) == BAD

    def bad(self) -> list[int]:
        """Return the places of images that could not be decoded."""
        return [int(place) for place in (self.digests == BAD[0]).all(axis=1).nonzero()[0]]


def opened(path: Path, fingerprint: str) -> PixelFile:
    """Open the file at ``path``.

    Args:
        fingerprint: of the data set.

    Raises:
        Unusable: it is missing, damaged, of other data or of an older version, or other users can change it.
        ConfigError: another user owns the file.
    """
    file = open_own(path, KEY)
    if file is None:
        raise Unusable("is not a regular file, or other users can change it,")
    told, end = _description(file)
    if told.get("format") in range(1, FORMAT):
        raise Unusable("was written by an older version, which kept one digest of the whole file,")
    if told.get("fingerprint") not in (None, fingerprint):
        raise Unusable("has another version of the data set")
    with suppress(KeyError, TypeError, ValueError, EOFError, OSError):
        height, width, channels = told["shape"][1:]
        layout = Layout((int(told["shape"][0]), int(height), int(width), int(channels)))
        if layout.end_at == end and told["format"] == FORMAT:
            digests = digests_in(file, layout, range(layout.shape[0]))
            if told["digest"] == digest_of_all(layout, digests):
                return PixelFile(path, layout, digests, file)
    raise Unusable("is damaged")


def digest_of(image: RGB) -> bytes:
    """Return the digest of an image."""
    return blake3(image.data).digest(DIGEST_BYTES)


def digest_of_all(layout: Layout, digests: Digests) -> str:
    """Return the digest of the pixels of all images, from the digests of each."""
    return blake3(json.dumps(layout.shape).encode() + digests.tobytes()).hexdigest()


def digests_in(file: OwnFile, layout: Layout, places: range) -> Digests:
    """Read the digests of images.

    Raises:
        EOFError, OSError: the file cannot be read.
    """
    digests = np.empty((len(places), DIGEST_BYTES), dtype=np.uint8)
    file.read(layout.digests_at + places.start * DIGEST_BYTES, digests.data)
    return digests


def end_of_file(layout: Layout, fingerprint: str, digests: Digests) -> bytes:
    """Return what follows the digests: the description and its length."""
    digest = digest_of_all(layout, digests)
    told = {"format": FORMAT, "fingerprint": fingerprint, "shape": layout.shape, "digest": digest}
    text = json.dumps(told).encode()
    return text + len(text).to_bytes(LENGTH_BYTES)


def _description(file: OwnFile) -> tuple[dict[str, Any], int]:
    """Return the description at the end of a cache, and the number of bytes before it."""
    try:
        end = file.size - LENGTH_BYTES
        length = int.from_bytes(_bytes(file, end, LENGTH_BYTES))
        found = json.loads(_bytes(file, end - length, length))
    except (OSError, ValueError, EOFError, RecursionError):
        return {}, 0
    return (found, end - length) if isinstance(found, dict) else ({}, 0)


def _bytes(file: OwnFile, position: int, count: int) -> bytes:
    if not 0 <= position <= position + count <= file.size:
        raise EOFError
    target = bytearray(count)
    file.read(position, memoryview(target))
    return bytes(target)
