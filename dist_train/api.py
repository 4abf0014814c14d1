"""The Python API: train a config with objects of one's own, load what a run has learnt. docs/python.md explains it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dist_train.config.schema import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dist_train.inference.load_run import Run
    from dist_train.run.result import Result


def train(
    cfg: Config,
    model: "nn.Module | Callable[[int], nn.Module] | None" = None,
    data: tuple[Any, Any] | None = None,
    loss: "Callable[[Tensor, Tensor], Tensor] | None" = None,
    objective: "Callable[[nn.Module], nn.Module] | None" = None,
    loggers: Sequence[Any] = (),
) -> "Result":
    """Train a run, or continue it where it was stopped or killed; every object replaces what the config names.

    Call it in a plain script, in a notebook, or on every rank that torchrun starts. The first Ctrl-C stops the run
    with a checkpoint, and the same call continues it. Afterwards the process is as it was before, after an error too.

    Args:
        cfg: what ``load_config`` returns.
        model: maps images, float32 [B, 3, S, S], to outputs [B, K]; or a callable that makes such a module from K.
            A module that is given is trained in place.
        data: training set and validation set, each with ``len()``, ``[i]`` and ``targets``.
        loss: maps outputs, float32 [B, K], and targets to a scalar: the mean over the batch.
        objective: makes a module around the model whose forward pass maps images and targets to the loss.
        loggers: more places where rows of metrics go.

    Returns:
        How the run stands: ``status`` is "done" or "stopped"; ``best``, ``last`` and ``folder`` say the rest.

    Raises:
        DistTrainError: the config, the data or the run itself is wrong; the message says what to do. An error of the
            objects' own code comes through as it is.
    """
    from dist_train.training.attempt import train as train_once
    from dist_train.training.parts.given import Given
    from dist_train.training.process_state import restored_process

    with restored_process():
        return train_once(cfg, Given(model, data, loss, objective, tuple(loggers)))


def load_run(
    path: str | Path,
    weights: Literal["best", "last"] = "best",
    device: "torch.device | str | None" = None,
    model: "nn.Module | Callable[[int], nn.Module] | None" = None,
) -> "Run":
    """Load what a run has learnt: ``.model``, ``.transform``, ``.classes``, ``.predict(images)``, ``.evaluate(data)``.

    Args:
        path: the run folder.
        weights: "best" are there from the first evaluation of the run on, "last" at its end.
        device: the first GPU if None, or the CPU where there is no GPU.
        model: for a run that was trained with a model given in code: an equal one, or what makes it from K.

    Raises:
        DistTrainError: it is not a run folder, or has no such weights, or they do not fit the model.
    """
    from dist_train.inference.load_run import load_run as load

    return load(path, weights, device, model)
