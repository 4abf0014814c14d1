"""Trial passes on blank images, before the first step: they find errors early and leave everything as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.learning.objective import check_result
from dist_train.model.backbones import is_own
from dist_train.model.freeze import train_mode
from dist_train.model.input_channels import refuse_other_channels
from dist_train.model.network import Network


def blank_batch(cfg: Config, network: Network, outputs: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return zeros as a micro-batch of training has them.

    Args:
        outputs: K, the columns of the model's output.
        size: B, the number of images.

    Returns:
        Images float32 [B, 3, S, S], targets int64 [B] for class labels, else float32 [B, K].
    """
    images = torch.zeros((size, 3, network.image_size, network.image_size), device=device)
    if cfg.model.channels_last:  # another layout would be compiled, and its convolutions tried, for this alone
        images = images.contiguous(memory_format=torch.channels_last)
    if cfg.data.task == "classification" and not cfg.augment.mixup and not cfg.augment.cutmix:
        return images, torch.zeros(size, dtype=torch.int64, device=device)
    return images, torch.zeros((size, outputs), device=device)


@contextmanager
def left_as_found(module: nn.Module, device: torch.device, changing: Iterable[Tensor] = ()) -> Iterator[None]:
    """Undo what passes through ``module`` change: buffers, gradients, random generators, and ``changing``."""
    tensors = [*module.buffers(), *changing]
    before = [tensor.clone() for tensor in tensors]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    for parameter in module.parameters():
        parameter.grad = None


@torch.no_grad()
def try_model(cfg: Config, network: Network, device: torch.device, outputs: int) -> None:
    """Run blank images through the model, as in training and as in evaluation.

    Raises:
        ConfigError: it cannot take images of this size, or its output has another shape than the data needs.
    """
    module, size, name = network.module, network.image_size, cfg.model.name
    images = torch.zeros((min(2, cfg.train.micro_batch or 2), 3, size, size), device=device)
    # cuDNN need not look for the fastest way to take two images.
    flags = {"enabled": True, "benchmark": False, "deterministic": cfg.run.deterministic, "allow_tf32": cfg.train.tf32}
    try:
        with torch.backends.cudnn.flags(**flags):
            with left_as_found(module, device):
                train_mode(module)
                module(images)
            found = module.eval()(images[:1])
    except (AssertionError, RuntimeError, ValueError) as error:
        refuse_other_channels(name, error)
        if is_own(name) or isinstance(error, torch.OutOfMemoryError) or "deterministic" in str(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"`data.image_size` ({size}): {name} cannot take images of {size} x {size} px: {reason}; choose another "
            "size, or leave it out for the model's own"
        ) from error
    if not isinstance(found, Tensor) or found.shape != (1, outputs):
        kind = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(
            f"`model.name` ({name}) returns {kind} for one image in eval mode, and the data needs [1, {outputs}]"
        )


def try_objective(module: nn.Module, images: Tensor, targets: Tensor, changing: Iterable[Tensor]) -> bool:
    """Run one pass of a user's objective.

    Args:
        module: its ``TrainingPass``, in training mode.

    Returns:
        Whether each parameter that trains gets a gradient.

    Raises:
        ConfigError: it returns something else than named scalars.
    """
    with left_as_found(module, images.device, changing):
        found = module(images, targets)
        check_result(found)
        found["loss"].backward()
        return all(p.grad is not None for p in module.parameters() if p.requires_grad)
