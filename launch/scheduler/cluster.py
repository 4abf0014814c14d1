"""What a cluster offers, by ``sinfo``: partitions, their limits, and the largest nodes in them."""

import re
import time
from dataclasses import dataclass
from functools import cache

from dist_train.config.types import seconds_of
from launch.scheduler import scontrol

DRY_RUN_S = 2.0
"""Seconds that a dry run waits for a controller that does not answer."""
_FORMAT = "%P|%a|%l|%s|%D|%c|%m|%G"


@dataclass(frozen=True)
class Offer:
    """Nodes of one kind in one partition."""

    partition: str
    default: bool
    up: bool
    seconds: int | None
    """Longest walltime; None: no limit."""
    nodes: int
    max_nodes: int | None
    """Most nodes of one job; None: no limit."""
    cpus: int
    mem_mb: int
    gpus: dict[str, int]
    """GPUs per node for each type; the type is empty if the site names none."""

    def gpus_of(self, kind: str) -> int:
        """Return the GPUs per node of a type; of all types if ``kind`` is empty."""
        return self.gpus.get(kind, 0) if kind else sum(self.gpus.values())


@dataclass(frozen=True)
class Cluster:
    """The answer of SLURM; empty without SLURM."""

    offers: tuple[Offer, ...] = ()
    max_array: int | None = None
    """Most tasks of one array."""
    silent: bool = False
    """There is a SLURM, and it does not answer."""

    @property
    def partitions(self) -> list[str]:
        return sorted({offer.partition for offer in self.offers})

    def chosen(self, partition: str | None) -> list[Offer]:
        """Return what the partitions ``a,b`` offer; the default partition if None."""
        if partition:
            return [offer for offer in self.offers if offer.partition in partition.split(",")]
        return [offer for offer in self.offers if offer.default] or list(self.offers)

    def gpus_in_a_node(self, partition: str | None) -> int | None:
        """Return the largest number of GPUs of a node in the partitions; None if SLURM does not answer."""
        return max((offer.gpus_of("") for offer in self.chosen(partition)), default=None)


def look(patience_s: float = 60.0) -> Cluster:
    """Ask SLURM, for at most ``patience_s`` seconds."""
    give_up_at = time.monotonic() + patience_s
    done = scontrol.call("sinfo", "--all", "--exact", "--noheader", f"--format={_FORMAT}", patience_s=patience_s)
    if done.returncode:
        return Cluster(silent=done.returncode != scontrol.NO_PROGRAM)
    offers = tuple(_offer(line) for line in done.stdout.splitlines() if line.count("|") == _FORMAT.count("|"))
    config = scontrol.call("scontrol", "show", "config", patience_s=give_up_at - time.monotonic()).stdout
    array = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
    return Cluster(offers, int(array[1]) if array else None)


@cache
def known(dry_run: bool) -> Cluster:
    """Return the cluster; ask it once for each command."""
    return look(DRY_RUN_S) if dry_run else look()


def _offer(line: str) -> Offer:
    name, up, walltime, size, nodes, cpus, mem, gres = (field.strip() for field in line.split("|"))
    most = size.rpartition("-")[2]
    return Offer(
        partition=name.rstrip("*"),
        default=name.endswith("*"),
        up=up == "up",
        seconds=_seconds(walltime),
        nodes=int(nodes),
        max_nodes=int(most) if most.isdecimal() else None,
        cpus=_number(cpus),
        mem_mb=_number(mem),
        gpus=_gpus(gres),
    )


def _seconds(walltime: str) -> int | None:
    try:
        return seconds_of(walltime)
    except ValueError:  # "infinite", "n/a"
        return None


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)  # "64+": nodes of several sizes in one line


def _gpus(gres: str) -> dict[str, int]:
    """``gpu:a100:4(S:0-1),tmpfs:1`` -> ``{"a100": 4}``; ``gpu:2`` -> ``{"": 2}``."""
    found: dict[str, int] = {}
    for kind, count in re.findall(r"(?:^|,)gpu(?::([^:,()]+))??:(\d+)", gres):
        found[kind] = found.get(kind, 0) + int(count)
    return found
