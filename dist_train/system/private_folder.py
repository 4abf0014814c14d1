"""Files outside of the run folder, on machines that others use too: this user's alone, or refused.

Who could have written a file decides, not its name: another user may create any name in the temporary folder before us.
"""

import os
import stat
import tempfile
import weakref
from pathlib import Path

from dist_train.errors import ConfigError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def temporary_folder() -> Path:
    """Return the folder of this user below the system's temporary folder. It may be missing, or somebody else's.

    Raises:
        ConfigError: no folder takes temporary files.
    """
    check_temporary_files()
    return Path(tempfile.gettempdir(), f"dist_train-{os.geteuid()}")


def check_temporary_files() -> None:
    """Check that a folder takes temporary files: even the import of torch fails without one.

    Raises:
        ConfigError: neither ``TMPDIR`` nor another usual folder does.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        chosen = os.environ.get("TMPDIR")
        raise ConfigError(
            f"`TMPDIR` ({chosen or 'not set'}) must be a folder that exists, has room and can be written, as torch and loader "
            f"processes need temporary files; create it, or set another one: `export TMPDIR=FOLDER`. {error.strerror}"
        ) from None


def private_folder(path: Path, key: str) -> Path:
    """Create a folder that only this user can enter; take the rights of others from one that is there.

    Args:
        key: the config key or the variable that chooses another folder, for messages.

    Raises:
        ConfigError: another user owns the folder, or it cannot be created.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(path, path.lstat(), key)
        found = path.stat()  # of the folder behind a link
        _refuse_foreign(path, found, key)
        if found.st_mode & OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
    except OSError as error:
        raise ConfigError(
            f"`{key}`: {path} cannot be this user's own folder: {error.strerror}; choose another folder"
        ) from None
    return path


def refuse_shared(folder: str | Path, key: str) -> None:
    """Raise ConfigError if another user can add files to a folder; allow a missing one."""
    path = Path(folder)
    if not path.exists():
        return
    _refuse_foreign(path, path.stat(), key)
    if path.stat().st_mode & OTHERS_WRITE:
        raise ConfigError(
            f"`{key}`: other users can write to {path}; run `chmod go-w {path}`, or choose another folder"
        )


class OwnFile:
    """A file that is open until nothing refers to it. Nobody but this user (or root) can have written it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @property
    def descriptor(self) -> int:
        """Return the descriptor, for locks."""
        return self._descriptor

    @property
    def size(self) -> int:
        """Return the bytes of the file now."""
        return os.fstat(self._descriptor).st_size

    def for_writing(self) -> "OwnFile":
        """Open the same file for reading and writing, also if it has another name meanwhile, or none.

        Raises:
            OSError: it cannot be written.
        """
        return OwnFile(os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDWR | os.O_CLOEXEC))

    def read(self, position: int, target: memoryview) -> None:
        """Fill ``target`` with the bytes from ``position`` on.

        A mapped file would end the process by SIGBUS where it was cut, or where its disk fails.

        Raises:
            EOFError: the file ends before.
            OSError: it cannot be read.
        """
        left = target.cast("B")
        while left:
            count = os.preadv(self._descriptor, [left], position)
            if not count:
                raise EOFError
            left, position = left[count:], position + count

    def write(self, position: int, source: memoryview) -> None:
        """Write all bytes of ``source`` at ``position`` of a file that is open for writing.

        Raises:
            OSError: it cannot be written.
        """
        left = source.cast("B")
        while left:
            count = os.pwrite(self._descriptor, left, position)
            left, position = left[count:], position + count


def open_own(path: Path, key: str) -> OwnFile | None:
    """Open a file that nobody but this user (or root) can have written.

    Returns:
        None if it is missing, not a regular file, or this user's and other users can change it.

    Raises:
        ConfigError: another user owns it.
    """
    try:
        # O_NONBLOCK: the open of a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    file, found = OwnFile(descriptor), os.fstat(descriptor)
    _refuse_foreign(path, found, key)
    return file if stat.S_ISREG(found.st_mode) and not found.st_mode & OTHERS_WRITE else None


def create_own(path: Path, key: str) -> OwnFile:
    """Open a file for reading and writing that nobody but this user (or root) can have written.

    Create it if it is missing; replace it if it is not a regular file, or other users can change it.

    Raises:
        ConfigError: another user owns it.
        OSError: it cannot be created.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = OwnFile(os.open(path, flags, 0o600))
    found = os.fstat(file.descriptor)
    _refuse_foreign(path, found, key)
    if not stat.S_ISREG(found.st_mode) or found.st_mode & OTHERS_WRITE:
        path.unlink()
        file = OwnFile(os.open(path, flags | os.O_EXCL, 0o600))
    return file


def _refuse_foreign(path: Path, found: os.stat_result, key: str) -> None:
    if _foreign(path, found):
        raise ConfigError(
            f"`{key}`: {path} belongs to another user (uid {found.st_uid}), who could have put anything there; "
            "choose a folder of your own"
        )


def is_foreign(path: Path) -> bool:
    """Return whether another user than this one or root owns a file or folder; false if it is missing."""
    return path.exists() and _foreign(path, path.stat())


def _foreign(path: Path, found: os.stat_result) -> bool:
    return found.st_uid not in (0, os.geteuid()) and found.st_uid != _owner_of_new_files(path.parent)


def _owner_of_new_files(folder: Path) -> int | None:
    """Return who owns what we create in a folder: a file system may give all files to one user. None if we cannot."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return None
