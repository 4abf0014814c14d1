"""The run folder: every path in it."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dist_train.config.sections.run import RunConfig
from dist_train.errors import ConfigError
from dist_train.system.files import MISSING, fault_of_file


@dataclass(frozen=True)
class RunDir:
    """``<output_dir>/<name>/`` and the names in it."""

    path: Path

    @classmethod
    def of(cls, cfg: RunConfig) -> "RunDir":
        return cls(Path(cfg.output_dir) / cfg.name)

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
        """Why the last start under a supervisor was refused."""
        return self.path / "refusal.json"

    @property
    def preflight(self) -> Path:
        """What the preflight of the last start has measured."""
        return self.path / "preflight.json"

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
    def decode_rules(self) -> Path:
        """The rules for decoding images that the run chose when it began."""
        return self.path / "decode_rules.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def saved_step(self) -> int:
        """Return the step of the newest checkpoint, valid or not; 0 without one."""
        names = [path.name for path in self.checkpoints.glob("step_*")]  # step_00000005, step_00000005-evaluated
        return max((int(name[5:13]) for name in names if name[5:13].isdecimal()), default=0)

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
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    @property
    def profile(self) -> Path:
        """The traces of `log.profile`."""
        return self.path / "profile"

    @property
    def look(self) -> Path:
        """The picture of `log.images`."""
        return self.path / "look.png"

    @property
    def listing(self) -> Path:
        """The list of images and targets that the run began with."""
        return self.path / "data_index.gz"

    @property
    def scan(self) -> Path:
        """What the last scan of the data set found: the next start uses it if nothing has changed."""
        return self.path / "data_scan.bin"

    @property
    def pixel_cache(self) -> Path:
        """The digest of the decoded images that the run trains on; the cache lies outside of the run folder."""
        return self.path / "pixel_cache.json"

    @property
    def calibration(self) -> Path:
        """Temperature and thresholds that `calibrate` fitted to the weights."""
        return self.path / "calibration.json"

    @property
    def micro_batch(self) -> Path:
        """What `train.micro_batch: auto` has chosen, and why."""
        return self.path / "micro_batch.json"

    @property
    def bad_images(self) -> Path:
        return self.path / "bad_images.json"

    @property
    def fast_dev_run(self) -> Path:
        """Marks a folder that `train.fast_dev_run` has made: the next one of this name may empty it."""
        return self.path / "fast_dev_run"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"


def fault_of_folder(path: Path) -> str:
    """Return the reason why a path is not a folder, such as "it does not exist"; an empty string for a folder."""
    try:
        return "" if stat.S_ISDIR(os.stat(path).st_mode) else "it is a file"
    except FileNotFoundError:
        return "it is a link to a folder that does not exist" if os.path.islink(path) else "it does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        return str(getattr(error, "strerror", error))


def must_be_a_run(run: RunDir) -> None:
    """Check that a path leads to a run folder that this user can read.

    Raises:
        ConfigError: it does not; the message gives the reason.
    """
    if not (fault := fault_of_file(run.config)):
        return
    absent = f"it has no {run.config.name}" if fault == MISSING else f"its {run.config.name} {fault}"
    reason = fault_of_folder(run.path) or absent
    if DENIED in reason:
        raise ConfigError(f"the run folder {run.path} cannot be used: {reason}; {ASK}")
    raise ConfigError(f"{run.path} is not a run folder: {reason}; give the folder of a run{_such_as(run.path)}")


def _such_as(path: Path) -> str:
    """Return an example: the run that ``path`` lies in, or the first one in a folder of runs; an empty string if there is none."""
    with suppress(OSError, ValueError):
        for folder in (*path.parents, *sorted(path.iterdir() if path.is_dir() else ())):
            if os.path.isfile(RunDir(folder).config) and os.path.isfile(RunDir(folder).provenance):
                return f", such as {folder}"
    return ""


def must_be_readable(file: Path) -> None:
    """Raise a ``ConfigError`` if a file of a run folder is there and this user cannot read it. It may be missing."""
    if (fault := fault_of_file(file)) not in ("", MISSING):
        raise ConfigError(f"{file} {fault}; {ASK if DENIED in fault else 'restore it from a backup'}")


DENIED = os.strerror(errno.EACCES)
ASK = "ask the owner of the run for the right to read it"
PERMANENT = (
    errno.EACCES, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS
)  # fmt: skip
"""Errors of a file system that another try cannot solve."""


@contextmanager
def must_be_writable(run: RunDir) -> Iterator[None]:
    """Turn an error of the file system in the block into a ``ConfigError``, if another try cannot solve it.

    Raises:
        ConfigError: with the folder and the reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in PERMANENT:
            raise
        raise ConfigError(
            f"`run.output_dir` ({run.path.parent}): cannot create or write {run.path}: {error.strerror}; "
            "choose another folder"
        ) from None
