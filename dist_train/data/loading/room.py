"""What loader processes need of a machine: memory, open files, processes, and a little of /dev/shm."""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from dist_train.errors import ConfigError, DistTrainError
from dist_train.system.machine.cores import ranks_per_node
from dist_train.system.machine.limits import free_memory, memory_limit, processes_left

PROCESS_BYTES = 22_000_000
"""Memory of a loader process that it does not share with its rank."""
FILES, PROCESS_FILES = 48, 8
"""Open files that a rank needs besides the loaders', and for each loader process."""
SEMAPHORES, PROCESS_SEMAPHORES = 16, 8
"""In /dev/shm: of a loader, and for each process; each takes a page."""
PAGE = 4096
SHM = Path("/dev/shm")  # noqa: S108 - only its free space is read


@dataclass(frozen=True)
class Needs:
    """What the loader processes of the ranks of one node need; ``files`` is of one rank.

    Attributes:
        workers, prefetch: ``data.workers`` and ``data.prefetch``.
        batches: bytes of all batches that can be ready at once.
        semaphores: bytes in /dev/shm.
    """

    workers: int
    prefetch: int
    processes: int
    batches: int
    files: int
    semaphores: int

    @property
    def memory(self) -> int:
        """Return the bytes of memory."""
        return self.batches + self.processes * PROCESS_BYTES

    @property
    def fewer(self) -> str:
        """Return the way out that needs no rights on the machine."""
        return f"lower `data.workers` ({self.workers})"


def needs(workers: int, prefetch: int, batch_bytes: int) -> Needs:
    """Return what the loaders of training and validation need together.

    Args:
        workers: loader processes of a rank, for each of the two.
        prefetch: batches that each keeps ready.
        batch_bytes: of the largest batch of each of the two together.
    """
    processes = 2 * workers * ranks_per_node()
    return Needs(
        workers=workers,
        prefetch=prefetch,
        processes=processes,
        batches=workers * ranks_per_node() * (prefetch + 1) * batch_bytes,
        files=FILES + 2 * workers * PROCESS_FILES,
        semaphores=(2 * ranks_per_node() * SEMAPHORES + processes * PROCESS_SEMAPHORES) * PAGE,
    )


def check_room(needed: Needs) -> str | None:
    """Check the limits of this machine before the first step. Raise the soft limit of open files where that is enough.

    Returns:
        A warning, or None.

    Raises:
        ConfigError: a limit is too low, whatever else runs on the machine.
    """
    if not needed.workers:
        return None
    ready = f"the loader processes need about {gb(needed.memory)} of memory for batches that are ready"
    less = f"{needed.fewer}, `data.prefetch` ({needed.prefetch}) or the batch size"
    limit, where = memory_limit()
    if needed.memory > limit:
        raise ConfigError(f"{ready}, and {where} is {gb(limit)}: {less}")
    _check_files(needed)
    _check_processes(needed)
    _check_shm(needed)
    free = free_memory()
    return None if needed.memory <= free else f"{ready}, and {gb(free)} are free: if they are killed, {less}"


def describe(needed: Needs) -> str:
    """Return the line of ``--check`` about loader processes."""
    if not needed.workers:
        return "loader: images are read in the training process (`data.workers` is 0)"
    return (
        f"loader: {needed.workers} processes per rank for training and as many for validation, {needed.prefetch} batches each; "
        f"at most {gb(needed.memory)} of memory, {gb(free_memory())} free"
    )


def _check_processes(needed: Needs) -> None:
    left = processes_left()
    if needed.processes > left:
        raise ConfigError(
            f"{needed.processes} loader processes are more than the {left} that the limit of processes (pids.max) leaves: "
            f"raise it (docker run --pids-limit), or {needed.fewer}"
        )


def _check_files(needed: Needs) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = needed.files + len(os.listdir("/proc/self/fd"))
    if soft == resource.RLIM_INFINITY or files <= soft:
        return
    if hard != resource.RLIM_INFINITY and files > hard:
        raise ConfigError(
            f"a rank with its loader processes needs about {files} open files, and the limit is {hard}: raise it "
            f"(ulimit -n), or {needed.fewer}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _check_shm(needed: Needs) -> None:
    why = _why_no_shm(needed.semaphores)
    if why:
        raise ConfigError(
            f"loader processes need {needed.semaphores // 1000} kB of /dev/shm for semaphores, but {why}: make room (docker "
            f"run --shm-size=64m), or {needed.fewer}; with 0 none is needed"
        )


def _why_no_shm(needed: int) -> str:
    if not os.access(SHM, os.W_OK | os.X_OK):
        return "it is not a folder that this user can write to"
    found = os.statvfs(SHM)
    free = found.f_bavail * found.f_frsize
    # A file system without a limit says that it has no blocks.
    return f"it has {free // 1000} kB free" if found.f_blocks and free < needed else ""


def no_room_for_processes(workers: int, error: OSError) -> DistTrainError:
    """Return the error to raise where loader processes could not be started."""
    told = DistTrainError(
        f"cannot start {workers} loader processes: {error.strerror or error}. The limits are those of processes (ulimit -u, "
        "docker run --pids-limit), open files (ulimit -n), memory, and /dev/shm (docker run --shm-size): raise them, or lower "
        "`data.workers`"
    )
    told.of_one_rank = True
    return told


def gb(count: float) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e9:.2f} GB"
