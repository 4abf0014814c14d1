"""The features of images: the input of a model's head. Each rank computes its batches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.evaluation.output_rows import OutputRows
from dist_train.learning.precision import Precision
from dist_train.model.network import Network
from dist_train.system.progress import advance, shown


class FeaturePass:
    """One pass of a model, in eval mode, over the images of a split.

    Args:
        name: of the model.
        length: of the split, N.
        blank: an image as the model takes it, float32 [1, C, H, W] on the device.

    Raises:
        ConfigError: the model does not call its head.
    """

    def __init__(
        self, network: Network, name: str, precision: Precision, group: Dist, length: int, blank: Tensor
    ) -> None:
        self._module, self._paths = network.module.eval(), head_paths(network)
        self._name, self._precision = name, precision
        self._rows = OutputRows(length, self._of(blank).shape[1], group.device)
        self._read = torch.zeros(length + 1, dtype=torch.int32, device=group.device)

    def over(self, batches: Iterable[tuple[Tensor, ...]], normalise: Callable[[Tensor], Tensor], count: int) -> None:
        """Compute the features of this rank's ``count`` batches, which are on the device. Without collectives."""
        with shown(f"features of {self._name}", "batches", count):
            for images, _, indices in batches:
                self._rows.add(self._of(normalise(images)), indices)
                self._read[indices] = 1
                advance()

    def of_all_ranks(self, group: Dist, everywhere: bool = False) -> tuple[Tensor | None, Tensor]:
        """Return the features of all ranks, float32 [N, D], and which images could be read, bool [N], on the CPU.

        Every rank must call it. Features are None on other ranks than 0, unless ``everywhere``.
        """
        read = group.sum(self._read)[:-1].cpu() > 0
        return self._rows.of_all_ranks(group, everywhere), read

    @torch.no_grad()
    def _of(self, images: Tensor) -> Tensor:
        with given_to(self._module, self._paths) as taken, self._precision.autocast():
            self._module(images)
        if not taken:
            raise ConfigError(
                f"its forward pass does not call its head ({', '.join(self._paths)}), so its features cannot be read"
            )
        return torch.cat(taken, dim=1)


def head_paths(network: Network) -> list[str]:
    """Return the paths of the layers of the head; a model with auxiliary heads has several."""
    return sorted({name.rpartition(".")[0] for name in network.head})


@contextmanager
def given_to(module: nn.Module, paths: list[str]) -> Iterator[list[Tensor]]:
    """Collect the inputs of the modules at ``paths`` in a forward pass, each as features float32 [B, D]."""
    taken: list[Tensor] = []

    def take(layer: nn.Module, args: tuple[Any, ...]) -> None:
        taken.append(pooled(layer, args[0]))

    handles = [module.get_submodule(path).register_forward_pre_hook(take) for path in paths]
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def pooled(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the input of a layer, [B, D], [B, ..., D] or of a convolution [B, D, H, W], as its mean over places, float32 [B, D]."""
    if isinstance(layer, nn.Conv2d):
        return inputs.float().mean((2, 3))
    return inputs.float().flatten(1, -2).mean(1) if inputs.ndim > 2 else inputs.float()
