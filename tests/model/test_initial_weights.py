"""A weights file is loaded into a model: what matches is used, what does not is reported, no match is an error."""

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from dist_train.checkpoint.format import save_weights
from dist_train.config.sections.model import HeadConfig, ModelConfig
from dist_train.errors import ConfigError
from dist_train.model.build import build_model
from dist_train.model.initial_weights import load_initial
from dist_train.model.weights import load_weights
from tests.support.runs import rows, train

HEAD = frozenset({"fc.weight", "fc.bias"})


def resnet(outputs: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=outputs)  # type: ignore[no-any-return]


def test_every_prefix_is_stripped_and_both_formats_are_read(tmp_path: Path) -> None:
    source, other = resnet(), resnet(seed=1)
    state = source.state_dict()
    for number, prefix in enumerate(("", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module.")):
        path = tmp_path / f"{number}.pth"
        torch.save({"epoch": 3, "state_dict": {prefix + name: tensor for name, tensor in state.items()}}, path)
        load_initial(other, load_weights(path), HEAD, str(path))
        assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())
        other = resnet(seed=1)
    save_weights(tmp_path / "w.safetensors", {f"module.{name}": tensor for name, tensor in state.items()})
    load_initial(other, load_weights(tmp_path / "w.safetensors"), HEAD, "w")
    assert torch.equal(other.state_dict()["fc.weight"], state["fc.weight"])


def test_a_models_own_names_keep_a_prefix() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)

    source, target = Wrapped(), Wrapped()
    load_initial(target, source.state_dict(), frozenset(), "w")
    assert torch.equal(target.model.weight, source.model.weight)


def test_a_head_of_another_shape_is_left_out_and_everything_unmatched_is_told(caplog: pytest.LogCaptureFixture) -> None:
    source, target = resnet(outputs=5), resnet(outputs=3, seed=1)
    old_head = target.state_dict()["fc.weight"].clone()
    weights = source.state_dict() | {"ema.decay": torch.zeros(1)}
    del weights["bn1.bias"]
    with caplog.at_level(logging.INFO):
        load_initial(target, weights, HEAD, "file.pth")
    assert torch.equal(
        target.state_dict()["conv1.weight" if "conv1.weight" in weights else "conv1.0.weight"],
        weights["conv1.weight" if "conv1.weight" in weights else "conv1.0.weight"],
    )
    assert torch.equal(target.state_dict()["fc.weight"], old_head)
    assert "not in the file, kept random: bn1.bias\n" in caplog.text
    assert "in the file, not used: ema.decay\n" in caplog.text
    total = sum(p.numel() for p in target.parameters())
    there = total - sum(target.get_parameter(name).numel() for name in (*HEAD, "bn1.bias"))
    assert f"weights: {there:,} of {total:,} parameters from file.pth" in caplog.text


def test_counters_of_batchnorm_and_the_head_alone_are_not_missing(caplog: pytest.LogCaptureFixture) -> None:
    weights = {name: t for name, t in resnet(outputs=5).state_dict().items() if not name.endswith("batches_tracked")}
    target = resnet(seed=1)
    total = sum(p.numel() for p in target.parameters())
    head = sum(target.get_parameter(name).numel() for name in HEAD)
    with caplog.at_level(logging.INFO):
        load_initial(target, weights, HEAD, "file.pth")
    assert [record.message for record in caplog.records] == [
        f"weights: {total - head:,} of {total:,} parameters from file.pth; only the head is new"
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        load_initial(target, target.state_dict(), HEAD, "file.pth")
    assert f"{total:,} of {total:,} parameters from file.pth; nothing is missing" in caplog.text


def test_a_head_alone_is_no_fit() -> None:
    weights = {name: tensor for name, tensor in resnet().state_dict().items() if name in HEAD}
    with pytest.raises(ConfigError, match="does not fit the model"):
        load_initial(resnet(), weights, HEAD, "x.pth")


def test_a_file_of_another_model_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"\(x.pth\) does not fit the model: 0 of \d+ tensors match; its names are a.b"
    ):
        load_initial(resnet(), {"a.b": torch.zeros(1)}, HEAD, "x.pth")
    weights = resnet().state_dict() | {"bn1.weight": torch.zeros(99)}
    with pytest.raises(
        ConfigError,
        match=r"bn1.weight is \(99,\) in the file, \(\d+,\) in the model. Check that the file is for this `model.name`",
    ):
        load_initial(resnet(), weights, HEAD, "x.pth")


def embeddings(source: str, name: str, old: int, new: int, key: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    small = build_model(ModelConfig(source=source, name=name, pretrained=False), 3, old)  # type: ignore[arg-type]
    large = build_model(ModelConfig(source=source, name=name, pretrained=False), 3, new)  # type: ignore[arg-type]
    load_initial(large.module, small.module.state_dict(), large.head, "w")
    assert torch.equal(
        small.module.get_parameter("head.weight" if source == "timm" else "heads.head.weight"),
        large.module.get_parameter("head.weight" if source == "timm" else "heads.head.weight"),
    )
    return small.module.state_dict()[key], large.module.state_dict()[key]


def test_timms_position_embeddings_are_resized() -> None:
    small, large = embeddings("timm", "test_vit", 64, 96, "pos_embed")
    assert large.shape[1] > small.shape[1]
    expected = timm.layers.resample_abs_pos_embed(small, (6, 6), num_prefix_tokens=1)
    assert torch.allclose(large, expected, atol=1e-5)


def test_torchvisions_position_embeddings_are_resized() -> None:
    small, large = embeddings("torchvision", "vit_b_16", 32, 64, "encoder.pos_embedding")
    assert (small.shape[1], large.shape[1]) == (5, 17)
    assert torch.equal(small[:, 0], large[:, 0]), "the class token stays"
    assert large[:, 1:].mean() == pytest.approx(small[:, 1:].mean().item(), abs=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of timm's resampling
def test_swins_relative_positions_are_resized() -> None:
    module = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3)
    other = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=128, window_size=4)
    load_initial(other, module.state_dict(), frozenset({"head.fc.weight", "head.fc.bias"}), "w")
    assert torch.equal(other.state_dict()["norm.weight"], module.state_dict()["norm.weight"])


def test_names_of_torchvisions_old_densenet_files_are_known() -> None:
    module = torchvision.models.densenet121(num_classes=3)
    old = {
        name.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2."): t + 1
        for name, t in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    load_initial(module, old, frozenset({"classifier.weight", "classifier.bias"}), "w")
    assert torch.equal(
        module.state_dict()["features.denseblock1.denselayer1.norm1.weight"],
        old["features.denseblock1.denselayer1.norm.1.weight"],
    )


def test_an_mlp_head_is_random_and_the_backbone_is_not() -> None:
    source = resnet()
    cfg = ModelConfig(name="test_resnet", pretrained=False, head=HeadConfig(name="mlp", hidden=(4,)))
    network = build_model(cfg, 3, 32)
    load_initial(network.module, source.state_dict(), network.head, "w")
    assert torch.equal(network.module.state_dict()["bn1.weight"], source.state_dict()["bn1.weight"])


def test_a_run_goes_on_from_another_runs_weights(tree: dict[str, Any]) -> None:
    first = train(tree, run__name="first", model={"name": "test_vit", "pretrained": False})
    score = rows(first, "val")[-1]["loss"]
    model = {"name": "test_vit", "weights": str(first / "last.safetensors")}
    second = train(tree, 2, run__name="second", model=model, optim__lr=1e-9, train__max_steps=1)
    assert rows(second, "val")[-1]["loss"] == pytest.approx(score, rel=1e-4)
