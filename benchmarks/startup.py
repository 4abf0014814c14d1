"""Measure how long a user waits: for ``--help`` and errors, and from the command to the first optimizer step.

    python -m benchmarks.startup

Rows called "floor" are parts of a start that every trainer has. Python writes bytecode, as it does unless a variable forbids it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from benchmarks.images import small_folder
from benchmarks.measure import Row, interleaved, medians, run_part
from benchmarks.startup_floor import UNTIL

PYTHON = sys.executable
CONFIG = "configs/demo.yaml"
SHARE, FORKED_S = 0.75, 4.5
MODEL, SIZE, BATCH, WORLD = "vit_tiny_patch16_224", 96, 8, 2

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
PACKAGES = ("floor: import pydantic, yaml", [PYTHON, "-c", "import pydantic, yaml"])

FLOORS = {
    "nothing": "floor: torchrun, an empty script",
    "group": "floor: + torch, gloo, a barrier",
    "model": "floor: + torchvision, timm, a model",
}
assert tuple(FLOORS) == UNTIL

ANSWERS = (
    ("--help", [PYTHON, "-m", "dist_train", "--help"], 0, 0.3),
    ("--print-config", [PYTHON, "-m", "dist_train", "--config", CONFIG, "--print-config"], 0, 0.3),
    ("an error in the config", [PYTHON, "-m", "dist_train", "--config", CONFIG, "optim.lrr=3"], 2, 0.3),
    ("launch, an error", [PYTHON, "-m", "dist_train", "launch", "--nproc-per-node=2", "--config", CONFIG, "optim.lrr=3"], 2, 0.3),
    ("slurm.py --dry-run --no-check", [PYTHON, "launch/slurm.py", "--config", CONFIG, "--dry-run", "--no-check"], 0, 1.0),
)  # fmt: skip


def answer_s(command: list[str], code: int) -> Callable[[], float]:
    """Return the CPU seconds of one command. It never waits, so they are its seconds on an idle machine."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != code:
            raise SystemExit(f"{' '.join(command)} exited with {done.returncode}: {done.stderr[-2000:]}")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return seconds


def our_command(folder: Path, workers: int = 1, steps: int = 2, world: int = WORLD, forked: bool = False) -> list[str]:
    """Return the command of a run like the peer's: same model, data, world size, optimizer, clipping, EMA; logs each step.

    Args:
        forked: by ``dist-train launch`` in place of torchrun.
    """
    tree = {
        "run": {"name": f"start-{time.monotonic_ns()}", "output_dir": str(folder / "runs")},
        "model": {"name": MODEL, "pretrained": False},
        "data": {"root": str(folder / "images"), "image_size": SIZE, "workers": workers},
        "optim": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.05, "decay_norm_and_bias": False},
        "train": {"epochs": 10**6, "max_steps": steps, "global_batch": BATCH * world, "ema": 0.999, "clip_grad": 1.0},
        "eval": {"every_steps": 10**6},
        "checkpoint": {"every_steps": 10**6},
        "log": {"every_steps": 1, "tensorboard": False, "wandb": {"mode": "disabled"}},
    }
    path = folder / "start.yaml"
    path.write_text(yaml.safe_dump(tree))
    launch = [PYTHON, "-m", "dist_train", "launch", f"--nproc-per-node={world}"]
    return [*(launch if forked else [*torchrun(world), "-m", "dist_train"]), "--config", str(path)]


def peer_command(folder: Path, workers: int = 1, steps: int = 2, world: int = WORLD) -> list[str]:
    options = {
        "root": folder / "images",
        "model": MODEL,
        "size": SIZE,
        "batch": BATCH,
        "steps": steps,
        "workers": workers,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [*torchrun(world), str(Path(__file__).with_name("timm_peer.py")), *words]


def floor_command(until: str) -> list[str]:
    return [*torchrun(WORLD), str(Path(__file__).with_name("startup_floor.py")), until, MODEL, str(SIZE)]


def torchrun(world: int) -> list[str]:
    return [PYTHON, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]


def first_step_s(command: Callable[[], list[str]]) -> Callable[[], float]:
    """Return the seconds from the start of a command until it prints the first step."""

    def seconds() -> float:
        began = time.perf_counter()
        process = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        found, output = None, []
        for line in process.stdout:  # wait for its end: the next side must not share the machine with it
            output.append(line)
            if found is None and "step 1" in line:
                found = time.perf_counter() - began
        process.wait()
        if found is None:
            raise SystemExit(f"no first step:\n{''.join(output[-30:])}")
        return found

    return seconds


def measure(quick: bool) -> list[Row]:
    kept = os.environ.pop(NO_BYTECODE, None)
    try:
        return [*answer_rows(quick), *start_rows(quick)]
    finally:
        os.environ.update({} if kept is None else {NO_BYTECODE: kept})


def answer_rows(quick: bool) -> list[Row]:
    sides = {what: answer_s(command, code) for what, command, code, _ in ANSWERS}
    name, packages = PACKAGES
    middle = medians(interleaved(sides | {name: answer_s(packages, 0)}, 2 if quick else 10))
    floor = middle[name]
    rows = [Row(name, "s of CPU", floor, None, "", None, "", None)]
    for what, _, _, limit in ANSWERS:
        ours = middle[what]
        rows.append(Row(what, "s of CPU", ours, floor, name, ours / floor, f"<= {limit:g} s", ours <= limit))
    return rows


def start_rows(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_folder(folder / "images", images=64)
        starts = {
            "ours": first_step_s(lambda: our_command(folder)),
            "forked": first_step_s(lambda: our_command(folder, forked=True)),
            "timm": first_step_s(lambda: peer_command(folder)),
        }
        floors = {until: first_step_s(partial(floor_command, until)) for until in FLOORS}
        middle = medians(interleaved(starts | floors, 1 if quick else 5))
    peer, name = middle["timm"], "timm's script"
    rows = []
    for until, words in FLOORS.items():
        floor = middle[until]
        rows.append(Row(words, "s", floor, peer, name, floor / peer, "", None))
    for side, what in (("ours", "torchrun"), ("forked", "`dist-train launch`")):
        ours, words = middle[side], f"{what} to the first optimizer step, {WORLD} ranks"
        rows.append(Row(words, "s", ours, peer, name, ours / peer, f"<= {SHARE:g}x", ours <= SHARE * peer))
    ours = middle["forked"]
    return [*rows, Row("the same in seconds", "s", ours, None, "", None, f"<= {FORKED_S:g} s", ours <= FORKED_S)]


if __name__ == "__main__":
    run_part(__doc__, measure)
