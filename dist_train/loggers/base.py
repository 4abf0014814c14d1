"""The interface of a logger: subclass ``Logger`` and override the methods that you need."""

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
    """The step at which an attempt begins, and facts about the run.

    Attributes:
        run: the run folder. When a logger starts, ``metrics.jsonl`` in it has exactly the rows that stay.
        total_steps: optimizer steps of the whole run.
        step: the step of the checkpoint from which the attempt resumes; 0 for a new run.
        evaluated: the step of the last evaluation before that checkpoint; -1 if there was none.
        details: JSON values for people: ``attempt``, ``plan``, ``dataset``, ``parameters``, ``git``, ``hosts`` ...
    """

    run: RunDir
    total_steps: int
    step: int = 0
    evaluated: int = -1
    details: dict[str, Any] = field(default_factory=dict)

    def keeps(self, row: Row) -> bool:
        """Return whether a row of an earlier attempt stays valid.

        Rows after the checkpoint come from an attempt that was killed before it could save. Their steps are trained again,
        so a logger removes these rows in ``start``, and then gets new ones for the same steps.
        """
        return bool(row["step"] <= (self.evaluated if row["split"] == "val" else self.step))


class Logger:
    """Receives rows, images and files of a run, on rank 0, in the order of steps. Every method is optional.

    An error in ``start`` ends the attempt. An error in another method gives one warning; training continues, and this logger
    gets no more calls until the next attempt.
    """

    def start(self, config: Config, facts: Facts) -> None:
        """Begin an attempt: open the output, and remove the rows that ``facts.keeps`` rejects."""

    def tick(self, step: int) -> None:
        """Note that ``step`` optimizer steps are done. Called after every step, so it must be fast (microseconds)."""

    def row(self, row: Row) -> None:
        """Record a row: ``step``, ``epoch``, ``split`` ("train" or "val"), and numbers by name."""

    def image(self, name: str, step: int, image: Image) -> None:
        """Record a picture: uint8 [H, W, 3], RGB. ``name`` has the form ``val/confusion``."""

    def file(self, path: Path) -> None:
        """Record a file of a run that is done: weights, predictions, its page."""

    def close(self, status: Status) -> None:
        """End the attempt, which is "done", "stopped" or "failed". Not called after a kill."""
