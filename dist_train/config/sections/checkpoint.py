"""The section `checkpoint`: how often to save, and how many to keep."""

from dist_train.config.types import PositiveInt, Section


class CheckpointConfig(Section):
    every_steps: PositiveInt | None = None
    """Steps between two checkpoints; one epoch if not given."""
    keep: PositiveInt = 2
    """Number of checkpoints to keep, the newest ones."""
