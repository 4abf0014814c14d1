"""The file of decoded images: opened, read and verified. ``data/cache`` builds it.

The file is the pixels, uint8 [N, H, W, 3] (training images first), a JSON description, and the length of that.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dist_train.data.decoding.picture import RGB, BadImage, Decoded, Picture
from dist_train.data.split import SplitName
from dist_train.errors import DataError
from dist_train.system.private_folder import OwnFile, open_own

FORMAT = 1
LENGTH_BYTES = 8
BLOCK = 64 * 2**20
KEY = "data.cache"


@dataclass(frozen=True)
class Cache:
    """Attributes:
    shape: N, H, W, 3.
    sha256: of all pixels, as the file states it.
    bad: what is wrong with the images that could not be decoded, by their place in the file.
    train: how many of the images are for training.
    """

    path: Path
    shape: tuple[int, int, int, int]
    sha256: str
    bad: dict[int, str]
    train: int
    file: OwnFile = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.shape[1], self.shape[2]

    def pixels(self, place: int) -> RGB:
        """Read an image, uint8 [H, W, 3].

        Raises:
            DataError: the file was cut while it is in use, or its disk fails.
        """
        image = np.empty(self.shape[1:], dtype=np.uint8)
        self._read(place * image.nbytes, image.data)
        return image

    def digest(self) -> str:
        """Read the whole file. Return the SHA-256 of its pixels."""
        digest, block, size = hashlib.sha256(), memoryview(bytearray(BLOCK)), math.prod(self.shape)
        for start in range(0, size, BLOCK):
            part = block[: min(BLOCK, size - start)]
            self._read(start, part)
            digest.update(part)
        return digest.hexdigest()

    def _read(self, position: int, target: memoryview) -> None:
        try:
            self.file.read(position, target)
        except (EOFError, OSError) as error:
            reason = getattr(error, "strerror", None) or "it was cut while this run uses it"
            raise DataError(
                f"{self.path} cannot be read: {reason}; start the run again, which builds it again"
            ) from None

    def reader(self, split: SplitName) -> Callable[[int], Picture]:
        """Opens an image of a split by its index; raises ``BadImage`` as decoding it did."""
        first = 0 if split == "train" else self.train

        def read(index: int) -> Picture:
            if first + index in self.bad:
                raise BadImage(self.bad[first + index])
            return Decoded(self.pixels(first + index))

        return read


def opened(path: Path, fingerprint: str, train: int) -> Cache | None:
    """Open the file at ``path``; return None if it is missing, incomplete, of other data, or open to changes by others.

    Args:
        fingerprint: of the data set.
        train: the number of its training images.

    Raises:
        ConfigError: another user owns the file.
    """
    file = open_own(path, KEY)
    if file is None:
        return None
    told, size = _description(file)
    shape = tuple(told.get("shape", ()))
    if told.get("format") != FORMAT or told.get("fingerprint") != fingerprint or math.prod(shape) != size:
        return None
    bad = {int(place): words for place, words in told["bad"].items()}
    return Cache(path, shape, told["sha256"], bad, train, file)


def end_of_file(shape: tuple[int, ...], fingerprint: str, sha256: str, bad: dict[int, str]) -> bytes:
    """Return what follows the pixels: the description and its length."""
    told = {"format": FORMAT, "fingerprint": fingerprint, "shape": shape, "sha256": sha256, "bad": bad}
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
