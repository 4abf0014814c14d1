"""Merged adapters: the same outputs, the same base weights afterwards, the names of the plain model."""

import pytest
import torch
from torch import nn

from dist_train.config.sections.model import LoraConfig, ModelConfig
from dist_train.model.build import build_model
from dist_train.model.lora.adapters import with_lora
from dist_train.model.lora.merged import merged, plain_state
from dist_train.model.network import Network

IMAGES = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def trained(name: str, lora: LoraConfig) -> Network:
    """A model whose adapters and head are not what they start as."""
    network = with_lora(build_model(ModelConfig(name=name, pretrained=False), 3, 32, False), lora)
    for parameter in network.module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("test_vit", LoraConfig(rank=4, alpha=3.0, dropout=0.5, bias="all")),
        ("test_resnet", LoraConfig(rank=2, targets=("conv2", "conv1"))),
        ("test_vit", LoraConfig(rank=4, base_dtype="bf16")),
    ],
)
@torch.no_grad()
def test_the_plain_model_computes_the_same(name: str, lora: LoraConfig) -> None:
    network = trained(name, lora)
    module = network.module.eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lora.base_dtype == "bf16"):
        expected = module(IMAGES)
        with merged(module):
            together = module(IMAGES)
        plain = build_model(ModelConfig(name=name, pretrained=False), 3, 32, False).module.eval()
        plain.load_state_dict(plain_state(module))
        found = plain(IMAGES)
    after = module.state_dict()
    assert all(torch.equal(after[key], value) and after[key].dtype == value.dtype for key, value in before.items())
    assert torch.equal(found, together), "what is evaluated is what is published"
    close = 1e-5 if lora.base_dtype == "fp32" else 0.05
    torch.testing.assert_close(found, expected, rtol=close, atol=close, check_dtype=False)


def test_after_an_error_the_base_is_back() -> None:
    module = trained("test_vit", LoraConfig(rank=2)).module
    before = module.state_dict()["blocks.0.attn.qkv.base_layer.weight"].clone()
    with pytest.raises(KeyError), merged(module):
        raise KeyError
    assert torch.equal(module.state_dict()["blocks.0.attn.qkv.base_layer.weight"], before)
    assert not module.get_submodule("blocks.0.attn.qkv").merged


def test_a_model_without_adapters_stays_as_it_is() -> None:
    module = nn.Linear(2, 2)
    with merged(module):
        assert plain_state(module).keys() == {"weight", "bias"}
