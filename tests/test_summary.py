"""``--summary``, ``--list-models``, and what ``--check`` and the sweep say of models."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.model_sweep import check_model
from dist_train.training.preflight import check
from dist_train.config import parse_config
from dist_train.config.sections.model import ModelConfig
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.model.build import build_model
from dist_train.summary import flops, main
from dist_train.training.setup import build_setup, set_algorithms
from dist_train.training.step import train_step
from tests.support.runs import changed

ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dist_train", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_list_models_from_the_command_line() -> None:
    done = command("--list-models", "squeezenet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["torchvision", "squeezenet1_0", "torchvision", "squeezenet1_1"]


def test_summary_from_the_command_line(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(changed(tree, model__freeze="backbone")))
    done = command("--config", str(tmp_path / "c.yaml"), "--summary", "model.head.name=mlp", "model.head.hidden=[8]")
    assert done.returncode == 0, done.stderr
    assert "(0): Linear(in_features=64, out_features=8, bias=True)" in done.stdout
    assert "of them train" in done.stdout
    trains = 64 * 8 + 8 + 8 * 3 + 3
    assert f"\n{trains:,} of " in done.stdout
    assert f"head: {trains:,} parameters in head.0.bias, head.0.weight, head.3.bias, head.3.weight" in done.stdout
    assert "GFLOP for an image" in done.stdout


def test_summary_of_a_model_that_needs_real_numbers(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = {"source": "torchvision", "name": "regnet_x_400mf"}
    assert main(parse_config(changed(tree, model=model))) == 0
    assert "torchvision regnet_x_400mf at 32 x 32 px" in capsys.readouterr().out


def test_summary_of_a_model_that_is_none(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(parse_config(changed(tree, model__name="resnet5O"))) == 2
    assert "error: `model.name` (resnet5O) is not a timm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "name", "size", "published_gflop"),
    [("timm", "resnet50", 224, 2 * 4.1), ("torchvision", "vit_b_16", 224, 2 * 17.6), ("timm", "vgg11", 224, 2 * 7.6)],
)
def test_flops_are_the_published_ones(source: str, name: str, size: int, published_gflop: float) -> None:
    with torch.device("meta"):
        network = build_model(ModelConfig(source=source, name=name, pretrained=False), 1000, size)  # type: ignore[arg-type]
        assert flops(network.module, size) / 1e9 == pytest.approx(published_gflop, rel=0.05)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm", "volo_d1_224"),
        ("timm", "crossvit_tiny_240"),
        ("timm", "efficientformer_l1"),
        ("timm", "tresnet_m"),
        ("timm", "resnetv2_50x1_bit"),
        ("timm", "mobilenetv4_conv_small"),
        ("torchvision", "inception_v3"),
        ("torchvision", "densenet121"),
        ("torchvision", "vgg11_bn"),
    ],
)
def test_a_sample_of_the_sweep(source: str, name: str) -> None:
    row = check_model(source, name)
    assert row["ok"], row
    assert 0 < row["linear_trains"] < row["mlp_trains"] < row["parameters"] * 2


def test_the_sweep_reports_what_fails() -> None:
    row = check_model("timm", "qwen3_vit_88m_enc")
    assert not row["ok"]
    assert "ConfigError" in row["meta_error"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"model__freeze": ["stem"]}, r"`model.freeze` \(stem\) matches nothing"),
        ({"optim__name": "adamww"}, r"`optim.name` \(adamww\) is neither"),
        ({"model__pretrained": True, "model__weights": "none.pth"}, "none.pth does not exist; check `model.weights`"),
    ],
)
def test_check_finds_it_before_training(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(parse_config(changed(tree, **override)), 1)


def test_data_parallel_trains_the_bare_model(tree: dict[str, Any]) -> None:
    """Wrapped as for several GPUs; without any, DataParallel calls the model itself."""
    group = Dist(0, 0, 1, torch.device("cpu"), "dp")
    setup = build_setup(parse_config(tree), group)
    assert isinstance(setup.stepper.wrapped, torch.nn.DataParallel)
    assert setup.stepper.wrapped.module is setup.state.model
    before = setup.state.model.state_dict()["head.weight"].clone()
    train_step(setup.stepper, setup.state)
    assert not torch.equal(setup.state.model.state_dict()["head.weight"], before)
    assert not [name for name in setup.state.state_dict(group)["model"] if name.startswith("module.")]
    half = build_setup(parse_config(changed(tree, run__name="half", train__precision="amp_bf16")), group)
    assert half.stepper.wrapped.module.module is half.state.model, "under an autocast of its own"
    with pytest.raises(ConfigError, match=r"`train.precision` \(fp16\) does not work with DataParallel"):
        build_setup(parse_config(changed(tree, train__precision="fp16")), group)
    with pytest.raises(ConfigError, match=r"`model.compile` \(true\) does not work with DataParallel"):
        build_setup(parse_config(changed(tree, model__compile=True)), group)
    alone = Dist(0, 0, 1, torch.device("cpu"), "none")
    with pytest.raises(ConfigError, match=r"does not work with `model\.compile`"):
        build_setup(parse_config(changed(tree, train__precision="fp16", model__compile=True)), alone)


@pytest.mark.parametrize("channels_last", [False, True])
def test_what_settles_the_buckets_looks_as_a_batch_does(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, channels_last: bool
) -> None:
    """Otherwise the model would be compiled for it alone."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("dist_train.training.setup.settle_buckets", lambda wrapped, images: seen.append(images))
    tree = changed(tree, model={"name": "test_resnet", "pretrained": False, "channels_last": channels_last})
    stepper = build_setup(parse_config(tree), Dist(0, 0, 1, torch.device("cpu"), "none")).stepper
    images, labels, _ = next(stepper.batches)
    batch, _ = stepper.augment(images, labels, 0)
    assert (seen[0].shape, seen[0].stride(), seen[0].dtype) == (batch.shape, batch.stride(), batch.dtype)


def test_deterministic_algorithms_on_a_gpu_need_a_workspace(tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    try:
        set_algorithms(cfg, torch.device("cpu"))
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        set_algorithms(cfg, torch.device("cuda", 0))
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        torch.use_deterministic_algorithms(False)
