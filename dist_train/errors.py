"""The errors a user may meet, each with the kind that ``result.json`` records and a launcher acts on."""

from typing import Literal

ErrorKind = Literal["config", "data", "oom", "nonfinite", "comm", "other"]

EXIT_DONE, EXIT_FAILED, EXIT_USER, EXIT_STOPPED = 0, 1, 2, 75
"""Exit codes of plain ``python -m dist_train``; 75 is BSD's EX_TEMPFAIL: try the same command again."""


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
