"""Real jobs on the test cluster, observed from outside: for the tests here and for ``benchmarks/slurm_faults.py``."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import live_step
from dist_train.system.files import read_json, sha256_of
from launch.scheduler import scontrol

ROOT = Path(__file__).resolve().parents[2]
STEPS = 200
SAVE_EVERY = 10


def make_images(root: Path, classes: int = 4, train: int = 32, val: int = 8, side: int = 32) -> None:
    """An image folder whose classes differ in colour, the same bytes each time."""
    dice = random.Random(0)
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = Image.effect_noise((side, side), 60 + dice.random() * 40).convert("RGB")
                tint = tuple(60 * (label >> bit & 1) + dice.randrange(20) for bit in range(3))
                Image.blend(image, Image.new("RGB", (side, side), tint), 0.5).save(folder / f"{i:03}.png")


def make_config(folder: Path, data: Path, steps: int = STEPS) -> Path:
    """A tiny model on the images, with a checkpoint every ``SAVE_EVERY`` steps. Deterministic, so that weights can be compared."""
    config = folder / "config.yaml"
    config.write_text(
        f"run: {{name: run, output_dir: {folder}, deterministic: true}}\n"
        "model: {name: test_resnet, pretrained: false}\n"
        f"data: {{root: {data}, image_size: 32, workers: 0}}\n"
        "optim: {name: adamw, lr: 1e-3}\n"
        f"train: {{epochs: 1000, max_steps: {steps}, global_batch: 16}}\n"
        "eval: {every_steps: 40, batch_size: 16}\n"
        f"checkpoint: {{every_steps: {SAVE_EVERY}}}\n"
        "log: {every_steps: 1, tensorboard: false, wandb: {mode: disabled}}\n"
        "distributed: {timeout_s: 60}\n"
    )
    return config


@dataclass
class Seen:
    """One look at a run."""

    time: float
    state: str
    restarts: int
    status: str
    attempt: int
    step: int


@dataclass
class Watched:
    """A job in the queue, and everything that was seen of it."""

    job_id: str
    run: Path
    logs: str
    seen: list[Seen] = field(default_factory=list)

    def look(self) -> Seen:
        """Look once."""
        job = scontrol.show_job(self.job_id)
        result = read_json(self.run / "result.json", default={})
        step = live_step(RunDir(self.run))
        status, attempt = result.get("status", ""), result.get("attempt", 0)
        self.seen.append(Seen(time.time(), job.state, job.restarts, status, attempt, step))
        return self.seen[-1]

    def wait(self, condition: Callable[[Seen], bool], seconds: float = 180.0) -> Seen:
        """Look until the condition holds.

        Raises:
            AssertionError: it did not, in time, or the job ended first.
        """
        give_up_at = time.time() + seconds
        while time.time() < give_up_at:
            seen = self.look()
            if condition(seen):
                return seen
            if self.settled():
                break
            time.sleep(0.3)
        raise AssertionError(f"waited in vain, job {self.job_id} is {seen}\n{self.log()}")

    def wait_step(self, step: int, restarts: int = 0, seconds: float = 180.0) -> Seen:
        """Wait for a live step in a start of the job that is at least the given one."""
        return self.wait(
            lambda seen: seen.step >= step and seen.restarts >= restarts and seen.status == "running", seconds
        )

    def wait_over(self, seconds: float = 300.0) -> Seen:
        """Wait for the job's end."""
        return self.wait(lambda _: self.settled(), seconds)

    def settled(self) -> bool:
        """Whether the last looks, over a second, all say that the job has ended: a requeue shows such a state for a moment."""
        return len(self.seen) >= 5 and all(self.over(seen) for seen in self.seen[-5:])

    @staticmethod
    def over(seen: Seen) -> bool:
        """Whether SLURM is through with the job."""
        return scontrol.Job(seen.state).over

    def look_for(self, seconds: float) -> None:
        """Look for so long, whatever happens."""
        until = time.time() + seconds
        while time.time() < until:
            self.look()
            time.sleep(0.3)

    def log(self) -> str:
        """What all nodes logged."""
        paths = sorted(Path("/").glob(self.logs.removeprefix("/")))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in paths)

    def result(self) -> dict[str, Any]:
        """``result.json``."""
        return dict(read_json(self.run / "result.json", default={}))

    def starts(self) -> list[dict[str, Any]]:
        """``starts.json``."""
        return list(read_json(self.run / "starts.json", default=[]))

    def resumes(self) -> list[tuple[str, int]]:
        """When the trainer went on from a checkpoint (HH:MM:SS), and from which step. Rank 0, which logs it, may be anywhere."""
        return sorted(
            (when, int(step))
            for when, step in re.findall(r"^(\S+) .*resuming from \S*step_(\d+)", self.log(), re.MULTILINE)
        )

    def resumed_at(self) -> list[int]:
        """The steps of the checkpoints from which the trainer went on, in the order of time."""
        return [step for _, step in self.resumes()]


def launch(config: Path, *args: str, nodes: int = 2, procs: int = 2) -> Watched:
    """Submit one run of ``make_config`` through the real launcher."""
    arguments = [f"--config={config}", "--no-check", f"--nodes={nodes}", f"--procs-per-node={procs}"]
    arguments += ["--cpus-per-gpu=1", "--time=10", "--signal-delay=45", "--env", "OMP_NUM_THREADS=1", *args]
    return submit(arguments, config.parent / "run")


def submit(arguments: list[str], run: Path) -> Watched:
    """Call the real launcher."""
    command = [sys.executable, "launch/slurm.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    entry = json.loads((run / "launch.json").read_text())[-1]
    return Watched(entry["job"], run, entry["logs"])


def wait_for_both(one: Watched, other: Watched, seconds: float = 600.0) -> None:
    """Wait for the end of two jobs, and look at both meanwhile."""
    give_up_at = time.time() + seconds
    while not (one.settled() and other.settled()):
        assert time.time() < give_up_at, f"jobs {one.job_id} and {other.job_id} are not over"
        for job in (one, other):
            job.look()
        time.sleep(0.3)


def preempt(seconds: int = 2, nodes: int = 2) -> str:
    """Submit a job that takes all nodes from the jobs of lower partitions. Returns its id."""
    command = f"sbatch --parsable -p high -N{nodes} --exclusive -t 5 -o /dev/null --wrap".split()
    done = subprocess.run([*command, f"sleep {seconds}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def starts_after_the_end() -> int:
    """How often SLURM starts a job again after its end, if it was preempted with a grace time."""
    return int(scontrol.version() >= scontrol.KEEPS_GRACE)


_FORKED = b"\0dist_train\0launch\0"
"""In the command line of the agent of one node, and of all that are forked from it."""


def processes(run: Path, kind: str) -> list[int]:
    """Ids of processes that work on a run: ``worker``, ``agent`` or ``supervisor``, the oldest first."""
    marks = {
        "worker": rb"\0-u\0-m\0dist_train\0|" + _FORKED,
        "agent": rb"\0torch\.distributed\.run\0|" + _FORKED,
        "supervisor": rb"^(?!srun).*\0(submitit\.core\._submit|launch\.supervise)\0",
    }
    found, parents = [], {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, stat = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
        except OSError:
            continue
        if str(run).encode() in line and re.search(marks[kind], line):
            words = stat.rpartition(")")[2].split()
            found.append((int(words[19]), int(entry.name)))
            if _FORKED in line:
                parents[int(entry.name)] = int(words[1])
    # Of the forked ones the agent comes first, then the workers, then their loader processes.
    wanted = {"agent": 0, "worker": 1}.get(kind)
    return [pid for _, pid in sorted(found) if pid not in parents or _depth(pid, parents) == wanted]


def _depth(pid: int, parents: dict[int, int]) -> int:
    return 1 + _depth(parents[pid], parents) if parents[pid] in parents else 0


def cluster_env() -> None:
    """Point this process at the test cluster."""
    lab = os.environ.get("LAB", "/tmp/dist_train-slurm")
    os.environ["SLURM_CONF"] = f"{lab}/slurm.conf"


def cluster(command: str, **settings: str) -> None:
    """Call ``slurm/testcluster``."""
    words = [str(ROOT / "slurm" / "testcluster"), *command.split()]
    done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"slurm/testcluster {command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    cluster_env()


def run_with_torchrun(config: Path, procs: int, *overrides: str) -> None:
    """Train without SLURM and without a supervisor, to the end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={procs}"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command += ["-m", "dist_train", "--config", str(config), *overrides]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def weights(run: Path) -> str | None:
    """Digest of a run's final weights, if there are some."""
    path = run / "last.safetensors"
    return sha256_of(path) if path.exists() else None
