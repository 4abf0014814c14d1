"""Where ``pack`` takes images from: what each source has, and the files of a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dist_train.data.formats.base import ARRAYS, IMAGE_SUFFIXES
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.walk import Surroundings, names_below
from dist_train.data.stored.file_facts import file_size


class Source(Protocol):
    """Where the images come from.

    Attributes:
        left_aside: how many things ``images`` has left out.
    """

    left_aside: int

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield name, as in a folder, and size in bytes of each image, in the order in which they are read fast."""
        ...

    def read(self, name: str) -> bytes: ...


class FolderSource:
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.left_aside = 0
        self._files = FileImages(str(folder))

    def images(self) -> Iterator[tuple[str, int]]:
        root, around = self._files.root, Surroundings((*IMAGE_SUFFIXES, ARRAYS))
        yield from ((name, file_size(root, name)) for name in names_below(Path(root), Path(root), around))
        self.left_aside = sum(around.left_aside.values())

    def read(self, name: str) -> bytes:
        return self._files.content(name)
