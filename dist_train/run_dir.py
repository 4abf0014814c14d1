"""One run, one folder: every path in it, and what is written there besides numbers and weights.

The folder is the whole contract between the trainer and the programs that start, watch or compare runs.
"""

import errno
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dist_train.config import Config, dump_config
from dist_train.errors import ConfigError, ErrorKind
from dist_train.files import atomic_write, read_json, remove_leftovers, write_json

Status = Literal["running", "stopped", "done", "failed"]


@dataclass(frozen=True)
class RunDir:
    """``<output_dir>/<name>/`` and the names in it."""

    path: Path

    @classmethod
    def of(cls, cfg: Config) -> "RunDir":
        return cls(Path(cfg.run.output_dir) / cfg.run.name)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def refusal(self) -> Path:
        """Why the last start under a supervisor was turned away."""
        return self.path / "refusal.json"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def classes(self) -> Path:
        return self.path / "classes.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def listing(self) -> Path:
        """The data set as the run began with it."""
        return self.path / "data_index.gz"

    @property
    def bad_images(self) -> Path:
        return self.path / "bad_images.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"


PERMANENT = (
    errno.EACCES, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS
)  # fmt: skip
"""Errors of a file system that trying again does not cure."""


@contextmanager
def told_as_config(run: RunDir) -> Iterator[None]:
    """A run folder that cannot be made or written is a mistake in the config.

    Raises:
        ConfigError: naming the folder and the reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in PERMANENT:
            raise
        raise ConfigError(
            f"`run.output_dir` ({run.path.parent}): cannot make or write {run.path}: {error.strerror}; choose another place"
        ) from None


@dataclass
class Result:
    """``result.json``: how the run stands, for people, launchers and ``compare``.

    ``best`` and ``last`` are rows of validation metrics with their ``step``, of the raw weights or of their moving
    average as ``weights`` says; ``wall_s`` is of this attempt; ``images_per_s`` is of the last one that made a step, and so is
    ``data_wait``, the share of time spent on waiting for data, with ``advice`` where it is too much; ``error`` and
    ``message`` say why it failed.
    """

    status: Status = "running"
    attempt: int = 1
    step: int = 0
    total_steps: int = 0
    best: dict[str, float] | None = None
    last: dict[str, float] | None = None
    weights: Literal["ema", "raw"] = "raw"
    wall_s: float = 0.0
    images_per_s: float | None = None
    data_wait: float | None = None
    advice: str | None = None
    error: ErrorKind | None = None
    message: str | None = None
    updated: str = field(default_factory=lambda: now())


def write_result(run: RunDir, result: Result) -> None:
    """Replace ``result.json``, stamped with the current time."""
    result.updated = now()
    write_json(run.result, asdict(result), durable=result.status != "running")


def read_result(run: RunDir) -> dict[str, Any]:
    """The content of ``result.json``; empty if there is none yet."""
    result: dict[str, Any] = read_json(run.result, default={})
    return result


START_NAME = "DIST_TRAIN_START"
"""The variable by which a supervisor names a start to its ranks."""


def write_refusal(run: RunDir, error: ErrorKind, message: str) -> None:
    """Tell this start's supervisor, if it has one, why it was turned away; ``result.json`` is not ours to write."""
    if START_NAME in os.environ:
        start = os.environ[START_NAME]
        write_json(run.refusal, {"start": start, "status": "failed", "error": error, "message": message})


def read_refusal(run: RunDir, start: str) -> dict[str, Any]:
    """What a result would say of a start that was turned away; empty if it was not."""
    refusal: dict[str, Any] = read_json(run.refusal, default={})
    return refusal if refusal.get("start") == start else {}


def begin_attempt(run: RunDir, cfg: Config, world_size: int, hosts: list[str]) -> int:
    """Write ``config.yaml`` and add an entry to ``provenance.json``; remove what killed attempts left half written.

    Returns:
        The number of this attempt, from 1.
    """
    for path in (run.last, run.metrics, run.listing, run.bad_images, run.classes):
        remove_leftovers(path)
    for path in (run.config, run.provenance, run.result):
        remove_leftovers(path)
    with atomic_write(run.config) as file:
        file.write(dump_config(cfg).encode())
    attempts = read_json(run.provenance, default={"attempts": []})["attempts"]
    attempts.append({"attempt": len(attempts) + 1, **_provenance(world_size, hosts)})
    write_json(run.provenance, {"attempts": attempts})
    return len(attempts)


def now() -> str:
    """Local time with its UTC offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _provenance(world_size: int, hosts: list[str]) -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "numpy", "pillow", "pydantic")
    return {
        "started": now(),
        "command": [sys.executable, *sys.orig_argv[1:]],
        "directory": os.getcwd(),
        "hosts": hosts,
        "world_size": world_size,
        "git": _git_state(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "slurm": {key: value for key, value in os.environ.items() if key in _SLURM_KEYS},
    }


_SLURM_KEYS = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NAME",
)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the code that runs (not of the working directory); None outside a checkout."""
    code = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ("git", "-C", code, *args), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def host_name() -> str:
    """This machine's name, as a person would call it."""
    return socket.gethostname()
