"""Only a head whose input is the same in each epoch, and whose output is the model's, trains alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.data.index import scan
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.model.network import Network
from dist_train.training.cached.head_alone import with_head_alone
from dist_train.training.setup import build_network
from tests.support.runs import changed

CPU = torch.device("cpu")


def _network(tree: dict[str, Any], **model: Any) -> Network:
    cfg = parse_config(changed(tree, model={"pretrained": False, "freeze": "backbone", **model}))
    return build_network(cfg, scan(cfg.data), Dist.alone(), load=True)


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ({"name": "test_vit"}, "head"),
        ({"name": "test_convnext", "head": {"name": "mlp", "hidden": [8], "dropout": 0.5}}, "head.fc"),
        ({"name": "test_byobnet"}, "head.fc"),
    ],
)
def test_the_head_of_features_is_the_model_of_images(tree: dict[str, Any], model: dict[str, Any], path: str) -> None:
    network = _network(tree, **model)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    found = with_head_alone(network, "a", CPU)
    assert (network.head_alone, found.head_alone) == (None, path)
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())
    head, images = found.of_batches(network.module), torch.rand(2, 3, 32, 32)
    assert network.of_batches(network.module) is network.module
    assert dict(head.module.named_parameters()).keys() == dict(network.module.named_parameters()).keys()
    network.module.eval()
    assert torch.equal(head(images), network.module(images))


class Scaled(nn.Module):
    """Does more with the output of its head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean((2, 3))) * 2  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"name": "test_vit", "options": {"drop_rate": 0.5}}, "differ between training and evaluation"),
        ({"name": f"{__name__}:Scaled"}, r"the output of a is not the output of its head \(head\)"),
        ({"name": "squeezenet1_1", "source": "torchvision"}, "a convolution as its head"),
        ({"name": "deit_tiny_distilled_patch16_224"}, "several heads"),
    ],
)
def test_others_are_refused(tree: dict[str, Any], model: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        with_head_alone(_network(changed(tree, data__image_size=32), **model), "a", CPU)
