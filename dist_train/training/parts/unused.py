"""Parameters on which the loss does not depend: DDP would wait for their gradients (`distributed.unused_parameters`)."""

from collections.abc import Sequence

from dist_train.errors import ConfigError

SHOWN = 5

PREFIXES = ("objective.", "model.", "module.")
"""The prefixes that a ``TrainingPass`` adds to a model's names; the last one only with ``train.precision=fp16``."""

WAYS_OUT = (
    "freeze them with `model.freeze`, remove them from the model, or set `distributed.unused_parameters=allow`, which "
    "makes ranks search for them in each step"
)


def plain_name(name: str) -> str:
    """Return the name of a parameter or layer in the user's model or objective.

    >>> plain_name("objective.model.fc.weight")
    'fc.weight'
    """
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def unused_always(names: Sequence[str]) -> ConfigError:
    """Return the error for parameters that a trial pass found."""
    return ConfigError(f"{_listed(names)} no part in the loss, and ranks wait for their gradients; {WAYS_OUT}")


def unused_in_a_step(names: Sequence[str], rank: int) -> ConfigError:
    """Return the error for parameters that were used in the trial pass but not in this step."""
    error = ConfigError(
        f"{_listed(names)} no part in the loss of this step on rank {rank}, though in earlier ones (LayerDrop, a branch "
        f"that depends on the data), and the other ranks wait for their gradients; {WAYS_OUT}"
    )
    error.of_one_rank = True
    return error


def note_of_unused(names: Sequence[str]) -> str:
    """Return the note for a run of one process, which can train such a model."""
    return f"{_listed(names)} no part in the loss and will not train; on several ranks that is an error: {WAYS_OUT}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(plain_name(name) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{shown}{more} take{'s' if len(names) == 1 else ''}"
