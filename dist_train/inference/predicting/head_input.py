"""Embeddings: the input of a model's head for each image, pooled."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dist_train.errors import ConfigError
from dist_train.evaluation.features import head_paths, pooled
from dist_train.model.network import Network

if TYPE_CHECKING:
    from dist_train.inference.predictor import Predictor


class HeadInput:
    """Records the input of the head while ``predictor`` works; of several views, that of the first.

    Embeddings are the same as ``forward_head(..., pre_logits=True)`` of timm's models.

    Attributes:
        width: E.

    Raises:
        ConfigError: the model has no head, or does not call the layers of its head.
    """

    def __init__(self, network: Network, predictor: "Predictor") -> None:
        self._found: Tensor | None = None
        for path in head_paths(network):
            network.module.get_submodule(path).register_forward_pre_hook(self._note)
        transform = predictor.transform
        predictor.outputs(torch.from_numpy(transform.blank(1)))
        if self._found is None:
            raise ConfigError("--embeddings: the model has no head whose input can be read; remove the option")
        self.width: int = self.taken().shape[1]

    def taken(self) -> Tensor:
        """Return the embeddings of the last pass, float32 [B, E] on the CPU."""
        found, self._found = self._found, None
        assert found is not None
        return found.cpu()

    def _note(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._found is None:
            self._found = pooled(layer, inputs[0])
