"""Parts of tensors: found without an import of DTensor, and mapped in nested states."""

import torch
from torch import nn

from dist_train.distributed.strategies.shards import is_shared, local, mapped


def test_a_whole_tensor_stays_as_it_is() -> None:
    tensor = nn.Parameter(torch.ones(2))
    assert not is_shared(tensor)
    assert local(tensor) is tensor


def test_every_tensor_of_a_nested_state_is_mapped() -> None:
    state = {
        "state": {0: {"step": torch.tensor(1.0)}},
        "groups": [{"lr": 0.1, "params": [0]}],
        "pair": (torch.ones(1), "x"),
    }
    assert mapped(state, lambda tensor: tensor.item() + 1) == {
        "state": {0: {"step": 2.0}},
        "groups": [{"lr": 0.1, "params": [0]}],
        "pair": (2.0, "x"),
    }
