"""What is known about a run when an attempt begins: for the terminal, and for loggers."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from dist_train.config.types import in_pixels
from dist_train.model.freeze import describe
from dist_train.run.attempts import attempts_of
from dist_train.run.metrics_file import live_step
from dist_train.training.report import messages

if TYPE_CHECKING:
    from dist_train.training.setup import Setup


def beginning(setup: "Setup", hosts: list[str]) -> str:
    """Return the lines that are printed before the first step. ``hosts`` has the host name of every rank."""
    plan, index, device = setup.plan, setup.index, setup.group.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    model = f"model: {setup.cfg.model.name} at {in_pixels(setup.network.image_size)}, {describe(setup.network.module)}"
    run = messages.run_line(setup.run.path, plan, setup.state.progress.step, live_step(setup.run))
    devices = getattr(setup.stepper.wrapped, "device_ids", None) or [device]  # DataParallel has several
    return messages.beginning(run, messages.device_line(name, hosts, len(devices)), model, index, plan)


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
