"""What a start of a run may meet on a machine: little memory, few processes, another user, odd file systems, odd clocks.

Each of these is of the process that asks for it, and of its children; the machine stays as it is.
"""

import ctypes
import faulthandler
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.shm import CAN_MOUNT, small_shm

NOBODY = 65534


@dataclass(frozen=True)
class Surroundings:
    """The limits of a rank. None: as they are.

    Attributes:
        shm: the size of /dev/shm (64m).
        file_bytes: the largest file that it may write (`ulimit -f`).
        more_memory: how many bytes of address space it may add to what it has (`ulimit -v`).
        more_processes: how many processes and threads its user may add (`ulimit -u`); not as root.
        user: the number of its user.
    """

    shm: str | None = None
    file_bytes: int | None = None
    more_memory: int | None = None
    more_processes: int | None = None
    user: int | None = None

    def enter(self) -> None:
        """Put this process there."""
        faulthandler.enable()
        if self.shm is not None:
            small_shm(self.shm)
        if self.user is not None:
            _become(self.user)
        if self.file_bytes is not None:
            _limit(resource.RLIMIT_FSIZE, self.file_bytes)
        if self.more_memory is not None:
            _limit(resource.RLIMIT_AS, _address_space() + self.more_memory)
        if self.more_processes is not None:
            _limit(resource.RLIMIT_NPROC, _processes_of(os.getuid()) + self.more_processes)


def _become(user: int) -> None:
    """Be another user, who may still read every file: Python itself may lie in a folder of root's.

    Programs that it starts may, too (an ambient capability).
    """
    libc, may_read = ctypes.CDLL(None, use_errno=True), 2  # CAP_DAC_READ_SEARCH
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgid(user)
    os.setuid(user)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    mask = 1 << may_read
    if libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
    libc.prctl(47, 2, may_read, 0, 0)  # PR_CAP_AMBIENT_RAISE


def _limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _processes_of(user: int) -> int:
    """The number of threads of all processes of a user."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == user:
                count += len(list((folder / "task").iterdir()))
        except OSError:
            continue  # it has ended
    return count


def own_mounts() -> None:
    """Give this process mounts of its own; what it mounts, no other process sees."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@contextmanager
def places(folder: Path) -> Iterator[dict[str, Path]]:
    """Yield folders for runs by the kind of their file system, as far as this machine can mount it.

    As root with ``own_mounts``: a disk of 48 MB, FAT (exFAT over FUSE, on a loop device: no links, no owners), and bindfs.
    """
    found = {"plain": folder / "plain"}
    commands = {
        "small disk": ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs"],
        "exFAT": ["mount", "-t", "exfat-fuse", "-o", "loop", str(folder / "exfat.image")],
        "bindfs": ["bindfs", str(folder / "bound")],
    }
    (folder / "bound").mkdir(parents=True)
    found["plain"].mkdir()
    with ExitStack() as mounted:
        if CAN_MOUNT and shutil.which("mkfs.exfat"):
            with open(folder / "exfat.image", "wb") as image:
                image.truncate(512 << 20)
            subprocess.run(["mkfs.exfat", folder / "exfat.image"], check=True, capture_output=True)
        for name, command in commands.items() if CAN_MOUNT else ():
            place = folder / name.replace(" ", "-")
            place.mkdir()
            if shutil.which(command[0]) and not subprocess.run([*command, place], capture_output=True).returncode:
                mounted.callback(subprocess.run, ["umount", "-l", place], check=True)
                found[name] = place
        yield found


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave no room on a disk in the block."""
    filler = disk / "filler"
    try:
        with open(filler, "wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                _fill(file.fileno(), bytes(size))
        yield
    finally:
        filler.unlink(missing_ok=True)


def _fill(descriptor: int, block: bytes) -> None:
    try:
        while os.write(descriptor, block):
            pass
    except OSError:
        return
