"""Preflight: measure every rank before the training, and name nodes that are slow or compute wrongly.

Matrix products and copies in memory take place on each rank alone, so they judge its node. The all-reduce and the disk are
shared: the slowest rank, or another job, decides about them, so they are in the table and judge nobody.

Products are of matrices of small whole numbers. Every sum is then exact in float32, TF32 and bfloat16 inputs included, and
the result has the same bits on every device that works.
"""

import hashlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from dist_train.distributed.group import Dist
from dist_train.errors import DistTrainError

SLOW = 0.8
"""A node is slow if one of its ranks reaches less than this share of the median of the other ranks."""
_ROUNDS, _ROUND_S = 5, 0.2
_KNOWN_ROWS = 8
_DISK_MB, _REDUCED_MB = 16, 16


@dataclass(frozen=True)
class Figures:
    """What was measured on one rank.

    Attributes:
        matmul: in TFLOP/s, float32.
        memory: read and written in a copy, in GB/s.
        all_reduce: of 16 MB, in MB/s.
        disk: written and synced in the run folder, in MB/s.
        right: whether all results were the known ones.
        bits: the digest of the matrix product.
    """

    rank: int
    node: str
    device: str
    matmul: float
    memory: float
    disk: float
    right: bool
    bits: str
    all_reduce: float = 0.0


def measure(group: Dist, folder: Path) -> list[Figures]:
    """Return the figures of all ranks, in their order, on every rank. Takes about three seconds.

    Args:
        folder: a folder that every rank can write to.

    Raises:
        DistTrainError: a rank cannot write there.
    """
    mine: Figures | None = None
    with group.together():
        mine = _alone(group, folder)
    assert mine is not None
    speed, right = _all_reduce(group)
    return group.gather_objects(Figures(**{**asdict(mine), "all_reduce": speed, "right": mine.right and right}))


def faults(ranks: list[Figures]) -> dict[str, str]:
    """Return the nodes that compute wrongly, with the reason."""
    counts = Counter(rank.bits for rank in ranks)
    usual, times = counts.most_common(1)[0]
    odd = {rank.rank for rank in ranks if not rank.right}
    if 2 * times > len(ranks):
        odd |= {rank.rank for rank in ranks if rank.bits != usual}
    return {rank.node: f"rank {rank.rank} computes wrong results" for rank in ranks if rank.rank in odd}


def slow_nodes(ranks: list[Figures]) -> dict[str, str]:
    """Return the nodes with a rank that is slower than the others, with the reason. One rank alone is never slow."""
    found: dict[str, str] = {}
    for rank in ranks:
        others = [other for other in ranks if other is not rank]
        for name, what in (("matmul", "matrix products"), ("memory", "copies in memory")):
            usual = median(getattr(other, name) for other in others) if others else 0.0
            if getattr(rank, name) < SLOW * usual:
                share = 100 * (1 - getattr(rank, name) / usual)
                found.setdefault(rank.node, f"rank {rank.rank} is {share:.0f} % slower in {what} than the others")
    return found


def table(ranks: list[Figures]) -> str:
    """Return the figures as lines of text."""
    lines = [
        f"{'rank':>5} {'TFLOP/s':>8} {'memory GB/s':>12} {'all-reduce MB/s':>16} {'disk MB/s':>10} {'right':>6}  node"
    ]
    for rank in ranks:
        figures = f"{rank.matmul:>8.3g} {rank.memory:>12.3g} {rank.all_reduce:>16.4g} {rank.disk:>10.4g}"
        lines.append(f"{rank.rank:>5} {figures} {'yes' if rank.right else 'NO':>6}  {rank.node} ({rank.device})")
    return "\n".join(lines)


def node_name() -> str:
    """Return the name of this node, in SLURM's words if SLURM started this process."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _alone(group: Dist, folder: Path) -> Figures:
    device = group.device
    matmul, right, bits = _matmul(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return Figures(
        group.rank, node_name(), name, matmul, _memory(device), _disk(folder / f".preflight-{group.rank}"), right, bits
    )


def _matmul(device: torch.device) -> tuple[float, bool, str]:
    """Return TFLOP/s, whether the result is the known one, and its digest."""
    size = 4096 if device.type == "cuda" else 512
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-8, 9, (size, size), generator=random).float() for _ in range(2))
    known = left[:_KNOWN_ROWS].long() @ right.long()
    left, right = left.to(device), right.to(device)
    first = left @ right
    same = torch.tensor(True, device=device)

    def multiply() -> None:
        nonlocal same
        same &= (left @ right == first).all()

    seconds = _seconds(multiply, device)
    result = first.cpu()
    is_known = torch.equal(result[:_KNOWN_ROWS].long(), known) and bool(same.item())
    return 2e-12 * size**3 / seconds, is_known, hashlib.sha256(result.numpy().tobytes()).hexdigest()[:16]


def _memory(device: torch.device) -> float:
    """Return the bytes that a copy reads and writes, in GB/s."""
    size = (256 << 20) if device.type == "cuda" else (64 << 20)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e-9 * size / _seconds(lambda: target.copy_(source), device)


def _disk(path: Path) -> float:
    content = os.urandom(1 << 20)
    began = time.perf_counter()
    try:
        with open(path, "wb") as file:
            for _ in range(_DISK_MB):
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DistTrainError(f"preflight: {node_name()} cannot write to the run folder: {error}") from None
    finally:
        with suppress(OSError):
            path.unlink()
    return _DISK_MB * 1.048576 / (time.perf_counter() - began)


def _all_reduce(group: Dist) -> tuple[float, bool]:
    """Return MB/s of an all-reduce, and whether its sum is right. One rank alone has none: 0."""
    expected = group.world_size * (group.world_size + 1) // 2
    best, right = 0.0, True
    if group.world_size == 1:
        return best, right
    for _ in range(3):
        numbers = torch.full((_REDUCED_MB << 18,), float(group.rank + 1), device=group.device)
        began = time.perf_counter()
        group.sum(numbers)
        right &= bool((numbers == expected).all().item())
        best = max(best, _REDUCED_MB * 1.048576 / (time.perf_counter() - began))
    return best, right


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of one call of ``work``, over several rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        _wait(device)
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < _ROUND_S:
            work()
            _wait(device)
            calls += 1
        rounds.append((time.perf_counter() - began) / calls)
    return median(rounds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
