"""Keep a rank, its threads and its loader processes on the cores near its GPU. Imports no torch.

On a machine with several NUMA nodes, a core reaches the memory and the GPUs of its own node faster than those of another. File
names are those of the kernel's sysfs: https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-devices-node
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dist_train.system.machine import cores

SYS = Path("/sys")


@dataclass(frozen=True)
class Near:
    """Cores near a GPU, and how many ranks share them."""

    node: int
    cores: frozenset[int]
    ranks: int

    def __str__(self) -> str:
        return f"NUMA node {self.node}, cores {_ranges(self.cores)}"


def bind_rank(gpus: Sequence[str], rank: int, cores_of: Sequence[Collection[int]]) -> Near | str:
    """Bind this process, its threads and the processes that it starts later to the cores near its GPU.

    Args:
        gpus: the PCI addresses of the GPUs of all ranks on this machine, in the order of ranks.
        rank: the local rank of this process.
        cores_of: the cores that each of these ranks may use: of a SLURM job, or under ``taskset``, a part of the machine's.

    Returns:
        The cores; or, if the process keeps its cores, why: see ``near_cores``.
    """
    near = near_cores(gpus, rank, cores_of)
    if isinstance(near, Near):
        if not _move(set(cores_of[rank]), near.cores):
            return "the kernel does not allow it"
        cores.share_with(near.ranks)
    return near


def near_cores(gpus: Sequence[str], rank: int, cores_of: Sequence[Collection[int]]) -> Near | str:
    """Return the cores near the GPU of a rank: those of the GPU's NUMA node, else those of its socket, among those it may use.

    Returns:
        A reason, if ranks do not have the same cores, since then a scheduler or a user has bound each of them; if a core is near none of
        the GPUs, because loader processes need every core; or if a rank would have fewer cores than it has now. Empty, if all cores
        are near, or if the kernel does not know the node of a GPU.
    """
    allowed = frozenset(cores_of[rank])
    if any(set(theirs) != allowed for theirs in cores_of):
        return "each has cores of its own already"
    why = ""
    try:
        nodes = [int((SYS / "bus/pci/devices" / gpu / "numa_node").read_text()) for gpu in gpus]
        for around in (_of_node, _of_socket) if min(nodes) >= 0 else ():
            near = [around(node) & allowed for node in nodes]
            if all(mine == allowed for mine in near):
                return why
            unfair = _unfair(near, allowed)
            if not unfair:
                return Near(nodes[rank], near[rank], near.count(near[rank]))
            why = why or unfair
    except (OSError, ValueError):  # a container hides files of sysfs
        return ""
    return why


def _unfair(near: list[frozenset[int]], allowed: frozenset[int]) -> str:
    """Return what ranks would lose if each used the cores near its GPU only; empty if none would lose anything."""
    if idle := allowed.difference(*near):
        return f"no GPU is near the cores {_ranges(idle)}"
    fewest = min(len(mine) // near.count(mine) for mine in near)
    now = max(1, len(allowed) // len(near))
    return f"{fewest} cores for a rank are near its GPU, and it has {now} now" if fewest < now else ""


def _of_node(node: int) -> frozenset[int]:
    return _cores(SYS / f"devices/system/node/node{node}/cpulist")


def _of_socket(node: int) -> frozenset[int]:
    """Return the cores of the socket of a node: AMD's may have four nodes, and GPUs at some of them only."""
    socket = _socket(min(_of_node(node)))
    return frozenset(core for core in _cores(SYS / "devices/system/cpu/online") if _socket(core) == socket)


def _socket(core: int) -> str:
    return (SYS / f"devices/system/cpu/cpu{core}/topology/physical_package_id").read_text()


def _cores(path: Path) -> frozenset[int]:
    """Return the numbers in a list of the kernel such as ``0-15,32-47``."""
    found: set[int] = set()
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _ranges(numbers: frozenset[int]) -> str:
    """Return numbers as the kernel writes them."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))


def _move(before: set[int], after: frozenset[int]) -> bool:
    """Bind the threads whose cores are ``before`` (NCCL binds its own) to ``after``. Return whether the kernel allows it."""
    try:
        os.sched_setaffinity(0, after)
    except OSError:
        return False
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended
            if os.sched_getaffinity(int(thread)) == before:
                os.sched_setaffinity(int(thread), after)
    return True


@contextmanager
def restored_cores() -> Iterator[None]:
    """Restore the cores of this process after the block."""
    before = os.sched_getaffinity(0)
    try:
        yield
    finally:
        now = os.sched_getaffinity(0)
        if now != before:
            _move(now, frozenset(before))
            cores.share_with(None)
