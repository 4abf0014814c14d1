"""What a logger is: subclass ``Logger`` and override what you need."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.config.schema import Config
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status

Image = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""


@dataclass(frozen=True)
class Facts:
    """Where an attempt begins, and what it runs on.

    Attributes:
        run: the run folder. When a logger starts, its ``metrics.jsonl`` holds exactly the rows that are kept.
        total_steps: optimizer steps of the whole run.
        step: the step of the checkpoint that the attempt continues from; 0 for a new run.
        evaluated: the step of the last evaluation that the checkpoint knows of; -1 before the first.
        details: JSON values for people: ``attempt``, ``plan``, ``dataset``, ``parameters``, ``git``, ``hosts`` ...
    """

    run: RunDir
    total_steps: int
    step: int = 0
    evaluated: int = -1
    details: dict[str, Any] = field(default_factory=dict)

    def keeps(self, row: Row) -> bool:
        """Return whether a row of an earlier attempt is part of the run.

        Rows beyond the checkpoint were written by an attempt that was killed before it could save. Their steps are
        done again, so a logger takes these rows back when it starts, and gets them a second time.
        """
        return bool(row["step"] <= (self.evaluated if row["split"] == "val" else self.step))


class Logger:
    """Takes what a run has to tell, on rank 0, in the order of steps. Every method may be left out.

    An error in ``start`` ends the attempt. After an error in another method this logger gets nothing more until the
    next attempt, with one warning, and training goes on.
    """

    def start(self, config: Config, facts: Facts) -> None:
        """Begin an attempt: open what is written to, and take back the rows that ``facts`` does not keep."""

    def tick(self, step: int) -> None:
        """Note that ``step`` optimizer steps are done. Called after every step, so it must cost next to nothing."""

    def row(self, row: Row) -> None:
        """Take a row: ``step``, ``epoch``, ``split`` ("train" or "val"), and numbers by name."""

    def image(self, name: str, step: int, image: Image) -> None:
        """Take a picture: uint8 [H, W, 3], RGB. ``name`` is as ``val/confusion``."""

    def file(self, path: Path) -> None:
        """Take a file of a run that is done: weights, predictions."""

    def close(self, status: Status) -> None:
        """End the attempt: "done", "stopped" or "failed". After a kill nobody calls it."""
