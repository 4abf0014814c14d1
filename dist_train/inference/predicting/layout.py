"""How a batch goes through a model on a CPU: in which memory layout, and how much of it at once."""

import torch
from torch import Tensor, nn

from dist_train.seeding import restored_generators

LIBRARIES = ("timm", "torchvision")
"""Their models keep no state in an evaluation, so that a trial changes nothing."""
IMAGES_PER_THREAD = 16
"""More images in one pass are not faster on a CPU: resnet18 takes 34.9 ms an image with 16, and 34.4 ms and 400 MB more with 64."""


def faster_channels_last(module: nn.Module, blank_BCHW: Tensor) -> bool:
    """Return whether a model accepts images in channels_last, and is probably faster with them.

    On a CPU this makes most models with overlapping convolutions 1.2 to 1.7 times as fast (oneDNN;
    benchmarks/results/predict.md). The patches of a vision transformer do not overlap, and gain nothing. A model whose code
    needs another layout (``view``) raises an error in the trial.

    Args:
        module: in eval mode.
        blank_BCHW: at least two images, since the layouts of a single one may be the same.
    """
    if blank_BCHW.device.type != "cpu" or type(module).__module__.split(".")[0] not in LIBRARIES:
        return False
    if not any(isinstance(part, nn.Conv2d) and max(part.kernel_size) > max(part.stride) for part in module.modules()):
        return False
    try:
        with restored_generators(), torch.no_grad():
            module(blank_BCHW.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True


def at_once(pixels_BHWC: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Split a batch into parts, each for one forward pass: the whole batch on a GPU, 16 images per thread on a CPU."""
    if device.type != "cpu":
        return (pixels_BHWC,)
    most = IMAGES_PER_THREAD * torch.get_num_threads()
    return tuple(pixels_BHWC[start : start + most] for start in range(0, len(pixels_BHWC), most))
