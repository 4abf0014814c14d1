"""Embeddings are timm's ``pre_logits``, for heads of each kind."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from torch import nn

from dist_train.errors import ConfigError
from dist_train.inference.load_run import load_run
from dist_train.inference.predicting.head_input import HeadInput
from dist_train.inference.predictor import Predictor
from dist_train.model.network import Network
from tests.support.runs import train


def embedder(run: Any) -> tuple[Predictor, HeadInput]:
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules)
    return predictor, HeadInput(run.network, predictor)


def test_they_are_what_timm_calls_pre_logits(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    predictor, head = embedder(run)
    files = sorted((image_folder / "val" / "class_a").iterdir())[:3]
    predictor.outputs(torch.from_numpy(np.stack([run.transform.pixels(file) for file in files])))
    model = cast(Any, run.model)
    with torch.no_grad():
        images = torch.stack([run.transform(file) for file in files])
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    found = head.taken()
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found.shape, found.dtype) == ((3, head.width), torch.float32)


@pytest.mark.parametrize("options", [{"model__head": {"name": "mlp", "hidden": [7]}}, {"eval__tta": {}}])
def test_other_heads_and_views(tree: dict[str, Any], options: dict[str, Any]) -> None:
    run = load_run(train(tree, train__epochs=1, **options), device="cpu")
    predictor, head = embedder(run)
    predictor.outputs(torch.from_numpy(run.transform.blank(2)))
    assert head.taken().shape == (2, head.width)
    assert head.width == cast(Any, run.model).num_features


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit2"])
def test_kinds_of_models(name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval()
    names = {f"{path}.weight" for path, layer in model.named_modules() if layer is model.get_classifier()}
    network = cast(Network, SimpleNamespace(module=model, head=names))
    images = torch.rand(2, 3, 64, 64)
    predictor = SimpleNamespace(
        transform=SimpleNamespace(blank=lambda count: np.zeros((count, 3, 64, 64), np.float32)), outputs=model
    )
    head = HeadInput(network, cast(Predictor, predictor))
    with torch.no_grad():
        model(images)
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    assert torch.allclose(head.taken(), expected, atol=1e-6)


def test_a_model_without_a_head() -> None:
    module = nn.Flatten()
    predictor = SimpleNamespace(transform=SimpleNamespace(blank=lambda count: np.zeros((count, 2))), outputs=module)
    with pytest.raises(ConfigError, match="--embeddings: the model has no head"):
        HeadInput(cast(Network, SimpleNamespace(module=module, head=frozenset())), cast(Predictor, predictor))
