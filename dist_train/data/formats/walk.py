"""Images below a folder, and what else lies there."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from dist_train.config.choice_table import either
from dist_train.config.choices import FORMATS
from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.stored.survey import note
from dist_train.errors import DataError

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
        others: images that are no plain files, such as links: paths relative to the root.
    """

    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    left_aside: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


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
        DataError: the folder is missing, or this user must not read it.
    """
    root = Path(cfg.root)
    try:
        there = stat.S_ISDIR(os.stat(root).st_mode)
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise DataError(
            f"`data.root` ({cfg.root}): {error.strerror}; correct the path, or give this user the right to read it"
        ) from None
    if not there:
        where = "" if os.path.isabs(cfg.root) else f" in the current folder ({Path.cwd()})"
        raise DataError(f"`data.root` ({cfg.root}) is not a directory{where}; {_fix(cfg)}")
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
    around, left = around or Surroundings(), [str(folder)]
    while left:
        directory = left.pop()
        found = _content(directory)
        left += [os.path.join(directory, name) for name in sorted(found.folders, reverse=True)]
        for name in sorted(found.links):
            _note_link(os.path.join(directory, name), around)
        images = _images_among(found.files + found.others, around)
        below = os.path.relpath(directory, root)
        if images:
            around.folders.append(os.path.relpath(directory, folder))
        if found.others:
            others = set(found.others)
            around.others += [os.path.normpath(f"{below}/{name}") for name in images if name in others]
        yield from images if below == "." or not images else _all_below(below, images)


def _all_below(folder: str, names: list[str]) -> list[str]:
    """Return the paths of the names in a folder, in half the time that it takes to join each."""
    return (f"{folder}/" + f"\0{folder}/".join(names)).split("\0")


@dataclass(frozen=True)
class _Content:
    """The visible names in a folder.

    Attributes:
        files: plain files.
        others: entries that are neither regular files nor folders, such as links to files and broken links.
        folders: folders, and links to folders.
        links: those of the folders that are links.
    """

    files: list[str]
    others: list[str]
    folders: list[str]
    links: list[str]


def _content(folder: str) -> _Content:
    """Return the names in a folder by kind. The system lists the kind with each name; only links need a call each."""
    note(folder)
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        _refuse(error)
    odd = [entry for entry in entries if not entry.is_file(follow_symlinks=False)]
    names = [entry.name for entry in entries]
    if not odd:
        return _Content(names, [], [], [])
    not_plain = {entry.name for entry in odd}
    folders: list[os.DirEntry[str]] = []
    others: list[os.DirEntry[str]] = []
    for entry in odd:
        if entry.name[:1] != ".":
            (folders if _is_folder(entry) else others).append(entry)
    return _Content(
        [name for name in names if name not in not_plain],
        [entry.name for entry in others],
        [entry.name for entry in folders],
        [entry.name for entry in folders if entry.is_symlink()],
    )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _images_among(names: list[str], around: Surroundings) -> list[str]:
    """Return the visible images among the names in a folder, sorted, and note what is left aside."""
    names.sort()
    text = "\0".join(["", *names, ""])
    if "\0." not in text and _count_of_images(text.lower(), around.suffixes, len(names)) == len(names):
        return names
    visible = [name for name in names if name[:1] != "."]
    images = [name for name in visible if name.lower().endswith(around.suffixes)]
    if len(images) < len(visible):
        around.left_aside += left_aside(visible, around.suffixes)
    return images


def _count_of_images(text: str, suffixes: tuple[str, ...], most: int) -> int:
    """Return how many names end in one of the suffixes. One count in the joined names is faster than a look at each name.

    Args:
        text: the names in lower case, a zero byte after each.
        most: the number of names.
    """
    count = 0
    for suffix in suffixes:
        if count < most:
            count += text.count(f"{suffix}\0")
    return count


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
    for parent in Path(os.path.abspath(folder)).parents:
        if os.path.samefile(folder, parent):
            raise DataError(f"{folder} is a link to {parent}, in which it lies itself; remove the link")
    around.links.append((folder, os.path.realpath(folder)))
