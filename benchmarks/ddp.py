"""Compare two gloo ranks with one, for our loop and a bare DDP loop, in one pair of processes.

    python -m benchmarks.ddp

Every rank has one core, one thread and the same micro-batch, with one rank or two; batches come from memory. Both loops
compute the same: AdamW, clipping and EMA. With one rank, rank 0 does the steps while rank 1 waits.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.images import small_folder
from benchmarks.loop import Ours, bare_steps, tree
from benchmarks.measure import Row, medians, run_part
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import Dist, joined

MODEL, SIZE, BATCH = {"name": "vit_tiny_patch16_224"}, 96, 16
ALONE = Dist.alone()


def rank_main(folder: Path, quick: bool) -> None:
    """Run one of the two ranks. Rank 0 writes the seconds per step of each side and round."""
    rank = int(os.environ["RANK"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    steps, rounds = (2, 1) if quick else (8, 9)
    figures: dict[str, list[float]] = {name: [] for name in ("ours 2", "bare 2", "ours 1", "bare 1")}
    with joined(DistributedConfig(strategy="ddp")) as group:
        together = {"ours 2": our_side(folder / "pair", group, 2), "bare 2": bare_side(folder / f"b{rank}", group)}
        alone = {} if rank else {"ours 1": our_side(folder / "one", ALONE, 1), "bare 1": bare_side(folder / "b0", ALONE)}  # fmt: skip
        for number in range(rounds + 1):  # the first round is the warm-up
            for name, seconds in (*together.items(), *alone.items()):
                if name in together:
                    dist.barrier()
                found = seconds(steps)
                if number:
                    figures[name].append(found)
    if rank == 0:
        (folder / "figures.json").write_text(json.dumps(figures))


def our_side(folder: Path, group: Dist, world: int) -> Callable[[int], float]:
    config = tree(folder, MODEL, SIZE, BATCH * world, True)
    config["train"]["micro_batch"] = BATCH
    return Ours(config, group, time.perf_counter).seconds


def bare_side(folder: Path, group: Dist) -> Callable[[int], float]:
    ours = Ours(tree(folder, MODEL, SIZE, BATCH, True), ALONE)
    model: Any = deepcopy(ours.setup.network.module)
    trained = DistributedDataParallel(model, gradient_as_bucket_view=True) if group.world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    shadow = deepcopy(model).eval().requires_grad_(False)
    normalise = ours.setup.data.normalise
    return bare_steps(
        trained, ours.batch, normalise._mean, normalise._scale, True, shadow, optimizer, time.perf_counter
    )


def measure(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        for side in ("pair", "one", "b0", "b1"):  # before two ranks would make the same one
            small_folder(Path(name) / side / "images")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command += ["-m", "benchmarks.ddp", "--rank", name, *(["--quick"] if quick else [])]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr)
        figures = json.loads((Path(name) / "figures.json").read_text())
    middle = medians(figures)
    rate = {name: (2 if name.endswith("2") else 1) * BATCH / seconds for name, seconds in middle.items()}
    ours, bare = rate["ours 2"] / rate["ours 1"], rate["bare 2"] / rate["bare 1"]
    wanted = min(1.5, bare)
    return [
        Row("two gloo ranks against one, images/s", "x", ours, bare, "bare DDP loop", ours / bare,
            ">= 1.5x, or the bare loop's", ours >= wanted * 0.98),
        Row("images/s of two gloo ranks", "images/s", rate["ours 2"], rate["bare 2"], "bare DDP loop",
            rate["ours 2"] / rate["bare 2"], ">= 0.98x", rate["ours 2"] >= 0.98 * rate["bare 2"]),
    ]  # fmt: skip


if __name__ == "__main__":
    if "--rank" in sys.argv:
        rank_main(Path(sys.argv[sys.argv.index("--rank") + 1]), "--quick" in sys.argv)
    else:
        run_part(__doc__, measure)
