"""One process on one device."""

from torch import nn

from dist_train.distributed.strategies.base import Strategy


class Single(Strategy):
    """The module itself."""

    def wrap(self, module: nn.Module, all_used: bool) -> nn.Module:
        return module
