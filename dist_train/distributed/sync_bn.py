"""BatchNorm over the images of all ranks, on CPUs and on GPUs.

torch's SyncBatchNorm runs on GPUs only, and in each layer the host waits for the GPU to learn whether some rank has no
images. Here every rank has the same number of images.
"""

from typing import Any, Protocol, cast

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.errors import ConfigError


class Ranks(Protocol):
    """What synchronised BatchNorm needs from a group of ranks. Each rank has the same number of images."""

    @property
    def world_size(self) -> int: ...
    def sum(self, tensor: Tensor) -> Tensor: ...
    def stack(self, tensor: Tensor) -> Tensor: ...


def synchronise(model: nn.Module, ranks: Ranks) -> None:
    """Make the BatchNorm layers of ``model`` normalise over the images of all ranks in training mode.

    Raises:
        ConfigError: a layer has an unknown class derived from BatchNorm.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        if type(layer) not in _SYNCHRONISED:
            raise ConfigError(
                f"`model.sync_bn` (true) does not support the layer {name}, a {type(layer).__name__}; "
                "set model.sync_bn=false"
            )
        # Change the class, not the object: parameters, buffers and names stay the same.
        layer.__class__ = _SYNCHRONISED[type(layer)]
        cast(_Synchronised, layer).ranks = ranks


class _Synchronised(_BatchNorm):
    """BatchNorm whose statistics in training mode are over all ranks, as in torch's SyncBatchNorm."""

    ranks: Ranks

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        momentum = self._momentum()
        out = self._on_gpu(input, momentum) if input.is_cuda else self._on_cpu(input.float(), momentum).to(input.dtype)
        return cast(Tensor, self.act(self.drop(out))) if isinstance(self, BatchNormAct2d) else out

    def _momentum(self) -> float:
        """Return the weight of this batch in the running statistics."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    def _on_cpu(self, images: Tensor, momentum: float) -> Tensor:
        # Means and biased variances, [W, 2, C]; each rank has the same number of images.
        every = self.ranks.stack(torch.stack(torch.batch_norm_update_stats(images.detach(), None, None, 0.0)))
        mean = every[:, 0].mean(0)
        var = (every[:, 1] + (every[:, 0] - mean).square()).mean(0)
        count = images.numel() // images.shape[1] * self.ranks.world_size
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * (count / (count - 1)), momentum)
        return cast(Tensor, _Normalise.apply(images, self.weight, self.bias, mean, var, self.eps, count, self.ranks))

    def _on_gpu(self, images: Tensor, momentum: float) -> Tensor:
        images = images.contiguous(memory_format=_layout(images))
        running = (self.running_mean, self.running_var, momentum)
        return cast(Tensor, _NormaliseOnGpu.apply(images, self.weight, self.bias, *running, self.eps, self.ranks))


class _Normalise(Function):
    """Normalise with given statistics; the gradient includes their dependence on the images of every rank."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        count: int,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, var)
        ctx.eps, ctx.count, ctx.ranks = eps, count, ranks
        return torch.batch_norm(images, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, var = ctx.saved_tensors
        # First with the statistics as constants: this rank's gradients of images, weight and bias.
        grad, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_out, images, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        # Then the gradient through mean and variance: the means over all ranks of dy and of dy * normalised.
        sums = ctx.ranks.sum(torch.stack((grad_bias, grad_weight))) / ctx.count
        invstd = (var + ctx.eps).rsqrt()
        scale = invstd if weight is None else invstd * weight
        slope = scale * invstd * sums[1]
        offset = scale * sums[0] - slope * mean
        shape = (1, -1, *[1] * (images.dim() - 2))
        grad = grad - torch.addcmul(offset.view(shape), images, slope.view(shape))
        affine = weight is not None
        return grad, grad_weight if affine else None, grad_bias if affine else None, None, None, None, None, None


class _NormaliseOnGpu(Function):
    """The same with the kernels of torch's SyncBatchNorm, which accept half-precision images."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        ranks: Ranks,
    ) -> Tensor:
        every = ranks.stack(torch.stack(torch.batch_norm_stats(images, eps)))  # means and 1 / std, [W, 2, C]
        counts = every.new_full((ranks.world_size,), images.numel() // images.shape[1])
        means, invstds = every.unbind(1)
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            images, means, invstds, running_mean, running_var, momentum, eps, counts
        )
        ctx.save_for_backward(images, weight, mean, invstd, counts.int())
        ctx.ranks = ranks
        return torch.batch_norm_elemt(images, weight, bias, mean, invstd, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, invstd, counts = ctx.saved_tensors
        grad_out = grad_out.contiguous(memory_format=_layout(images))
        affine = weight is not None
        # Sums of dy and of dy * (x - mean) over this rank's images, and this rank's gradients of weight and bias.
        sum_dy, sum_dy_xmu, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            grad_out, images, mean, invstd, weight, True, affine, affine
        )
        sum_dy, sum_dy_xmu = ctx.ranks.sum(torch.stack((sum_dy, sum_dy_xmu)))
        grad = torch.batch_norm_backward_elemt(grad_out, images, mean, invstd, weight, sum_dy, sum_dy_xmu, counts)
        return grad, grad_weight if affine else None, grad_bias if affine else None, None, None, None, None, None


def _layout(images: Tensor) -> torch.memory_format:
    """Return the memory layout for the kernels: channels-last if ``images`` has it, else contiguous."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class _BatchNorm1d(_Synchronised, nn.BatchNorm1d): ...


class _BatchNorm2d(_Synchronised, nn.BatchNorm2d): ...


class _BatchNorm3d(_Synchronised, nn.BatchNorm3d): ...


class _BatchNormAct2d(_Synchronised, BatchNormAct2d): ...  # type: ignore[misc]


_SYNCHRONISED: dict[type[_BatchNorm], type[_Synchronised]] = {
    nn.BatchNorm1d: _BatchNorm1d,
    nn.BatchNorm2d: _BatchNorm2d,
    nn.BatchNorm3d: _BatchNorm3d,
    BatchNormAct2d: _BatchNormAct2d,
}
