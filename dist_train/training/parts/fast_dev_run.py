"""``train.fast_dev_run``: try a config in a few steps, in a run folder of its own that is removed (after Lightning's flag).

Two attempts are made: one of N steps with an evaluation and a checkpoint, and one that goes on from this checkpoint.
"""

import logging
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from dist_train.config.schema import Config
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir, must_be_writable
from dist_train.run.lock import RunLock
from dist_train.run.result import Result, load_result, write_result
from dist_train.system.terminal import digits, wrapped
from dist_train.training.parts.given import Given
from dist_train.training.report.messages import WIDTH

log = logging.getLogger(__name__)


def config_of_start(cfg: Config) -> Config:
    """Return the config to train with: that of the user, or with ``train.fast_dev_run`` that of the first attempt.

    The keys that change are of the name and the folder, of loggers and of the size of the validation set. All keys of the
    training keep their values, and the plan its length.
    """
    steps = cfg.train.trial_steps
    if steps is None:
        return cfg
    images = min(cfg.data.max_val_images or cfg.eval.batch_size * steps, cfg.eval.batch_size * steps)
    run = {"name": f"{cfg.run.name}.fast_dev_run", "resume": "auto"}
    away = {name: getattr(cfg.log, name).model_copy(update={"mode": "disabled"}) for name in ("wandb", "mlflow")}
    return cfg.model_copy(
        update={
            "run": cfg.run.model_copy(update=run),
            "data": cfg.data.model_copy(update={"max_val_images": images}),
            "train": cfg.train.model_copy(update={"fast_dev_run": steps}),
            "log": cfg.log.model_copy(update={"tensorboard": False, "report": False, "loggers": ()} | away),
        }
    )


def one_step_more(cfg: Config) -> Config:
    """Return the config of the second attempt."""
    steps = cfg.train.trial_steps
    assert steps is not None
    return cfg.model_copy(update={"train": cfg.train.model_copy(update={"fast_dev_run": steps + 1})})


def given_to_attempt(given: Given | None) -> Given | None:
    """Return the objects of the calling program without its loggers, and with a copy of its model, which is trained in place."""
    if given is None:
        return None
    copied = deepcopy(given.model) if isinstance(given.model, nn.Module) else given.model
    return replace(given, loggers=(), model=copied)


def make_folder(cfg: Config) -> Path:
    """Create the run folder, or empty the one that a killed start has left. For rank 0. Return its path.

    Raises:
        ConfigError: the folder is of another run, or cannot be written.
        TakenError: another process works in it.
    """
    run = RunDir.of(cfg.run)
    log.info(
        "%s",
        wrapped(
            [
                f"train.fast_dev_run: {cfg.train.trial_steps} step(s) and one after a resume, with evaluations of at most "
                f"{cfg.data.max_val_images} images",
                "W&B, TensorBoard and loggers of your own are off",
            ],
            WIDTH,
        ),
    )
    lock = RunLock(run.lock)
    with must_be_writable(run):
        lock.acquire()
        try:
            _empty(run)
        finally:
            lock.release()
    return run.path


def _empty(run: RunDir) -> None:
    """Remove what lies in the folder, but for its lock and its mark. The mark comes first, so that a kill leaves it."""
    rest = [path for path in run.path.iterdir() if not path.name.startswith((".", run.lock.name))]
    if rest and run.fast_dev_run not in rest:
        error = ConfigError(
            f"`train.fast_dev_run` needs the folder {run.path}, and it holds something else; choose another `run.name`"
        )
        error.of_this_start = True
        raise error
    run.fast_dev_run.touch()
    for path in rest:
        if path.is_dir():
            shutil.rmtree(path)
        elif path != run.fast_dev_run:
            path.unlink()


def remove_folder(path: Path) -> None:
    """Remove the run folder. If that fails, say so: the next start replaces it."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        log.warning("cannot remove %s (%s); the next `train.fast_dev_run` of this name does", path, error.strerror)


def report(cfg: Config, group: Dist) -> None:
    """Record that both attempts went well, for a calling program, and say what was tried. For rank 0."""
    run = RunDir.of(cfg.run)
    result = load_result(run)
    write_result(run, replace(result, status="done", paused=False, message="train.fast_dev_run"))
    log.info("%s", summary(cfg, result, group.world_size))


def summary(cfg: Config, result: Result, ranks: int) -> str:
    """Return the last lines of a start whose two attempts went well."""
    assert result.last is not None
    score = digits(result.last[cfg.eval.metric])
    return wrapped(
        [
            f"train.fast_dev_run: the config is right: {result.step} of {result.total_steps} steps on {ranks} rank(s), "
            f"evaluations ({cfg.eval.metric} {score}), a checkpoint saved, read and continued from",
            "nothing is kept; remove train.fast_dev_run to train",
        ],
        WIDTH,
    )
