"""What the readers of data formats return: targets of images that are found by name."""

from dataclasses import dataclass
from typing import Protocol

from dist_train.data.decoding.picture import Picture


class Images(Protocol):
    """Open an image by the name that the index gives it. Small: it travels to every rank and loader process."""

    def open(self, name: str) -> Picture: ...


Target = int | tuple[float, ...]
"""Index of the class; or one number for each class (multilabel: 0 or 1) or output (regression)."""

Entry = tuple[str, int, Target]
"""Name of the image, its size in bytes, its target."""


@dataclass(frozen=True)
class Listing:
    """A data set as one format found it.

    Attributes:
        images: reads an image by its name.
        classes: names of the outputs.
        train, val: entries in an order that does not depend on the file system; ``val`` is None where there is
            no validation set.
        content: digest of what the entries do not tell of the images' content; empty for files.
    """

    images: Images
    classes: list[str]
    train: list[Entry]
    val: list[Entry] | None
    content: str = ""
