"""The section `checkpoint`: how often to save, and how many to keep."""

from typing import Annotated, Literal

from dist_train.config.choices import METRICS
from dist_train.config.types import PositiveInt, Section

Memory = Literal["full", "low"]


class CheckpointConfig(Section):
    every_steps: PositiveInt | None = None
    """Steps between two checkpoints; one epoch if not given."""
    keep: PositiveInt = 2
    """Number of checkpoints to keep, the newest ones."""
    keep_best: dict[Annotated[str, METRICS], PositiveInt] = {}
    """Also the weights of the best evaluations, by metric how many, such as `{top1: 3, loss: 1}`: files
    `best-top1-step_00000186.safetensors` in the run folder."""
    memory: Memory = "full"
    """Memory of rank 0's host for a save; with `fsdp` and `zero2` that of each rank, for its part. `full`: a copy of the state, and
    training pauses for the copy only. `low`: no copy, and training pauses until the checkpoint is on disk."""
