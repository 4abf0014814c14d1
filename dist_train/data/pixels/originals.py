"""The images of a data set as the cache of decoded images numbers them: both splits in one sequence."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dist_train.data.decoding.picture import RGB, BadImage
from dist_train.data.pixels.pixel_file import Layout
from dist_train.data.split import SplitName
from dist_train.errors import DataError

if TYPE_CHECKING:
    from dist_train.data.index import DataIndex


@dataclass(frozen=True)
class Originals:
    """The images of both splits in one sequence, training images first."""

    index: "DataIndex"

    def __len__(self) -> int:
        return len(self.index.train) + len(self.index.val)

    def place(self, split: SplitName, number: int) -> int:
        """Return the place of an image of a split."""
        return number if split == "train" else len(self.index.train) + number

    def whose(self, place: int) -> tuple[SplitName, int]:
        """Return the split of an image, and its index there."""
        train = len(self.index.train)
        return ("train", place) if place < train else ("val", place - train)

    def name(self, place: int) -> str:
        split, number = self.whose(place)
        return self.index.split(split).name(number)

    def pixels(self, place: int) -> RGB:
        """Decode an image.

        Raises:
            BadImage: it cannot be decoded.
        """
        return self.index.images.open(self.name(place)).pixels()

    def first(self) -> tuple[str, Layout]:
        """Return the name of the first training image that can be decoded, and the layout of a file of images of its size.

        Raises:
            DataError: none can be decoded.
        """
        for place in range(len(self.index.train)):
            with suppress(BadImage):
                height, width, channels = self.pixels(place).shape
                return self.name(place), Layout((len(self), height, width, channels))
        raise DataError(f"`data.root` ({self.index.root}): none of the training images can be decoded")
