"""The command: errors before the submission, dry run, sweeps. Needs no SLURM."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import slurm
from tests.launch.commands import ROOT, dry_run, launch


def test_dry_run_prints_script_command_and_plan(make_config: Callable[..., Path], tmp_path: Path) -> None:
    began = time.monotonic()
    output = dry_run(make_config(), "--nodes=2", "--procs-per-node=2")
    seconds = time.monotonic() - began
    for line in ("#SBATCH --requeue", "#SBATCH --open-mode=append", "export PYTHONSAFEPATH=1"):
        assert line in output.splitlines()
    assert re.search(r"^export PYTHONPATH=\S*/code-[\d-]+\${PYTHONPATH:\+:\$PYTHONPATH}$", output, re.MULTILINE)
    assert "2 node(s) x 2 worker(s) = 4 rank(s)" in output
    assert "torch.distributed.run --nnodes=2" in output
    assert "--kill-on-bad-exit=1 --open-mode=append --export=ALL" in output
    assert not (tmp_path / "runs").exists()
    assert seconds < 10  # below 1 s on a quiet machine


def test_a_clone_takes_its_own_config_and_says_so_first(tmp_path: Path) -> None:
    done = launch("--nodes=2", "--dry-run", "--no-check")
    assert done.stdout.splitlines()[0] == "no --config given: using configs/vit.yaml"
    sweep = launch("--sweep=optim.lr=1,2", "--dry-run", "--no-check")
    assert (sweep.returncode, sweep.stdout) == (2, "")
    assert sweep.stderr == "error: --config FILE is missing: a sweep needs it\n"


def test_it_runs_as_a_module_too(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "launch.slurm", "--help"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--reservation" in done.stdout


def test_the_launcher_imports_no_torch() -> None:
    code = (
        "import sys; import launch.slurm, launch.submit, launch.local; print([m for m in sys.modules if m == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_variable_of_sbatch_without_effect_is_named(
    make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_WCKEY", "x")
    done = launch("--config", str(make_config()), "--no-check", "--dry-run", path="/nowhere")
    assert done.returncode == 0
    assert "warning: SBATCH_WCKEY of this shell: a job does not get it; give the option itself" in done.stderr


def test_another_cluster_is_refused(
    make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    assert slurm.main([f"--config={make_config()}", "--no-check"]) == 2
    assert capsys.readouterr().err.startswith("error: SLURM_CLUSTERS=other: jobs are submitted to the cluster of this")


def test_without_sbatch_one_line_and_2(make_config: Callable[..., Path]) -> None:
    done = launch("--config", str(make_config()), "--no-check", path="/nowhere")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--cluster local" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--time", "1 day"], "walltime"),
        (["--time", "0:01:00"], "--signal-delay (120 s) must be shorter than --time"),
        (["--mem", "lots"], "must be a memory size"),
        (["--nodes", "0"], "above 0"),
        (["--nodes", "3"], "must be a multiple of the world size (3)"),
        (["--gpus-per-node", "1", "--procs-per-node", "2"], "must not exceed --gpus-per-node"),
        (["optim.learning_rate=1"], "is not a key"),
        (["data.root=nowhere"], "`data.root` (nowhere) does not exist"),
        (["model.weights=none.pth"], "`model.weights` (none.pth) is not a file"),
        (["--env", "A"], "must be KEY=VALUE"),
        (["--node", "2"], "--node"),
        (["--sweep", "optim.lr=1,1"], "two runs would be called"),
        (["--sweep", "optim.lr=1", "--sweep", "optim.lr=2"], "--sweep optim.lr is given twice"),
        (["--sweep", "optim.lr=log(1e-3,1)"], "say how many points to draw, such as --draw halton:16"),
        (["--draw", "halton:3"], "--draw has no effect without --sweep"),
        (["--draw", "halton"], "must be halton:RUNS or random:RUNS"),
    ],
)
def test_errors_come_at_once(args: list[str], message: str, make_config: Callable[..., Path]) -> None:
    done = launch("--config", str(make_config()), "--dry-run", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_folder_that_cannot_be_made(make_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    args = ("--cluster=local", "--no-check", f"run.output_dir={tmp_path}/file")
    done = launch("--config", str(make_config()), *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: [Errno 20] Not a directory")


def test_without_checks_the_data_may_be_elsewhere(make_config: Callable[..., Path]) -> None:
    done = launch("--config", str(make_config()), "--dry-run", "--no-check", "data.root=nowhere")
    assert done.returncode == 0, done.stderr


def test_sweep_becomes_an_array(make_config: Callable[..., Path]) -> None:
    done = launch(
        *("--config", str(make_config()), "--dry-run", "--no-check", "--max-parallel", "2"),
        *("--sweep", "optim.lr=0.1,0.2", "--sweep", "run.seed=0,1,2"),
    )
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --array=0-5%2" in done.stdout
    assert len(re.findall(r"tiny-lr0\.[12]-seed[012]: .* log\.wandb\.group=tiny", done.stdout)) == 6


def test_a_dry_run_lists_the_drawn_points_with_halving_too(make_config: Callable[..., Path]) -> None:
    done = launch(
        *("--config", str(make_config()), "--dry-run", "--no-check", "train.epochs=4", "--halving", "factor=2"),
        *("--sweep", "optim.lr=log(1e-3,1)", "--draw", "halton:4,seed=3"),
    )
    assert done.returncode == 0, done.stderr
    assert "4 run(s) to epoch 1, 2 run(s) to epoch 2, 1 run(s) to epoch 4" in done.stdout
    assert len(set(re.findall(r"tiny-lr(\S+): .*optim\.lr=\1 ", done.stdout))) == 4


@pytest.mark.skipif(shutil.which("bash") is None, reason="the templates are bash")
@pytest.mark.parametrize("script", ["slurm/testcluster", "slurm/train.sbatch", "slurm/array.sbatch"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)
