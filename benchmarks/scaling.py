"""A model of how training scales: from the step of one GPU, the bytes of its gradients and stated bandwidths to efficiency.

    python -m benchmarks.scaling                             # the table for the defaults
    python -m benchmarks.scaling --step-ms 40 --gradients-mb 98 --network 25
    python -m benchmarks.scaling --check                     # minutes: beside 1, 2, 4, 8 gloo ranks on this machine

Weak scaling: each GPU keeps its batch. Every term of the model is one function below, with its source.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import markdown
from dist_train.distributed.agreement import calls_between

RESULT = Path(__file__).parent / "results" / "scaling.md"
WORLDS = (1, 8, 64, 512)
BUCKET_MB = 25.0
"""DDP's `bucket_cap_mb` (torch.nn.parallel.DistributedDataParallel)."""
BACKWARD = 2 / 3
"""Share of a step in which gradients become ready: a backward pass costs twice a forward pass."""
NETWORKS = {
    "400 Gb/s InfiniBand per GPU (NDR)": (400.0, True),
    "200 Gb/s InfiniBand per GPU (HDR)": (200.0, True),
    "25 GbE per node": (25.0, False),
}
"""Gb/s, and whether every GPU has its own card. Line rates of the standards."""


@dataclass(frozen=True)
class Cluster:
    """A cluster of equal nodes.

    Attributes:
        nvlink: GB/s of one GPU in one direction.
        network: Gb/s of a card.
        card_per_gpu: every GPU has a card of its own; else one per node.
        usable: share of a line rate that an all-reduce reaches.
        hop_us: time of one message between nodes.
        spread: standard deviation of a rank's step, as a share of it.
    """

    gpus_per_node: int = 8
    nvlink: float = 450.0
    network: float = 400.0
    card_per_gpu: bool = True
    usable: float = 0.8
    hop_us: float = 10.0
    spread: float = 0.01


@dataclass(frozen=True)
class Work:
    """A step of one GPU alone, and the gradients that it makes."""

    step_ms: float
    gradients_mb: float


def all_reduce_ms(work: Work, cluster: Cluster, ranks: int) -> float:
    """Return the time of the gradients' all-reduces.

    A ring sends 2(n-1)/n of the bytes over every link (Patarasuk and Yuan, 2009), and the slowest link decides: NVLink in a
    node, the cards between nodes. Each bucket adds messages of a tree, 2 log2(nodes) (NCCL's double binary trees).
    """
    if ranks == 1:
        return 0.0
    nodes = -(-ranks // cluster.gpus_per_node)
    sent_mb = 2 * (ranks - 1) / ranks * work.gradients_mb
    link = cluster.nvlink
    if nodes > 1:
        cards = cluster.gpus_per_node if cluster.card_per_gpu else 1
        link = min(link, cluster.network / 8 * cards)
    buckets = max(1.0, work.gradients_mb / BUCKET_MB)
    return sent_mb / (link * cluster.usable) + buckets * 2 * math.log2(max(1, nodes)) * cluster.hop_us / 1000


def exposed_ms(work: Work, cluster: Cluster, ranks: int) -> float:
    """Return what of it a step waits for: the last bucket, and whatever takes longer than the backward pass."""
    total = all_reduce_ms(work, cluster, ranks)
    last = total * min(1.0, BUCKET_MB / work.gradients_mb)
    return max(last, total - BACKWARD * work.step_ms)


def straggler_ms(work: Work, cluster: Cluster, ranks: int) -> float:
    """Return how much longer than the mean the slowest of the ranks takes: the largest of n normal values."""
    return work.step_ms * cluster.spread * math.sqrt(2 * math.log(ranks)) if ranks > 1 else 0.0


def flag_ms(work: Work, ranks: int) -> float:
    """Return what agreeing on a stop adds to a step: nothing, unless an exchange takes longer than the steps up to its reading.

    An exchange over TCP takes 2 log2(n) messages of about 3 ms at most (30 to 60 ms at 512 ranks), every k steps.
    """
    exchange = 6.0 * math.log2(ranks) if ranks > 1 else 0.0
    return max(0.0, exchange - work.step_ms) / calls_between(work.step_ms / 1000, ranks)


def efficiency(work: Work, cluster: Cluster, ranks: int) -> float:
    """Return the share of a lone GPU's images per second that each of ``ranks`` GPUs reaches.

    Buffers are not broadcast in a step (DDP's `broadcast_buffers` is off): they are before evaluations and saves only.
    """
    waits = exposed_ms(work, cluster, ranks) + straggler_ms(work, cluster, ranks) + flag_ms(work, ranks)
    return work.step_ms / (work.step_ms + waits)


def predictions(work: Work, base: Cluster) -> str:
    """Return the table of all networks."""
    rows = []
    for name, (network, card_per_gpu) in NETWORKS.items():
        cluster = replace(base, network=network, card_per_gpu=card_per_gpu)
        shares = [f"{100 * efficiency(work, cluster, ranks):.1f} %" for ranks in WORLDS[1:]]
        parts = (exposed_ms(work, cluster, 512), straggler_ms(work, cluster, 512), flag_ms(work, 512))
        rows.append([name, *shares, " + ".join(f"{part:.1f}" for part in parts)])
    titles = ["network", *(f"{ranks} GPUs" for ranks in WORLDS[1:]), "ms at 512: gradients + stragglers + stop flag"]
    return markdown(titles, rows)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    base = Cluster()
    made.add_argument(
        "--step-ms",
        type=float,
        default=98.0,
        help="step of one GPU alone (%(default)s: ViT-B/16 at 384 px, batch 128, on an H200 at 55 %% of its peak; computed, not measured)",
    )
    made.add_argument("--gradients-mb", type=float, default=348.0, help="float32 gradients (%(default)s: ViT-B/16)")
    made.add_argument("--gpus-per-node", type=int, default=base.gpus_per_node, help="(%(default)s)")
    made.add_argument(
        "--nvlink",
        type=float,
        default=base.nvlink,
        help="GB/s per GPU and direction (%(default)s: NVLink 4, 900 GB/s both ways)",
    )
    made.add_argument(
        "--usable",
        type=float,
        default=base.usable,
        help="share of a line rate that an all-reduce reaches (%(default)s, assumed)",
    )
    made.add_argument(
        "--hop-us", type=float, default=base.hop_us, help="time of a message between nodes (%(default)s, assumed)"
    )
    made.add_argument(
        "--spread",
        type=float,
        default=base.spread,
        help="standard deviation of a rank's step, as a share (%(default)s, assumed; `slowest_ratio` in metrics.jsonl shows yours)",
    )
    made.add_argument("--network", type=float, help="only this network: Gb/s of the card of each GPU")
    made.add_argument(
        "--check", action="store_true", help="measure gloo ranks on this machine, and write results/scaling.md"
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; with ``--check`` measure, and write the page."""
    args = parser().parse_args(argv)
    work = Work(args.step_ms, args.gradients_mb)
    base = Cluster(args.gpus_per_node, args.nvlink, usable=args.usable, hop_us=args.hop_us, spread=args.spread)
    if args.network:
        NETWORKS.clear()
        NETWORKS[f"{args.network:g} Gb/s per GPU"] = (args.network, True)
    table = predictions(work, base)
    print(table)
    if args.check:
        from benchmarks.scaling_check import check

        RESULT.write_text(
            TEXT.format(
                table=table,
                check=check(),
                usable=f"{100 * base.usable:.0f}",
                hop=f"{base.hop_us:g}",
                spread=f"{100 * base.spread:g}",
            )
        )


TEXT = """# How training scales: a model, and what was measured

`python -m benchmarks.scaling`: each GPU keeps its batch; efficiency is the share of a lone GPU's images per second. ViT-B/16 at
384 px with batch 128 (98 ms a step, computed for an H200; 348 MB of gradients), 8 GPUs per node. **No GPU was measured.**

{table}

Assumptions, each an argument or a function in `benchmarks/scaling.py`:

- gradients: a ring sends 2(n-1)/n of the bytes over every link; the slowest link decides: NVLink in a node (450 GB/s per
  direction), the cards between nodes at {usable} % of their line rate. Each bucket of 25 MB adds 2 log2(nodes) messages of {hop} us.
- overlap: a step waits for the last bucket, and for what takes longer than the backward pass (two thirds of the step).
- stragglers: the slowest of n ranks whose steps differ by {spread} % (standard deviation).
- stop flag: waited for only where an exchange takes longer than a step; every k steps from 32 ranks on. Buffers are not broadcast in a step.
- not in it: input pipelines that are too slow, saves (the loop goes on), other jobs on the network.

## Beside gloo ranks on this machine

{check}
"""


if __name__ == "__main__":
    main()
