"""Copy the code and the config at submission, so that later edits do not change a waiting job."""

import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dist_train.config.load import dump_config
from dist_train.errors import DistTrainError
from dist_train.run.git_state import COPY_NOTE, git_diff, git_state
from dist_train.system.files import atomic_write, write_json
from launch.installation import HOME, user_code
from launch.jobs.job import Job, Task

PACKAGES = ("dist_train", "launch")


@dataclass(frozen=True)
class Snapshot:
    """The code that a job runs, and the task of the supervisors of each run."""

    code: Path
    tasks: list[Task]
    environment: Path
    """The file with the values of ``--env``, which may be secrets: the script sources it, and only this user can read it."""


def plan_snapshot(job: Job) -> Snapshot:
    """Return the paths of the copy without creating it; a dry run prints them."""
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"  # two submissions may happen in the same second
    environment = job.home.absolute() / f"env-{stamp}.sh"
    options = replace(job.options, env=())  # submitit writes tasks into files that others may read
    if job.options.no_snapshot:
        config = str(Path(job.config).absolute())
        return Snapshot(user_code(), [Task(config, run.overrides, options) for run in job.runs], environment)
    configs = [run.folder.path.absolute() / "slurm" / f"config-{stamp}.yaml" for run in job.runs]
    tasks = [Task(str(config), [], options) for config in configs]
    return Snapshot(job.home.absolute() / f"code-{stamp}", tasks, environment)


def take_snapshot(snapshot: Snapshot, job: Job) -> None:
    """Copy the packages and the user's modules; write the environment, the resolved configs and the git state.

    The arrays of a long sweep have one copy of the code.
    """
    if job.options.env and job.options.cluster == "slurm":
        with atomic_write(snapshot.environment, mode=0o600) as file:
            lines = (f"export {key}={shlex.quote(value)}\n" for key, value in job.options.env)
            file.write("".join(lines).encode(errors="surrogateescape"))
    if job.options.no_snapshot:
        return
    if not snapshot.code.exists():
        _copy_code(snapshot)
    for run, task in zip(job.runs, snapshot.tasks, strict=True):
        path = Path(task.config)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump_config(run.cfg))


def _copy_code(snapshot: Snapshot) -> None:
    for package in PACKAGES:
        shutil.copytree(HOME / package, snapshot.code / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module in user_code().glob("*.py"):
        shutil.copy2(module, snapshot.code)
    state = git_state(HOME) or {"commit": None}
    write_json(snapshot.code / COPY_NOTE, {**state, "changes": git_diff(HOME, *PACKAGES)})


@contextmanager
def withdrawn_if_refused(folders: list[Path]) -> Iterator[None]:
    """Remove, after an error in the block, all that the block has put into ``folders``, and the folders that it has made."""
    made = {path for folder in folders for path in (folder, *folder.parents) if not path.exists()}
    before = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    try:
        yield
    except (DistTrainError, OSError):
        for path in {path for folder in folders if folder.is_dir() for path in folder.iterdir()} - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in sorted(made, reverse=True):  # a folder comes after the one that it lies in
            with suppress(OSError):  # not empty: somebody else uses it
                path.rmdir()
        raise
