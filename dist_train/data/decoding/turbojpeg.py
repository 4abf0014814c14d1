"""Decode only a part of a JPEG file. A binding of TurboJPEG 3 (libjpeg-turbo).

The pixels equal those of the whole image. What lies above the part is parsed, but its colours are not computed. What lies below
is not read: damage there is noticed only if the file lacks its end. The library is the system's, or comes with the package
``turbojpeg``; without it, images are decoded whole.

What the binding buys: one core prepares 1246 images/s with it and 1083 without (quality 75), 803 and 720 at quality 95
(benchmarks/results/shortcuts.md).
"""

import ctypes
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_train.data.decoding.smaller import smaller_box

if TYPE_CHECKING:
    from dist_train.data.decoding.picture import RGB, Box


SYSTEM_LIBRARY = "libturbojpeg.so.0"

DECOMPRESS = 1
SUBSAMPLING, WIDTH, HEIGHT, PROGRESSIVE = 4, 5, 6, 12
RGB_PIXELS = 0
"""TurboJPEG 3's numbers: TJINIT_DECOMPRESS, TJPARAM_SUBSAMP, TJPARAM_JPEGWIDTH, _JPEGHEIGHT, _PROGRESSIVE, TJPF_RGB."""

BLOCK_WIDTHS = (8, 16, 16, 8, 8, 32, 8)
"""Width in pixels of the blocks that are coded together, by subsampling (444, 422, 420, grey, 440, 411, 441)."""

MARGIN = 2
"""Pixels decoded around a part: colours at its border are interpolated with their neighbours outside."""


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "width", "height")]


class _Fraction(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("numerator", "denominator")]


class PartDecoder:
    """One decoder, for one thread at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.tj3Init.restype = ctypes.c_void_p
        self._library = library
        self._handle = ctypes.c_void_p(library.tj3Init(DECOMPRESS))

    def __call__(self, content: bytes, box: "Box", shrink: int = 1) -> "RGB | None":
        """Return a part of a file, uint8 [height, width, 3]; None if the decoder warns or fails.

        With ``shrink`` 2, 4 or 8 the file is decoded at that fraction of its size, and the part is ``smaller_box``.
        Return None for progressive files too: a truncated one is smoothed, and a part of it not like the whole.
        """
        if self._failed("tj3DecompressHeader", content, ctypes.c_size_t(len(content))) or self._parameter(PROGRESSIVE):
            return None
        kind, columns, rows = self._parameter(SUBSAMPLING), self._parameter(WIDTH), self._parameter(HEIGHT)
        top, left, height, width = box
        if not (0 <= kind < len(BLOCK_WIDTHS) and top + height <= rows and left + width <= columns):
            return None
        if self._failed("tj3SetScalingFactor", _Fraction(1, shrink)):
            return None
        rows, columns, block = -(-rows // shrink), -(-columns // shrink), max(1, BLOCK_WIDTHS[kind] // shrink)
        top, left, height, width = smaller_box(box, shrink, (rows, columns))
        first_row = max(0, top - MARGIN)
        first_column = max(0, left - MARGIN) // block * block
        shape = min(rows, top + height + MARGIN) - first_row, min(columns, left + width + MARGIN) - first_column
        pixels = np.empty((*shape, 3), dtype=np.uint8)
        if self._failed("tj3SetCroppingRegion", _Region(first_column, first_row, shape[1], shape[0])):
            return None
        failed = self._failed(
            "tj3Decompress8",
            content,
            ctypes.c_size_t(len(content)),
            ctypes.c_void_p(pixels.ctypes.data),
            0,
            RGB_PIXELS,
        )
        self._failed("tj3SetCroppingRegion", _Region())
        down, right = top - first_row, left - first_column
        return None if failed else np.ascontiguousarray(pixels[down : down + height, right : right + width])

    def _parameter(self, what: int) -> int:
        """Return a number from the header."""
        return int(self._library.tj3Get(self._handle, what))

    def _failed(self, function: str, *arguments: Any) -> bool:
        """Return whether a function of the library warns or fails."""
        return bool(getattr(self._library, function)(self._handle, *arguments))


@lru_cache(maxsize=1)
def part_decoder() -> PartDecoder | None:
    """Return this process's decoder; None without TurboJPEG 3."""
    for path in (SYSTEM_LIBRARY, *_in_package()):
        try:
            library = ctypes.CDLL(path)
            library.tj3SetCroppingRegion  # noqa: B018 - version 2 lacks it
        except (OSError, AttributeError):
            continue
        return PartDecoder(library)
    return None


def _in_package() -> list[str]:
    """Return the library inside the wheel. Its module is not imported: another package has the same module name."""
    try:
        found = files("turbojpeg") or []
    except PackageNotFoundError:
        return []
    return [str(file.locate()) for file in found if file.name.startswith("libturbojpeg")]
