"""BatchNorm over the images of all ranks. On GPUs torch's own; torch has none for the CPU, so here is one."""

from typing import Any, Protocol, cast

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.errors import ConfigError


class Ranks(Protocol):
    """What synchronised BatchNorm needs of a group of ranks, each with as many images."""

    @property
    def world_size(self) -> int: ...
    def sum(self, tensor: Tensor) -> Tensor: ...
    def stack(self, tensor: Tensor) -> Tensor: ...


def synchronise(model: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Have the BatchNorms of ``model`` normalise over all ranks' images while they train.

    Raises:
        ConfigError: on the CPU, where a layer is another class derived from BatchNorm.
    """
    if device.type == "cuda":
        # timm's conversion and not torch's, which would drop the activations inside timm's BatchNorms.
        convert_sync_batchnorm(model)
        return
    for name, layer in model.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        if type(layer) not in _ON_CPU:
            raise ConfigError(
                f"`model.sync_bn` (true) does not know what to do with {name}, a {type(layer).__name__}, on the CPU; "
                "set it to false, or use GPUs"
            )
        # Another class for the same object: parameters, buffers and names stay what they are.
        layer.__class__ = _ON_CPU[type(layer)]
        cast(_Synchronised, layer).ranks = ranks


class _Synchronised(_BatchNorm):
    """BatchNorm with statistics over all ranks in training mode, as torch's SyncBatchNorm computes them."""

    ranks: Ranks

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        images = input.float()  # statistics in float32 also under autocast
        # Biased variances; [W, 2, C] from as many images each.
        every = self.ranks.stack(torch.stack(torch.batch_norm_update_stats(images.detach(), None, None, 0.0)))
        mean = every[:, 0].mean(0)
        var = (every[:, 1] + (every[:, 0] - mean).square()).mean(0)
        count = images.numel() // images.shape[1] * self.ranks.world_size
        self._track(mean, var * (count / (count - 1)))
        out = cast(Tensor, _Normalise.apply(images, self.weight, self.bias, mean, var, self.eps, count, self.ranks))
        out = out.to(input.dtype)
        return cast(Tensor, self.act(self.drop(out))) if isinstance(self, BatchNormAct2d) else out

    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(unbiased_var, weight)


class _Normalise(Function):
    """Normalise with given statistics; the gradient knows that these depend on the images of every rank."""

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
        # As if the statistics were constants: this rank's gradients of images, weight and bias.
        grad, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_out, images, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        # Then what flows through mean and variance: the means over all ranks of dy and of dy * normalised.
        sums = ctx.ranks.sum(torch.stack((grad_bias, grad_weight))) / ctx.count
        invstd = (var + ctx.eps).rsqrt()
        scale = invstd if weight is None else invstd * weight
        slope = scale * invstd * sums[1]
        offset = scale * sums[0] - slope * mean
        shape = (1, -1, *[1] * (images.dim() - 2))
        grad = grad - torch.addcmul(offset.view(shape), images, slope.view(shape))
        affine = weight is not None
        return grad, grad_weight if affine else None, grad_bias if affine else None, None, None, None, None, None


class _BatchNorm1d(_Synchronised, nn.BatchNorm1d): ...


class _BatchNorm2d(_Synchronised, nn.BatchNorm2d): ...


class _BatchNorm3d(_Synchronised, nn.BatchNorm3d): ...


class _BatchNormAct2d(_Synchronised, BatchNormAct2d): ...  # type: ignore[misc]


_ON_CPU: dict[type[_BatchNorm], type[_Synchronised]] = {
    nn.BatchNorm1d: _BatchNorm1d,
    nn.BatchNorm2d: _BatchNorm2d,
    nn.BatchNorm3d: _BatchNorm3d,
    BatchNormAct2d: _BatchNormAct2d,
}
