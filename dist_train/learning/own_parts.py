"""The parts of an objective outside the model: parts that train or change, which are state, and frozen parts.

A frozen part is a sub-module that has parameters but trains none of them, such as a teacher. A checkpoint holds only its
SHA-256. An objective that changes such a part itself (a momentum teacher) lists its name in an attribute ``changing``.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from dist_train.errors import ConfigError

FROZEN = "objective."
"""The prefix of a frozen part's path, in the key under which a checkpoint records its SHA-256."""

BASE = "base_weights"
"""The key under which a checkpoint records the SHA-256 of the weights that LoRA's adapters are beside of."""


class OwnParts:
    """The parts of ``objective`` outside ``model``."""

    def __init__(self, objective: nn.Module, model: nn.Module) -> None:
        self._objective = objective
        self._model = set(model.modules())
        self.frozen = dict(self._frozen("", objective))
        self._excluded = self._model.union(*(part.modules() for part in self.frozen.values()))
        self._norm = self._frozen_norm()

    def _frozen(self, prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        for name, part in module.named_children():
            path, parameters = prefix + name, list(part.parameters())
            if part in self._model or path in getattr(self._objective, "changing", ()):
                continue
            if parameters and not any(p.requires_grad for p in parameters):
                yield path, part
            else:
                yield from self._frozen(f"{path}.", part)

    def training(self) -> list[nn.Parameter]:
        """Return the trainable parameters outside the model."""
        parts = [part for part in self._objective.modules() if part not in self._excluded]
        known = {parameter for part in self._model for parameter in part.parameters(recurse=False)}
        every = [parameter for part in parts for parameter in part.parameters(recurse=False)]
        return [parameter for parameter in dict.fromkeys(every) if parameter.requires_grad and parameter not in known]

    def changing(self) -> list[Tensor]:
        """Return the tensors of the state that change but have no gradient, such as buffers."""
        state = self._objective.state_dict(keep_vars=True)
        tensors = [value for name, value in state.items() if self._owner(name) not in self._excluded]
        return [tensor for tensor in tensors if isinstance(tensor, Tensor) and not tensor.requires_grad]

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors that train or change, by their names in the objective."""
        state = self._objective.state_dict()
        return {name: value for name, value in state.items() if self._owner(name) not in self._excluded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, in place.

        Raises:
            ConfigError: the saved state has other names than this objective.
        """
        differing = state.keys() ^ self.state_dict().keys()
        if differing:
            raise ConfigError(
                f"the checkpoint's objective has other parts than this one: {', '.join(sorted(differing)[:3])}; "
                "restore the code of `loss.objective`, or choose another `run.name`"
            )
        self._objective.load_state_dict(state, strict=False)

    def _owner(self, name: str) -> nn.Module:
        return self._objective.get_submodule(name.rpartition(".")[0])

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each frozen part's weights. A resume compares them by these keys."""
        return {f"{FROZEN}{path}": weights_sha256(part.state_dict()) for path, part in self.frozen.items()}

    def check_frozen(self) -> None:
        """Check that no frozen part has changed since the start.

        Raises:
            ConfigError: a part has changed; a checkpoint would lose the change.
        """
        if not torch.equal(self._frozen_norm(), self._norm):
            raise ConfigError(
                f"`loss.objective`: {', '.join(self.frozen)} changes while training, although none of its parameters is "
                "trainable; add its name to the objective's attribute `changing`, so that checkpoints hold it"
            )

    def _frozen_norm(self) -> Tensor:
        # A norm, because a hash would copy the weights to the host at each save.
        return get_total_norm([p for part in self.frozen.values() for p in part.parameters()]).nan_to_num()


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Return one SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        assert isinstance(tensor, Tensor), f"{name} is not a tensor"
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
