"""From a file of any image format to RGB pixels, in one way for training, evaluation and prediction.

Decided here: Exif orientation is applied, the first frame of an animation counts, transparency is laid on white,
and 16-bit and floating point greys are scaled to 8 bits instead of being cut off at 255.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dist_train.data.decoding.jpeg import decode, quiet, size_if_plain, turn
from dist_train.data.decoding.picture import RGB, BadImage, Box, Decoded, Picture, part
from dist_train.errors import DataError


@dataclass(frozen=True)
class PlainJpeg:
    """A JPEG file with nothing odd about it. What the fast decoder will not have is left to Pillow."""

    path: str | Path
    content: bytes
    size: tuple[int, int]

    def pixels(self, box: Box | None = None) -> RGB:
        found = decode(self.content, box)
        if found is None:
            whole = _by_pillow(self.path, self.content)
            return whole if box is None else part(whole, box)
        return found


def read_rgb(path: str | Path) -> RGB:
    """Decode a file to RGB; raises as ``open_picture``."""
    return open_picture(path).pixels()


def open_picture(path: str | Path) -> Picture:
    """Read a file. Plain JPEG files are decoded later, by a faster way to the same pixels.

    Raises:
        BadImage: it is not an image, or is cut short.
        DataError: the file cannot be read at all. That is never skipped: it may well be there tomorrow.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot read the image {path}: {error.strerror}") from None
    if not content:
        raise BadImage(f"cannot read the image {path}: the file is empty")
    size = size_if_plain(content)
    return Decoded(_by_pillow(path, content)) if size is None else PlainJpeg(path, content, size)


def _by_pillow(path: str | Path, content: bytes) -> RGB:
    try:
        with quiet(), Image.open(io.BytesIO(content)) as image:
            return to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise whatever broken bytes lead them to
        reason = str(error).replace(f"{io.BytesIO.__module__}", "").split(" <")[0] or type(error).__name__
        raise BadImage(f"cannot read the image {path}: {reason}") from None


def to_rgb(image: Image.Image) -> RGB:
    """An image of any mode as RGB, the way up that its Exif orientation says."""
    image.load()  # with which Pillow turns a TIFF image itself, and forgets its orientation
    turned = turn(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if turned is not None:  # ImageOps.exif_transpose fails at other tags that are damaged, which it writes anew
        image = image.transpose(turned)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits by their upper 8; of other depths from their least to their greatest value."""
    pixels = np.asarray(image)
    if pixels.dtype.itemsize == 2 or (pixels.dtype.kind == "i" and pixels.min() >= 0 and 255 < pixels.max() < 65536):
        return Image.fromarray((pixels // 256).astype(np.uint8))
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it has pixels that are not finite numbers")
    return Image.fromarray(((pixels - low) * (255 / (high - low or 1))).round().astype(np.uint8))
