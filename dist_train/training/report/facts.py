"""What is known about a run when an attempt begins, for loggers."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dist_train.run.attempts import attempts_of

if TYPE_CHECKING:
    from dist_train.training.setup import Setup


def details(setup: "Setup", attempt: int) -> dict[str, Any]:
    """Return the facts about a run that its config does not hold, and the hardware and software of this attempt."""
    parameters = list(setup.state.model.parameters())
    provenance = (attempts_of(setup.run) or [{}])[-1]
    return {
        "attempt": attempt,
        "plan": asdict(setup.plan),
        "dataset": {
            "fingerprint": setup.index.fingerprint[:16],
            "train_images": len(setup.index.train),
            "val_images": len(setup.index.val),
            "classes": setup.index.outputs,
        },
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        **{key: provenance.get(key) for key in ("git", "slurm", "hosts", "world_size", "versions", "hardware")},
    }
