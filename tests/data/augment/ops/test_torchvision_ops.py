"""Each operation is torchvision's class on a PIL image: the same bits, drawn from the same generator."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from dist_train.config.ops.table import OPS
from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.ops.seeded import seeded_generators
from dist_train.seeding import fold_in
from tests.support.ops import FEWEST, ops

PLACE = Place(48, 48, (124, 116, 104), "bicubic")
IMAGE = np.random.default_rng(0).integers(30, 200, (48, 48, 3), dtype=np.uint8)
BILINEAR = InterpolationMode.BILINEAR

PAIRS: dict[str, tuple[dict[str, Any], Any]] = {
    "vflip": ({"p": 0.6}, v2.RandomVerticalFlip(0.6)),
    "rotation": ({"interpolation": "bilinear", "fill": [1, 2, 3]}, v2.RandomRotation(30, BILINEAR, fill=[1, 2, 3])),
    "affine": (
        {"degrees": 9, "translate": [0.1, 0.2], "scale": [0.8, 1.2], "shear": 5},
        v2.RandomAffine(9, (0.1, 0.2), (0.8, 1.2), 5),
    ),
    "perspective": ({"distortion_scale": 0.4, "p": 0.7}, v2.RandomPerspective(0.4, 0.7)),
    "elastic": ({"alpha": 30.0}, v2.ElasticTransform(30.0)),
    "color_jitter": ({}, v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
    "grayscale": ({"p": 0.5}, v2.RandomGrayscale(0.5)),
    "blur": ({"kernel_size": 7}, v2.GaussianBlur(7)),
    "sharpness": ({}, v2.RandomAdjustSharpness(2.0)),
    "solarize": ({"threshold": 100}, v2.RandomSolarize(100)),
    "posterize": ({}, v2.RandomPosterize(3)),
    "autocontrast": ({}, v2.RandomAutocontrast()),
    "equalize": ({}, v2.RandomEqualize()),
    "invert": ({}, v2.RandomInvert()),
    "trivial_augment_wide": ({"fill": [9, 9, 9]}, v2.TrivialAugmentWide(fill=[9, 9, 9])),
    "auto_augment": ({"policy": "svhn"}, v2.AutoAugment(v2.AutoAugmentPolicy.SVHN)),
    "augmix": ({"severity": 5, "mixture_width": 2}, v2.AugMix(5, 2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_each_is_torchvisions_to_the_bit(name: str) -> None:
    options, theirs = PAIRS[name]
    chain = Chain(ops({"name": name, **FEWEST.get(name, {}), **options}), PLACE)
    different = 0
    for key in range(12):
        with seeded_generators(fold_in(key, "ops")):
            expected = np.asarray(theirs(Image.fromarray(IMAGE)))
        found = chain(IMAGE, key, ())
        assert np.array_equal(found, expected)
        different += not np.array_equal(found, IMAGE)
    assert different > 2


def test_no_operation_of_torchvision_is_forgotten() -> None:
    assert {name for name, row in OPS.rows.items() if "torchvision_ops" in row.build} == PAIRS.keys()


def test_some_of_the_time_is_random_apply() -> None:
    chain = Chain(ops({"name": "rotation", "degrees": 20, "p": 0.3}), PLACE)
    theirs = v2.RandomApply([v2.RandomRotation(20)], 0.3)
    for key in range(12):
        with seeded_generators(fold_in(key, "ops")):
            expected = np.asarray(theirs(Image.fromarray(IMAGE)))
        assert np.array_equal(chain(IMAGE, key, ()), expected)
