"""Kill a run at random, start it again, until it is done; its weights must be the undisturbed ones.

    python -m tests.fuzz --kills 200 --seed 0

Faults: SIGKILL of one rank or of all, a stop signal to one rank, to all, or twice, at a random moment (which hits
start-up, steps, evaluations and saves alike), and damage to the newest checkpoint between two starts. Ranks are forked
with torch imported, so that most kills hit the training and not the start of Python; what torchrun and SLURM add is in
tests/test_train.py and benchmarks/slurm_faults.py.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dist_train.run_dir import RunDir
from tests.images import make_image_folder
from tests.ranks import RankFailure, Ranks, collect, start_ranks
from tests.runs import _main, changed, folder, rows, state_digest, train

FAULTS = ("kill one", "kill all", "stop one", "stop all", "stop twice", "damage")
SAVE_EVERY = 3


def config(images: Path, output: Path) -> dict[str, Any]:
    """Twelve steps an epoch with everything on that is random; saves and evaluates often."""
    return {
        "run": {"name": "straight", "output_dir": str(output), "deterministic": True},
        "model": {"name": "test_vit", "pretrained": False, "drop_path": 0.1},
        "data": {"root": str(images), "image_size": 32, "workers": 0},
        "augment": {"randaugment": {}, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0},
        "optim": {"name": "adamw", "lr": 1e-3},
        "train": {"epochs": 3, "global_batch": 16, "micro_batch": 2, "ema": 0.9},
        "eval": {"batch_size": 8, "every_steps": 5},
        "checkpoint": {"every_steps": SAVE_EVERY, "keep": 3},
        "log": {"every_steps": 2, "tensorboard": False, "wandb": {"mode": "disabled"}},
        "distributed": {"timeout_s": 60},
    }


class Tally:
    """What happened over all starts."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.lost_after_stop = self.lost_after_kill = self.runs = 0

    def report(self) -> dict[str, Any]:
        return {
            "kills": sum(self.faults.values()),
            "runs": self.runs,
            "faults": dict(sorted(self.faults.items())),
            "most_steps_lost_after_a_stop": self.lost_after_stop,
            "most_steps_lost_after_a_kill": self.lost_after_kill,
            "runs_that_ended_with_other_weights_or_rows": 0,
        }


def disturb(ranks: Ranks, fault: str, rng: random.Random) -> None:
    """Do one fault to running ranks."""
    chosen = [rng.choice(ranks)] if fault.endswith("one") else ranks
    number = (
        signal.SIGKILL if fault.startswith("kill") else rng.choice((signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))
    )
    for _ in range(2 if fault == "stop twice" else 1):
        for process, _, _ in chosen:
            if process.is_alive():
                os.kill(process.pid, number)
        time.sleep(0.01)


def end_the_rest(ranks: Ranks) -> None:
    """Once a rank has died, give the others 10 s and kill them, as the agent of torchrun does."""
    died = None
    while any(process.is_alive() for process, _, _ in ranks):
        if died is None and any(process.exitcode not in (None, 0) for process, _, _ in ranks):
            died = time.monotonic()
        if died is not None and time.monotonic() - died > 10:
            for process, _, _ in ranks:
                process.kill()
        if all(pipe.poll() for process, pipe, _ in ranks if process.is_alive()):
            return  # they have answered, and end when the answer is taken
        time.sleep(0.05)


def damage(run: Path, rng: random.Random) -> None:
    """Cut short or flip a bit in the newest of several checkpoints."""
    found = sorted((run / "checkpoints").glob("step_*"))
    if len(found) < 2:
        return
    state = found[-1] / "state.safetensors"
    content = bytearray(state.read_bytes())
    if rng.random() < 0.5:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        del content[rng.randrange(len(content)) :]
    state.write_bytes(content)


def newest_step(run: Path) -> int:
    found = sorted((run / "checkpoints").glob("step_*"))
    return int(found[-1].name[5:13]) if found else 0


def reached(run: Path) -> int:
    """The last step that the metrics tell of; a kill may have cut the last row short."""
    lines = RunDir(run).metrics.read_text().splitlines() if RunDir(run).metrics.exists() else []
    return max([0, *(json.loads(line)["step"] for line in lines if line.endswith("}"))])


def one_run(tree: dict[str, Any], world_size: int, seconds: float, rng: random.Random, tally: Tally, most: int) -> Path:
    """Disturb one run until it is done, or ``most`` faults have been; then let it end in peace."""
    run = folder(tree)
    done = 0
    while True:
        fault = rng.choice(FAULTS) if done < most else None
        ranks = start_ranks(world_size, _main, tree)
        if fault is not None:
            time.sleep(rng.uniform(0.0, 1.2 * seconds))
            hit = any(process.is_alive() for process, _, _ in ranks)
            if hit:
                disturb(ranks, "kill all" if fault == "damage" else fault, rng)
                done += 1
                tally.faults[fault] += 1
            end_the_rest(ranks)
        try:
            collect(ranks, quiet=True)
        except RankFailure:
            assert fault is not None, "an undisturbed start failed"
        result = json.loads((run / "result.json").read_text()) if (run / "result.json").exists() else {}
        if result.get("status") == "done":
            return run
        if result.get("status") == "stopped":
            tally.lost_after_stop = max(tally.lost_after_stop, result["step"] - newest_step(run))
        elif fault is not None and fault.startswith("kill"):
            tally.lost_after_kill = max(tally.lost_after_kill, reached(run) - newest_step(run))
        if fault == "damage":
            damage(run, rng)


def fuzz(kills: int, seed: int, worlds: tuple[int, ...], output: Path, most_per_run: int = 8) -> dict[str, Any]:
    """Disturb runs until ``kills`` faults have happened.

    Raises:
        AssertionError: a run ended with other weights or other rows than the undisturbed one.
    """
    rng = random.Random(seed)
    images = make_image_folder(output / "images")
    tally = Tally()
    straight: dict[int, tuple[str, list[dict[str, Any]], float]] = {}
    while sum(tally.faults.values()) < kills:
        world_size = worlds[tally.runs % len(worlds)]
        if world_size not in straight:
            tree = changed(config(images, output), run__name=f"straight-{world_size}")
            began = time.monotonic()
            run = train(tree, world_size)
            straight[world_size] = state_digest(run), rows(run), time.monotonic() - began
        digest, expected, seconds = straight[world_size]
        tally.runs += 1
        left = kills - sum(tally.faults.values())
        tree = changed(config(images, output), run__name=f"run-{tally.runs}")
        run = one_run(tree, world_size, seconds, rng, tally, min(most_per_run, left))
        assert state_digest(run) == digest, f"{run.name} of {world_size} ranks ended with other weights (seed {seed})"
        assert rows(run) == expected, f"{run.name} of {world_size} ranks has other rows (seed {seed})"
    return tally.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, nargs="+", default=[2, 4], help="numbers of ranks, in turn")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as output:
        print(json.dumps(fuzz(args.kills, args.seed, tuple(args.worlds), Path(output)), indent=2))


if __name__ == "__main__":
    main()
