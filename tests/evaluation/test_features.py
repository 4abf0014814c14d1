"""Features are what the head gets, for every family of models."""

from typing import Any

import pytest
import torch
from torch import nn

from dist_train.config import parse_config
from dist_train.data.index import scan
from dist_train.distributed.group import Dist
from dist_train.evaluation.features import given_to, head_paths, pooled
from dist_train.training.setup import build_network
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("source", "name", "size"),
    [
        ("timm", "test_vit", 32),
        ("timm", "test_convnext", 32),
        ("timm", "test_byobnet", 32),
        ("torchvision", "squeezenet1_1", 64),
    ],
)
def test_they_are_what_timm_calls_pre_logits(tree: dict[str, Any], source: str, name: str, size: int) -> None:
    cfg = parse_config(
        changed(tree, model={"source": source, "name": name, "pretrained": False}, data__image_size=size)
    )
    network = build_network(cfg, scan(cfg.data), Dist.alone(), load=True)
    module, images = network.module.eval(), torch.rand(2, 3, size, size)
    with torch.no_grad(), given_to(module, head_paths(network)) as taken:
        module(images)
        (found,) = taken
        if source == "timm":
            expected = module.forward_head(module.forward_features(images), pre_logits=True)  # type: ignore[operator]
        else:
            expected = module.features(images).mean((2, 3))  # type: ignore[operator]
    torch.testing.assert_close(found, expected)
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_places_are_averaged() -> None:
    assert torch.equal(pooled(nn.Linear(2, 1), torch.tensor([[[1.0, 2], [3, 6]]])), torch.tensor([[2.0, 4]]))
    assert torch.equal(pooled(nn.Conv2d(1, 1, 1), torch.tensor([[[[1.0, 2], [3, 6]]]])), torch.tensor([[3.0]]))
