"""Real jobs of the real trainer on a real SLURM, through the real launcher. The whole table of faults is
``benchmarks/slurm_faults.py``; these few are what the suite can afford.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from benchmarks.slurm_jobs import oddities
from dist_train.run.folder import RunDir
from launch import status
from tests.slurm import lab
from tests.slurm.lab import Watched

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Path:
    return lab.make_config(tmp_path, images)


def test_preempted_on_two_nodes_it_comes_back_and_ends_the_same(
    config: Path, undisturbed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = lab.launch(config, nodes=2, procs=1)
    job.wait_step(15)
    lab.preempt()
    end = job.wait_over()
    more = lab.starts_after_the_end()
    assert (end.state, end.restarts, end.attempt, end.status) == ("COMPLETED", 1 + more, 2, "done"), job.log()
    first, second, *left = job.starts()
    assert [start["repeated"] for start in left] == [True] * more
    assert job.resumed_at() == [first["reached"]] == [second["stopped_at"]], "steps were lost"
    assert lab.weights(job.run) == undisturbed
    assert status.follow(RunDir(job.run), job.job_id, job.logs) == 0
    told = capsys.readouterr().out
    assert f"COMPLETED, {1 + more} requeue(s)" in told
    assert f"step {lab.STEPS}/{lab.STEPS}" in told, "the log of rank 0 is missing"


def test_a_killed_rank_is_replaced_within_the_allocation(config: Path, undisturbed: str) -> None:
    job = lab.launch(config, nodes=1, procs=2)
    job.wait_step(15)
    os.kill(lab.processes(job.run, "worker")[-1], signal.SIGKILL)
    end = job.wait_over()
    assert (end.state, end.restarts, end.status) == ("COMPLETED", 0, "done"), job.log()
    assert job.result()["attempt"] == 2
    assert job.resumed_at()[0] >= 10, "it began from step 0"
    assert lab.weights(job.run) == undisturbed


def test_scancel_saves_and_the_job_stays_cancelled(config: Path) -> None:
    job = lab.launch(config, nodes=1, procs=1)
    reached = job.wait_step(15).step
    subprocess.run(["scancel", job.job_id], check=True)
    end = job.wait_over()
    job.wait(lambda seen: seen.status != "running", seconds=30)
    assert (end.state, end.restarts) == ("CANCELLED", 0), job.log()
    assert job.result()["status"] == "stopped"
    assert job.result()["step"] >= reached
    checkpoints = sorted((job.run / "checkpoints").glob("step*"))
    assert str(job.result()["step"]) in checkpoints[-1].name


@pytest.mark.slow
def test_each_run_of_a_sweep_is_trained_once_in_its_own_folder(tmp_path: Path, images: Path) -> None:
    """``benchmarks/slurm_jobs.py array-of-50`` does so with fifty."""
    config = lab.make_config(tmp_path, images, steps := 6)
    runs = {tmp_path / f"run-lr{lr}-seed{seed}": (float(lr), seed) for lr in ("1e-3", "2e-3") for seed in (0, 1)}
    sweep = ["--config", str(config), "--no-check", "--sweep", "optim.lr=1e-3,2e-3", "--sweep", "run.seed=0,1"]
    lab.submit([*sweep, "--cpus-per-gpu=1", "--time=10", "--signal-delay=45"], next(iter(runs)))
    for run in runs:
        Watched(json.loads((run / "launch.json").read_text())[-1]["job"], run, "").wait_over()
    assert [what for run, settings in runs.items() for what in oddities(run, *settings, steps)] == []
    assert len({lab.weights(run) for run in runs}) == len(runs)
