"""The Python API: train a config, also with your own objects, and load a trained run (docs/python.md)."""

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
    hooks: Sequence[Any] = (),
) -> "Result":
    """Train a run, or resume it after a stop or a kill. An object that you give replaces what the config names.

    Call it in a script, in a notebook, or on every rank that torchrun starts. The first Ctrl-C saves a checkpoint and stops
    the run; the same call resumes it. Signal handlers, torch's global settings, threads and child processes are restored
    before it returns or raises.

    Args:
        cfg: the config that ``load_config`` returns.
        model: a module from images, float32 [B, C, H, W], to outputs [B, K]; or a callable that returns one for a given K.
            A module is trained in place. (B: batch, S: side in pixels, K: classes or targets.)
        data: training set and validation set, each with ``len()``, ``[i]`` and ``targets``.
        loss: from outputs, float32 [B, K], and targets to a scalar, the mean over the batch.
        objective: returns a module around the given model, whose forward pass computes the loss from images and targets.
        loggers: loggers in addition to those that the config names.
        hooks: hooks in addition to those that the config names, objects of subclasses of ``dist_train.hooks.base.Hook``.

    Returns:
        The result: ``status`` is "done" or "stopped"; ``best`` and ``last`` are metrics; ``folder`` is the run folder.

    Raises:
        DistTrainError: the config or the data is wrong, or the training failed; the message says how to correct it. Errors
            in the code of your objects are raised unchanged.
    """
    from dist_train.training.attempt import train as train_once
    from dist_train.training.parts.given import Given
    from dist_train.training.process_state import restored_process

    with restored_process():
        return train_once(cfg, Given(model, data, loss, objective, tuple(loggers), tuple(hooks)))


def load_run(
    path: str | Path,
    weights: Literal["best", "last"] = "best",
    device: "torch.device | str | None" = None,
    model: "nn.Module | Callable[[int], nn.Module] | None" = None,
    trust: bool = False,
) -> "Run":
    """Return a trained run: ``.model``, ``.transform``, ``.classes``, ``.predict(images)``, ``.evaluate(data)``.

    Args:
        path: the run folder.
        weights: "best" exists after the first evaluation of the run, "last" after its end.
        device: device of the model; None is the first GPU, or the CPU without a GPU.
        model: needed if the run was trained with ``train(model=...)``: an equal module, or a callable that returns it for K.
        trust: run code that lies in the run folder, if the run's config names it.

    Raises:
        DistTrainError: the path is not a run folder, it has no such weights, they do not fit the model, or the run
            names code that lies in its own folder and ``trust`` is false.
    """
    from dist_train.system.imports.late_compiler import import_compiler_late

    import_compiler_late()  # torchvision imports it: 30 % of the time of a program that predicts one image
    from dist_train.inference.load_run import load_run as load

    return load(path, weights, device, model, trust=trust)
