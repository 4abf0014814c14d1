"""What the doctor keeps of an image: a digest of its file, a small grey picture, whether it is blank or broken."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dist_train.data.doctor.near import SIDE
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex
from dist_train.data.shards.shard_images import ShardImages
from dist_train.data.split import SplitName
from dist_train.errors import DataError
from dist_train.system.progress import advance, shown

THREADS = 4
CHUNK = 64


@dataclass(frozen=True)
class Signature:
    """What is kept of one image.

    Attributes:
        digest: of the bytes of its file, or of the pixels of an image in memory.
        small: grey, uint8 [32, 32]: the whole image squashed. None if the image is broken.
        blank: all pixels are equal.
        broken: why it cannot be read; empty if it can.
    """

    split: SplitName
    number: int
    digest: bytes
    small: NDArray[np.uint8] | None
    blank: bool = False
    broken: str = ""


def signatures(index: DataIndex) -> Iterator[Signature]:
    """Yield the signature of every image, in order: those of validation first, then those of training."""
    places: list[tuple[SplitName, int]] = [("val", number) for number in range(len(index.val))]
    places += [("train", number) for number in range(len(index.train))]
    chunks = [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]
    with shown("looking at every image", "images", len(places)), ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda chunk: [_signature(index, *place) for place in chunk], chunks):
            advance(len(found))
            yield from found


def _signature(index: DataIndex, split: SplitName, number: int) -> Signature:
    name = index.split(split).name(number)
    try:
        pixels = index.images.open(name).pixels()
        digest = _digest(index, name, pixels)
    except DataError as error:
        return Signature(split, number, b"", None, broken=str(error))
    blank = bool((pixels == pixels[0, 0]).all())
    return Signature(split, number, digest, small(pixels), blank)


def _digest(index: DataIndex, name: str, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    if isinstance(index.images, FileImages | ShardImages):
        return hashlib.blake2b(index.images.content(name)).digest()
    return hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes()).digest()


def small(pixels_HWC: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return an image as a grey square, uint8 [32, 32]: the mean of the channels, of which each pixel is a mean too."""
    levels = np.iinfo(pixels_HWC.dtype).max
    grey = pixels_HWC.mean(axis=2, dtype=np.float32) * np.float32(255 / levels)
    picture = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(picture).round().clip(0, 255).astype(np.uint8)
