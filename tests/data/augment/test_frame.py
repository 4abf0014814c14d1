"""From images of any shape to a square: sizes are timm's and torchvision's, and every mode follows the training's."""

from typing import Any

import pytest
import timm
import torch
import torchvision.models as tv
from timm.data import create_transform

from dist_train.config import Config, parse_config
from dist_train.data.augment.frame import Frame, evaluation_frame, kept_share, shorter_side, training_frame
from dist_train.model.build import build_model
from dist_train.model.network import Network, mean_colour
from tests.data.augment.test_on_cpu import augment

MODELS = timm.list_models(["vit_*", "resnet*", "efficientnet*", "convnext*", "swin*", "eva02*"], pretrained=True)


def config(augment: dict[str, Any], evaluation: dict[str, Any]) -> Config:
    tree = {
        "run": {"name": "a"},
        "model": {"name": "test_vit.r160_in1k", "pretrained": False},
        "data": {"root": ".", "image_size": 64, "mean": [0.5, 0.25, 0.0]},
        "augment": augment,
        "eval": evaluation,
        "optim": {"lr": 0.1},
        "train": {"global_batch": 2},
    }
    return parse_config(tree)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    cfg = config({}, {})
    return build_model(cfg.model, 3, cfg.data.image_size, load=False)


def test_the_shorter_side_is_timms_and_torchvisions() -> None:
    ends = [(cfg.input_size[-1], cfg.crop_pct) for name in MODELS if (cfg := timm.get_pretrained_cfg(name))]
    assert (224, 0.9) in ends
    assert shorter_side(224, 0.9) == 248
    for size, crop_pct in set(ends):
        (resize, *_) = create_transform(size, crop_pct=crop_pct).transforms
        assert shorter_side(size, crop_pct) == resize.size
    for name in tv.list_models(module=tv, include=["resnet*", "efficientnet*", "vit*", "swin*", "regnet*"]):
        for weights in tv.get_model_weights(name):
            preset = weights.transforms()
            assert (
                shorter_side(preset.crop_size[0], preset.crop_size[0] / preset.resize_size[0]) == preset.resize_size[0]
            )


def test_evaluation_keeps_all_of_the_image_unless_training_crops() -> None:
    assert kept_share(augment(), 0.875) == 1.0
    assert kept_share(augment(crop="random_resized"), 0.875) == 0.875


@pytest.mark.parametrize(
    ("training", "evaluation", "mode", "zoomed"),
    [
        ("center", "auto", "center", False),
        ("random_resized", "auto", "center", True),
        ("squash", "auto", "squash", False),
        ("pad", "auto", "pad", False),
        ("random_resized", "center", "center", True),
        ("random_resized", "squash", "squash", True),
        ("squash", "center", "center", False),
        ("center", "pad", "pad", False),
    ],
)
def test_evaluation_sees_images_as_training_unless_told_otherwise(
    training: str, evaluation: str, mode: str, zoomed: bool, network: Network
) -> None:
    cfg = config({"crop": training}, {"crop": evaluation})
    assert network.crop_pct < 1
    shorter = shorter_side(64, network.crop_pct) if zoomed else 64
    assert evaluation_frame(cfg.eval.crop, cfg.augment, cfg.data.mean, network) == Frame(
        mode, 64, shorter, (128, 64, 0)
    )  # type: ignore[arg-type]


def test_training_sees_random_parts_or_a_frame() -> None:
    assert training_frame(augment(crop="random_resized"), 32, (0, 0, 0)) is None
    assert training_frame(augment(crop="pad"), 32, (1, 2, 3)) == Frame("pad", 32, 32, (1, 2, 3))


def test_how_much_of_an_image_is_cut_away() -> None:
    assert Frame("center", 224, 224).cut_away(1080, 1920) == pytest.approx(1 - 9 / 16)
    assert Frame("center", 224, 256).cut_away(500, 500) == pytest.approx(1 - (224 / 256) ** 2)
    assert Frame("squash", 224, 256).cut_away(1080, 1920) == 0
    assert Frame("pad", 224, 256).cut_away(1080, 1920) == 0


def test_sides_of_a_padded_image() -> None:
    frame = Frame("pad", 224, 224)
    assert frame.resized(1080, 1920) == (126, 224)
    assert frame.resized(1, 5000) == (1, 224)
    assert frame.place(126, 224) == (49, 0, 126, 224)


def test_the_margin_is_what_normalisation_makes_zero(network: Network) -> None:
    assert mean_colour(config({}, {}).data.mean, network) == (128, 64, 0)
