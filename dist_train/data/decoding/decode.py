"""From a file of any image format to pixels, in one way for training, evaluation and prediction.

Exif orientation is applied, the first frame of an animation counts, transparency is laid on white. Images of more than 8
bits per channel are mapped to 8 by the ``DecodeRules`` of the run.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from dist_train.config.types import Size
from dist_train.data.decoding.arrays import as_pixels
from dist_train.data.decoding.channels import NPY, array_in, pixels_of, pixels_of_array
from dist_train.data.decoding.deep import DeepImage, as_0_1_0, deep_image, is_deep
from dist_train.data.decoding.jpeg import decode, size_if_plain, turn
from dist_train.data.decoding.picture import RGB, BadImage, Box, Decoded, Picture, Pixels, part
from dist_train.data.decoding.quiet import quiet
from dist_train.data.decoding.rules import DEFAULT_RULES, DecodeRules
from dist_train.data.decoding.smaller import how_much_smaller
from dist_train.errors import DataError

HEADER_BYTES = 4096


@dataclass(frozen=True)
class PlainJpeg:
    """A JPEG file that the fast decoder takes, by its headers. Pillow decodes it if the fast decoder refuses it."""

    path: str | Path
    content: bytes
    size: tuple[int, int]
    rules: DecodeRules

    def pixels(self, box: Box | None = None, least: Size | None = None) -> RGB:
        shrink = how_much_smaller(box, least) if self.rules.fast and box and least else 1
        found = decode(self.content, box, shrink)
        if found is None:
            whole = _decoded(self.path, self.content, self.rules)
            return whole if box is None else part(whole, box)
        return found


def read_image(path: str | Path, rules: DecodeRules = DEFAULT_RULES) -> Pixels:
    """Decode a file; raise as ``open_picture``."""
    return open_picture(path, rules).pixels()


def open_picture(path: str | Path, rules: DecodeRules = DEFAULT_RULES) -> Picture:
    """Read a file. Plain JPEG files are decoded when their pixels are asked for, and by a faster decoder.

    Raises:
        BadImage: the file is not an image, is truncated, or has too many pixels.
        DataError: the file cannot be read at all. Such an image is never skipped: it may be readable tomorrow.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot read the image {path}: {error.strerror}") from None
    return picture_in(content, path, rules)


def picture_in(content: bytes, path: str | Path, rules: DecodeRules = DEFAULT_RULES) -> Picture:
    """Return the picture in the bytes of a file. ``path`` names it in messages.

    Raises:
        BadImage: see ``open_picture``.
    """
    if not content:
        raise BadImage(f"cannot read the image {path}: the file is empty")
    size = size_if_plain(content) if rules.is_plain else None
    if size is None:
        return Decoded(_decoded(path, content, rules))
    try:
        _refuse_size(*size, rules)
    except ValueError as error:
        raise BadImage(f"cannot read the image {path}: {error}") from None
    return PlainJpeg(path, content, size, rules)


def stored_values(path: str | Path, rules: DecodeRules, content: bytes | None = None) -> DeepImage | None:
    """Return an image of more than 8 bits per channel with its values; None for all others, which are not decoded.

    Args:
        content: the bytes of the file, if they are known: then ``path`` only names it.
    """
    try:
        with _opened(path, content) as file, quiet():
            head = file.read(HEADER_BYTES)
            if head.startswith(NPY):
                found = as_pixels(str(path), array_in(head + file.read(), rules), rules.channels)
                return found if isinstance(found, DeepImage) else None
            with Image.open(file) as image:
                if not is_deep(image, head):
                    return None
                _refuse_size(image.height, image.width, rules)
                image.load()
                file.seek(0)
                return deep_image(image, file.read())
    except Exception:  # noqa: BLE001 - a file that cannot be decoded is refused where it is used
        return None


def left_out(path: str | Path, content: bytes | None = None) -> list[str]:
    """Return what a file holds and its pixels do not show, by its header; nothing of a file that cannot be read."""
    try:
        with quiet(), _opened(path, content) as file, Image.open(file) as image:
            several = getattr(image, "n_frames", 1) > 1
            kinds = {"several pages or frames": several, "transparency": image.has_transparency_data}
            return [kind for kind, found in kinds.items() if found]
    except Exception:  # noqa: BLE001 - a file that cannot be decoded is refused where it is used
        return []


def _opened(path: str | Path, content: bytes | None) -> BinaryIO:
    return open(path, "rb") if content is None else io.BytesIO(content)


def _decoded(path: str | Path, content: bytes, rules: DecodeRules) -> Pixels:
    try:
        if content.startswith(NPY):
            return from_array(str(path), array_in(content, rules), rules)
        with quiet(), Image.open(io.BytesIO(content)) as image:
            _refuse_size(image.height, image.width, rules)
            return from_image(image, rules, content)
    except (MemoryError, DataError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise many kinds of errors at damaged files
        reason = str(error).replace(f"{io.BytesIO.__module__}", "").split(" <")[0] or type(error).__name__
        raise BadImage(f"cannot read the image {path}: {reason}") from None


def _refuse_size(height: int, width: int, rules: DecodeRules) -> None:
    if rules.max_pixels is not None and height * width > rules.max_pixels:
        raise ValueError(
            f"it has {width} x {height} pixels, more than `data.max_pixels` ({rules.max_pixels}); make the file smaller, or "
            f"raise the key: the image takes {3 * height * width / 1e9:.1f} GB of memory in a loader process"
        )


def from_image(image: Image.Image, rules: DecodeRules = DEFAULT_RULES, content: bytes = b"") -> Pixels:
    """Return an image of any mode, turned as its Exif orientation says, as ``rules`` want it; see ``to_rgb``."""
    if rules.is_plain:
        return to_rgb(image, rules, content)
    _refuse_nothing(image)
    image.load()  # turns a TIFF image, and removes its orientation
    return pixels_of(image, turn(image), rules, content)


def _refuse_nothing(image: Image.Image) -> None:
    if 0 in image.size:
        raise ValueError(f"it has {image.width} x {image.height} pixels")


def from_array(name: str, array: object, rules: DecodeRules) -> Pixels:
    """Return an image that is given as an array.

    Args:
        name: of the image, for the message.

    Raises:
        DataError: the shape or the type of the array could mean several things, or nothing.
        ValueError: it has values that are NaN or infinite.
    """
    found = as_pixels(name, array, rules.channels)
    if not rules.is_plain:
        return pixels_of_array(found, rules)
    image = found.in_8_bits(rules.value_range) if isinstance(found, DeepImage) else Image.fromarray(found)
    return to_rgb(image, rules)


def to_rgb(image: Image.Image, rules: DecodeRules = DEFAULT_RULES, content: bytes = b"") -> RGB:
    """Return an image of any mode as uint8 [H, W, 3], turned as its Exif orientation says.

    Args:
        content: of its file, if there is one: Pillow keeps only 8 bits of colours.

    Raises:
        ValueError: it has no pixels, or values that are NaN or infinite.
    """
    _refuse_nothing(image)
    image.load()  # turns a TIFF image, and removes its orientation
    turned = turn(image)
    deep = deep_image(image, b"" if rules.as_0_1_0 else content)
    if deep is not None:
        image = Image.fromarray(as_0_1_0(image)) if rules.as_0_1_0 else deep.in_8_bits(rules.value_range)
    if turned is not None:  # ImageOps.exif_transpose would fail at other tags that are damaged: it writes them again
        image = image.transpose(turned)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))
