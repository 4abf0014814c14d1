"""Pixels: the recipes are torchvision's, with our keys for its options."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from dist_train.config import parse_config
from dist_train.config.sections.augment import AugmentConfig
from dist_train.data.augment.frame import Frame
from dist_train.data.augment.on_cpu import evaluation_transform, framed, training_transform, without_draws
from dist_train.data.decoding.picture import Decoded
from dist_train.errors import ConfigError

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8), np.ones((5, 5, 1), np.uint8))
"""60 rows of 80 pixels in blocks."""

CENTER = Frame("center", (32, 32), (32, 32))


def seeded(transform: Any, image: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    """What a transform of torchvision's makes of an image."""
    torch.manual_seed(seed)
    return np.asarray(transform(Image.fromarray(image))).astype(int)


def trained(cfg: AugmentConfig, size: int, image: Any, key: int = 0) -> np.ndarray[Any, Any]:
    target = np.full((size, size, 3), 99, dtype=np.uint8)
    before = image.copy()
    training_transform(cfg, (size, size))(Decoded(image), key, target)
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
    ours = evaluation_transform(Frame("center", (32, 32), (40, 40)))(PHOTO).astype(int)
    theirs = seeded(v2.Compose([v2.Resize(40, InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(32)]), PHOTO)
    assert ours.shape == (32, 32, 3)
    assert np.abs(ours - theirs).max() <= 2  # uint8 tensors against PIL


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    assert np.array_equal(trained(augment(hflip=0.0), 32, PHOTO), evaluation_transform(CENTER)(PHOTO))
    placed = np.zeros((32, 32, 3), dtype=np.uint8)
    without_draws(evaluation_transform(CENTER))(Decoded(PHOTO), 0, placed)
    assert np.array_equal(placed, evaluation_transform(CENTER)(PHOTO))


def by_torchvision(image: Any, *size: int) -> np.ndarray[Any, Any]:
    pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    resized = v2.functional.resize(pixels, list(size), InterpolationMode.BICUBIC, antialias=True)
    return resized.permute(1, 2, 0).numpy()


def test_squash_shows_the_whole_image() -> None:
    for image in (PHOTO, PHOTO[:, :17]):
        expected = by_torchvision(image, 32, 32)
        assert np.array_equal(trained(augment(crop="squash", hflip=0.0), 32, image), expected)
        assert np.array_equal(
            evaluation_transform(Frame("squash", (32, 32), (32, 32)))(np.ascontiguousarray(image)), expected
        )


@pytest.mark.parametrize("shape", [(60, 80), (80, 20), (1, 500), (32, 9), (9, 9)])
def test_pad_shows_the_whole_image_between_margins(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    height, width = (max(1, round(side * 32 / max(shape))) for side in shape)
    expected = np.full((32, 32, 3), (9, 8, 7), dtype=np.uint8)
    top, left = (32 - height) // 2, (32 - width) // 2
    expected[top : top + height, left : left + width] = by_torchvision(image, height, width)
    assert np.array_equal(evaluation_transform(Frame("pad", (32, 32), (32, 32), (9, 8, 7)))(image), expected)
    target = np.zeros((32, 32, 3), dtype=np.uint8)
    training_transform(augment(crop="pad", hflip=0.0), (32, 32), (9, 8, 7))(Decoded(image), 0, target)
    assert np.array_equal(target, expected)


@pytest.mark.parametrize("crop", ["squash", "pad"])
def test_flip_and_operations_follow_on_any_crop(crop: Any) -> None:
    plain = trained(augment(crop=crop, hflip=0.0), 32, PHOTO)
    assert np.array_equal(trained(augment(crop=crop, hflip=1.0), 32, PHOTO), plain[:, ::-1])
    assert any(
        not np.array_equal(trained(augment(crop=crop, randaugment={}), 32, PHOTO, key), plain) for key in range(3)
    )


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 70_000)])
def test_a_line_of_pixels_is_cut_before_it_is_resized(shape: tuple[int, int]) -> None:
    """Resized first, the longest of these would take 3.5 GB. Each has a middle of another colour."""
    image = np.zeros((*shape, 3), dtype=np.uint8)
    along = image if shape[0] < shape[1] else image.swapaxes(0, 1)
    middle_of_it = along.shape[1] // 2
    along[:, middle_of_it - 20 : middle_of_it + 20] = 200
    found = framed(image, Frame("center", (224, 224), (224, 224)))
    assert found.shape == (224, 224, 3)
    assert (found == 200).all()


def test_cutting_first_changes_pixels_by_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for length in (900, 901):
        image = np.broadcast_to(100 + 90 * np.sin(np.arange(length) / 3)[None, :, None], (7, length, 3)).astype(
            np.uint8
        )
        whole = framed(image, CENTER).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr("dist_train.data.augment.frame.MOST_RESIZED_PIXELS", 32 * 32 * 10)
            first = framed(image, CENTER).astype(int)
        assert whole.std() > 30
        assert np.abs(first - whole).max() <= 2


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
        ({"crop": "rnd"}, r"`augment.crop` \('rnd'\) must be one of center, random_resized, random, squash, pad"),
        (
            {"randaugment": {"magnitude": 31}},
            r"`augment.ops.0`: randaugment: `magnitude` \(31\) must be less than or equal to 30",
        ),
        (
            {"randaugment": {"fill": [0, 0, 256]}},
            r"`augment.ops.0`: randaugment: `fill.2` \(256\) must be less than or equal to 255",
        ),
        ({"erasing_fill": "black"}, r"`augment.erasing_fill` \('black'\) must be one of mean, colour, noise"),
        ({"erase": 0.1}, r"`augment.erase` is not a key: did you mean `augment.erasing`"),
    ],
)
def test_keys_that_are_wrong(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        augment(**keys)


def test_the_random_crop_is_torchvisions_of_the_mirrored_image() -> None:
    """DeiT III: shorter side, margins of 4 mirrored pixels, a random part."""
    cfg = augment(crop="random", hflip=0.0)
    for shape in ((60, 80), (80, 60), (32, 32), (33, 200)):
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        theirs = v2.Compose(
            [
                v2.Resize(32, InterpolationMode.BICUBIC, antialias=True),
                v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            ]
        )
        different = set()
        for seed in range(6):
            torch.manual_seed(seed)
            expected = theirs(pixels).permute(1, 2, 0).numpy()
            found = trained(cfg, 32, image, seed)
            assert np.array_equal(found, expected)
            different.add(found.tobytes())
        assert len(different) > 3


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1)])
def test_so_it_is_of_the_middle_of_a_line_of_pixels(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), dtype=np.uint8)
    along = image if shape[0] < shape[1] else image.swapaxes(0, 1)
    along[:, along.shape[1] // 2 - 20 : along.shape[1] // 2 + 20] = 200
    target = np.zeros((224, 224, 3), dtype=np.uint8)
    for key in range(4):
        training_transform(augment(crop="random", hflip=0.0), (224, 224))(Decoded(image), key, target)
        assert (target == 200).all()


def test_a_flip_of_other_channels_and_levels() -> None:
    for dtype, channels in ((np.uint8, 1), (np.uint8, 4), (np.uint16, 5), (np.uint16, 3)):
        image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (24, 36, channels)).astype(dtype)
        target = np.zeros_like(image)
        for crop in ("squash", "random_resized", "random"):
            cfg = augment(crop=crop, hflip=1.0, crop_scale=[1.0, 1.0], crop_ratio=[1.5, 1.5])
            training_transform(cfg, (24, 36), (0,) * channels)(Decoded(image), 0, target)
            if crop != "random":
                assert np.array_equal(target, image[:, ::-1])
