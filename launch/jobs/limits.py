"""What a job asks for, compared with what the cluster offers.

SLURM accepts much that no node has or no limit allows, and such a job waits for ever: unless a site sets
``EnforcePartLimits``, a walltime above ``MaxTime``, and in SLURM 22.05 also too many nodes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from launch.jobs.option_values import Gpus, megabytes
from launch.scheduler.cluster import Cluster, Offer


@dataclass(frozen=True)
class Request:
    """What one start of a job needs."""

    partition: str | None
    time: str
    seconds: int
    nodes: int
    cpus: int
    """Per node, as ``mem`` and ``gpus``."""
    mem: str | None
    gpus: Gpus

    @property
    def mem_mb(self) -> int:
        return megabytes(self.mem) if self.mem else 0


def complaints(request: Request, cluster: Cluster) -> list[str]:
    """Return why the job can never start, one sentence for each option that is too large; empty if it can start."""
    offers = cluster.chosen(request.partition)
    by_name = [list(group) for _, group in groupby(sorted(offers, key=_name), key=_name)]
    if not offers or any(_fits(request, partition) for partition in by_name):
        return []
    where = " and ".join(f"partition {partition[0].partition}" for partition in by_name)
    found = list(_too_large(request, offers, by_name, where))
    return found or [f"no {request.nodes} node(s) of {where} have {_all(request)} at once, within the limits"]


def downs(request: Request, cluster: Cluster) -> list[str]:
    """Return the partitions of the job that start no jobs at present."""
    return sorted({offer.partition for offer in cluster.chosen(request.partition) if not offer.up})


def _name(offer: Offer) -> str:
    return offer.partition


def _fits(request: Request, partition: list[Offer]) -> bool:
    """Return whether one partition can start the job, when all its nodes are free."""
    limit = partition[0]
    if limit.seconds is not None and request.seconds > limit.seconds:
        return False
    enough = sum(offer.nodes for offer in partition if _has(offer, request))
    return request.nodes <= min(enough, limit.max_nodes if limit.max_nodes is not None else enough)


def _has(offer: Offer, request: Request) -> bool:
    return (
        offer.cpus >= request.cpus
        and offer.mem_mb >= request.mem_mb
        and offer.gpus_of(request.gpus.kind) >= request.gpus.count
    )


def _too_large(request: Request, offers: list[Offer], partitions: list[list[Offer]], where: str) -> Iterator[str]:
    """Yield a sentence for each option that is above the largest value of all these partitions."""
    longest = max((offer.seconds for offer in offers if offer.seconds is not None), default=0)
    if all(offer.seconds is not None for offer in offers) and request.seconds > longest:
        yield f"--time ({request.time}) is above the limit of {where}; use at most {_clock(longest)}"
    sizes = [(sum(offer.nodes for offer in partition), partition[0].max_nodes) for partition in partitions]
    most = max(total if limit is None else min(total, limit) for total, limit in sizes)
    if request.nodes > most:
        yield f"--nodes ({request.nodes}) is above the limit of {where}; use at most {most}"
    cpus = _largest(offers, lambda offer: offer.cpus)
    if request.cpus > cpus:
        yield f"{request.cpus} CPUs per node (--cpus-per-gpu for each worker) are above the {cpus} of {where}"
    memory = _largest(offers, lambda offer: offer.mem_mb)
    if request.mem_mb > memory:
        yield f"--mem ({request.mem}) is above the largest node of {where}; use at most {memory}M"
    if request.gpus.count > _largest(offers, lambda offer: offer.gpus_of(request.gpus.kind)):
        yield f"--gpus-per-node ({request.gpus}) is more than a node of {where} has: {_kinds(offers)}"


def _largest(offers: Iterable[Offer], value: Callable[[Offer], int]) -> int:
    return max(map(value, offers))


def _kinds(offers: list[Offer]) -> str:
    kinds = {str(Gpus(count, kind)) for offer in offers for kind, count in offer.gpus.items()}
    return ", ".join(sorted(kinds)) or "no GPU"


def _all(request: Request) -> str:
    parts = [f"{request.cpus} CPUs", *([f"{request.mem} of memory"] if request.mem else [])]
    return " and ".join([*parts, *([f"{request.gpus} GPUs"] if request.gpus.count else [])])


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
