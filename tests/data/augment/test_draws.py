"""Random draws follow torchvision's distributions and depend only on the key."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torchvision.transforms import v2

from dist_train.data.augment.draws import CODES, OPERATIONS, SIGNED, Drawer, magnitude, operation
from tests.data.augment.test_on_cpu import augment


class Recorder(v2.RandAugment):  # type: ignore[misc]
    """torchvision's RandAugment, which notes what it drew and does nothing."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.drawn: list[tuple[str, float]] = []

    def _apply_image_or_video_transform(self, image: Any, name: str, amount: float, **_: Any) -> Any:
        self.drawn.append((name, amount))
        return image


@pytest.mark.parametrize("level", [0, 9, 14, 30])
def test_operations_and_magnitudes_are_what_torchvision_draws(level: int) -> None:
    draw = Drawer(augment(hflip=0.5, randaugment={"num_ops": 3, "magnitude": level}))
    image = torch.zeros((3, 48, 70), dtype=torch.uint8)
    for key in range(100):
        theirs = Recorder(3, level)
        torch.manual_seed(key)
        flip = bool(torch.rand(()) < 0.5)
        theirs(image)
        draws = draw(key, 48, 70)
        assert draws.flip == flip
        found = [(operation(code), magnitude(code, level, 48, 70)) for code in draws.codes]
        assert found == theirs.drawn


@pytest.mark.parametrize(("height", "width"), [(60, 80), (375, 500), (64, 64), (400, 20), (20, 400), (1, 1)])
@pytest.mark.parametrize("keys", [{}, {"crop_scale": [0.9, 1.0], "crop_ratio": [0.5, 0.6]}])
def test_boxes_are_what_torchvision_draws(height: int, width: int, keys: dict[str, Any]) -> None:
    cfg = augment(crop="random_resized", **keys)
    draw = Drawer(cfg)
    theirs = v2.RandomResizedCrop(8, cfg.crop_scale, cfg.crop_ratio)
    image = torch.zeros((3, height, width), dtype=torch.uint8)
    for key in range(60):
        torch.manual_seed(key)
        expected = theirs.make_params([image])
        flip = bool(torch.rand(()) < 0.5)
        draws = draw(key, height, width)
        assert draws.box == (expected["top"], expected["left"], expected["height"], expected["width"])
        assert draws.flip == flip


@pytest.mark.parametrize(
    ("ratio", "height", "width", "box"),
    [([3, 4], 1, 1, (0, 0, 1, 1)), ([0.2, 0.4], 1, 5, (0, 2, 1, 1)), ([3, 4], 5, 1, (2, 0, 1, 1))],
)
def test_a_box_holds_a_pixel_at_least(ratio: list[float], height: int, width: int, box: tuple[int, ...]) -> None:
    draw = Drawer(augment(crop="random_resized", crop_ratio=ratio))
    assert {draw(key, height, width).box for key in range(20)} == {box}


def test_every_operation_sign_and_flip_is_as_frequent_as_it_should_be() -> None:
    draw = Drawer(augment(hflip=0.3, randaugment={"num_ops": 2}))
    drawn = [draw(key, 64, 64) for key in range(14000)]
    codes = Counter(code for draws in drawn for code in draws.codes)
    expected = [28000 / 14 / (2 if operation(code) in SIGNED else 1) for code in CODES]
    assert sum(codes.values()) == 28000
    assert chisquare([codes[code] for code in CODES], expected).pvalue > 0.01
    pairs = Counter(tuple(code // 2 for code in draws.codes) for draws in drawn)
    grid = [pairs[(a, b)] for a in range(14) for b in range(14)]
    assert chisquare(grid).pvalue > 0.01, "the second operation does not depend on the first"
    assert abs(np.mean([draws.flip for draws in drawn]) - 0.3) < 0.02


def test_draws_follow_from_the_key_alone() -> None:
    cfg = augment(crop="random_resized", randaugment={})
    draw = Drawer(cfg)
    first = [draw(key, 64, 64) for key in range(5)]
    torch.rand(3)
    assert [Drawer(cfg)(key, 64, 64) for key in range(5)] == first
    assert len(set(first)) == 5


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Drawer(augment(crop="random_resized", randaugment={}))(1, 64, 64)
    assert torch.equal(torch.rand(2), expected)


def test_codes() -> None:
    assert len(CODES) == 14 + 9
    assert {operation(code) for code in CODES} == set(OPERATIONS)
    assert magnitude(2, 30, 10, 10) == pytest.approx(0.3)
    assert magnitude(3, 30, 10, 10) == pytest.approx(-0.3)
