"""The errors a user may meet, each with the kind that ``result.json`` records and a launcher acts on."""

from typing import Literal

ErrorKind = Literal["config", "data", "oom", "nonfinite", "comm", "other"]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USER = 2
"""The config, the data or the command is wrong: trying again cannot help."""
EXIT_UPLOADER_LOST = 3
"""The W&B uploader lost its service process: start it again."""
EXIT_INCOMPLETE = 4
"""The W&B uploader gave up in time, and said what is missing."""
EXIT_STOPPED = 75
"""The run is saved, and the same command continues it (BSD's EX_TEMPFAIL). Under torchrun such a rank exits 0."""
EXIT_AGAIN = 76
"""A supervisor without SLURM asks its launcher for another start."""


def exit_code_of(status: str) -> int:
    """Return the exit code of a run whose ``result.json`` has this status."""
    return {"done": EXIT_DONE, "stopped": EXIT_STOPPED}.get(status, EXIT_FAILED)


class DistTrainError(Exception):
    """An error whose message is enough: it is printed once, by rank 0, without a traceback."""

    kind: ErrorKind = "other"
    of_one_rank = False
    """Met by one rank only, which then has to tell it, whichever it is."""
    of_this_start = False
    """Turns this start away; the run itself has not failed, and its ``result.json`` stays as it is."""


class ConfigError(DistTrainError):
    """The configuration, or a file it names, is wrong. Trying again cannot help."""

    kind: ErrorKind = "config"


class TakenError(ConfigError):
    """Somebody alive works on this run: nothing in its folder is ours to write."""

    of_this_start = True


class DataError(DistTrainError):
    """The data set is missing, malformed, or not the one the run began with."""

    kind: ErrorKind = "data"


class TooBigError(DistTrainError):
    """A step needs more memory than there is. Trying again cannot help."""

    kind: ErrorKind = "oom"
    of_one_rank = True


class NonFiniteError(DistTrainError):
    """The loss or the gradient became NaN or infinite."""

    kind: ErrorKind = "nonfinite"


class CommError(DistTrainError):
    """Another rank was lost. Trying again may well help."""

    kind: ErrorKind = "comm"
