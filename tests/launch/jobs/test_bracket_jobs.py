"""A sweep with halving: its arrays in SLURM, and its runs on this machine."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.jobs.halving import load
from tests.launch.brackets import reach, write_config
from tests.launch.commands import ROOT, launch
from tests.support.images import make_image_folder
from tests.support.runs import state_digest

SWEEP = ["--sweep=run.seed=0,1,2,3,4,5,6,7,8", "--halving=factor=3,first_epoch=1", "--no-check"]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with an ``sbatch`` that keeps the scripts, and a SLURM in which all jobs are pending."""
    folder = tmp_path / "tools"
    folder.mkdir()
    programs = {
        "sbatch": f"cd {folder}; echo >> count; n=$(wc -l < count); cp $1 script$n; echo Submitted batch job 7$n",
        "scontrol": f"[ -e {folder}/over ] && echo JobState=COMPLETED || echo JobState=PENDING",
        "srun": "true",
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def submit(tools: Path, config: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    return launch(f"--config={config}", *SWEEP, *args, path=f"{tools}:{os.environ['PATH']}")


def test_each_rung_is_an_array_after_the_one_before(tools: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    done = submit(tools, config)
    assert done.returncode == 0, done.stderr
    assert "halving: 9 run(s) to epoch 1, 3 run(s) to epoch 3, 1 run(s) to epoch 9; 26 % of the epochs" in done.stdout
    assert done.stdout.splitlines()[-1] == "cancel: scancel 71 72 73"
    scripts = [(tools / f"script{number}").read_text() for number in (1, 2, 3)]
    sizes = [[line for line in text.splitlines() if line.startswith("#SBATCH --array")] for text in scripts]
    assert sizes == [["#SBATCH --array=0-8%9"], ["#SBATCH --array=0-2%3"], []]
    after = [[line for line in text.splitlines() if "--dependency" in line] for text in scripts]
    assert after == [[], ["#SBATCH --dependency=afterany:71"], ["#SBATCH --dependency=afterany:72"]]
    file = tmp_path / "runs" / "grid" / "slurm" / "halving.json"
    (line,) = [line for line in scripts[1].splitlines() if line.startswith("runs=(")]
    assert shlex.split(line.removeprefix("runs=(").removesuffix(")")) == [
        f"--seat=1:{place}:{file}" for place in range(3)
    ]
    jobs = json.loads(file.read_text())["jobs"]
    assert jobs == [*(f"71_{task}" for task in range(9)), *(f"72_{task}" for task in range(3)), "73"]
    again = submit(tools, config)
    assert again.returncode == 2
    assert "job 71_0 of this sweep is PENDING; cancel it (scancel), or wait for it" in again.stderr


@pytest.mark.slow
def test_the_same_command_goes_on_at_the_rung_that_is_not_complete(tools: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    assert submit(tools, config).returncode == 0
    (tools / "over").touch()
    made = load(tmp_path / "runs" / "grid" / "slurm" / "halving.json")
    for number in range(9):
        reach(made, number, {1: 0.1 * number})
    done = submit(tools, config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cancel: scancel 74 75"
    for number in range(3):
        reach(made, number, {1: 0.1 * number, 3: 0.1 * number})
    reach(made, 0, {1: 0.0, 3: 0.0, 9: 0.0}, status="done")
    assert (
        "nothing to submit: halving: grid-seed0 went to the end; 8 paused run(s) can go on"
        in submit(tools, config).stdout
    )


def test_a_dry_run_submits_nothing(tools: Path, tmp_path: Path) -> None:
    done = submit(tools, write_config(tmp_path), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"--seat=0:8:{tmp_path / 'runs' / 'grid' / 'slurm' / 'halving.json'}" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_halving_needs_a_sweep(tmp_path: Path) -> None:
    done = launch(f"--config={write_config(tmp_path)}", "--halving=factor=3", "--dry-run", "--no-check")
    assert "--halving has no effect without --sweep" in done.stderr


@pytest.mark.slow
def test_on_this_machine_the_winner_ends_as_it_would_have_alone(tmp_path: Path) -> None:
    images = make_image_folder(tmp_path / "images")
    config = write_config(
        tmp_path,
        model="{name: test_vit, pretrained: false}",
        data=f"{{root: {images}, image_size: 32, workers: 0}}",
        train="{global_batch: 12, epochs: 3}",
        log="{tensorboard: false, wandb: {mode: disabled}}",
    )
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("grid: {optim.lr: [1e-9, 0.05, 1e-8]}\nhalving: {factor: 3, first_epoch: 1}\n")
    done = launch(f"--config={config}", "--cluster=local", "--no-check", f"--sweep={sweep}", pythonpath=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    runs = tmp_path / "runs"
    first = {path.parent.name: next(read_rows(path, "val"))["loss"] for path in runs.glob("*/metrics.jsonl")}
    best = min(first, key=lambda name: first[name])
    assert f"halving: {best} went to the end; 2 paused run(s) can go on" in done.stdout
    results = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/result.json")}
    ends = {name: (result["status"], result["step"]) for name, result in results.items()}
    assert ends == {name: ("done", 15) if name == best else ("stopped", 5) for name in first}
    alone = [sys.executable, "-m", "dist_train", "--config", str(runs / best / "config.yaml"), "run.name=alone"]
    subprocess.run([*alone, "train.pause_epoch=null"], cwd=ROOT, check=True, capture_output=True)
    assert state_digest(runs / "alone") == state_digest(runs / best)


def read_rows(path: Path, split: str) -> Iterator[dict[str, float]]:
    rows = map(json.loads, path.read_text().splitlines())
    return (row for row in rows if row["split"] == split)
