"""How much memory and CPU time and how many processes this process may have: of the machine, or of its cgroup (container, SLURM job)."""

import math
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_limit() -> tuple[float, str]:
    """Return the largest amount of memory in bytes, and what sets it."""
    total = _of_machine("MemTotal") + _of_machine("SwapTotal")
    limits = [
        limit
        for folder in _cgroups("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _number(folder / name)) < total
    ]
    return (
        (min(limits), "the memory limit of this container or job") if limits else (total, "the memory of this machine")
    )


def free_memory() -> float:
    """Return the bytes of memory that can be had now, with what the kernel holds for files only."""
    free = _of_machine("MemAvailable") + _of_machine("SwapFree")
    for folder in _cgroups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            if (folder / used).exists():
                free = min(free, _number(folder / limit) - _number(folder / used) + _files_only(folder))
    return max(0, free)


def processes_left() -> float:
    """Return how many processes and threads the cgroups of this process still allow."""
    left = (_number(folder / "pids.max") - _number(folder / "pids.current", 0) for folder in _cgroups("pids"))
    return min(left, default=math.inf)


def cpu_limit() -> float:
    """Return how many cores' time the cgroups of this process allow it (``docker run --cpus``); infinite without a limit."""
    return min(map(_quota, _cgroups("cpu")), default=math.inf)


def _quota(folder: Path) -> float:
    """Return the CPU time that a cgroup allows in one second."""
    try:
        quota_us, period_us = map(float, (folder / "cpu.max").read_text().replace("max", "inf").split())
    except (OSError, ValueError):
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us", 1)
    return quota_us / period_us if quota_us > 0 else math.inf  # version 1 has -1 without a limit


def _cgroups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and of those above it, in version 2 and in version 1."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        own = root / path.lstrip("/")
        # In a container the path may be that of the host, whose root is all that is mounted.
        for folder in (own, *own.parents):
            if folder.is_relative_to(root) and folder.is_dir():
                yield folder


def _number(path: Path, otherwise: float = math.inf) -> float:
    """Return the number in a file; ``otherwise`` for "max", or if the file does not exist."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return otherwise


def _of_machine(name: str) -> float:
    """Return a row of ``/proc/meminfo`` in bytes."""
    return _row(Path("/proc/meminfo"), f"{name}:") * 1024


def _files_only(folder: Path) -> float:
    return _row(folder / "memory.stat", "inactive_file")


def _row(path: Path, name: str) -> float:
    try:
        rows = (line.split() for line in path.read_text().splitlines())
        return next((int(words[1]) for words in rows if words[0] == name), 0)
    except OSError:
        return 0
