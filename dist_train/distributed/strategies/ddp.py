"""One process per device, each with its own part of the batch: torch's DistributedDataParallel."""

import inspect
import math
import re
from contextlib import AbstractContextManager
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from dist_train.distributed.strategies.base import Strategy

# torch 2.14 renamed this option; the old name warns.
_NO_BUFFER_SYNC: dict[str, Any] = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}

_WITHOUT_GRADIENT = re.compile(r"did not receive grad for rank \d+: ([\d ]+)")

FEWEST_MB, PARTS = 25, 4
"""torch's default size of a bucket; the largest number of buckets of a compiled model, besides the small first one."""


def _bucket_mb(module: nn.Module) -> int:
    """Return the size of DDP's buckets in MiB for a module that is compiled as a whole.

    torch cuts its graph wherever a bucket is full, so that gradients are exchanged during the backward pass
    (torch/_dynamo/backends/distributed.py). Buckets of 25 MiB make 13 graphs of a ViT-B; these make 5. The last bucket alone is
    exchanged after the backward pass: a quarter of the gradients.
    """
    gradients = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    return max(FEWEST_MB, math.ceil(gradients / PARTS / 2**20))


class Ddp(Strategy):
    """Averages the gradients over all ranks at the last micro-batch of a step.

    Buffers are not broadcast at every step: ``Dist.broadcast_buffers`` does that before an evaluation and a save, where
    the buffers of rank 0 must be the same on all ranks.
    """

    def wrap(self, module: nn.Module, all_used: bool) -> nn.Module:
        """Broadcast the weights and buffers of rank 0, and return the module to train through.

        Gradients in bf16 are divided by the number of ranks, exchanged, and added as bf16 (torch's ``bf16_compress_hook``).
        """
        self.group.broadcast_buffers(module)
        # DDP would fail at buffers of formats that its collectives do not know, such as int16.
        buffers = [name for name, _ in module.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, buffers)  # type: ignore[no-untyped-call]
        device = self.group.device
        wrapped = DistributedDataParallel(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            bucket_cap_mb=_bucket_mb(module) if self.one_graph else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=not all_used,
            **_NO_BUFFER_SYNC,
        )
        if self.gradient_dtype == "bf16":
            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped

    def settle(self, wrapped: nn.Module, images: Tensor, targets: Tensor) -> None:
        """Make DDP rebuild its gradient buckets now instead of after the first step.

        DDP reorders its buckets after the first backward pass of a process, which changes the order in which gradients
        are summed. With more than two ranks, a resumed run would then differ from an uninterrupted run in the last bit.
        """
        for _ in range(2):  # the rebuild happens in the forward pass after the first backward pass
            wrapped(images, targets)["loss"].backward()
            if self.unused(wrapped):
                return

    def unused(self, wrapped: nn.Module) -> list[str]:
        """Return the names of the parameters that got no gradient in the last backward pass, so that other ranks wait.

        torch itself raises an error only in the next forward pass. Before that, the step would update the weights, and
        perhaps save them, with gradients that were not averaged over ranks.
        """
        ddp = cast(DistributedDataParallel, wrapped)
        try:
            ddp._check_reducer_finalized()  # type: ignore[no-untyped-call]  # private, and documented for this use
        except RuntimeError as error:
            numbers = _WITHOUT_GRADIENT.search(str(error))
            if numbers is None:
                raise
            names = [name for name, p in ddp.module.named_parameters() if p.requires_grad]
            return [names[int(number)] for number in numbers[1].split()]
        return []

    def accumulate(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        return cast(DistributedDataParallel, wrapped).no_sync()
