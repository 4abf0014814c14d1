"""TensorBoard's event files, read by TensorBoard's own reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dist_train.loggers.base import Facts
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.loggers.tensorboard import TensorBoardLogger
from dist_train.run.folder import RunDir

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
UNUSED: Any = None


def attempt(run: RunDir, step: int, evaluated: int, rows: list[tuple[int, str]]) -> None:
    """Log rows whose loss is their step, as an attempt that continues at ``step``."""
    loggers = JsonlLogger(), TensorBoardLogger()
    for logger in loggers:
        logger.start(UNUSED, Facts(run, total_steps=10, step=step, evaluated=evaluated))
    for at, split in rows:
        for logger in loggers:
            logger.row({"step": at, "epoch": at / 10, "split": split, "loss": float(at)})
        loggers[1].image("val/confusion", at, np.zeros((4, 4, 3), np.uint8))
    for logger in loggers:
        logger.close("done")


def read(run: RunDir) -> EventAccumulator:
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    return events


@pytest.mark.parametrize("evaluated", [-1, 4])
def test_every_step_is_there_once_after_a_resume(tmp_path: Path, evaluated: int) -> None:
    """Saved at step 4 before its evaluation, or after it."""
    run = RunDir(tmp_path)
    attempt(run, 0, -1, [(2, "train"), (4, "train"), (4, "val"), (6, "train")])
    again = [(6, "train"), (8, "train")]
    attempt(run, 4, evaluated, again if evaluated == 4 else [(4, "val"), *again])
    for split, steps in (("train", [2, 4, 6, 8]), ("val", [4])):
        assert [(event.step, event.value) for event in read(run).Scalars(f"{split}/loss")] == [(s, s) for s in steps]


def test_pictures_are_there(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempt(run, 0, -1, [(2, "val")])
    [image] = read(run).Images("val/confusion")
    assert (image.step, image.width, image.height) == (2, 4, 4)
