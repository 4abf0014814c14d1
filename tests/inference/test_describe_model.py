"""The description of a model: parts and FLOPs, on lines that fit a terminal."""

from typing import Any

import pytest
import torch

from benchmarks.model_sweep import check_model
from dist_train.config import parse_config
from dist_train.config.sections.model import ModelConfig
from dist_train.inference.describe_model import COLUMNS, print_model, print_names
from dist_train.model.build import build_model
from dist_train.training.report.flops import forward_flops
from tests.support.runs import changed


def test_the_table_comes_before_the_modules_and_every_line_fits(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"name": "tf_efficientnet_lite0", "pretrained": False, "freeze": "backbone"}
    assert print_model(parse_config(changed(tree, model=model))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "timm tf_efficientnet_lite0 at 32 x 32 px"
    assert lines[1] == "3,843 of 3,374,851 parameters train"
    (table,) = [number for number, line in enumerate(lines) if line.split() == ["part", "parameters", "that", "train"]]
    parts = {line.split()[0]: line.split()[1:] for line in lines[table + 1 : lines.index("", table)]}
    assert parts["classifier"] == ["3,843", "3,843"]
    assert parts["conv_stem"] == ["864", "0"]
    assert table < lines.index("EfficientNet(")
    assert max(map(len, lines)) <= COLUMNS


def test_summary_of_a_model_that_needs_real_numbers(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = {"source": "torchvision", "name": "regnet_x_400mf"}
    assert print_model(parse_config(changed(tree, model=model))) == 0
    assert "torchvision regnet_x_400mf at 32 x 32 px" in capsys.readouterr().out


def test_summary_of_a_model_that_is_none(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert print_model(parse_config(changed(tree, model__name="resnet5O"))) == 2
    assert "error: `model.name` (resnet5O) is not a timm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "name", "size", "published_gflop"),
    [("timm", "resnet50", 224, 2 * 4.1), ("torchvision", "vit_b_16", 224, 2 * 17.6), ("timm", "vgg11", 224, 2 * 7.6)],
)
def test_flops_are_the_published_ones(source: str, name: str, size: int, published_gflop: float) -> None:
    with torch.device("meta"):
        network = build_model(ModelConfig(source=source, name=name, pretrained=False), 1000, size)  # type: ignore[arg-type]
        assert forward_flops(network.module, (size, size)) / 1e9 == pytest.approx(published_gflop, rel=0.05)


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


def test_names_that_match_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_names("squezenet") == 2
    assert "no model of timm or torchvision matches 'squezenet'" in capsys.readouterr().err
