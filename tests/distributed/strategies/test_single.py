"""One process on one device."""

import torch
from torch import nn

from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single


def test_the_module_itself_is_trained() -> None:
    strategy, module = Single(Dist.alone()), nn.Linear(2, 2)
    wrapped = strategy.wrap(module, all_used=False)
    assert wrapped is module
    assert strategy.devices == [torch.device("cpu")]
    strategy.settle(wrapped, torch.zeros(1, 2), torch.zeros(1))
    with strategy.accumulate(wrapped):
        wrapped(torch.ones(1, 2)).sum().backward()
    assert module.weight.grad is not None
