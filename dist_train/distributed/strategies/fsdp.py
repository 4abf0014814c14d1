"""One process per device; weights, gradients and moments are divided among the ranks: torch's FSDP2.

``fully_shard`` (Zhao et al., 2023: PyTorch FSDP; FSDP2 has one DTensor for each parameter) collects the weights of
a block just before the block computes, and drops them afterwards.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from dist_train.checkpoint.sharded.piece import Piece, Rows
from dist_train.distributed.collectives import broadcast_together
from dist_train.distributed.strategies.base import Strategy
from dist_train.distributed.strategies.shards import local, mapped
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.schema import Config


class Fsdp(Strategy):
    """Each rank holds its share of every parameter, and of what belongs to a parameter: gradient, moments, average.

    A checkpoint has a file of each rank with its shares.

    The gradients of every micro-batch are summed over the ranks at once. To accumulate them on each rank first would need memory
    for the gradient of the whole model.

    With ``cpu_offload`` the shares rest in host memory (ZeRO-Offload: Ren et al., 2021), and the optimizer works there. Tensors that
    travel between ranks are on the GPU all the same, so that NCCL is enough.

    Attributes:
        drops: whether a rank drops the other ranks' weights after the forward pass, and collects them again for the backward pass.
    """

    drops = True
    shares_saves = True

    def refuse(self, cfg: "Config") -> None:
        if self.drops and cfg.loss.l1:
            raise ConfigError(
                f"`loss.l1` ({cfg.loss.l1:g}) reads all weights after the forward pass, when {self.group.strategy} has dropped "
                "those of other ranks; use zero2 or ddp, or `optim.weight_decay`"
            )

    def shard(self, module: nn.Module, blocks: Sequence[nn.Module]) -> None:
        """Give all ranks the weights of rank 0, and leave each rank its share of them.

        Raises:
            ConfigError: torch cannot divide this model.
        """
        if shared := _of_two_blocks(module, blocks):
            raise self._not_divisible(f"{shared} is a weight of two of its blocks")
        for parameter in module.parameters():
            broadcast_together([parameter.detach()])
        try:
            for part in (*blocks, module):
                fully_shard(
                    part, mesh=self._mesh, reshard_after_forward=self.drops, offload_policy=self._offload_policy()
                )
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            raise self._not_divisible(str(error)) from error

    def _offload_policy(self) -> OffloadPolicy:
        return CPUOffloadPolicy(pin_memory=self.group.device.type == "cuda") if self.cpu_offload else OffloadPolicy()

    def _not_divisible(self, why: str) -> ConfigError:
        return ConfigError(
            f"`distributed.strategy` ({self.group.strategy}): torch cannot divide this model among ranks: {why}; use ddp"
        )

    @cached_property
    def _mesh(self) -> DeviceMesh:
        return init_device_mesh(self.group.device.type, (self.group.world_size,))

    def wrap(self, module: nn.Module, all_used: bool) -> nn.Module:
        """Broadcast the buffers of rank 0. FSDP's hooks on the modules that ``shard`` has divided do the rest."""
        self.group.broadcast_buffers(module)
        return module

    def settle(self, wrapped: nn.Module, images: Tensor, targets: Tensor) -> None:
        """Run one pass: FSDP builds its parts in the first one, and may find errors."""
        wrapped(images, targets)["loss"].backward()

    def unused(self, wrapped: nn.Module) -> list[str]:
        """Return the names of the parameters that have no gradient. Another rank may wait for a part of it."""
        return [name for name, p in wrapped.named_parameters() if p.requires_grad and p.grad is None]

    def clip(self, grads: list[Tensor], limit: float) -> Tensor:
        """Clip as the strategies with whole gradients do; the squared norms of all parts are summed over the ranks."""
        mine = [local(grad) for grad in grads]
        square = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(mine))).square()
        norm = self.group.sum(square.to(self.group.device)).to(square.device).sqrt()
        if limit < math.inf:
            torch._foreach_mul_(mine, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    @contextmanager
    def gathered(self, module: nn.Module) -> Iterator[None]:
        """Hold all weights of ``module`` on every rank for the block, so that forward passes in it need no collective."""
        parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(self.drops, recurse=False)

    def rest(self, module: nn.Module) -> None:
        """Leave this rank its share of each weight."""
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()

    def state_dict(self, part: nn.Module | torch.optim.Optimizer) -> dict[str, Any]:
        """Return the whole state, in the form of every other strategy. Only rank 0 keeps what it collects, on the host.

        One tensor at a time is whole on the device. The other ranks keep their shares in place of the tensors.
        """
        whole: dict[str, Any] = mapped(part.state_dict(), self._whole)
        return whole

    def _whole(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        whole = cast(DTensor, tensor.to(self.group.device)).full_tensor().detach()
        return whole.cpu() if self.group.is_main else tensor

    def saved(self, part: nn.Module | torch.optim.Optimizer) -> dict[str, Any]:
        """Return the state with the rows of this rank in place of a tensor that ranks share."""
        rows: dict[str, Any] = mapped(part.state_dict(), self._piece)
        return rows

    def _piece(self, tensor: Tensor) -> Tensor | Piece:
        if not isinstance(tensor, DTensor) or tensor.placements != (Shard(0),):
            return self._whole(tensor)
        return Piece(local(tensor.detach()), _rows(tensor)[0], tuple(tensor.shape))

    def load_state_dict(self, part: nn.Module | torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load a state of any strategy: each rank takes its share of it."""
        if isinstance(part, nn.Module):
            own = part.state_dict()
            state = {name: _share_of(value, own.get(name)) for name, value in state.items()}
        else:
            parameters = [parameter for group in part.param_groups for parameter in group["params"]]
            moments = {
                number: {name: _share_of(value, parameters[number]) for name, value in kept.items()}
                for number, kept in state["state"].items()
            }
            state = {**state, "state": moments}
        part.load_state_dict(state)


def _of_two_blocks(module: nn.Module, blocks: Sequence[nn.Module]) -> str:
    """Return the name of a parameter that two blocks share, or a block and the rest of ``module``; empty if there is none.

    Each would have a share of its own, and they would no longer be the same weight.
    """
    inside = {part for block in blocks for part in block.modules()}
    rest = [p for part in module.modules() if part not in inside for p in part.parameters(recurse=False)]
    owners = Counter(
        p for parameters in (*(block.parameters() for block in blocks), dict.fromkeys(rest)) for p in parameters
    )
    return next((name for name, parameter in module.named_parameters() if owners[parameter] > 1), "")


def _share_of(value: Any, like: Any) -> Any:
    """Return this rank's share of a whole tensor, or of its rows on disk, divided as ``like`` is; other values as they are."""
    divisible = isinstance(like, DTensor) and isinstance(value, Tensor | Rows) and not isinstance(value, DTensor)
    if not divisible or value.shape != like.shape:
        return value.whole() if isinstance(value, Rows) else value
    begin, end = _rows(like)
    mine = value.between(begin, end) if isinstance(value, Rows) else value[begin:end]
    share = torch.empty_like(like, dtype=mine.dtype, requires_grad=False)
    local(share).copy_(mine)
    return share


def _rows(tensor: DTensor) -> tuple[int, int]:
    """Return the place of this rank's first row of a tensor that is divided by rows, and of the one after its last."""
    rows, ranks = len(tensor), tensor.device_mesh.size()
    begin = min(tensor.device_mesh.get_local_rank() * -(-rows // ranks), rows)  # as torch.chunk divides
    return begin, begin + len(tensor.to_local())
