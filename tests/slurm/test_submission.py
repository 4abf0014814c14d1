"""What a real SLURM says before a job begins."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from launch import status
from tests.slurm import lab
from tests.support.wandb_helpers import wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Path:
    return lab.make_config(tmp_path, images)


def launch(config: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "launch/slurm.py", f"--config={config}", "--cpus-per-gpu=1", *args]
    return subprocess.run(command, cwd=lab.ROOT, capture_output=True, text=True, check=False)


def test_what_can_never_start_is_refused_before_data_and_model_are_read(config: Path) -> None:
    done = launch(config, "--time=3:00:00", "--nodes=4", "--procs-per-node=8", "--mem=1T", "train.global_batch=32")
    assert done.returncode == 2
    assert "model:" not in done.stdout
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        "error: --time (3:00:00) is above the limit of partition low; use at most 2:00:00: SLURM"
    )
    assert lines[1].startswith("error: --nodes (4) is above the limit of partition low; use at most 2: SLURM")
    assert lines[2].startswith(
        "error: 8 CPUs per node (--cpus-per-gpu for each worker) are above the 4 of partition low"
    )
    assert lines[3].startswith("error: --mem (1T) is above the largest node of partition low; use at most 8000M: SLURM")


def test_a_dry_run_has_the_answer_of_sbatch(config: Path) -> None:
    done = launch(config, "--time=10", "--dry-run", "--no-check")
    assert done.returncode == 0, done.stderr
    assert "# sbatch --test-only: Job" in done.stdout
    refused = launch(config, "--time=10", "--dry-run", "--no-check", "--sbatch=licenses=nothing:1")
    assert refused.returncode == 2
    assert "sbatch --test-only refuses the job: allocation failure: Invalid license" in refused.stderr


def test_a_job_does_not_get_the_limits_of_the_login_node(config: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (24 * 3600, hard))
    try:
        setup = ("--setup=echo CPU time: $(ulimit -t)", "--setup=cd /no/such/folder", "--setup=set -e; cd /")
        job = lab.launch(config, *setup, "--setup=echo in $PWD", nodes=1, procs=1)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    job.wait_step(1)
    lines = job.log().splitlines()
    subprocess.run(["scancel", job.job_id], check=True)
    assert "CPU time: unlimited" in lines
    assert "in /" in lines
    assert "warning: --setup: cd /no/such/folder: exit status 1" in lines
    job.wait_over()


def test_a_refused_sweep_leaves_no_folders(config: Path) -> None:
    before = sorted(config.parent.iterdir())
    done = launch(config, "--time=10", "--no-check", "--sbatch=licenses=nothing:1", "--sweep=run.seed=1,2")
    assert done.returncode == 2
    assert "Invalid license" in done.stderr
    assert sorted(config.parent.iterdir()) == before


def test_a_sweep_above_the_longest_array_and_cancelled_while_pending(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = ",".join(map(str, range(103)))  # the test cluster allows 101 in an array
    done = launch(config, "--time=10", "--no-check", "--sbatch=begin=now+1hour", f"--sweep=run.seed={seeds}")
    assert done.returncode == 0, done.stderr
    (first, second) = done.stdout.splitlines()[-1].removeprefix("cancel: scancel ").split()[:2]
    try:
        # SLURM finds the reason when its scheduler looks at the job.
        wait_for(lambda: "pending (BeginTime)" in status.table(config.parent / "run-seed0"))
        assert f"job {second}_1: run folder {config.parent / 'run-seed102'}" in done.stdout
    finally:
        subprocess.run(["scancel", first, second], check=True)
    assert status.follow(RunDir(config.parent / "run-seed102"), f"{second}_1", "/nowhere_*") == 75
    assert f"[job {second}_1] CANCELLED" in capsys.readouterr().out
    assert "  cancelled before it began  " in status.table(config.parent / "run-seed102")
