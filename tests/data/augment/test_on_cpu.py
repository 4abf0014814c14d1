"""Pixels: the recipes are torchvision's, with our keys for its options."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision.models as tv
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode, v2

from dist_train.config import parse_config
from dist_train.config.sections.augment import AugmentConfig
from dist_train.data.augment.on_cpu import (
    evaluation_transform,
    kept_share,
    shorter_side,
    training_transform,
    without_draws,
)
from dist_train.data.decoding.picture import Decoded
from dist_train.errors import ConfigError

MODELS = timm.list_models(["vit_*", "resnet*", "efficientnet*", "convnext*", "swin*", "eva02*"], pretrained=True)

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8), np.ones((5, 5, 1), np.uint8))
"""60 rows of 80 pixels in blocks."""


def seeded(transform: Any, image: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    """What a transform of torchvision's makes of an image."""
    torch.manual_seed(seed)
    return np.asarray(transform(Image.fromarray(image))).astype(int)


def trained(cfg: AugmentConfig, size: int, image: Any, key: int = 0) -> np.ndarray[Any, Any]:
    target = np.full((size, size, 3), 99, dtype=np.uint8)
    before = image.copy()
    training_transform(cfg, size)(Decoded(image), key, target)
    assert np.array_equal(image, before)
    return target.astype(int)


def augment(**keys: Any) -> AugmentConfig:
    tree = {
        "run": {"name": "a"},
        "model": {"name": "test_vit"},
        "data": {"root": "."},
        "augment": keys,
        "optim": {"lr": 0.1},
        "train": {"global_batch": 2},
    }
    return parse_config(tree).augment


def test_evaluation_is_resize_and_crop_of_torchvision() -> None:
    ours = evaluation_transform(32, 0.8)(PHOTO).astype(int)
    theirs = seeded(v2.Compose([v2.Resize(40, InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(32)]), PHOTO)
    assert ours.shape == (32, 32, 3)
    assert np.abs(ours - theirs).max() <= 2  # uint8 tensors against PIL


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


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    assert np.array_equal(trained(augment(hflip=0.0), 32, PHOTO), evaluation_transform(32, 1.0)(PHOTO))
    placed = np.zeros((32, 32, 3), dtype=np.uint8)
    without_draws(evaluation_transform(32, 1.0))(Decoded(PHOTO), 0, placed)
    assert np.array_equal(placed, evaluation_transform(32, 1.0)(PHOTO))


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = PHOTO[:32, :32]
    assert np.array_equal(trained(augment(hflip=0.0), 32, image), image)
    assert np.array_equal(trained(augment(hflip=1.0), 32, image), image[:, ::-1])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_resizing_is_torchvisions_of_uint8_tensors(interpolation: Any) -> None:
    expected = v2.functional.resize(
        torch.from_numpy(PHOTO).permute(2, 0, 1).contiguous(), [24], InterpolationMode(interpolation), antialias=True
    )
    found = trained(augment(hflip=0.0, interpolation=interpolation), 24, PHOTO)
    assert np.array_equal(found, v2.functional.center_crop(expected, [24, 24]).permute(1, 2, 0).numpy())


def test_the_imagenet_crop_is_torchvisions() -> None:
    keys = {"crop": "random_resized", "crop_scale": [0.3, 0.5], "crop_ratio": [0.5, 1.0], "hflip": 0.0}
    theirs = v2.Compose(
        [v2.PILToTensor(), v2.RandomResizedCrop(24, (0.3, 0.5), (0.5, 1.0), InterpolationMode.BILINEAR, antialias=True)]
    )
    cfg = augment(**keys, interpolation="bilinear")
    for seed in range(5):
        assert np.array_equal(trained(cfg, 24, PHOTO, seed), seeded(theirs, PHOTO, seed).transpose(1, 2, 0))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_rand_augment_is_torchvisions_with_every_option_explicit(interpolation: str) -> None:
    keys = {"num_ops": 3, "magnitude": 14, "interpolation": interpolation, "fill": [1, 2, 3]}
    theirs = v2.RandAugment(3, 14, interpolation=InterpolationMode(interpolation), fill=[1, 2, 3])
    cfg = augment(hflip=0.5, randaugment=keys)
    image = np.ascontiguousarray(PHOTO[:32, :32])
    different = 0
    for seed in range(12):
        torch.manual_seed(seed)
        flipped = image[:, ::-1] if torch.rand(()) < 0.5 else image
        expected = np.asarray(theirs(Image.fromarray(flipped))).astype(int)
        found = trained(cfg, 32, image, seed)
        assert np.array_equal(found, expected) if interpolation == "nearest" else near(found, expected)
        different += not np.array_equal(found, image)
    assert different > 8


def near(found: Any, expected: Any) -> bool:
    """Warps under bilinear differ from Pillow's by a level here and there, and what comes after may amplify that."""
    away = np.abs(found - expected)
    return bool(away.max() <= 6 and (away > 0).mean() < 0.1)


def test_the_fill_is_what_shifted_images_leave_bare() -> None:
    image = np.full((32, 32, 3), 255, dtype=np.uint8)
    cfg = augment(randaugment={"magnitude": 30, "num_ops": 1, "fill": [9, 8, 7]})
    colours = {tuple(pixel) for key in range(40) for pixel in trained(cfg, 32, image, key).reshape(-1, 3).tolist()}
    assert (9, 8, 7) in colours


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"crop_scale": [1.0, 0.5]}, r"`augment.crop_scale`: 1.0 is more than 0.5: write the smaller bound first"),
        ({"crop": "random"}, r"`augment.crop` \('random'\) must be one of center, random_resized"),
        (
            {"randaugment": {"magnitude": 31}},
            r"`augment.randaugment.magnitude` \(31\) must be less than or equal to 30",
        ),
        (
            {"randaugment": {"fill": [0, 0, 256]}},
            r"`augment.randaugment.fill.2` \(256\) must be less than or equal to 255",
        ),
        ({"erasing_fill": "black"}, r"`augment.erasing_fill` \('black'\) must be one of mean, colour, noise"),
        ({"erase": 0.1}, r"`augment.erase` is not a key: did you mean `augment.erasing`"),
    ],
)
def test_keys_that_are_wrong(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        augment(**keys)
