"""Each operation of RandAugment equals torchvision's on a PIL image."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from dist_train.config.ops.options import RandAugment
from dist_train.data.augment.draws import CODES, OPERATIONS, magnitude, operation
from dist_train.data.augment.randaugment_cpu import operations

RNG = np.random.default_rng(0)
SIZE = 61  # odd

NOISE = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
DULL = (NOISE // 4 + np.array([90, 20, 140])).astype(np.uint8)
"""Its channels do not reach 0 and 255."""

SMOOTH = np.stack([np.add.outer(*[np.linspace(start, 120, SIZE)] * 2) for start in (0, 40, 100)], -1).astype(np.uint8)
FEW = np.where(NOISE > 250, NOISE, 7).astype(np.uint8)
"""Nearly all of one value."""

FLAT = np.full((SIZE, SIZE, 3), 200, dtype=np.uint8)
BLACK = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
IMAGES = {"noise": NOISE, "dull": DULL, "smooth": SMOOTH, "few": FEW, "flat": FLAT, "black": BLACK}

WARPS = ("ShearX", "ShearY", "Rotate")


known = lru_cache(operations)


def by_torchvision(pixels: Any, code: int, cfg: RandAugment) -> Any:
    height, width = pixels.shape[:2]
    transform = v2.RandAugment(interpolation=InterpolationMode(cfg.interpolation), fill=list(cfg.fill))
    amount = magnitude(code, cfg.magnitude, height, width)
    if operation(code) == "Posterize":
        amount = int(amount)
    found = transform._apply_image_or_video_transform(
        Image.fromarray(pixels), operation(code), amount, transform.interpolation, transform._fill
    )
    return np.asarray(found)


def ours(pixels: Any, code: int, cfg: RandAugment) -> Any:
    step = known(cfg, len(pixels), len(pixels))[code]
    target = np.full_like(pixels, 99)
    before = pixels.copy()
    if step is None:
        return pixels
    step(pixels, target)
    assert np.array_equal(pixels, before)
    return target


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("level", [0, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str, level: int, interpolation: Any) -> None:
    cfg = RandAugment(magnitude=level, interpolation=interpolation, fill=(1, 2, 253))
    exact = interpolation == "nearest" or name not in WARPS
    codes = [code for code in CODES if operation(code) == name]
    assert len(codes) in (1, 2)
    changed = 0
    for pixels in IMAGES.values():
        for code in codes:
            expected, found = by_torchvision(pixels, code, cfg), ours(pixels, code, cfg)
            if exact:
                assert np.array_equal(found, expected)
            else:
                away = np.abs(found.astype(int) - expected)
                assert away.max() <= 1
                assert (away > 0).mean() <= 0.05
            changed += not np.array_equal(found, pixels)
    assert changed or name == "Identity" or level == 0


@pytest.mark.parametrize("size", [1, 2, 3, 16, 200])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_at_any_size(size: int, interpolation: Any) -> None:
    pixels = RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)
    cfg = RandAugment(magnitude=20, interpolation=interpolation, fill=(0, 128, 255))
    for code in CODES:
        expected, found = by_torchvision(pixels, code, cfg), ours(pixels, code, cfg)
        bound = 1 if interpolation == "bilinear" and operation(code) in WARPS else 0
        assert np.abs(found.astype(int) - expected).max() <= bound, (operation(code), size)


def test_on_smooth_pixels_warps_differ_hardly_at_all() -> None:
    for name in WARPS:
        for code in (2 * OPERATIONS.index(name), 2 * OPERATIONS.index(name) + 1):
            cfg = RandAugment(magnitude=9, interpolation="bilinear")
            assert (ours(SMOOTH, code, cfg) != by_torchvision(SMOOTH, code, cfg)).mean() < 0.005


def test_translations_under_bilinear_are_exact_too() -> None:
    for name in ("TranslateX", "TranslateY"):
        code = 2 * OPERATIONS.index(name)
        results = [ours(NOISE, code, RandAugment(interpolation=mode)) for mode in ("nearest", "bilinear")]  # type: ignore[arg-type]
        assert np.array_equal(*results)
