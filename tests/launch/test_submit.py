"""From options to sbatch. ``tests/slurm`` runs real jobs."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import options
from launch.code_copy import plan_snapshot
from launch.job import make_job
from launch.submit import script
from tests.launch.commands import ROOT, launch


def script_of(*args: str) -> list[str]:
    given = options.parse(["--no-check", *args])
    job = make_job(given, [(None, [])], None)
    return script(job, plan_snapshot(job)).splitlines()


def test_the_script_calls_the_last_resort_with_the_config(make_config: Callable[..., Path]) -> None:
    config = make_config()
    lines = script_of(f"--config={config}", "--no-snapshot", "optim.lr=0.5", "--max-requeues=3")
    (runs,) = [line for line in lines if line.startswith("runs=(")]
    quoted = shlex.split(runs.removeprefix("runs=(").removesuffix(")"))
    assert [shlex.split(run) for run in quoted] == [[f"--config={config}", "optim.lr=0.5"]]
    assert lines[-1].endswith('-m launch.last_resort $status --max-requeues=3 "${runs[${SLURM_ARRAY_TASK_ID:-0}]}"')


def test_what_sbatch_takes_under_its_own_name(make_config: Callable[..., Path]) -> None:
    lines = script_of(f"--config={make_config()}", "--qos=long", "--sbatch=exclusive", "--sbatch=comment=hello")
    assert {"#SBATCH --qos=long", "#SBATCH --exclusive", "#SBATCH --comment=hello"} <= set(lines)
    assert not [line for line in lines if line.startswith("#SBATCH --partition")]


def test_a_refusal_of_sbatch_is_one_line(make_config: Callable[..., Path], tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: Invalid account or account/partition' >&2\nexit 1\n")
    (tools / "sbatch").chmod(0o755)
    (tools / "srun").symlink_to("/bin/true")
    config, path = make_config(), f"{tools}:{os.environ['PATH']}"
    for _ in range(2):  # the second in the same second, or nearly
        done = launch("--config", str(config), "--no-check", path=path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.endswith("(--dry-run prints it): sbatch: error: Invalid account or account/partition\n")
        assert not (tmp_path / "runs").exists(), "no half run folder"
    other = tmp_path / "runs" / "tiny" / "slurm" / "of an earlier job"
    other.parent.mkdir(parents=True)
    other.write_text("kept")
    assert launch("--config", str(config), "--no-check", path=path).returncode == 2
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == [other]


def test_without_submitit_the_error_says_what_to_install(make_config: Callable[..., Path]) -> None:
    code = (
        "import sys; sys.modules['submitit'] = None\n"
        "from launch.slurm import main\n"
        f"sys.exit(main(['--config={make_config()}', '--dry-run', '--no-check']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: a SLURM job needs submitit: pip install submitit\n"


@pytest.mark.parametrize("present", ["sbatch", "srun"])
def test_half_a_slurm_is_none(make_config: Callable[..., Path], tmp_path: Path, present: str) -> None:
    (tmp_path / present).symlink_to("/bin/true")
    done = launch("--config", str(make_config()), "--no-check", path=str(tmp_path))
    missing = {"sbatch": "srun", "srun": "sbatch"}[present]
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: this machine has no {missing}: use --cluster local")
