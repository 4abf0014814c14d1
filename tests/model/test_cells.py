"""Cells outlast the tensors in them."""

import pytest
import torch
from torch import nn

from dist_train.errors import ConfigError
from dist_train.model.cells import buffers_put_back, cells, find_shapes, own_memory, tensor_in


def with_buffers(**buffers: torch.Tensor) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    for name, tensor in buffers.items():
        module[0].register_buffer(name, tensor)
    return module


def test_a_cell_follows_a_tensor_that_is_replaced_and_a_shared_one_counts_once() -> None:
    shared = torch.zeros(2)
    module = with_buffers(a=shared, b=shared, c=torch.eye(2).to_sparse())
    found = cells(module, "_parameters", "_buffers")
    assert list(found) == ["0.weight", "0.bias", "0.a"]
    module[0].a = torch.ones(2)
    assert tensor_in(found["0.a"]).tolist() == [1, 1]


def test_buffers_are_put_back_whether_changed_or_replaced_and_after_an_error() -> None:
    module = with_buffers(a=torch.zeros(2), b=torch.zeros(2))
    a = module[0].a
    with pytest.raises(ZeroDivisionError), buffers_put_back(module):
        module[0].a = torch.ones(3)
        module[0].b += 1
        raise ZeroDivisionError
    assert module[0].a is a
    assert module[0].a.tolist() == module[0].b.tolist() == [0, 0]


def test_an_expanded_buffer_gets_memory_that_can_be_written() -> None:
    module = with_buffers(a=torch.ones(1, 2).expand(3, 2), b=torch.arange(6.0).view(2, 3).t())
    own_memory(module)
    module.load_state_dict({name: tensor + 1 for name, tensor in module.state_dict().items()})
    assert module[0].a.tolist() == [[2, 2]] * 3
    assert module[0].b.stride() == (1, 3), "a transposed one stays as it is"


def test_lazy_layers_get_their_shapes_or_a_sentence() -> None:
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    find_shapes(module, (8, 8))
    assert module[2].weight.shape == (2, 4 * 36)
    with pytest.raises(ConfigError, match="lazy layers, and fails on an image of 2 x 2 px"):
        find_shapes(nn.Sequential(nn.LazyConv2d(4, 3)), (2, 2))
