"""What a scan looked at, and when that last changed: a later start compares it instead of scanning again."""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from dist_train.config.types import is_remote
from dist_train.data.shards.remote.store import files_below
from dist_train.system.files import fingerprint
from dist_train.system.progress import advance

THREADS = 16
"""They hide the latency of a network file system."""

CHUNK = 64

TICK_NS, COARSE_TICK_NS = 50_000_000, 2_000_000_000
"""Longer than a file system's clock stands still; the second for file systems that keep whole seconds."""

Stamp = tuple[int, int]
"""Time of the last change in ns since 1970, and size in bytes. A folder has size 0, since its size says nothing."""

UNKNOWN = -1
"""A time that no file has."""


@dataclass
class Survey:
    """The places that decide what a scan finds.

    Attributes:
        places: folders that were listed and tables that were read, by path: their stamps just before that.
        changed_ns: when each image's file was last changed, in ns since 1970, by the name of the image.
        began_ns: when the survey began, in ns since 1970.
    """

    places: dict[str, Stamp] = field(default_factory=dict)
    changed_ns: dict[str, int] = field(default_factory=dict)
    began_ns: int = field(default_factory=time.time_ns)
    _folders: set[str] = field(default_factory=set)

    def note(self, path: str) -> None:
        """Note a folder or a table. Call it before it is read, so that a change meanwhile is noticed later."""
        if path not in self.places:
            self.places[path] = _safe(stamp_of(path))

    def note_folders(self, root: str, names: Iterable[str]) -> None:
        """Note the folders that images lie in."""
        for folder in dict.fromkeys(name.rpartition("/")[0] for name in names):
            if folder not in self._folders:
                self._folders.add(folder)
                self.note(os.path.join(root, folder).rstrip("/"))


_surveys: list[Survey] = []


@contextmanager
def surveyed() -> Iterator[Survey]:
    """Note in a new survey all that the block reads with ``note``, ``note_folders`` and ``note_images``."""
    survey = Survey()
    _surveys.append(survey)
    try:
        yield survey
    finally:
        _surveys.pop()


def note(path: str | os.PathLike[str]) -> None:
    """Note that a folder or a table is about to be read."""
    if _surveys:
        _surveys[-1].note(os.fspath(path))


def note_folders(root: str, names: Iterable[str]) -> None:
    """Note the folders of images below ``root``, before ``note_images``."""
    if _surveys:
        _surveys[-1].note_folders(root, names)


def note_images(changed_ns: Iterable[tuple[str, int]]) -> None:
    """Note when the files of images were last changed: (name, ns since 1970)."""
    if _surveys:
        _surveys[-1].changed_ns.update(changed_ns)


def stamp_of(path: str) -> Stamp:
    """Return the stamp of a file or folder; of one that cannot be read, a stamp that no other has."""
    if is_remote(path):
        return _remote_stamp(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return UNKNOWN, 0
    return found.st_mtime_ns, 0 if stat.S_ISDIR(found.st_mode) else found.st_size


def _remote_stamp(root: str) -> Stamp:
    """Return the stamp of a remote folder: a number of the names and versions of its files.

    Raises:
        DataError: it cannot be listed, after several attempts: the scan would fail too, after as many.
    """
    return int(fingerprint(sorted(files_below(root).items()))[:15], 16), 0


def first_changed(expected: Sequence[tuple[str, Stamp]]) -> str:
    """Return the first path that has another stamp than expected; an empty string if none has."""
    chunks = [expected[start : start + CHUNK] for start in range(0, len(expected), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(_first_of, chunks):
            if found:
                pool.shutdown(wait=False, cancel_futures=True)
                return found
    return ""


def _safe(stamp: Stamp) -> Stamp:
    """Return an unknown time in place of one so young that the next change could have the same."""
    changed_ns, size = stamp
    tick_ns = TICK_NS if changed_ns % 1_000_000_000 else COARSE_TICK_NS
    return (UNKNOWN, size) if time.time_ns() - changed_ns < tick_ns else stamp


def _first_of(expected: Sequence[tuple[str, Stamp]]) -> str:
    for path, stamp in expected:
        advance()
        if stamp[0] == UNKNOWN or stamp_of(path) != stamp:
            return path
    return ""
