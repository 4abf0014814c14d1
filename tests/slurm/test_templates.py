"""`slurm/*.sbatch` run the same supervisor. They take minutes: `slow`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm import lab
from tests.slurm.lab import Watched

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def sbatch(folder: Path, *args: str) -> str:
    """Submit with the settings of a small machine. Returns the job's id."""
    env = os.environ | {"PYTHON": sys.executable, "PROCS_PER_NODE": "1", "OMP_NUM_THREADS": "1"}
    command = ["sbatch", "--parsable", "--cpus-per-task=1", "--time=10", "--signal=USR2@45"]
    command += [f"--output={folder}/slurm-%A_%a.out", *args]
    done = subprocess.run(command, cwd=lab.ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_train_template_on_two_nodes_preempted(tmp_path: Path, images: Path, undisturbed: str) -> None:
    config = lab.make_config(tmp_path, images)
    job_id = sbatch(tmp_path, "--nodes=2", "slurm/train.sbatch", "--config", str(config))
    job = Watched(job_id, tmp_path / "run", f"{tmp_path}/slurm-*.out")
    job.wait_step(15)
    lab.preempt()
    end = job.wait_over()
    assert (end.state, end.restarts, end.status) == ("COMPLETED", 1 + lab.starts_after_the_end(), "done"), job.log()
    assert lab.weights(job.run) == undisturbed


def test_a_killed_supervisor_on_one_node_is_replaced(tmp_path: Path, images: Path) -> None:
    config = lab.make_config(tmp_path, images)
    job_id = sbatch(tmp_path, "slurm/train.sbatch", "--config", str(config))
    job = Watched(job_id, tmp_path / "run", f"{tmp_path}/slurm-*.out")
    job.wait_step(15)
    os.kill(lab.processes(job.run.parent, "supervisor")[-1], 9)
    end = job.wait_over()
    assert (end.state, end.restarts, end.status) == ("COMPLETED", 1, "done"), job.log()
    assert "[batch] a supervisor died by signal 9" in job.log()


def test_array_template(tmp_path: Path, images: Path) -> None:
    config = lab.make_config(tmp_path, images, steps=20)
    runs = tmp_path / "runs.txt"
    runs.write_text("run.name=a optim.lr=1e-3\nrun.name=b optim.lr=2e-3\n")
    job_id = sbatch(tmp_path, "--array=1-2%1", "slurm/array.sbatch", str(runs), "--config", str(config))
    for task, name in ((1, "a"), (2, "b")):
        job = Watched(f"{job_id}_{task}", tmp_path / name, f"{tmp_path}/slurm-*_{task}.out")
        end = job.wait_over()
        assert (end.state, end.status) == ("COMPLETED", "done"), job.log()
