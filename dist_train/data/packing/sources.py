"""Where ``pack`` takes images from: what each source has, the files of a folder, and names in archives."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from dist_train.data.formats.base import ARRAYS, IMAGE_SUFFIXES
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.walk import Surroundings, file_size, names_below
from dist_train.errors import DataError

SUFFIX_OF = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
HEAD = 4
"""Bytes of a file that tell its kind."""


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


class ClassFolders:
    """Names of images with the class as a folder, which a reader of folders neither hides nor takes for another class."""

    def __init__(self) -> None:
        self._class_of: dict[str, str] = {}

    def name(self, split: str, class_name: str, path: str) -> str:
        """Return ``<split>/<class>/<path>``; without a split ``<class>/<path>``.

        Args:
            path: of the image; what leads out of a folder is left out.

        Raises:
            DataError: another class has the same folder.
        """
        folder = _visible(class_name.strip().replace("/", "_"))
        other = self._class_of.setdefault(folder, class_name)
        if other != class_name:
            raise DataError(
                f"the classes {other!r} and {class_name!r} would be one folder ({folder}); rename one of them"
            )
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        return "/".join([*([split] if split else []), folder, *map(_visible, parts)])


def with_suffix(name: str, head: Callable[[], bytes]) -> str:
    """Return the name with the suffix of an image, by which readers of archives know it.

    Args:
        head: returns the first bytes of the file; called where the name has no such suffix.
    """
    if name.lower().endswith((*IMAGE_SUFFIXES, ARRAYS)):
        return name
    found = head()
    return name + next((suffix for magic, suffix in SUFFIX_OF.items() if found.startswith(magic)), ".jpg")


def _visible(name: str) -> str:
    """Return the name of a file or folder that is not hidden."""
    name = name.replace("\0", "_")
    return f"_{name[1:]}" if name.startswith(".") else "___MACOSX" if name.upper() == "__MACOSX" else name or "_"
