"""Build the cache of decoded images: all processes of all ranks decode pieces of one file."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

import numpy as np

from dist_train.data.decoding.picture import RGB, BadImage
from dist_train.data.pixels.forked import in_processes
from dist_train.data.pixels.originals import Originals
from dist_train.data.pixels.part_file import PartFile
from dist_train.data.pixels.pixel_file import BAD, Layout
from dist_train.data.split import SplitName
from dist_train.errors import DataError, DistTrainError
from dist_train.system.machine.clock import awake_s
from dist_train.system.progress import advance, shown

LOOK_EVERY_S = 0.1
"""How often a process looks whether the pieces that other processes have claimed are done, or free again."""

PATIENCE_S = 60.0
"""After so long without a free piece, a process decodes one that another has claimed, to the same bytes: the other may be
suspended, or its lock may outlive it."""

NoteBad = Callable[[SplitName, int, BadImage], None]
"""Counts an image that cannot be decoded, and raises ``DataError`` if it is one too many."""


def build(part: PartFile, originals: Originals, processes: int, note_bad: NoteBad, first: str) -> None:
    """Decode the images that no other process decodes, until all are done.

    An error removes the file; after a kill or a stop signal the next build continues it.

    Args:
        processes: of this rank; 0 for this one.
        first: the name of the image that has the size that all must have.

    Raises:
        ConfigError: the file cannot be written.
        DataError: the images are not of one size, or cannot be decoded.
    """
    work = partial(decode_pieces, part, originals, note_bad, first)
    seen = 0
    try:
        with (
            shown(f"decoding into {part.path}", "images", len(originals)),
            closing(in_processes(work, processes)) as counts,
        ):
            for count in counts:
                if count > seen:
                    advance(count - seen)
                    seen = count
    except DistTrainError:
        part.remove()
        raise


def decode_pieces(part: PartFile, originals: Originals, note_bad: NoteBad, first: str) -> Generator[int]:
    """Decode free pieces until all are done. Yield after each image how many images all processes have done."""
    left, worked = list(range(part.layout.pieces)), awake_s()
    while left:
        piece = _next(part, left)
        done = len(originals) - part.layout.images_in(left)
        if piece is None and left and awake_s() - worked > PATIENCE_S:
            piece = left[0]
        if piece is None:
            yield done
            time.sleep(LOOK_EVERY_S if left else 0)
            continue
        digests = []
        for place in part.layout.places(piece):
            digests.append(_decoded(part, originals, place, note_bad, first))
            yield done + len(digests)
        part.finish_piece(piece, digests)
        part.release(piece)
        worked = awake_s()


def _next(part: PartFile, left: list[int]) -> int | None:
    """Claim the first piece that nobody has; drop pieces that are done from ``left``."""
    for piece in tuple(left):
        if part.is_done(piece):
            left.remove(piece)
        elif part.claim(piece):
            return piece
    return None


def _decoded(part: PartFile, originals: Originals, place: int, note_bad: NoteBad, first: str) -> bytes:
    """Decode an image into its place, and return its digest."""
    try:
        image = originals.pixels(place)
    except BadImage as error:
        note_bad(*originals.whose(place), error)
        return BAD
    if image.shape != part.layout.shape[1:]:
        raise _other_size(originals.name(place), image, first, part.layout)
    return part.write(place, np.ascontiguousarray(image))


def _other_size(name: str, image: RGB, first: str, layout: Layout) -> DataError:
    _, height, width, _ = layout.shape
    return DataError(
        f"`augment.device` (true) needs images of one size: {name} has {image.shape[0]} x {image.shape[1]} pixels and "
        f"{first} {height} x {width}; resize the files to one size, or set it to false"
    )
