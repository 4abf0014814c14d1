"""Kill a run at random, start it again, until it is done; weights, rows and published files must be the undisturbed ones.

    python -m tests.whole_runs.fuzz --kills 200 --seed 0 --torchrun 0.25 --json benchmarks/results/fuzz.json

The faults are those of the fire drill (``dist_train.drill.faults``): stop signals and SIGKILL to one rank, to all, to torchrun;
at a random moment (which hits start-up and steps), while the writer is at work, during an evaluation; and damage to
the newest checkpoint between two starts. Most ranks are forked with torch imported, so that kills hit the training and
not the start of Python; the share ``--torchrun`` of the starts is real. As root, every second forked start has a /dev/shm of 64 MB
of its own, as in a container of Docker; and one kind of fault is a /dev/shm that is full: that start must be refused. What SLURM adds is in benchmarks/slurm_faults.py.
"""

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from dist_train.drill.faults import FAULTS, CommandStart, Fault, Started, Traces, strike, wait_for_end, wait_until
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from tests.support.forked_start import ForkedStart
from tests.support.images import make_image_folder
from tests.support.ranks import start_ranks
from tests.support.runs import _main, changed, folder, published, rows, state_digest, train
from tests.support.shm import CAN_MOUNT, small_shm

MODELS: tuple[dict[str, Any], ...] = (
    {"name": "test_vit"},
    {"name": "test_efficientnet", "channels_last": True, "sync_bn": True},
)
CROPS = ("center", "random_resized")
"""With the first model and the second."""

LOSSES: tuple[dict[str, Any], ...] = (
    {"label_smoothing": 0.1},
    {"name": "bce", "options": {"target_threshold": 0.2}, "class_balance": "balanced"},
)
NONFINITE = ("error", "skip")

SAVE_EVERY, EVALUATE_EVERY = 3, 5
LIMIT_S = 240.0


def config(images: Path, output: Path, kind: int) -> dict[str, Any]:
    """Three steps an epoch with everything on that is random; saves and evaluates often."""
    return {
        "run": {"name": "straight", "output_dir": str(output), "deterministic": True},
        "model": {**MODELS[kind], "pretrained": False, "drop_path": 0.1},
        "data": {"root": str(images), "image_size": 32, "workers": 0},
        "augment": {"crop": CROPS[kind], "randaugment": {}, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0},
        "loss": LOSSES[kind],
        "optim": {"name": "adamw", "lr": 1e-3},
        "train": {"epochs": 8, "global_batch": 16, "micro_batch": 2, "ema": 0.9, "nonfinite": NONFINITE[kind]},
        "eval": {"batch_size": 8, "every_steps": EVALUATE_EVERY, "metrics": ["auroc"]},
        "checkpoint": {"every_steps": SAVE_EVERY, "keep": 3},
        "log": {"every_steps": 1, "tensorboard": False, "wandb": {"mode": "disabled"}},
        "distributed": {"timeout_s": 60},
    }


FULL_SHM = Fault("start with a full /dev/shm", "all", signal.SIGTERM)
"""Nothing is sent: the start must end by itself."""


def _main_in_small_shm(tree: dict[str, Any], size: str) -> int:
    small_shm(size)
    return _main(tree)


class Tally:
    """What happened over all starts."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.launchers: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.lost_after_stop = self.lost_after_kill = self.lost_in_flight = self.runs = 0

    @property
    def kills(self) -> int:
        return sum(self.faults.values())

    def report(self) -> dict[str, Any]:
        return {
            "kills": self.kills,
            "runs": self.runs,
            "starts": dict(self.launchers),
            "faults": dict(sorted(self.faults.items())),
            "what_they_hit": dict(self.hits),
            "checkpoint_every_steps": SAVE_EVERY,
            "most_steps_lost_after_a_stop": self.lost_after_stop,
            "most_steps_lost_after_a_kill": self.lost_after_kill,
            "most_steps_lost_after_a_kill_with_a_checkpoint_in_flight": self.lost_in_flight,
            "runs_that_ended_with_other_weights_or_rows": 0,
        }

    def note(self, fault: Fault, traces: Traces, going: bool, stale: frozenset[int]) -> None:
        """Count what a fault hit and what it cost.

        Raises:
            AssertionError: it cost more steps than it may.
        """
        in_flight = traces.in_flight(stale)
        stopped = traces.status() == "stopped"
        self.faults[fault.name] += 1
        evaluating = going and traces.evaluating(EVALUATE_EVERY)
        moment = "save" if in_flight else "evaluation" if evaluating else "step" if going else "start-up"
        self.hits[moment] += 1
        if not going or fault.damage:
            return
        lost, _ = traces.loss(fault, SAVE_EVERY)
        if stopped:
            self.lost_after_stop = max(self.lost_after_stop, lost)
            assert lost == 0, f"{fault.name}: {lost} steps lost after a stop"
        elif in_flight:
            self.lost_in_flight = max(self.lost_in_flight, lost)
            assert lost <= 2 * SAVE_EVERY, f"{fault.name}: {lost} steps lost with a checkpoint in flight"
        else:
            self.lost_after_kill = max(self.lost_after_kill, lost)
            assert lost <= SAVE_EVERY, f"{fault.name}: {lost} steps lost"


class Fuzz:
    """Runs that are disturbed by turns; ``torchrun`` is the share of starts that are real ones."""

    def __init__(self, seed: int, output: Path, torchrun: float) -> None:
        self.rng, self.output, self.torchrun = random.Random(seed), output, torchrun
        self.images = make_image_folder(output / "images")
        self.tally = Tally()
        self.faults = [fault for fault in FAULTS if fault.target != "agent" or torchrun > 0]
        if CAN_MOUNT:
            self.faults.append(FULL_SHM)

    def start(self, tree: dict[str, Any], world_size: int, fault: Fault | None) -> Started:
        """Agents are hit where there is one; a start that nobody disturbs is forked."""
        if fault is None or (fault.target != "agent" and self.rng.random() >= self.torchrun):
            if CAN_MOUNT and self.rng.random() < 0.5:
                self.tally.launchers["forked, /dev/shm of 64 MB"] += 1
                return ForkedStart(start_ranks(world_size, _main_in_small_shm, tree, "64m"))
            self.tally.launchers["forked"] += 1
            return ForkedStart(start_ranks(world_size, _main, tree))
        self.tally.launchers["torchrun"] += 1
        name = tree["run"]["name"]
        path = self.output / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return CommandStart(["--config", str(path)], world_size, self.output / f"{name}.log")

    def one_run(self, tree: dict[str, Any], world_size: int, seconds: float, most: int) -> Path:
        """Disturb one run until it is done, or ``most`` faults have been; then let it end in peace."""
        traces, done = Traces(RunDir(folder(tree))), 0
        while traces.status() != "done":
            fault = self.rng.choice(self.faults) if done < most else None
            stale, before = traces.flights(), traces.number()
            if fault is FULL_SHM:
                self.refused(tree, world_size, traces, before)
                done += 1
                continue
            workers = self.rng.choice((0, 0, 1))  # their number may change from start to start
            started = self.start(changed(tree, data__workers=workers), world_size, fault)
            if fault is not None and self.await_moment(fault, traces, started, seconds, stale, before):
                for _ in range(self.rng.choice((1, 1, 2))):
                    strike(fault, started, self.rng.randrange(world_size))
                    time.sleep(0.01)
                done += 1
                wait_for_end(started, LIMIT_S)
                if traces.status() != "done":
                    self.tally.note(fault, traces, traces.number() != before, stale)
                    if fault.damage and traces.saved():
                        traces.damage(self.rng.random(), cut=self.rng.random() < 0.5)
            wait_for_end(started, LIMIT_S)
            assert fault is not None or traces.status() == "done", "an undisturbed start failed"
        return traces.run.path

    def refused(self, tree: dict[str, Any], world_size: int, traces: Traces, before: int | None) -> None:
        """Start with loader processes where /dev/shm has no room for them: that ends by itself before the first step."""
        started = ForkedStart(start_ranks(world_size, _main_in_small_shm, changed(tree, data__workers=1), "8k"))
        assert wait_for_end(started, LIMIT_S) < LIMIT_S, "a start with a full /dev/shm hangs"
        assert traces.number() == before, "a start with a full /dev/shm began to train"
        assert "/dev/shm" in (read_result(traces.run).get("message") or "/dev/shm")
        self.tally.faults[FULL_SHM.name] += 1
        self.tally.hits["start-up"] += 1

    def await_moment(
        self, fault: Fault, traces: Traces, started: Started, seconds: float, stale: frozenset[int], before: int | None
    ) -> bool:
        """Wait for the moment of a fault; False if the run was done before it came."""
        if fault.moment == "step" and self.rng.random() < 0.15:  # hits the start
            time.sleep(self.rng.uniform(0.0, 0.5 * seconds))
            return started.running()
        target = max([0, *traces.saved()]) + self.rng.randint(1, 2 * SAVE_EVERY + 1)
        moments = {
            "step": lambda: True,
            "save": lambda: traces.in_flight(stale),
            "evaluation": lambda: traces.evaluating(EVALUATE_EVERY),
        }
        moment = moments[fault.moment]
        wait_until(
            lambda: traces.number() != before and traces.reached() >= target and moment(), started, LIMIT_S, 0.002
        )
        return started.running()

    def __call__(self, kills: int, worlds: tuple[int, ...], most_per_run: int) -> dict[str, Any]:
        """Disturb runs until ``kills`` faults have happened.

        Raises:
            AssertionError: a run ended with other weights or rows than the undisturbed one, or lost too many steps.
        """
        straight: dict[tuple[int, int], tuple[str, list[dict[str, Any]], dict[str, str], float]] = {}
        while self.tally.kills < kills:
            number = self.tally.runs
            world_size, kind = worlds[number % len(worlds)], (number + number // len(worlds)) % len(MODELS)
            base = config(self.images, self.output, kind)
            if (world_size, kind) not in straight:
                began = time.monotonic()
                run = train(changed(base, run__name=f"straight-{kind}-{world_size}"), world_size)
                seconds = time.monotonic() - began
                straight[world_size, kind] = state_digest(run), rows(run), published(run), seconds
            digest, expected, files, seconds = straight[world_size, kind]
            self.tally.runs += 1
            tree = changed(base, run__name=f"run-{self.tally.runs}")
            run = self.one_run(tree, world_size, seconds, min(most_per_run, kills - self.tally.kills))
            what = f"{run.name}, {MODELS[kind]['name']} with {world_size} ranks,"
            assert state_digest(run) == digest, f"{what} ended with other weights"
            assert rows(run) == expected, f"{what} has other rows"
            assert published(run) == files, f"{what} published other files"
            print(f"{self.tally.kills} of {kills}: {what} ends the same", flush=True)
        return self.tally.report()


def fuzz(
    kills: int, seed: int, worlds: tuple[int, ...], output: Path, most_per_run: int = 8, torchrun: float = 0.0
) -> dict[str, Any]:
    """See ``Fuzz``."""
    return Fuzz(seed, output, torchrun)(kills, worlds, most_per_run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, nargs="+", default=[2, 4], help="numbers of ranks, in turn")
    parser.add_argument("--torchrun", type=float, default=0.25, help="share of starts under a real torchrun (0.25)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as output:
        found = fuzz(args.kills, args.seed, tuple(args.worlds), Path(output), torchrun=args.torchrun)
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{os.cpu_count()} shared CPU cores, {platform.system()}",
        "command": f"python -m tests.whole_runs.fuzz {' '.join(sys.argv[1:])}",
        "seconds": round(time.monotonic() - began),
    }
    text = json.dumps(about | found, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
