"""Measure 1, 2, 4 and 8 gloo ranks on this machine beside what a model of it predicts.

Ranks share few cores, so two things differ from a cluster: ranks beyond the number of cores take turns, and gloo's threads
take the cores from the computation, so that nothing is hidden behind it. Both are in the model here.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.forked_ranks import said_by_rank_0
from benchmarks.measure import markdown
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import Dist, joined

RANKS = (1, 2, 4, 8)
STEPS = 15
WIDTH, BATCH = 1024, 64
GRADIENTS_MB = 4 * 2 * (WIDTH * WIDTH + WIDTH) / 1e6


def timed(group: Dist, step: Callable[[], object]) -> float:
    """Return the median milliseconds of a step, which all ranks begin together."""
    times = []
    for _ in range(STEPS):
        group.gather_objects(0)
        began = time.perf_counter()
        step()
        times.append(max(group.gather_objects(time.perf_counter() - began)))
    return 1000 * median(times)


def rank(number: int, ranks: int, pipe: int) -> None:
    """Be one rank; rank 0 writes the milliseconds of a step without exchange, of an all-reduce, and of a whole step."""
    if ranks > 1:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(ranks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(21000 + ranks), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    torch.set_num_threads(1)
    with joined(DistributedConfig(timeout_s=600)) as group:
        layers = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH))
        model = DistributedDataParallel(layers) if ranks > 1 else layers
        images, gradients = torch.ones(BATCH, WIDTH), torch.ones(int(GRADIENTS_MB * 250_000))

        def step(alone: bool) -> None:
            quiet = model.no_sync() if alone and isinstance(model, DistributedDataParallel) else nullcontext()
            with quiet:
                model(images).sum().backward()

        step(alone=False)
        found = [timed(group, lambda: step(alone=True)), timed(group, lambda: group.sum(gradients))]
        found.append(timed(group, lambda: step(alone=False)))
        if number == 0:
            os.write(pipe, json.dumps(found).encode())


def measure(ranks: int) -> list[float]:
    """Return what rank 0 of ``ranks`` forked ones has measured."""
    return [float(value) for value in json.loads(said_by_rank_0(ranks, rank))]


def check() -> str:
    """Return the table as Markdown."""
    cores = len(os.sched_getaffinity(0))
    found = {ranks: measure(ranks) for ranks in RANKS}
    alone, exchange = found[1][0], found[2][1]
    rows = []
    for ranks, (compute, reduce, step) in found.items():
        turns = max(1.0, ranks / cores)
        # A ring moves 2(n-1)/n of the bytes per rank: 2(n-1) in all, by the same cores; at 2 ranks that is 2.
        predicted_reduce = exchange * (ranks - 1)
        predicted = alone * turns + predicted_reduce
        cells = [alone * turns, compute, predicted_reduce, reduce if ranks > 1 else 0.0, predicted, step]
        hidden = f"{100 * (1 - (step - compute) / reduce):.0f} %" if ranks > 1 else ""
        rows.append([str(ranks), *(f"{cell:.1f}" for cell in cells), hidden, f"{step / predicted:.2f}"])
        print(rows[-1], flush=True)
    titles = [
        *(
            "ranks",
            "computation: predicted",
            "measured",
            "all-reduce: predicted",
            "measured",
            "step: predicted",
            "measured",
        ),
        *("hidden", "measured / predicted"),
    ]
    return TEXT.format(table=markdown(titles, rows), cores=cores, size=f"{GRADIENTS_MB:.1f}")


TEXT = """Milliseconds of a step of two linear layers ({size} MB of gradients) on {cores} cores that other programs share.

{table}

Predicted from two measured numbers, the computation of 1 rank and the all-reduce of 2: ranks beyond the number of cores take
turns (contention: the computation grows with ranks / cores), and all bytes of the ring, 2(n-1) times the gradients, pass
through the same cores. Nothing is hidden behind the computation, because gloo's threads need the cores too ("hidden" is the
measured share of the all-reduce that does not lengthen the step; it is negative where both disturb each other). The machine was busy with
other work while this was measured (a load of about 20 on 2 cores), so single rows are off by up to a factor of two. A cluster with a core or a GPU for each rank has neither.
"""
