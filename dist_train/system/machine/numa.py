"""Keep a rank, its threads and its loader processes on the cores near its GPU. Imports no torch.

On a machine with several NUMA nodes, a core reaches the memory and the GPUs of its own node faster than those of another. File
names are those of the kernel's sysfs: https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-devices-node
"""

import os
from collections.abc import Iterator, Sequence
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


def bind_rank(gpus: Sequence[str], rank: int) -> Near | None:
    """Bind this process, its threads and the processes that it starts later to the cores near its GPU.

    Args:
        gpus: the PCI addresses of the GPUs of all ranks on this machine, in the order of ranks.
        rank: the local rank of this process.

    Returns:
        The cores; None if the process keeps its cores, see ``near_cores``.
    """
    allowed = os.sched_getaffinity(0)
    near = near_cores(gpus, rank, allowed)
    if near is None or not _move(allowed, near.cores):
        return None
    cores.share_with(near.ranks)
    return near


def near_cores(gpus: Sequence[str], rank: int, allowed: set[int]) -> Near | None:
    """Return the cores near the GPU of a rank: those of the GPU's NUMA node, else those of its socket.

    Args:
        allowed: the cores that this process may use.

    Returns:
        None if a scheduler, ``taskset`` or ``torchrun --numa-binding`` has bound the process already, if the kernel does not know
        the node of a GPU, if all cores are near, or if a core is near none of the GPUs: loader processes need every core.
    """
    try:
        if allowed != _cores(SYS / "devices/system/cpu/online"):
            return None
        nodes = [int((SYS / "bus/pci/devices" / gpu / "numa_node").read_text()) for gpu in gpus]
        for around in (_of_node, _of_socket) if min(nodes) >= 0 else ():
            if near := _shared_evenly([around(node) for node in nodes], allowed):
                return Near(nodes[rank], near[rank], near.count(near[rank]))
    except (OSError, ValueError):  # a container hides files of sysfs
        return None
    return None


def _shared_evenly(near: list[frozenset[int]], allowed: set[int]) -> list[frozenset[int]]:
    """Return ``near`` if every core is near a GPU and no rank would get fewer cores than without binding; else an empty list."""
    fair = all(len(mine) * len(near) >= len(allowed) * near.count(mine) for mine in near)
    several = any(mine != allowed for mine in near)
    return near if fair and several and allowed == set().union(*near) else []


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
