"""What all strategies share."""

import pytest
import torch
from torch import nn

from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e6, float("inf")])
def test_clipping_has_the_bits_of_torchs_own(limit: float) -> None:
    torch.manual_seed(0)
    grads = [torch.randn(size) for size in (7, 64, 1000)]
    ours, theirs = [g.clone() for g in grads], [nn.Parameter(torch.zeros_like(g)) for g in grads]
    for parameter, grad in zip(theirs, grads, strict=True):
        parameter.grad = grad.clone()
    norm = Single(Dist.alone()).clip(ours, limit)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, limit))
    for mine, parameter in zip(ours, theirs, strict=True):
        assert parameter.grad is not None
        assert torch.equal(mine, parameter.grad)


def test_a_state_is_loaded_as_it_was_returned() -> None:
    strategy, model, other = Single(Dist.alone()), nn.Linear(2, 2), nn.Linear(2, 2)
    strategy.load_state_dict(other, strategy.state_dict(model))
    assert torch.equal(model.weight, other.weight)
