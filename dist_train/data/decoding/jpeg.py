"""A fast decoder for plain JPEG files: the same pixels as Pillow's, and only those that are needed."""

import io

import simplejpeg
from PIL import Image

from dist_train.data.decoding.picture import RGB, Box, part
from dist_train.data.decoding.quiet import quiet
from dist_train.data.decoding.smaller import smaller_box
from dist_train.data.decoding.turbojpeg import part_decoder

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that puts an image upright, by its Exif orientation."""

START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive; rarer ones are left to Pillow."""

START_OF_SCAN, APP1, APP2 = 0xDA, 0xE1, 0xE2
END_OF_IMAGE = b"\xff\xd9"


def size_if_plain(content: bytes) -> tuple[int, int] | None:
    """Return height and width of a plain JPEG file; None for any other file."""
    try:
        return _size_if_plain(content) if content.startswith(b"\xff\xd8\xff") else None
    except IndexError:
        return None


def decode(content: bytes, box: Box | None = None, shrink: int = 1) -> RGB | None:
    """Return uint8 [H, W, 3], whole or the part in ``box``; None if a decoder warns about the file.

    Args:
        shrink: 1, 2, 4 or 8, by which height and width are divided. libjpeg then computes fewer cosines for each block.
    """
    if box is not None and content.endswith(END_OF_IMAGE) and (decode_part := part_decoder()):
        found = decode_part(content, box, shrink)
        if found is not None:
            return found
    try:
        whole: RGB = simplejpeg.decode_jpeg(content, "RGB", **_at_least(content, shrink))
    except (ValueError, RuntimeError):
        return None
    return whole if box is None else part(whole, smaller_box(box, shrink, whole.shape[:2]))


def _at_least(content: bytes, shrink: int) -> dict[str, int]:
    """Return the options by which simplejpeg divides height and width by ``shrink``."""
    if shrink == 1:
        return {}
    height, width = simplejpeg.decode_jpeg_header(content)[:2]
    return {"min_height": -(-height // shrink), "min_width": -(-width // shrink), "min_factor": 1}


def _size_if_plain(content: bytes) -> tuple[int, int] | None:
    """Return the size if the headers describe a single upright image of 8-bit grey or RGB pixels."""
    position, size = 2, None
    while True:
        if content[position] != 0xFF:
            return None
        marker = content[position + 1]
        if marker == START_OF_SCAN:
            return size
        if marker in START_OF_FRAME:
            height = int.from_bytes(content[position + 5 : position + 7])
            width = int.from_bytes(content[position + 7 : position + 9])
            if content[position + 4] != 8 or content[position + 9] not in (1, 3) or height * width == 0:
                return None
            size = height, width
        elif _is_odd(marker, content, position):
            return None
        position += 2 + int.from_bytes(content[position + 2 : position + 4])


def _is_odd(marker: int, content: bytes, position: int) -> bool:
    if marker == APP1:  # Exif or XMP, which may hold an orientation
        return not _is_upright(content)
    if marker == APP2:  # of several pictures, perhaps
        return content.startswith(b"MPF", position + 4)
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xCC)  # a rarer frame


def _is_upright(content: bytes) -> bool:
    try:
        with quiet(), Image.open(io.BytesIO(content)) as image:
            return image.format == "JPEG" and turn(image) is None
    except Exception:  # noqa: BLE001 - the slow decoder raises it again, and names the file
        return False


def turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to put an image upright; None if it is, or if its metadata are damaged."""
    try:
        return TURNS.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged metadata raise many kinds of errors; the pixels may be whole
        return None
