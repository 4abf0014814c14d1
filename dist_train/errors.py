"""The errors that a user may see. ``result.json`` records the kind of each, and a launcher decides by it."""

from typing import Literal

ErrorKind = Literal["config", "data", "oom", "nonfinite", "comm", "node", "other"]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USER = 2
"""The config, the data or the command is wrong: a restart cannot help."""
EXIT_UPLOADER_LOST = 3
"""The W&B uploader lost its service process: restart the uploader."""
EXIT_INCOMPLETE = 4
"""The W&B uploader reached its time limit and logged what is not uploaded yet."""
EXIT_STOPPED = 75
"""The run stopped, and what was to save is saved; the same command continues it (BSD's EX_TEMPFAIL). Under torchrun the rank exits 0."""
EXIT_AGAIN = 76
"""A supervisor without SLURM asks its launcher to start it again."""


def exit_code_of(status: str) -> int:
    """Return the exit code of a run whose ``result.json`` has this status."""
    return {"done": EXIT_DONE, "stopped": EXIT_STOPPED}.get(status, EXIT_FAILED)


class DistTrainError(Exception):
    """An error whose message is enough for the user. Rank 0 prints it once, without a traceback."""

    kind: ErrorKind = "other"
    of_one_rank = False
    """True if only one rank has this error: that rank prints it, even if it is not rank 0."""
    of_this_start = False
    """True if only this start is refused. The run itself has not failed, and its ``result.json`` does not change."""


class ConfigError(DistTrainError):
    """The config, or a file that it names, is wrong. A restart cannot help."""

    kind: ErrorKind = "config"


class TakenError(ConfigError):
    """Another live process trains this run: this start must not write to the run folder."""

    of_this_start = True


class DataError(DistTrainError):
    """The data set is missing, malformed, or differs from the one that the run started with."""

    kind: ErrorKind = "data"


class TooBigError(DistTrainError):
    """Out of memory: a step needs more than the device has. A restart helps only with a smaller micro-batch.

    Attributes:
        next_micro_batch: images per forward pass and rank of the next start, if it uses fewer.
    """

    kind: ErrorKind = "oom"
    of_one_rank = True

    def __init__(self, message: str, next_micro_batch: int | None = None) -> None:
        super().__init__(message)
        self.next_micro_batch = next_micro_batch


class NonFiniteError(DistTrainError):
    """The loss or the gradient became NaN or infinite."""

    kind: ErrorKind = "nonfinite"


class CommError(DistTrainError):
    """The connection to another rank was lost. A restart often helps."""

    kind: ErrorKind = "comm"


class NodeError(DistTrainError):
    """A node is slow or computes wrongly. A start on other nodes helps."""

    kind: ErrorKind = "node"
