"""Operations of a model for an image, and of a card in a second."""

import pytest
import timm
import torch
from torch import nn

from dist_train.training.report.flops import peak_flops, training_flops

SHAPE = (2, 3, 4, 4)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.BatchNorm1d(10), nn.Linear(10, 5))


def test_a_layer_costs_its_products_forward_and_for_both_gradients() -> None:
    first, second = 2 * 48 * 10, 2 * 10 * 5
    assert training_flops(small(), SHAPE, backward=False) == first + second
    assert training_flops(small(), SHAPE) == 2 * first + 3 * second, "nobody needs the gradient of the images"


def test_frozen_layers_cost_no_gradient_of_their_weights() -> None:
    first, second = 2 * 48 * 10, 2 * 10 * 5
    head_only = small()
    head_only[1].requires_grad_(False)
    head_only[2].requires_grad_(False)
    assert training_flops(head_only, SHAPE) == first + 2 * second


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_model_is_counted_without_a_trace(name: str) -> None:
    model = timm.create_model(name, num_classes=3).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(0)
    generator = torch.get_rng_state()
    forward = training_flops(model, (2, 3, 160, 160), backward=False)
    assert 2.5 * forward < training_flops(model, (2, 3, 160, 160)) <= 3 * forward
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.parametrize(
    ("card", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA GH200 480GB", 989),
        ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA GeForce GTX 1080", None),
        ("a GPU", None),
    ],
)
def test_the_peak_of_a_card(card: str, tflops: float | None) -> None:
    assert peak_flops(card) == (None if tflops is None else tflops * 1e12)
