"""Longer tests on the test cluster, in addition to the fault table. Run it as root, on one Linux machine:

    python benchmarks/slurm_jobs.py four-ranks    the fine-tuning of the demo on two nodes with four ranks
    python benchmarks/slurm_jobs.py array         a sweep of six runs as one array; two of its tasks are preempted
    python benchmarks/slurm_jobs.py array-of-50   a sweep of fifty runs as one array, four at a time
    python benchmarks/slurm_jobs.py soak [N]      one job with N random preemptions and failures

``slurm/testcluster alone python benchmarks/slurm_jobs.py ...`` gives it a cluster of its own.

Each adds its entry to ``benchmarks/results/slurm_jobs.json``.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.slurm_cases import KILLED  # noqa: E402
from dist_train.config.load import load_config  # noqa: E402
from launch.scheduler import cluster as slurm  # noqa: E402
from tests.slurm import lab  # noqa: E402
from tests.slurm.lab import Watched  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "slurm_jobs.json"
WORK = Path("/tmp/dist_train-jobs")
SOAK_STEPS = 2500


def four_ranks() -> dict[str, Any]:
    """Fine-tune the demo's pretrained model on its real images."""
    from benchmarks.demo import prepare

    prepare()
    began = time.time()
    job = lab.submit(
        [
            *("--config", "configs/demo.yaml", "--nodes=2", "--procs-per-node=2", "--cpus-per-gpu=1", "--time=30"),
            *("--env", "OMP_NUM_THREADS=1", f"run.output_dir={WORK}", "run.name=four-ranks", "train.global_batch=48"),
        ],
        WORK / "four-ranks",
    )
    end = job.wait_over(1500)
    result = job.result()
    provenance = json.loads((job.run / "provenance.json").read_text())["attempts"][-1]
    return {
        "job": job.job_id,
        "state": end.state,
        "status": result.get("status"),
        "world_size": provenance["world_size"],
        "hosts": provenance["hosts"],
        "best": result.get("best"),
        "seconds": round(time.time() - began),
        "ok": end.state == "COMPLETED" and result.get("status") == "done" and provenance["world_size"] == 4,
    }


def array() -> dict[str, Any]:
    """Train six runs, two at a time; preempt the first two."""
    config = lab.make_config(WORK, WORK / "images", 150)
    sweep = ["--config", str(config), "--no-check", "--sweep", "optim.lr=1e-3,2e-3", "--sweep", "run.seed=0,1,2"]
    sweep += ["--max-parallel=2", "--cpus-per-gpu=1", "--time=10", "--signal-delay=45", "--env", "OMP_NUM_THREADS=1"]
    runs = [WORK / f"run-lr{lr}-seed{seed}" for lr in ("1e-3", "2e-3") for seed in (0, 1, 2)]
    first = lab.submit(sweep, runs[0])
    jobs = [Watched(json.loads((run / "launch.json").read_text())[-1]["job"], run, "") for run in runs]
    for job in jobs[:2]:
        job.wait_step(20, seconds=300)
    lab.preempt()
    for job in jobs:
        job.wait_over(900)
    again = subprocess.run(
        [sys.executable, "launch/slurm.py", *sweep], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ends = [job.look() for job in jobs]
    return {
        "job": first.job_id.partition("_")[0],
        "states": [end.state for end in ends],
        "requeues": [end.restarts for end in ends],
        "status": [end.status for end in ends],
        "submitted_again": "all runs of this sweep are done" not in again.stdout,
        "ok": all(end.state == "COMPLETED" and end.status == "done" for end in ends)
        and [end.restarts for end in ends] == [1 + lab.starts_after_the_end()] * 2 + [0] * 4
        and "all runs of this sweep are done" in again.stdout,
    }


def array_of_50() -> dict[str, Any]:
    """Train fifty short runs, four at a time. Each must be done, once, and hold its own settings and nothing else."""
    steps = 12
    config = lab.make_config(WORK, WORK / "images", steps)
    lrs, seeds = [f"{k}e-4" for k in range(1, 6)], list(range(10))
    sweep = ["--config", str(config), "--no-check", "--sweep", f"optim.lr={','.join(lrs)}"]
    sweep += ["--sweep", f"run.seed={','.join(map(str, seeds))}", "--max-parallel=4", "--cpus-per-gpu=1", "--time=10"]
    runs = {WORK / f"run-lr{lr}-seed{seed}": (float(lr), seed) for lr in lrs for seed in seeds}
    began = time.time()
    first = lab.submit([*sweep, "--signal-delay=45", "--env", "OMP_NUM_THREADS=1"], next(iter(runs)))
    jobs = [Watched(json.loads((run / "launch.json").read_text())[-1]["job"], run, "") for run in runs]
    for job in jobs:
        job.wait_over(1800)
    seconds = round(time.time() - began)
    wrong = [f"{run.name}: {what}" for run, settings in runs.items() for what in oddities(run, *settings, steps)]
    digests = {lab.weights(run) for run in runs}
    alone = lab.make_config(WORK / "images", WORK / "images", steps)
    lab.run_with_torchrun(alone, 1, "optim.lr=3e-4", "run.seed=7")
    return {
        "job": first.job_id.partition("_")[0],
        "runs": len(runs),
        "seconds": seconds,
        "states": dict(Counter(job.look().state for job in jobs)),
        "done": sum(job.result().get("status") == "done" for job in jobs),
        "starts of each": dict(Counter(len(job.starts()) for job in jobs)),
        "different weights": len(digests),
        "weights of one, and of its torchrun alone": "equal"
        if lab.weights(WORK / "run-lr3e-4-seed7") == lab.weights(WORK / "images" / "run")
        else "DIFFERENT",
        "wrong": wrong,
        "ok": not wrong
        and len(digests) == len(runs)
        and lab.weights(WORK / "run-lr3e-4-seed7") == lab.weights(WORK / "images" / "run"),
    }


def oddities(run: Path, lr: float, seed: int, steps: int) -> list[str]:
    """Return what is wrong in the folder of one run of a sweep: it was trained once, by itself, with its own settings."""
    config, result = load_config(str(run / "config.yaml"), []), json.loads((run / "result.json").read_text())
    attempts = json.loads((run / "provenance.json").read_text())["attempts"]
    rows = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    found = {
        "not done": result["status"] != "done",
        "several starts": len(json.loads((run / "starts.json").read_text())) != 1,
        "several attempts": len(attempts) != 1,
        "settings of another run": (config.optim.lr, config.run.seed, config.run.name) != (lr, seed, run.name),
        "rows of another run": [row["step"] for row in rows if row["split"] == "train"] != list(range(1, steps + 1)),
    }
    return [what for what, is_so in found.items() if is_so]


FAULTS = {
    "preemption": lambda job: lab.preempt(),
    "scontrol requeue": lambda job: subprocess.run(["scontrol", "requeue", job.job_id], check=True),
    "SIGTERM to one rank": lambda job: os.kill(random.choice(lab.processes(job.run, "worker")), signal.SIGTERM),
    "rank killed": lambda job: os.kill(random.choice(lab.processes(job.run, "worker")), signal.SIGKILL),
    "agent killed": lambda job: os.kill(lab.processes(job.run, "agent")[0], signal.SIGKILL),
    "supervisor killed": lambda job: os.kill(lab.processes(job.run, "supervisor")[0], signal.SIGKILL),
}


def soak(count: int = 20) -> dict[str, Any]:
    """Disturb one job many times, and compare its final weights with those of an undisturbed run."""
    random.seed(0)
    folder = WORK / "soak"
    folder.mkdir()
    began = time.time()
    job = lab.launch(lab.make_config(folder, WORK / "images", SOAK_STEPS), "--max-requeues=100", nodes=1, procs=2)
    events: list[dict[str, Any]] = []
    seen = job.wait_step(5)
    while len(events) < count:
        time.sleep(random.uniform(0.5, 4))
        seen = job.look()
        if seen.status == "done":
            break
        kind = random.choice(list(FAULTS))
        FAULTS[kind](job)
        at, before = time.time(), seen
        seen = job.wait(lambda now, last=before: now.attempt > last.attempt and now.status == "running", 240)
        reached = max(look.step for look in job.seen if look.attempt == before.attempt)
        events.append({"fault": kind, "step": reached, "lost": reached - job.resumed_at()[-1]})
        events[-1]["seconds"] = round(time.time() - at, 1)
        print(events[-1], flush=True)
    end = job.wait_over(1200)
    reference = WORK / "undisturbed"
    reference.mkdir()
    lab.run_with_torchrun(lab.make_config(reference, WORK / "images", SOAK_STEPS), procs=2)
    same = lab.weights(job.run) == lab.weights(reference / "run")
    return {
        "job": job.job_id,
        "state": end.state,
        "requeues": end.restarts,
        "attempts": end.attempt,
        "events": events,
        "seconds": round(time.time() - began),
        "weights": "equal" if same else "DIFFERENT",
        "ok": end.state == "COMPLETED"
        and same
        and len(events) == count
        and all(event["lost"] <= (KILLED.lost if "killed" in event["fault"] else 0) for event in events),
    }


def report(entries: dict[str, Any]) -> str:
    """Return all entries as Markdown."""
    lines = ["# Longer jobs on a real SLURM", "", "Made by `python benchmarks/slurm_jobs.py`; 2 shared CPU cores."]
    for name, entry in entries.items():
        lines += ["", f"## {name} ({entry['date']}): {'as expected' if entry['ok'] else 'NOT AS EXPECTED'}", ""]
        lines += [
            f"- {key}: {value}" for key, value in entry.items() if key not in ("date", "hardware", "ok", "events")
        ]
        if "events" in entry:
            lines += ["", "| fault | at step | steps lost | seconds until it trains again |", "|---|---|---|---|"]
            lines += [f"| {e['fault']} | {e['step']} | {e['lost']} | {e['seconds']} |" for e in entry["events"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    names = {"four-ranks": four_ranks, "array": array, "array-of-50": array_of_50, "soak": soak}
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(__doc__, file=sys.stderr)
        return 2
    shutil.rmtree(WORK, ignore_errors=True)
    lab.make_images(WORK / "images")
    if not slurm.look().partitions:
        lab.cluster("up")
    entry = names[sys.argv[1]](*map(int, sys.argv[2:]))
    entry = {"date": f"{datetime.now():%Y-%m-%d %H:%M}", "hardware": "2 shared CPU cores", **entry}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known |= {sys.argv[1]: entry}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(report(known))
    print(json.dumps(entry, indent=1))
    return 0 if entry["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
