"""What a job runs: a copy of code and configuration as they were at submission, so that later edits do not reach it."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from dist_train.config import dump_config
from dist_train.run.git_state import COPY_NOTE, changes, git_state
from dist_train.system.files import write_json
from launch.job import Run
from launch.options import ROOT

PACKAGES = ("dist_train", "launch")


@dataclass(frozen=True)
class Snapshot:
    """Where a job's code lies, and the config file and overrides of each run."""

    code: Path
    configs: list[tuple[str, list[str]]]


def plan_snapshot(runs: list[Run], home: Path, config: str, copy: bool) -> Snapshot:
    """Name the places, and create nothing: a dry run shows them too."""
    if not copy:
        return Snapshot(ROOT, [(str(Path(config).absolute()), run.overrides) for run in runs])
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"  # two submissions may share a second
    return Snapshot(
        home.absolute() / f"code-{stamp}",
        [(str(run.folder.path.absolute() / "slurm" / f"config-{stamp}.yaml"), []) for run in runs],
    )


def take_snapshot(snapshot: Snapshot, runs: list[Run]) -> None:
    """Copy the packages and the modules beside them, write the resolved configs and the state of git."""
    if snapshot.code == ROOT:
        return
    for package in PACKAGES:
        shutil.copytree(ROOT / package, snapshot.code / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ROOT.glob("*.py"):
        shutil.copy2(module, snapshot.code)
    state = git_state(ROOT) or {"commit": None}
    write_json(snapshot.code / COPY_NOTE, {**state, "changes": changes(ROOT, *PACKAGES)})
    for run, (path, _) in zip(runs, snapshot.configs, strict=True):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(dump_config(run.cfg))
