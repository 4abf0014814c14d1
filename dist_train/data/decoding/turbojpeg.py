"""A part of a JPEG file, decoded alone: colours are not computed outside of it. A binding of TurboJPEG 3 (libjpeg-turbo).

The pixels are those of the whole image, cut out. The rest of the file is still walked through, so that damage is noticed
there too. The library is the system's, or comes with the package ``turbojpeg``; without one, images are decoded whole.

What the binding buys: one core prepares 1246 images/s with it and 1083 without (quality 75), 803 and 720 at quality 95
(benchmarks/results/shortcuts.md).
"""

import ctypes
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import numpy as np

from dist_train.data.decoding.picture import RGB, Box

SYSTEM_LIBRARY = "libturbojpeg.so.0"

DECOMPRESS = 1
SUBSAMPLING, WIDTH, HEIGHT, PROGRESSIVE = 4, 5, 6, 12
RGB_PIXELS = 0
"""TurboJPEG 3's numbers: TJINIT_DECOMPRESS, TJPARAM_SUBSAMP, TJPARAM_JPEGWIDTH, _JPEGHEIGHT, _PROGRESSIVE, TJPF_RGB."""

BLOCK_WIDTHS = (8, 16, 16, 8, 8, 32, 8)
"""Pixels that are coded together, side by side, by kind of subsampling (444, 422, 420, grey, 440, 411, 441)."""

MARGIN = 2
"""Pixels decoded around a part: colours are interpolated between neighbours, which those at its border would lack."""


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "width", "height")]


class PartDecoder:
    """One decoder, for one thread at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.tj3Init.restype = ctypes.c_void_p
        self._library = library
        self._handle = ctypes.c_void_p(library.tj3Init(DECOMPRESS))

    def __call__(self, content: bytes, box: Box) -> RGB | None:
        """uint8 [height, width, 3] of a part of a file; None if the decoder has anything to say against the file.

        None of progressive files too: those that lack their last scans are smoothed, in parts not as in the whole.
        """
        if self._failed("tj3DecompressHeader", content, ctypes.c_size_t(len(content))) or self._told(PROGRESSIVE):
            return None
        kind, columns, rows = self._told(SUBSAMPLING), self._told(WIDTH), self._told(HEIGHT)
        top, left, height, width = box
        if not (0 <= kind < len(BLOCK_WIDTHS) and top + height <= rows and left + width <= columns):
            return None
        first_row = max(0, top - MARGIN)
        first_column = max(0, left - MARGIN) // BLOCK_WIDTHS[kind] * BLOCK_WIDTHS[kind]
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

    def _told(self, what: int) -> int:
        """What the header says."""
        return int(self._library.tj3Get(self._handle, what))

    def _failed(self, function: str, *arguments: Any) -> bool:
        """Whether a function of the library warns or fails."""
        return bool(getattr(self._library, function)(self._handle, *arguments))


@lru_cache(maxsize=1)
def part_decoder() -> PartDecoder | None:
    """This process's decoder; None where there is no TurboJPEG 3."""
    for path in (SYSTEM_LIBRARY, *_in_package()):
        try:
            library = ctypes.CDLL(path)
            library.tj3SetCroppingRegion  # noqa: B018 - version 2 lacks it
        except (OSError, AttributeError):
            continue
        return PartDecoder(library)
    return None


def _in_package() -> list[str]:
    """The library inside the wheel; its module is not imported: another package of the same module name is about."""
    try:
        found = files("turbojpeg") or []
    except PackageNotFoundError:
        return []
    return [str(file.locate()) for file in found if file.name.startswith("libturbojpeg")]
