"""Images below a folder, and what else lies there."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from dist_train.config.choice_table import either
from dist_train.config.choices import FORMATS
from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.stored.slow_disks import answers
from dist_train.data.stored.survey import note, note_folders, note_images
from dist_train.errors import DataError
from dist_train.system.progress import advance

LONGEST_PATH = 400
"""Characters of a path that stand in a message."""

FILE_TYPE = stat.S_IFMT(0xFFFF)
"""Bits of a file's mode: quicker than a call of ``S_ISREG`` for each of a million files."""

OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")
"""Files that Windows puts into folders of images."""


@dataclass
class Surroundings:
    """What lies below a folder beside the images.

    Attributes:
        suffixes: of images.
        left_aside: files without a suffix of an image, by suffix.
        folders: the folders that hold images, relative to the folder that was walked ("." for itself).
        links: the folders that are links: (path, where it leads).
    """

    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    left_aside: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)


def look_at_root(cfg: DataConfig) -> None:
    """Raise the error of a wrong ``data.root`` if the format reads a folder. Without torch, which takes seconds to import."""
    row = FORMATS.find(cfg.format)
    if row.folder and not is_archive(cfg) and not (row.archives and is_remote(cfg.root)):
        existing_root(cfg)


def is_archive(cfg: DataConfig) -> bool:
    """Return whether ``data.root`` is one archive, by its name, and not a folder of archives."""
    named = cfg.root.lower().endswith(FORMATS.find(cfg.format).archives)
    return named and (is_remote(cfg.root) or os.path.isfile(cfg.root))


def existing_root(cfg: DataConfig) -> Path:
    """Return ``data.root``.

    Raises:
        DataError: there is no such folder, or this user must not read it.
    """
    root = Path(cfg.root)
    if not os.path.isdir(root):
        raise DataError(f"`data.root` ({cfg.root}) is not a directory; {_fix(cfg)}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"`data.root` ({cfg.root}): {os.strerror(errno.EACCES)}; give this user the right to read it")
    note(root)
    return root


def _fix(cfg: DataConfig) -> str:
    """Return what to do about a ``data.root`` that is not a folder of this machine."""
    readers = {name: row.archives for name, row in FORMATS.rows.items() if row.archives}
    fitting = [name for name, endings in readers.items() if cfg.root.lower().endswith(endings)]
    if is_remote(cfg.root):
        return f"only archives are read from other machines: pack the images, and set `data.format` to {either(fitting or [*readers])}"
    if os.path.isfile(cfg.root) and fitting:
        return f"it is an archive: set data.format={fitting[0]}"
    if os.path.isfile(cfg.root) and (endings := FORMATS.find(cfg.format).archives):
        return f"it must hold archives, or be one ({endings[0]})"
    return "it must hold the images"


def images_below(folder: Path, root: Path) -> list[tuple[str, int]]:
    """Return every image below ``folder`` as (path relative to ``root``, size in bytes), sorted by folder and name."""
    names = list(names_below(folder, root))
    return list(zip(names, file_sizes(str(root), names), strict=True))


def names_below(folder: Path, root: Path, around: Surroundings | None = None) -> Iterator[str]:
    """Yield the path of every image below ``folder``, relative to ``root``, sorted by folder and name.

    Hidden files and folders are left out. Links are followed.

    Args:
        around: gets all else that lies there.

    Raises:
        DataError: a folder there cannot be read, or a link leads back to a folder that it lies in.
    """
    if not folder.is_dir():
        raise DataError(f"`data.root`: there is no folder {folder}")
    around = around or Surroundings()
    note(folder)
    for directory, subfolders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in subfolders:
            note(os.path.join(directory, name))
            _note_link(os.path.join(directory, name), around)
        below = os.path.relpath(directory, root)
        visible = sorted([name for name in names if name[:1] != "."])
        images = [name for name in visible if name.lower().endswith(around.suffixes)]
        if len(images) < len(visible):
            around.left_aside += left_aside(visible, around.suffixes)
        if images:
            around.folders.append(os.path.relpath(directory, folder))
        yield from images if below == "." else [f"{below}/{name}" for name in images]


def left_aside(names: list[str], suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Counter[str]:
    """Return how many of ``names`` are no images, by suffix in lower case."""
    return Counter(
        os.path.splitext(name)[1].lower()
        for name in names
        if not name.lower().endswith(suffixes) and name.lower() not in OF_THE_SYSTEM
    )


def subfolders_of(folder: Path) -> list[str]:
    """Return the names of the visible folders in ``folder``, sorted."""
    return sorted(name for name, is_folder in _visible(folder) if is_folder)


def files_of(folder: Path) -> list[str]:
    """Return the names of the visible files in ``folder``, sorted."""
    return sorted(name for name, is_folder in _visible(folder) if not is_folder)


def _visible(folder: Path) -> list[tuple[str, bool]]:
    note(folder)
    try:
        return [(entry.name, entry.is_dir()) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}")


def _note_link(folder: str, around: Surroundings) -> None:
    """Note a link to a folder; refuse one to a folder around it, whose images would be found again and again."""
    if not os.path.islink(folder):
        return
    for parent in Path(os.path.abspath(folder)).parents:
        if os.path.samefile(folder, parent):
            raise DataError(f"{folder} is a link to {parent}, in which it lies itself; remove the link")
    around.links.append((folder, os.path.realpath(folder)))


def file_sizes(root: str, names: Sequence[str]) -> list[int]:
    """Return the number of bytes in the file of each image.

    Raises:
        DataError: as ``file_size``.
    """
    found = sizes_of(root, names)
    return [file_size(root, name) if size is None else size for name, size in zip(names, found, strict=True)]


def sizes_of(root: str, names: Sequence[str]) -> Iterator[int | None]:
    """Yield the number of bytes in the file of each image; None where ``file_size`` raises."""
    note_folders(root, names)
    place = 0
    with _looking_below(root) as look:
        for block in answers(look, names):
            asked = names[place : place + len(block)]
            advance(len(block))
            place += len(block)
            if None in block:
                yield from (_size_of(name, found) for name, found in zip(asked, block, strict=True))
            else:
                note_images(zip(asked, [found.st_mtime_ns for found in block if found], strict=True))
                yield from [found.st_size for found in block if found]


def _size_of(name: str, found: os.stat_result | None) -> int | None:
    if found is None:
        return None
    note_images([(name, found.st_mtime_ns)])
    return found.st_size


@contextmanager
def _looking_below(root: str) -> Iterator[Callable[[str], os.stat_result | None]]:
    """Yield a function from a path to what ``os.stat`` knows of the file; to None if the file does not exist.

    The path is relative to ``root``, which is open meanwhile: the system does not look for it again and again.

    Raises:
        DataError: ``root`` cannot be opened.
    """
    try:
        opened = os.open(root, os.O_RDONLY)
    except OSError as error:
        _refuse(error)

    def look(name: str) -> os.stat_result | None:
        try:
            found = os.stat(name, dir_fd=opened)
        except (OSError, ValueError):  # ValueError: it holds a zero byte
            return None
        return found if found.st_mode & FILE_TYPE == stat.S_IFREG else None

    try:
        yield look
    finally:
        os.close(opened)


def file_size(root: str, name: str) -> int:
    """Return the number of bytes in the file of an image.

    Raises:
        DataError: there is no such file, or it is a folder, or a pipe, whose end would never come.
    """
    path = os.path.join(root, name)
    note_folders(root, [name])
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: it holds a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        broken = "; it is a broken link" if os.path.islink(path) else ""
        raise DataError(f"cannot read the image {_shown(path)}: {reason}{broken}") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"cannot read the image {_shown(path)}: it is not a file")
    note_images([(name, found.st_mtime_ns)])
    advance()
    return found.st_size


def _shown(path: str) -> str:
    return path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}..."
