"""From options to sbatch. ``tests/slurm`` runs real jobs."""

import json
import os
import pickle
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from launch import slurm
from launch.jobs import options
from launch.jobs.code_copy import plan_snapshot, take_snapshot
from launch.jobs.job import make_job
from launch.submit import LIMITS, script
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


def test_limits_of_the_login_node_stay_there_unless_the_user_wants_them(make_config: Callable[..., Path]) -> None:
    config = make_config()
    assert f"#SBATCH --propagate={LIMITS}" in script_of(f"--config={config}")
    assert "#SBATCH --propagate=ALL" in script_of(f"--config={config}", "--sbatch=propagate=ALL")


SUBMITTED = os.environ | {"SLURM_SUBMIT_DIR": str(Path.cwd())}


def script_before_srun(config: Path, *setup: str) -> str:
    lines = script_of(f"--config={config}", *(f"--setup={command}" for command in setup))
    return "\n".join(lines[: lines.index("# command")])


def test_folder_and_options_of_setup_end_with_it(make_config: Callable[..., Path]) -> None:
    script = script_before_srun(make_config(), "set -e", "cd /", "X=1")
    done = subprocess.run(["bash", "-c", f"{script}\nfalse; pwd"], env=SUBMITTED, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{Path.cwd()}\n", "")


def test_after_set_e_a_command_of_setup_that_fails_ends_the_job(make_config: Callable[..., Path]) -> None:
    script = script_before_srun(make_config(), "set -e", "cd /no/such/folder")
    done = subprocess.run(["bash", "-c", f"{script}\necho on"], env=SUBMITTED, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "warning: --setup: cd /no/such/folder: exit status 1"


def test_a_command_of_setup_that_fails_is_named_and_the_job_goes_on(make_config: Callable[..., Path]) -> None:
    script = script_before_srun(make_config(), "no-such-module load x; A=1", "if false; then :; fi")
    done = subprocess.run(["bash", "-c", f"{script}\nfalse; echo $A"], env=SUBMITTED, capture_output=True, text=True)
    assert done.stdout == "1\n"
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert told == "warning: --setup: no-such-module load x: exit status 127"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with an ``sbatch`` that refuses, and an ``srun``."""
    folder = tmp_path / "tools"
    folder.mkdir()
    tool(folder / "sbatch", "echo 'sbatch: error: Invalid account or account/partition' >&2; exit 1")
    tool(folder / "srun", "true")
    return folder


def tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def submit(tools: Path, config: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    return launch("--config", str(config), "--no-check", *args, path=f"{tools}:{os.environ['PATH']}")


def test_a_refusal_of_sbatch_is_one_line(make_config: Callable[..., Path], tools: Path) -> None:
    config = make_config()
    for _ in range(2):  # the second in the same second, or nearly
        done = submit(tools, config)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.endswith("(--dry-run prints it): sbatch: error: Invalid account or account/partition\n")


@pytest.mark.parametrize("args", [[], ["--no-snapshot"], ["--sweep=run.seed=1,2"]])
def test_a_refusal_leaves_no_folders(
    args: list[str], make_config: Callable[..., Path], tools: Path, tmp_path: Path
) -> None:
    assert submit(tools, make_config(), *args).returncode == 2
    assert not (tmp_path / "runs").exists()


def test_a_refusal_leaves_an_earlier_run_as_it_was(
    make_config: Callable[..., Path], tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "tiny" / "slurm").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "slurm" / "7_0_log.out").write_text("the log of an earlier job")
    (tmp_path / "runs" / "tiny" / "metrics.jsonl").write_text("")
    before = sorted(tmp_path.rglob("*"))
    config = make_config()
    assert submit(tools, config).returncode == 2
    after = [path for path in tmp_path.rglob("*") if tmp_path / "data" not in (path, *path.parents) and path != config]
    assert sorted(after) == before


def test_a_long_sweep_becomes_arrays_and_a_late_refusal_keeps_the_first(
    make_config: Callable[..., Path], tools: Path, tmp_path: Path
) -> None:
    tool(tools / "sinfo", "echo 'low*|up|infinite|1-infinite|9|64|64000|(null)'")
    tool(tools / "scontrol", "[ $2 = config ] && echo 'MaxArraySize = 2'")
    tool(
        tools / "sbatch",
        f"cd {tools}; echo >> count; n=$(wc -l < count); cp $1 script$n; "
        "[ $n -lt 3 ] && echo Submitted batch job 7$n || { echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; "
        "echo 'sbatch: error: Batch job submission failed: Job violates policy' >&2; exit 1; }",
    )
    done = submit(tools, make_config(), "--sweep=run.seed=1,2,3,4,5", "--max-parallel=6")
    assert done.returncode == 2
    assert "QOSMaxSubmitJobPerUserLimit; sbatch: error: Batch job submission failed: Job violates policy" in done.stderr
    assert done.stderr.endswith("error: 4 of 5 runs are in the queue; the same command submits the others\n")
    assert "#SBATCH --array=0-1%2" in (tools / "script1").read_text()
    runs = tmp_path / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["tiny", *(f"tiny-seed{seed}" for seed in (1, 2, 3, 4))]
    jobs = [json.loads((runs / f"tiny-seed{seed}" / "launch.json").read_text())[-1]["job"] for seed in (1, 2, 3, 4)]
    assert jobs == ["71_0", "71_1", "72_0", "72_1"]
    assert len(list((runs / "tiny" / "slurm").glob("code-*"))) == 1
    for name in ("script1", "script2"):
        (line,) = [line for line in (tools / name).read_text().splitlines() if line.startswith("runs=(")]
        assert len(shlex.split(line.removeprefix("runs=(").removesuffix(")"))) == 2


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("sbatch: Job 9 to start at 2026-11-27 using 1 processors", 0, "# sbatch --test-only: Job 9 to start at 2026-"),
        (
            "allocation failure: Requested node configuration is not available",
            2,
            "refuses the job: allocation failure: Req",
        ),
    ],
)
def test_a_dry_run_asks_sbatch(
    said: str, code: int, words: str, make_config: Callable[..., Path], tools: Path, tmp_path: Path
) -> None:
    tool(tools / "sinfo", "echo 'low*|up|infinite|1-infinite|9|64|64000|(null)'")
    tool(tools / "sbatch", f"cat > {tools}/script; [ $1 = --test-only ] && echo '{said}' >&2; exit {code}")
    done = submit(tools, make_config(), "--dry-run")
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert (tools / "script").read_text() in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_dead_controller_costs_a_dry_run_two_seconds(make_config: Callable[..., Path], tools: Path) -> None:
    for name in ("sinfo", "scontrol", "sbatch"):
        tool(tools / name, "exec sleep 60")
    config = make_config()
    began = time.monotonic()
    done = submit(tools, config, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: SLURM does not answer: the GPUs of its nodes and its limits are not known\n"
    assert time.monotonic() - began < 12  # about 3 s on a quiet machine; each further question would cost 2 or 60 s


def test_without_submitit_the_error_says_what_to_install(make_config: Callable[..., Path]) -> None:
    code = (
        "import sys; sys.modules['submitit'] = None\n"
        "from launch.slurm import main\n"
        f"sys.exit(main(['--config={make_config()}', '--dry-run', '--no-check']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("error: a SLURM job needs submitit: pip install submitit\n")


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


@pytest.mark.parametrize("name", ["100%j", "a\\b"])
def test_a_folder_that_slurm_would_name_otherwise_is_refused(
    make_config: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="which SLURM replaces in the names of logs; choose another run"):
        script_of(f"--config={make_config()}", f"run.output_dir='{tmp_path}/{name}'")


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
