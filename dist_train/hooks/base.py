"""The interface of a hook: subclass ``Hook`` and override the methods that you need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from dist_train.run.result import Status


@dataclass(frozen=True)
class Start:
    """How an attempt begins.

    Attributes:
        folder: the run folder.
        step: the step of the checkpoint from which it continues; 0 for a new run.
        total_steps: optimizer steps of the whole run.
    """

    folder: Path
    rank: int
    world_size: int
    step: int
    total_steps: int


class Hook:
    """User code that a training calls, on every rank. Every method is optional; an error ends the run.

    A hook sees a run and can end it; it does not change what the run computes. A resumed run is exact if all that the hook
    remembers is in ``state_dict``. A hook without ``state_dict`` that changes its attributes is refused.

    Attributes:
        transient: names of attributes that need not be in a checkpoint, such as an open file.
    """

    transient: tuple[str, ...] = ()

    def start(self, start: Start) -> None:
        """Begin an attempt, after ``load_state_dict``."""

    def after_step(self, step: int, scalars: Mapping[str, "Tensor"]) -> str | None:
        """Look at a step. Return why the run must end; None to go on.

        Args:
            step: the number of steps that are done.
            scalars: ``loss``, ``grad_norm`` and the objective's own, of this rank, float32 [] on the device. To read one makes
                the host wait for the device: do not at every step.
        """
        return None

    def after_evaluation(self, step: int, scores: Mapping[str, float]) -> str | None:
        """Look at an evaluation. Return why the run must end; None to go on. ``scores`` are the same on all ranks."""
        return None

    def end(self, status: "Status") -> None:
        """End an attempt, which is "done", "stopped" or "failed". Not called after a kill."""

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank's checkpoint must keep: tensors, numbers, text, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned on this rank; on rank 0, if the number of ranks has changed."""
