"""What torch's CUDA kernels for BatchNorm over several ranks compute, in plain operations, for CPU and meta tensors.

torch has these kernels for GPUs only. With stand-ins, code that calls them can be run, and its arithmetic compared.
"""

import torch
from torch import Tensor


def _per_channel(values: Tensor) -> Tensor:
    return values.sum([0, *range(2, values.dim())])


def _shaped(values_C: Tensor, like: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (like.dim() - 2))


def stats(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    images = images.float()
    count = images.numel() // images.shape[1]
    mean = _per_channel(images) / count
    var = _per_channel((images - _shaped(mean, images)).square()) / count
    return mean, (var + eps).rsqrt()


def gather_stats(
    images: Tensor,
    means_WC: Tensor,
    invstds_WC: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts_W: Tensor,
) -> tuple[Tensor, Tensor]:
    share_W1, count = (counts_W / counts_W.sum())[:, None], counts_W.sum()
    mean = (share_W1 * means_WC).sum(0)
    var = (share_W1 * (invstds_WC.pow(-2) - eps + (means_WC - mean).square())).sum(0)
    if running_mean is not None and running_var is not None:
        running_mean.copy_((1 - momentum) * running_mean + momentum * mean)
        running_var.copy_((1 - momentum) * running_var + momentum * var * count / (count - 1))
    return mean, (var + eps).rsqrt()


def normalise(
    images: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, eps: float
) -> Tensor:
    out = (images.float() - _shaped(mean, images)) * _shaped(invstd, images)
    if weight is not None and bias is not None:
        out = out * _shaped(weight, images) + _shaped(bias, images)
    return torch.empty_like(images).copy_(out)


def backward_sums(
    grad_out: Tensor,
    images: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    of_input: bool,
    of_weight: bool,
    of_bias: bool,
) -> tuple[Tensor | None, ...]:
    dy = grad_out.float()
    sum_dy = _per_channel(dy)
    sum_dy_xmu = _per_channel(dy * (images.float() - _shaped(mean, images)))
    return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd if of_weight else None, sum_dy.clone() if of_bias else None


def backward_images(
    grad_out: Tensor,
    images: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    counts_W: Tensor,
) -> Tensor:
    count = counts_W.sum()
    centred = images.float() - _shaped(mean, images)
    inner = grad_out.float() - _shaped(sum_dy / count, images)
    inner = inner - centred * _shaped(invstd.square() * sum_dy_xmu / count, images)
    scale = invstd if weight is None else invstd * weight
    return torch.empty_like(images).copy_(inner * _shaped(scale, images))


def register() -> torch.library.Library:
    """Have torch use them for as long as what is returned lives."""
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in {
        "batch_norm_stats": stats,
        "batch_norm_gather_stats_with_counts": gather_stats,
        "batch_norm_elemt": normalise,
        "batch_norm_backward_reduce": backward_sums,
        "batch_norm_backward_elemt": backward_images,
    }.items():
        for key in ("CPU", "Meta"):
            library.impl(name, kernel, key)
    return library
