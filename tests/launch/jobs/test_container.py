"""Containers: which command, which mounts, which variables; and runs in stand-ins of apptainer and of srun with pyxis."""

import json
import os
import signal
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import load_config
from dist_train.errors import ConfigError
from launch.jobs import options
from launch.jobs.container import check_container, contained, mounts, runtime_of
from launch.jobs.job_options import JobOptions
from launch.jobs.option_values import container_option, mount, sbatch_option, srun_option
from tests.launch.commands import dry_run, launch
from tests.launch.local_runs import result_of, starts_of, wait_for_step
from tests.launch.standin_runtime import install


@pytest.mark.parametrize(
    ("image", "runtime"),
    [
        ("my.sif", "apptainer"),
        ("docker://pytorch/pytorch:2.7", "apptainer"),
        ("/", "apptainer"),
        ("/images/my.sqsh", "pyxis"),
        ("nvcr.io#nvidia/pytorch:25.01-py3", "pyxis"),
    ],
)
def test_the_image_decides_on_the_runtime(image: str, runtime: str) -> None:
    assert runtime_of(replace(JobOptions(), container=image)) == runtime
    assert runtime_of(replace(JobOptions(), container=image, container_runtime="pyxis")) == "pyxis"


def test_mounts_are_paths_under_their_own_names_each_once() -> None:
    paths = [Path(name) for name in ("/data/a", "/data", "/", "/runs/x", "/database")]
    assert mounts(paths, ["/scratch:/runs/x:ro"]) == ["/data:/data", "/database:/database", "/scratch:/runs/x:ro"]
    for name in ("/data/a,b", "/data/a:b"):
        with pytest.raises(ConfigError, match="no container can show inside; rename it"):
            mounts([Path(name)])


@pytest.mark.parametrize("text", ["data", "/a:b", "/a:/b:ro:c", "/a,/b"])
def test_mounts_of_the_user_are_checked(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        mount(text)


def test_options_of_the_runtime() -> None:
    assert [container_option(text) for text in ("rocm", "--rocm", "env=A=b")] == ["--rocm", "--rocm", "--env=A=b"]
    for text in ("container-image=x", "--bind=/a", "no word"):
        with pytest.raises(ArgumentTypeError):
            container_option(text)


@pytest.mark.parametrize("read", [sbatch_option, srun_option])
@pytest.mark.parametrize("name", ["container-image=x", "container=x", "container-mounts=/a", "no-container-mount-home"])
def test_sbatch_and_the_srun_of_the_supervisors_get_no_container(read: Callable[[str], object], name: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"the launcher sets .* itself; use --container"):
        read(name)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--container-mounts=/a"], "--container-mounts has no effect without --container IMAGE"),
        (["--container=a#b", "--cluster=local"], "needs SLURM's srun"),
        (["--container=my.sif", "--no-snapshot"], "needs the copy of the code"),
        (["--container=./missing.sqsh"], "does not exist on this machine; use --no-check"),
    ],
)
def test_what_cannot_work_is_refused(given: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_container(options.parse(given))


def test_the_paths_in_the_config_are_shown(make_config: Callable[..., Path], tmp_path: Path) -> None:
    shown = ["/usr/share", "/etc/hostname", "/etc/hosts"]
    cfg = load_config(make_config(), [f"data.root={shown[0]}", f"model.weights={shown[1]}", f"data.csv.val={shown[2]}"])
    given = replace(
        JobOptions(), container="x#y", container_option=("--no-container-mount-home",), container_python="py -u"
    )
    env = {
        "SLURMD_NODENAME": "n7",
        "PYTHONPATH": "/outside",
        "PYTHONHOME": "/usr",
        "TMPDIR": str(tmp_path),
        "TOKEN": "1",
    }
    env |= {"DIST_TRAIN_CONTAINER_ENV": "TOKEN"}
    command, inside = contained(given, ["python", "-m", "torchrun"], env, cfg, [], Path("/the/code"))
    assert command[0] == "srun"
    assert command[command.index("py") - 1] == "--no-container-mount-home"
    words = dict(word.partition("=")[::2] for word in command)
    assert {f"{path}:{path}" for path in ["/the/code", str(Path.cwd()), str(tmp_path), *shown]} <= set(
        words["--container-mounts"].split(",")
    )
    assert (words["--nodelist"], words["--container-workdir"]) == ("n7", str(Path.cwd()))
    assert words["--container-env"] == "PYTHONPATH,TOKEN"
    assert command[command.index("py") :] == ["py", "-u", "-m", "launch.node.contained", "-m", "torchrun"]
    assert (inside["PYTHONPATH"], "PYTHONHOME" in inside) == ("/the/code", False)


def test_a_dry_run_shows_the_command_and_makes_nothing(make_config: Callable[..., Path], tmp_path: Path) -> None:
    shown = dry_run(make_config(), "--container=my.sif", "--env=COLOUR=red")
    assert "workers in the container my.sif, by apptainer" in shown
    assert "export DIST_TRAIN_CONTAINER_ENV=COLOUR" in shown
    (agent,) = [line for line in shown.splitlines() if line.startswith("apptainer exec ")]
    assert "my.sif python3 -m launch.node.contained -m torch.distributed.run --nnodes=1" in agent
    assert not (tmp_path / "runs").exists()


def test_a_node_without_a_runtime_says_so(make_config: Callable[..., Path]) -> None:
    done = launch(
        f"--config={make_config()}", "--cluster=local", "--no-check", "--container=my.sif", path="/usr/bin:/bin"
    )
    assert done.returncode == 2, done.stdout
    assert "this machine has neither apptainer nor singularity; load it with --setup" in done.stderr + done.stdout


APPTAINER = ["--container=my.sif", f"--container-python={sys.executable}", "--container-mounts=/usr/share"]


@pytest.fixture
def with_apptainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    calls = install(tmp_path / "bin", "apptainer")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("TMPDIR", raising=False)  # the runs lie in it, and are not shown twice
    return calls


@pytest.mark.slow
def test_a_run_in_a_container_stops_and_goes_on(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path, with_apptainer: Path
) -> None:
    process = start(make_config(steps=400), *APPTAINER, "--env=COLOUR=of the user", "--procs-per-node=2")
    wait_for_step(tmp_path, 3)
    workers = [env for env in environments() if "LOCAL_RANK" in env and env["PYTHONPATH"].startswith(str(tmp_path))]
    assert {env["COLOUR"] for env in workers} == {"of the user"}
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    assert result_of(tmp_path)["status"] == "stopped"
    (call,) = [json.loads(line) for line in with_apptainer.read_text().splitlines()]
    assert call[:2] == ["apptainer", "exec"]
    assert {f"{tmp_path / 'runs'}:{tmp_path / 'runs'}", "/usr/share:/usr/share"} <= set(call)
    assert "asking 2 worker(s) to stop" in output


def environments() -> list[dict[str, str]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        found.append(dict(word.decode(errors="replace").partition("=")[::2] for word in words if word))
    return found


@pytest.mark.slow
def test_workers_in_a_container_save_when_their_agent_dies(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path, with_apptainer: Path
) -> None:
    process = start(make_config(steps=40, fault="kill_agent", fault_step=7, fault_once=True), *APPTAINER)
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    first, second = starts_of(tmp_path)
    assert first["verdict"] == "requeue"
    assert second["stopped_at"] == first["reached"], "the workers were not given time to save"


@pytest.mark.slow
def test_a_killed_supervisor_leaves_nothing_in_a_container(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path, with_apptainer: Path
) -> None:
    """The fixture asserts that no process is left."""
    process = start(make_config(steps=4000), *APPTAINER)
    wait_for_step(tmp_path, 3)
    process.kill()


@pytest.mark.slow
def test_pyxis_starts_a_step_whose_workers_stop(
    standin_code: Path, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    calls = install(tmp_path / "bin", "srun")
    config = make_config(steps=400)
    command = [sys.executable, "-m", "launch.supervise", f"--config={config}", "--port=0", "--container=a#b"]
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(standin_code)}
    process = subprocess.Popen(
        [*command, f"--container-python={sys.executable}"], cwd=standin_code, env=env, stdout=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path, 3)
    process.send_signal(signal.SIGUSR2)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    assert result_of(tmp_path)["status"] == "stopped"
    (call,) = [json.loads(line) for line in calls.read_text().splitlines()]
    assert call[:2] == ["srun", "--overlap"]
