"""From images of any shape to the model's input: sizes are timm's and torchvision's, and every mode follows the training's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision.models as tv
from PIL import Image
from timm.data import create_transform

from dist_train.config import Config, parse_config
from dist_train.data.augment.frame import Frame, describe_evaluation, evaluation_frame, scaled_size, training_frame
from dist_train.data.augment.on_cpu import framed
from dist_train.model.build import build_model
from dist_train.model.network import Network, Published, mean_colour
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


def seen(cfg: Config, network: Network) -> Frame:
    return evaluation_frame(cfg, network)


def test_the_shorter_side_is_timms_and_torchvisions() -> None:
    ends = [(cfg.input_size[-1], cfg.crop_pct) for name in MODELS if (cfg := timm.get_pretrained_cfg(name))]
    assert (224, 0.9) in ends
    assert scaled_size((224, 448), 0.9) == (248, 497)
    for size, crop_pct in set(ends):
        (resize, *_) = create_transform(size, crop_pct=crop_pct).transforms
        assert scaled_size((size, size), crop_pct) == (resize.size, resize.size)
    for name in tv.list_models(module=tv, include=["resnet*", "efficientnet*", "vit*", "swin*", "regnet*"]):
        for weights in tv.get_model_weights(name):
            preset = weights.transforms()
            (size,), (resized,) = preset.crop_size, preset.resize_size
            assert scaled_size((size, size), size / resized) == (resized, resized)


@pytest.mark.parametrize(
    ("training", "evaluation", "mode", "zoomed"),
    [
        ("center", "auto", "center", False),
        ("random_resized", "auto", "center", True),
        ("random_resized", "published", "center", True),
        ("squash", "auto", "squash", False),
        ("squash", "published", "squash", False),
        ("pad", "auto", "pad", False),
        ("random_resized", "center", "center", True),
        ("random_resized", "squash", "squash", False),
        ("squash", "center", "center", False),
        ("center", "pad", "pad", False),
    ],
)
def test_evaluation_sees_images_as_training_unless_told_otherwise(
    training: str, evaluation: str, mode: Any, zoomed: bool, network: Network
) -> None:
    assert network.published.crop_pct < 1
    scaled = scaled_size((64, 64), network.published.crop_pct) if zoomed else (64, 64)
    cfg = config({"crop": training}, {"crop": evaluation})
    assert seen(cfg, network) == Frame(mode, (64, 64), scaled, (128, 64, 0))


OTHER = Published(0.5, "squash", "bilinear", test=((80, 96), 0.8))


@pytest.mark.parametrize(
    ("training", "evaluation", "frame"),
    [
        ("random_resized", {}, Frame("squash", (80, 96), (100, 120), interpolation="bilinear")),
        ("random_resized", {"size": "train"}, Frame("squash", (64, 64), (128, 128), interpolation="bilinear")),
        ("random_resized", {"size": [32, 48], "crop_pct": 1}, Frame("squash", (32, 48), (32, 48), interpolation="bilinear")),
        ("random_resized", {"crop": "squash", "size": 96}, Frame("squash", (96, 96), (96, 96), interpolation="bilinear")),
        ("random_resized", {"crop": "pad", "crop_pct": 0.5}, Frame("pad", (80, 96), (160, 192), interpolation="bilinear")),
        ("center", {}, Frame("center", (64, 64), (64, 64), interpolation="bilinear")),
        ("center", {"crop_pct": 0.5, "interpolation": "nearest"}, Frame("center", (64, 64), (128, 128), interpolation="nearest")),
        # what the code before these keys did
        ("random_resized", {"crop": "auto", "interpolation": "bicubic", "size": "train"}, Frame("center", (64, 64), (128, 128))),
        ("pad", {"crop": "auto", "interpolation": "bicubic", "size": "train"}, Frame("pad", (64, 64), (64, 64))),
    ],
)  # fmt: skip
def test_what_a_model_was_published_with_follows_random_crops(
    training: str, evaluation: dict[str, Any], frame: Frame, network: Network
) -> None:
    found = seen(config({"crop": training}, evaluation), replace(network, published=OTHER))
    assert found == replace(frame, fill=(128, 64, 0))


def test_training_sees_random_parts_or_a_frame() -> None:
    assert training_frame(augment(crop="random_resized"), (32, 32), (0, 0, 0)) is None
    found = training_frame(augment(crop="pad", interpolation="nearest"), (32, 48), (1, 2, 3))
    assert found == Frame("pad", (32, 48), (32, 48), (1, 2, 3), "nearest")


@pytest.mark.parametrize("mode", ["center", "squash", "pad"])
@pytest.mark.parametrize("size", [(24, 24), (24, 40), (40, 24)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (50, 50), (31, 97)])
def test_every_frame_is_timms(mode: Any, size: Any, crop_pct: float, shape: tuple[int, int]) -> None:
    """For any shape of the image and the input; timm resizes PIL images, so that values differ by rounding."""
    noise = np.random.default_rng(0).integers(0, 256, (*(side // 4 for side in shape), 3), dtype=np.uint8)
    image = np.array(Image.fromarray(noise).resize(shape[::-1], Image.Resampling.BICUBIC))
    kind = {"pad": "border"}.get(mode, mode)
    theirs = create_transform(
        (3, *size), crop_pct=crop_pct, crop_mode=kind, interpolation="bicubic", mean=(0.5, 0.5, 0.5), normalize=False
    )
    expected = theirs(Image.fromarray(image)).permute(1, 2, 0).numpy().astype(int)
    found = framed(image, Frame(mode, size, scaled_size(size, crop_pct), (128, 128, 128))).astype(int)
    assert found.shape == (*size, 3)
    assert np.abs(found - expected).max() <= 3


def test_how_much_of_an_image_is_cut_away() -> None:
    square = (224, 224)
    assert Frame("center", square, square).cut_away(1080, 1920) == pytest.approx(1 - 9 / 16)
    assert Frame("center", square, (256, 256)).cut_away(500, 500) == pytest.approx(1 - (224 / 256) ** 2)
    assert Frame("center", (224, 448), (224, 448)).cut_away(500, 1000) == 0
    assert Frame("squash", square, square).cut_away(1080, 1920) == 0
    assert Frame("squash", square, (256, 256)).cut_away(1080, 1920) == pytest.approx(1 - (224 / 256) ** 2)
    assert Frame("pad", square, square).cut_away(1080, 1920) == 0


def test_sides_of_a_padded_image() -> None:
    frame = Frame("pad", (224, 224), (224, 224))
    assert frame.resized(1080, 1920) == (126, 224)
    assert frame.resized(1, 5000) == (1, 224)
    assert frame.place(126, 224) == (49, 0, 126, 224)


def test_the_margin_is_what_normalisation_makes_zero(network: Network) -> None:
    assert mean_colour(config({}, {}).data, network) == (128, 64, 0)


def test_the_log_says_how_an_evaluation_sees_images(network: Network) -> None:
    frame = Frame("center", (64, 96), (128, 192))
    assert describe_evaluation(frame, network) == (
        "evaluation: an image is resized (bicubic) until it covers 128 x 192 px (height x width), and the middle, 64 x 96 px, "
        "is evaluated"
    )
    aside = replace(network, published=Published(left_aside="this model takes images of one size only"))
    assert describe_evaluation(frame, aside).endswith(
        "; not at the size of its published test: this model takes images of one size only"
    )
    tested = replace(network, image_size=frame.size, published=OTHER)
    assert describe_evaluation(frame, tested).endswith(
        "its published test, after random_resized crops, has 80 x 96 px (`eval.size`)"
    )
