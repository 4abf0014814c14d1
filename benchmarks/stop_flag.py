"""What agreeing on a stop costs as ranks grow: TCP segments and bytes per step, of all ranks together.

    sudo python -m benchmarks.stop_flag        # minutes; needs a network namespace of its own, whose counters it reads

Ranks are forked after the import of torch, and train a tiny model over gloo. Milliseconds would say how busy this machine
is; counts are those of any machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.forked_ranks import said_by_rank_0
from benchmarks.measure import markdown
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed import agreement
from dist_train.distributed.agreement import Agreement
from dist_train.distributed.group import Dist, joined

RESULT = Path(__file__).parent / "results" / "stop_flag.md"
STEPS = 10
CALLS = 3 * agreement.MOST_CALLS
NEVER_MANY = 1 << 30

Counts = tuple[float, float]
"""TCP segments and bytes of IP packets per step."""


def counters() -> Counts:
    """Return the segments and bytes that this network namespace has sent."""
    found = {}
    for name in ("snmp", "netstat"):
        lines = Path(f"/proc/net/{name}").read_text().splitlines()
        for keys, values in zip(lines[::2], lines[1::2], strict=True):
            title = keys.split(":")[0]
            found |= {
                f"{title}.{key}": int(value) for key, value in zip(keys.split()[1:], values.split()[1:], strict=True)
            }
    return found["Tcp.OutSegs"], found["IpExt.OutOctets"]


def per_step(group: Dist, step: Callable[[], object], steps: int = STEPS) -> Counts:
    """Return what a step sends, of several between two barriers."""
    group.gather_objects(0)
    before = counters()
    group.gather_objects(0)  # nobody sends before all have read
    for _ in range(steps):
        step()
    group.gather_objects(0)
    after = counters()
    return (after[0] - before[0]) / steps, (after[1] - before[1]) / steps


def rank(number: int, ranks: int, pipe: int) -> None:
    """Be one rank; rank 0 writes the counts of each case into ``pipe``."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + ranks), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    torch.set_num_threads(1)
    with joined(DistributedConfig(timeout_s=600)) as group:
        model = DistributedDataParallel(torch.nn.Linear(64, 64))

        def train() -> None:
            model(torch.ones(1, 64)).sum().backward()

        def agreeing(many: int, calls: int) -> Counts:
            agreement.MANY_RANKS = many
            flag = Agreement(group)
            for _ in range(calls):
                flag.call(0)
            return per_step(group, lambda: flag.call(0), calls)

        train()
        usual = agreement.MANY_RANKS
        nothing = per_step(group, lambda: None)
        found = [per_step(group, train), agreeing(NEVER_MANY, STEPS), agreeing(usual, CALLS)]
        if number == 0:
            barrier = [STEPS / steps for steps in (STEPS, STEPS, CALLS)]
            counts = [
                [case[i] - nothing[i] * share for i in (0, 1)] for case, share in zip(found, barrier, strict=True)
            ]
            os.write(pipe, json.dumps(counts).encode())


def measure(ranks: int) -> list[Counts]:
    """Return segments and bytes per step of the training alone, with the flag at every step, and as the program does."""
    return [(case[0], case[1]) for case in json.loads(said_by_rank_0(ranks, rank))]


def main() -> None:
    """Measure in a network namespace of its own, and write the table."""
    if "--inside" not in sys.argv:
        command = [sys.executable, "-m", "benchmarks.stop_flag", "--inside"]
        subprocess.run(["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command], check=True)
        return
    rows = []
    for ranks in (2, 8, 32, 64):
        alone, every, ours = measure(ranks)
        cells = [f"{segments:,.0f} / {size / 1000:,.1f}" for segments, size in (alone, every, ours)]
        rows.append([str(ranks), *cells, f"{every[0] / ranks:,.1f}"])
        print(rows[-1], flush=True)
    titles = ["ranks", "gradients", "flag at every step", "flag as the program does", "segments per rank and flag"]
    RESULT.write_text(TEXT.format(table=markdown(titles, rows)))


TEXT = """# What agreeing on a stop costs

`python -m benchmarks.stop_flag`: TCP segments (with acknowledgements) and kB per step, of all ranks together. Ranks are
forked processes: gradients are those of a linear layer of 64 x 64 by DDP over gloo; the flag is measured alone, at steps that
take no time.

{table}

On a busy machine several acknowledgements become one: another run counted 916 segments and 88.8 kB at 64 ranks for the flag at every step.

One exchange takes each rank a number of rounds that grows with the number of ranks, and the slowest rank decides about each
round: on a network this is 30 to 60 ms at 512 ranks over gloo (arithmetic, not measured here). So from {many} ranks on, ranks
that make steps in less than half a second exchange flags about once a second, at most every {most} steps. k follows from the
longest step of all ranks since the last exchange, which is sent with the flag: all ranks compute the same k. A signal then
stops the run within about one second and two steps (`dist_train/distributed/agreement.py`). The step at which a run stops
does not change its weights.
""".replace("{many}", str(agreement.MANY_RANKS)).replace("{most}", str(agreement.MOST_CALLS))


if __name__ == "__main__":
    main()
