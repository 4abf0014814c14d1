"""The command line: errors before the queue, the dry run, site defaults. No SLURM is needed here."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from launch import options

ROOT = Path(__file__).resolve().parents[2]


def launch(*args: str, path: str | None = None, pythonpath: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the script from the root of the repository, as a user does; ``path`` and ``pythonpath`` replace PATH, PYTHONPATH."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "PYTHONPATH"))}
    env |= ({"PATH": path} if path else {}) | ({"PYTHONPATH": pythonpath} if pythonpath else {})
    command = [sys.executable, "launch/slurm.py", *args]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_dry_run_prints_script_command_and_plan(make_config: Callable[..., Path], tmp_path: Path) -> None:
    config = make_config()
    began = time.monotonic()
    done = launch(
        *(
            "--config",
            str(config),
            "--dry-run",
            "--no-check",
            "--nodes",
            "2",
            "--procs-per-node",
            "2",
            "--time",
            "0:30:00",
        ),
        *(
            "--mem",
            "16G",
            "--qos",
            "long",
            "--env",
            "A=b c",
            "--setup",
            "module load cuda",
            "--sbatch",
            "comment=hello",
        ),
        path="/nowhere",
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --requeue",
        "#SBATCH --time=30",
        "#SBATCH --mem=16G",
        "#SBATCH --qos=long",
        "#SBATCH --comment=hello",
        "#SBATCH --signal=USR2@120",
        "#SBATCH --open-mode=append",
        "module load cuda",
        "export A='b c'",
        "export PYTHONSAFEPATH=1",
    ):
        assert line in done.stdout.splitlines()
    assert re.search(r"^export PYTHONPATH=\S*/code-[\d-]+\${PYTHONPATH:\+:\$PYTHONPATH}$", done.stdout, re.MULTILINE)
    assert "2 node(s) x 2 worker(s) = 4 rank(s)" in done.stdout
    assert "torch.distributed.run --nnodes=2" in done.stdout
    assert "--kill-on-bad-exit=1 --open-mode=append --export=ALL" in done.stdout
    assert not (tmp_path / "runs").exists()
    assert seconds < 3  # below 1 s on a quiet machine; torch alone would take longer


def test_the_launcher_imports_no_torch() -> None:
    code = (
        "import sys; import launch.slurm, launch.submit, launch.local; print([m for m in sys.modules if m == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
        (["--sbatch", "=1"], "must be KEY=VALUE, or KEY"),
    ],
)
def test_errors_come_at_once(args: list[str], message: str, make_config: Callable[..., Path]) -> None:
    done = launch("--config", str(make_config()), "--dry-run", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_sbatch_says_is_told_without_a_traceback(make_config: Callable[..., Path], tmp_path: Path) -> None:
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
        assert done.stderr.endswith("which --dry-run shows: sbatch: error: Invalid account or account/partition\n")


def test_a_run_folder_that_cannot_be_made(make_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    args = ("--cluster=local", "--no-check", f"run.output_dir={tmp_path}/file")
    done = launch("--config", str(make_config()), *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: [Errno 20] Not a directory")


def test_a_check_that_breaks_is_told_by_its_error(make_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ImportError('libcudart.so.13 is not here')\n")
    done = launch("--config", str(make_config()), "--dry-run", pythonpath=str(tmp_path / "broken"))
    assert done.returncode == 2
    assert done.stderr.endswith("failed: ImportError: libcudart.so.13 is not here\n")


@pytest.mark.parametrize("option", ["exclusive", "exclusive=", "--exclusive=true"])
def test_an_sbatch_option_without_a_value(option: str, make_config: Callable[..., Path]) -> None:
    done = launch("--config", str(make_config()), "--dry-run", "--no-check", f"--sbatch={option}")
    assert "#SBATCH --exclusive" in done.stdout.splitlines()


def test_the_users_sbatch_variables_are_defaults(
    make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SBATCH_QOS", "long")
    done = launch("--config", str(make_config()), "--dry-run", "--no-check", "--qos=short")
    assert {"#SBATCH --account=mine", "#SBATCH --qos=short"} <= set(done.stdout.splitlines())


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


def test_site_file_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "nodes: 4\ntime: 4:00:00\nsetup: [module load cuda, module load nccl]\n"
        "env: {A: 1}\nno_snapshot: true\nqos: null\n"
    )
    args = options.parse(["--cluster-config", str(site), "--nodes", "2", "optim.lr=1"])
    site_alone = options.parse(["--cluster-config", str(site)])
    assert (site_alone.nodes, site_alone.time) == (4, "4:00:00")
    assert (args.nodes, args.time, args.no_snapshot, args.qos) == (2, "4:00:00", True, None)
    assert args.setup == ["module load cuda", "module load nccl"]
    assert args.env == [("A", "1")]
    assert args.overrides == ["optim.lr=1"]


def test_site_file_with_an_unknown_key(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("gpu_per_node: 4\n")
    with pytest.raises(ConfigError, match="did you mean `gpus_per_node`"):
        options.parse(["--cluster-config", str(site)])


def test_status_of_an_empty_folder(tmp_path: Path) -> None:
    done = launch("status", str(tmp_path))
    assert done.returncode == 0
    assert "no runs" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="the templates are bash")
@pytest.mark.parametrize("script", ["slurm/testcluster", "slurm/train.sbatch", "slurm/array.sbatch"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)
