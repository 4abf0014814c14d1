"""What the readers of data formats return: targets of images that are found by name."""

from dataclasses import dataclass
from typing import Protocol

from dist_train.data.decoding.deep import DeepImage
from dist_train.data.decoding.picture import Picture
from dist_train.data.decoding.rules import DecodeRules


class Images(Protocol):
    """Open an image by the name that the index gives it. Small: it travels to every rank and loader process."""

    @property
    def rules(self) -> DecodeRules: ...

    def open(self, name: str) -> Picture: ...

    def deep(self, name: str) -> DeepImage | None:
        """Return an image of more than 8 bits per channel with its values; None for all others."""
        ...

    def left_out(self, name: str) -> list[str]:
        """Return what the file of an image holds and its pixels do not show, such as further pages."""
        ...

    def with_rules(self, rules: DecodeRules) -> "Images":
        """Return the same images, to be decoded by other rules."""
        ...


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
