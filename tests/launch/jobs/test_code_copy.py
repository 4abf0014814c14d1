"""The copy of code and config that a job runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dist_train.config import load_config
from dist_train.system.files import read_json
from launch.jobs import options
from launch.jobs.code_copy import plan_snapshot, take_snapshot
from launch.jobs.job import make_job
from tests.launch.commands import ROOT


def test_the_copy_runs_by_itself(make_config: Callable[..., Path], tmp_path: Path) -> None:
    base = make_config()
    child = base.with_name("child.yaml")
    child.write_text(f"{{base: {base.name}, train: {{epochs: 7}}}}")
    job = make_job(options.parse([f"--config={child}", "optim.lr=0.5"]), [(None, [])], None)
    snapshot = plan_snapshot(job)
    assert not job.home.exists()
    take_snapshot(snapshot, job)
    base.unlink()
    (task,) = snapshot.tasks
    assert task.overrides == []
    assert (load_config(task.config).optim.lr, load_config(task.config).train.epochs) == (0.5, 7)
    assert {"commit", "changes"} <= read_json(snapshot.code / "snapshot.json", default={}).keys()
    where = "import dist_train, launch.supervise; print(dist_train.__file__, launch.supervise.__file__)"
    env = os.environ | {"PYTHONPATH": str(snapshot.code)}
    done = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.split() == [f"{snapshot.code}/dist_train/__init__.py", f"{snapshot.code}/launch/supervise.py"]


def test_the_working_copy_in_its_place(make_config: Callable[..., Path]) -> None:
    config = make_config()
    job = make_job(options.parse([f"--config={config}", "--no-snapshot", "optim.lr=0.5"]), [(None, [])], None)
    snapshot = plan_snapshot(job)
    take_snapshot(snapshot, job)
    assert snapshot.code == ROOT
    assert [(task.config, task.overrides) for task in snapshot.tasks] == [(str(config), ["optim.lr=0.5"])]
    assert not job.home.exists()


def test_of_an_installed_package_the_users_modules_come_from_the_current_folder(
    standin_code: Path, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    (standin_code / "six.py").touch()  # a neighbour in site-packages
    project = tmp_path / "project"
    project.mkdir()
    (project / "my_model.py").touch()
    code = (
        "import sys\nfrom launch.jobs import options\nfrom launch.jobs.code_copy import plan_snapshot, take_snapshot\n"
        "from launch.jobs.job import make_job\n"
        f"job = make_job(options.parse(['--config={make_config()}']), [(None, [])], None)\n"
        "snapshot = plan_snapshot(job)\ntake_snapshot(snapshot, job)\nprint(snapshot.code)"
    )
    env = os.environ | {"PYTHONPATH": str(standin_code)}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    copied = {path.name for path in Path(done.stdout.strip()).iterdir()}
    assert copied == {"dist_train", "launch", "my_model.py", "snapshot.json"}
