"""The operations of a run: in their order, drawn by sample, nothing of this process is moved; what cannot be used is named."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from dist_train.config import parse_config
from dist_train.data.augment.draws import Drawer
from dist_train.data.augment.on_cpu import training_transform
from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.data.decoding.picture import RGB, Decoded
from dist_train.errors import ConfigError, DataError
from dist_train.seeding import fold_in
from tests.data.augment.test_on_cpu import augment
from tests.support.ops import EVERY, HERE, ops
from tests.support.runs import changed, resumes_exactly

PLACE = Place(32, 32, (124, 116, 104), "bicubic")
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
MINE = "tests.data.augment.ops.test_chain"


class Add:
    """Add ``value``, or a random number below it."""

    def __init__(self, value: int, random: bool = False) -> None:
        self.value, self.random = value, random

    def __call__(self, image: RGB, random: np.random.Generator) -> RGB:
        return image + np.uint8(random.integers(self.value) if self.random else self.value)


class Double:
    def __call__(self, image: RGB, random: np.random.Generator) -> RGB:
        return image * np.uint8(2)


def applied(*entries: Any, key: int = 0, image: Any = IMAGE) -> Any:
    return Chain(ops(*entries), PLACE)(image, key, ())


def test_operations_are_applied_in_their_order() -> None:
    add, double = {"name": f"{MINE}:Add", "value": 5}, f"{MINE}:Double"
    three = np.full((32, 32, 3), 3, dtype=np.uint8)
    assert applied(add, double, image=three).max() == 16
    assert applied(double, add, image=three).max() == 11
    assert not Chain([], PLACE)


def test_what_they_draw_follows_from_the_key_of_the_sample() -> None:
    chain = Chain(ops(*EVERY), PLACE)
    codes = (0, 0)
    drawn = [chain(IMAGE, key, codes) for key in (1, 2, 1)]
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])


def test_the_generators_of_this_process_are_what_they_were() -> None:
    chain = Chain(ops(*EVERY), PLACE)

    def states() -> list[Any]:
        return [random.random(), np.random.random(), torch.rand(1).item()]

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = states()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    chain(IMAGE, 3, (0, 0))
    assert states() == expected


def test_own_transforms_draw_what_they_drew_in_0_1_0() -> None:
    entry = {"name": f"{MINE}:Add", "options": {"value": 200, "random": True}}
    for key in range(4):
        generator = np.random.default_rng(fold_in(key, "own"))
        expected = IMAGE + np.uint8(generator.integers(200)) + np.uint8(generator.integers(200))
        assert np.array_equal(applied(entry, entry, key=key), expected)


def test_randaugment_in_any_place_draws_the_same_codes() -> None:
    first, later = augment(hflip=0.0, ops=["randaugment"]), augment(hflip=0.0, ops=[f"{MINE}:Double", "randaugment"])
    assert Drawer(first)(3, 32, 32) == Drawer(later)(3, 32, 32)
    for key in range(6):
        found = [np.zeros((32, 32, 3), dtype=np.uint8) for _ in range(2)]
        training_transform(first, (32, 32))(Decoded(IMAGE * np.uint8(2)), key, found[0])
        training_transform(later, (32, 32))(Decoded(IMAGE), key, found[1])
        assert np.array_equal(*found)


def test_randaugment_is_applied_as_often_as_it_says() -> None:
    draw = Drawer(augment(ops=[{"name": "randaugment", "num_ops": 1, "p": 0.3}]))
    drawn = [draw(key, 32, 32).codes for key in range(2000)]
    assert {len(codes) for codes in drawn} == {1}
    assert sum(codes != (0,) for codes in drawn) / 2000 == pytest.approx(0.3 * 13 / 14, abs=0.03)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("name", ["invert", f"{HERE}:Invert", f"{HERE}:Placed"])
def test_p_is_how_often_an_operation_is_applied(name: str, p: float) -> None:
    chain = Chain(ops({"name": name, "p": p}), Place(2, 2, (0, 0, 0), "bicubic"))
    black = np.zeros((2, 2, 3), dtype=np.uint8)
    share = np.mean([bool(chain(black, key, ()).any()) for key in range(1000)])
    assert share == pytest.approx(p, abs=0.04)
    assert p == 0.2 or share == p


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (f"{MINE}:Missing", f"`augment.ops.0` ({MINE}:Missing): {MINE} has no Missing"),
        (f"{MINE}:Add", f"`augment.ops.0` ({MINE}:Add) does not take its `options`: "),
        (
            f"{HERE}:Wrong",
            f"`augment.ops.0` ({HERE}:Wrong) returns float32 [2, 32, 3]; it must return an image, uint8 [32, 32, 3]",
        ),
        ({"name": f"{HERE}:Placed", "p": 1, "options": {"p": 1}}, f"`augment.ops.0` ({HERE}:Placed) has `p` twice"),
        (
            {"name": "blur", "kernel_size": 101},
            "`augment.ops.0` (blur) cannot be applied to an image of 32 x 32 px: ",
        ),
        (
            {"name": "torchvision.transforms.v2:RandomInvert", "p": 2},
            "`augment.ops.0.p` (2)",
        ),
        (
            {"name": "torchvision.transforms.v2:RandomRotation", "degrees": -2},
            "`augment.ops.0` (torchvision.transforms.v2:RandomRotation) does not take its `options`: ",
        ),
        ("torchvision.transforms.v2:ToPILImage", "returns Image; it must return an image"),
    ],
)
def test_what_cannot_be_used_is_named(tree: dict[str, Any], entry: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Chain(parse_config(changed(tree, augment__ops=[entry])).augment.ops, PLACE)
    assert words in str(error.value)


def test_an_image_of_another_shape_in_mid_run_is_named() -> None:
    with pytest.raises(DataError, match=r"`augment.ops.0` \(.*Wrong\) returns float32 \[2, 32, 3\]; it must return"):
        applied({"name": f"{HERE}:Wrong", "late": True})


def test_they_are_refused_where_images_are_augmented_on_the_device() -> None:
    with pytest.raises(
        ConfigError, match=r"`augment.ops.1` \(vflip\) works on the CPU, and `augment.device` is true; set"
    ):
        augment(device=True, ops=["randaugment", "vflip"])
    with pytest.raises(ConfigError, match=r"`augment.ops` has several randaugment, .* keep one"):
        augment(device=True, ops=["randaugment", "randaugment"])
    assert augment(device=True, ops=["randaugment"]).device


EVERYTHING = {
    "crop": "random_resized",
    "ops": EVERY,
    "repeats": 3,
    "erasing": 0.5,
    "erasing_count": 3,
    "erasing_fill": "noise",
    "mixup": 0.8,
    "cutmix": 1.0,
    "mix_mode": "elem",
    "mix_off_epoch": 1,
}


def check_resume(tree: dict[str, Any], world_size: int, workers: tuple[int, int]) -> None:
    """Train 2 epochs, go back to the middle of the first one, and go on with other loader processes: to the same bits."""
    keys = {"augment": EVERYTHING, "checkpoint": {"every_steps": 1, "keep": 100}, "train__max_steps": 8}
    keys |= {"train__global_batch": 16} if world_size == 4 else {}  # mixed in pairs
    tree = changed(tree, **keys, data__workers=workers[0])
    resumes_exactly(tree, world_size, kept=3, data__workers=workers[1])


def test_a_resume_is_exact_with_everything_on_at_2_ranks(tree: dict[str, Any]) -> None:
    check_resume(tree, 2, (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "workers"), [(1, (3, 0)), (4, (1, 3))])
def test_a_resume_is_exact_with_everything_on(tree: dict[str, Any], world_size: int, workers: tuple[int, int]) -> None:
    check_resume(tree, world_size, workers)


@pytest.mark.slow
def test_albumentations_asks_nobody() -> None:
    """It is imported without a look-up of its newest version, and the environment is as before."""
    pytest.importorskip("albumentations")
    code = (
        "import os, urllib.request, builtins\n"
        "def refuse(*a, **k): raise SystemExit('asked a server')\n"
        "urllib.request.urlopen = refuse; urllib.request.OpenerDirector.open = refuse\n"
        "from tests.support.ops import ops\n"
        "from dist_train.data.augment.ops.chain import Chain\n"
        "from dist_train.data.augment.ops.forms import Place\n"
        "Chain(ops({'name': 'albumentations:HorizontalFlip', 'p': 1}), Place(8, 8, (0, 0, 0), 'bicubic'))\n"
        "assert 'NO_ALBUMENTATIONS_UPDATE' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
