"""From options to sbatch. ``tests/slurm`` runs real jobs."""

import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from launch import options, slurm
from launch.code_copy import plan_snapshot, take_snapshot
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


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\u2028"])
@pytest.mark.parametrize(
    "option", ["--partition=p", "--account=a", "--qos=q", "--constraint=c", "--exclude=e", "--sbatch=comment=c"]
)
def test_no_value_begins_a_line_of_its_own(make_config: Callable[..., Path], option: str, end: str) -> None:
    with pytest.raises(ConfigError, match=r"contains a line break, which a script for sbatch cannot hold"):
        script_of(f"--config={make_config()}", f"{option}{end}#SBATCH --uid=0")


def test_no_folder_or_variable_of_the_shell_begins_a_line(
    make_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(make_config())
    with pytest.raises(ConfigError, match="the run folder"):
        script_of(f"--config={config}", f'run.output_dir="{tmp_path}/a\\n#SBATCH b"')
    monkeypatch.setenv("SBATCH_ACCOUNT", "a\n#SBATCH --uid=0")
    with pytest.raises(ConfigError, match="--account"):
        script_of(f"--config={config}")
    monkeypatch.delenv("SBATCH_ACCOUNT")
    (tmp_path / "a\n#SBATCH --uid=0").mkdir()
    monkeypatch.chdir(tmp_path / "a\n#SBATCH --uid=0")
    with pytest.raises(ConfigError, match="the current folder"):
        script_of(f"--config={config}")


def test_an_option_of_sbatch_is_no_shell_command(make_config: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="is for shell commands; give an option of sbatch as --sbatch"):
        script_of(f"--config={make_config()}", "--setup=module load x\n  #SBATCH --uid=0")


def test_secrets_stand_in_a_file_of_this_user_and_nowhere_else(
    make_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--config={make_config()}", "--no-check", "--env=MY_TOKEN=hunter2 'quoted'", "--env=B=2"]
    assert slurm.main([*words, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "# --env: MY_TOKEN, B" in printed
    assert "hunter2" not in printed
    job = make_job(options.parse(words), [(None, [])], None)
    snapshot = plan_snapshot(job)
    take_snapshot(snapshot, job)
    (sourced,) = [line for line in script(job, snapshot).splitlines() if line.startswith("source ")]
    assert snapshot.environment.stat().st_mode & 0o777 == 0o600
    assert b"hunter2" not in pickle.dumps(snapshot.tasks)
    shell = f'{sourced.removesuffix(" || exit 1")}; printf "%s|%s" "$MY_TOKEN" "$B"'
    assert subprocess.run(["bash", "-c", shell], capture_output=True, text=True).stdout == "hunter2 'quoted'|2"
    holders = [path for path in job.home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert holders == [snapshot.environment]
