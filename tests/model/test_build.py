"""Models by name and of the user: size, head, training, evaluation, first weights."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision

from dist_train.checkpoint.format import save_weights
from dist_train.config import parse_config
from dist_train.config.sections.model import HeadConfig, ModelConfig
from dist_train.model.build import build_model
from dist_train.model.network import Network
from tests.support.ranks import collect, start_ranks
from tests.support.runs import changed, folder, rows, train


def build(size: int | None = 32, outputs: int = 3, load: bool = True, **options: Any) -> Network:
    return build_model(ModelConfig(**{"name": "test_vit", "pretrained": False, **options}), outputs, size, load)


def test_googlenet_trains_on_two_ranks(tree: dict[str, Any]) -> None:
    tree = changed(
        tree,
        model={"source": "torchvision", "name": "googlenet", "pretrained": False, "freeze": "backbone"},
        train__max_steps=2,
        log__every_steps=1,
    )
    run = train(tree, 2)
    assert [row["loss"] > 0 for row in rows(run, "train")] == [True, True]
    assert rows(run, "val")[-1]["loss"] > 0


def test_channels_last() -> None:
    module = build(name="test_resnet", channels_last=True).module
    weights = [p for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_model_learns_what_an_eager_one_does(tree: dict[str, Any]) -> None:
    """Slow is the C++ compiler of torch's CPU backend: its model is as small as can be, and is not evaluated, for
    evaluation takes the moving average, which is not compiled.
    """
    tree = changed(tree, model={"name": "tests.model.test_backbones:Own", "pretrained": False}, train__max_steps=2)
    tree = changed(tree, train__ema=0.9, log__every_steps=1, distributed__timeout_s=900)
    losses = []
    for on in (False, True):
        run = changed(tree, run__name=f"compiled-{on}", model__compile=on)
        assert collect(start_ranks(1, _train, run), timeout_s=800) == [0]
        losses.append([row["loss"] for row in rows(folder(run), "train")])
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def _train(tree: dict[str, Any]) -> int:
    import torch._inductor.config

    from dist_train.training.attempt import main

    torch._inductor.config.cpp_cache_precompile_headers = False  # a minute's work, which pays off for many kernels
    return main(parse_config(tree))


def test_the_weights_of_a_linear_head_fit_the_librarys_own_model(tmp_path: Path) -> None:
    network = build(160, head=HeadConfig(dropout=0.3))
    timm.create_model("test_vit", num_classes=3).load_state_dict(network.module.state_dict())
    network = build(224, source="torchvision", name="mobilenet_v3_small", head=HeadConfig(dropout=0.3))
    torchvision.models.mobilenet_v3_small(num_classes=3).load_state_dict(network.module.state_dict())


def test_weights_win_over_pretrained_and_random(tmp_path: Path) -> None:
    saved = build(head={"init": "timm"}).module.state_dict()
    save_weights(tmp_path / "w.safetensors", saved)
    module = build(pretrained=True, weights=str(tmp_path / "w.safetensors")).module
    assert all(torch.equal(tensor, saved[name]) for name, tensor in module.state_dict().items())
    module = build(pretrained=True, weights=str(tmp_path / "none"), load=False).module  # a checkpoint wins over all
    assert not torch.equal(module.state_dict()["head.weight"], saved["head.weight"])
