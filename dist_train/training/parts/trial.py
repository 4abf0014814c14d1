"""Trial passes on blank images before the first step. They find errors early and change nothing."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dist_train.config.types import Size, in_pixels
from dist_train.config.user_code import is_own
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.augment.size_schedule import training_sizes
from dist_train.distributed.failure_kind import kind_of
from dist_train.errors import ConfigError, DistTrainError
from dist_train.learning.objective import Supervised, TrainingPass, check_result
from dist_train.model.cells import buffers_put_back
from dist_train.model.freeze import train_mode
from dist_train.model.input_channels import refuse_other_channels
from dist_train.model.network import Network
from dist_train.system.imports.late_compiler import compiler_is_imported

if TYPE_CHECKING:
    from dist_train.config.schema import Config

TRIAL_IMAGES = 2
"""The number of images in a trial: BatchNorm over maps of 1 x 1 needs at least two."""


def blank_batch(
    cfg: "Config", network: Network, outputs: int, count: int, device: torch.device, size: Size | None = None
) -> tuple[Tensor, Tensor]:
    """Return a micro-batch of zeros with the shapes, dtypes and memory layout of training.

    Args:
        outputs: K, the number of columns of the model's output.
        count: B, the number of images.
        size: H and W; None means those of the model's input.

    Returns:
        Images float32 [B, C, H, W], targets int64 [B] for class labels, else float32 [B, K].
    """
    images = torch.zeros(network.blank_shape(count, size), device=device)
    if cfg.model.channels_last:  # else torch would compile and tune convolutions for a layout that is used only here
        images = images.contiguous(memory_format=torch.channels_last)
    if cfg.data.task == "classification" and not cfg.augment.mixup and not cfg.augment.cutmix:
        return images, torch.zeros(count, dtype=torch.int64, device=device)
    return images, torch.zeros((count, outputs), device=device)


@contextmanager
def left_as_found(module: nn.Module, device: torch.device, changing: Iterable[Tensor] = ()) -> Iterator[None]:
    """Restore, after the block, what passes through ``module`` change: buffers, random generators and ``changing``.

    Gradients are set to None.
    """
    tensors = list(changing)
    before = [tensor.clone() for tensor in tensors]
    with buffers_put_back(module), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    for parameter in module.parameters():
        parameter.grad = None


@contextmanager
def trial_passes(
    cfg: "Config", device: torch.device, module: nn.Module, changing: Iterable[Tensor] = ()
) -> Iterator[None]:
    """Run a block of passes with few images: without compiler, without cuDNN tuning, and with all state restored."""
    flags = {"enabled": True, "benchmark": False, "deterministic": cfg.run.deterministic, "allow_tf32": cfg.train.tf32}
    # torch.compile would take a second batch size as a sign that the batch size varies, and compile for that.
    eager = torch.compiler.set_stance("force_eager") if compiler_is_imported() else nullcontext()
    with torch.backends.cudnn.flags(**flags), eager, left_as_found(module, device, changing):
        yield


REPAIRS = {
    "data.image_size": "choose another size, or remove the key to use the model's own size",
    "augment.size_schedule": "use other sizes, or remove the key",
    "eval.size": "choose another size, or set eval.size=train",
}
"""Key of a size that the model cannot process -> the fix."""


def try_model(cfg: "Config", network: Network, device: torch.device, outputs: int, given: bool = False) -> None:
    """Run blank images of every size through the model, in training mode and in eval mode.

    Args:
        given: the model was passed from Python code, so `model.name` does not name it.

    Raises:
        ConfigError: the model cannot process images of this size, or its output does not have the shape [B, outputs].
    """
    for size in training_sizes(cfg.augment, network.image_size).values():
        key = "data.image_size" if size == network.image_size else "augment.size_schedule"
        _try_size(cfg, network, device, given, key, size, "training")
    size = evaluation_frame(cfg, network).size
    key = "data.image_size" if size == network.image_size else "eval.size"
    found = _try_size(cfg, network, device, given, key, size, "evaluation")
    if not isinstance(found, Tensor) or found.shape != (1, outputs):
        kind = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(
            f"{_called(cfg, given)} returns {kind} for one image in eval mode, but the data needs [1, {outputs}]"
        )


@torch.no_grad()
def _try_size(
    cfg: "Config", network: Network, device: torch.device, given: bool, key: str, size: Size, mode: str
) -> object:
    """Return the model's output for blank images; one image in evaluation. ``key`` is where their size comes from."""
    module = network.module
    images = torch.zeros(network.blank_shape(1 if mode == "evaluation" else TRIAL_IMAGES, size), device=device)
    try:
        with trial_passes(cfg, device, module):
            if mode == "evaluation":
                module.eval()
            else:
                train_mode(module)
            return module(images)
    except Exception as error:
        refuse_other_channels(cfg.model.name, error, cfg.data.channels)
        if not is_of_user_code(error):
            raise
        if given or is_own(cfg.model.name):
            raise ConfigError(
                f"{_called(cfg, given)} fails in {mode} mode on images {list(images.shape)}: {said(error)}"
            ) from error
        raise ConfigError(
            f"`{key}` ({size[0] if size[0] == size[1] else list(size)}): {cfg.model.name} cannot process images of "
            f"{in_pixels(size)}: {said(error)}; {REPAIRS[key]}"
        ) from error


def _called(cfg: "Config", given: bool) -> str:
    return "the model given" if given else f"`model.name` ({cfg.model.name})"


def try_training(
    cfg: "Config", module: TrainingPass, images: Tensor, targets: Tensor, changing: Iterable[Tensor]
) -> list[str]:
    """Run a forward and a backward pass.

    Args:
        module: the module to train through, in training mode.
        changing: tensors other than buffers that a pass changes.

    Returns:
        The names of the trainable parameters without a gradient.

    Raises:
        ConfigError: a pass fails, or an objective does not return named scalars.
    """
    supervised = isinstance(module.objective, Supervised)
    try:
        with trial_passes(cfg, images.device, module, changing):
            found = module(images, targets)
            if supervised and not found["loss"].requires_grad:
                raise ConfigError("the loss has no gradient: nothing trains, or the model's forward pass detaches it")
            check_result(found)
            found["loss"].backward()
            return [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    except Exception as error:
        if not is_of_user_code(error):
            raise
        raise ConfigError(
            f"the {'model' if supervised else 'objective'} fails in a training step on images {list(images.shape)} and "
            f"targets {list(targets.shape)}: {said(error)}"
        ) from error


def is_of_user_code(error: Exception) -> bool:
    """Return whether the model or objective caused an error, not the machine or another rank."""
    if isinstance(error, torch.OutOfMemoryError) or "deterministic" in str(error) or "allocate memory" in str(error):
        return False
    return kind_of(error) == "other" and not isinstance(error, DistTrainError)


def said(error: Exception) -> str:
    """Return an error in one line, with the line of code that raised it."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{reason} ({Path(where.filename).name}:{where.lineno})"
