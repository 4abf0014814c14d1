"""Policies are those of timm's ``create_transform``: the same bits, and no crash at posterize to 0 bits."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment, create_transform

from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.ops.seeded import seeded_generators
from dist_train.data.augment.ops.timm_policies import posterize
from dist_train.seeding import fold_in
from tests.support.ops import ops

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
MEAN = (0.485, 0.456, 0.406)
PLACE = Place(40, 40, (124, 116, 104), "bicubic")


def by_timm(policy: str, interpolation: str) -> Any:
    """The part of timm's whole training transform that the policy is."""
    parts = create_transform(
        40,
        is_training=True,
        auto_augment=policy,
        interpolation=interpolation,
        mean=MEAN,
        separate=True,
        color_jitter=0.0,
    )
    (found,) = [
        part
        for part in parts[1].transforms
        if isinstance(part, auto_augment.RandAugment | auto_augment.AutoAugment | auto_augment.AugMixAugment)
    ]
    return found


@pytest.mark.parametrize("interpolation", ["bicubic", "random"])
@pytest.mark.parametrize(
    "policy", ["rand-m9-mstd0.5-inc1", "rand-m7-n3-tweights", "augmix-m3-w2", "original-mstd0.5", "3a"]
)
def test_each_is_timms_to_the_bit(policy: str, interpolation: str) -> None:
    chain = Chain(ops({"name": "timm", "policy": policy, "interpolation": interpolation}), PLACE)
    theirs = by_timm(policy, interpolation)
    compared = 0
    for key in range(16):
        with seeded_generators(fold_in(key, "ops")):
            try:
                expected = np.asarray(theirs(Image.fromarray(IMAGE)))
            except ValueError:  # Pillow 13 refuses 0 bits
                continue
        assert np.array_equal(chain(IMAGE, key, ()), expected)
        compared += 1
    assert compared > 10


def test_three_augment_is_one_of_three() -> None:
    chain = Chain(ops("three_augment"), PLACE)
    grey = solarized = 0
    for key in range(300):
        found = chain(IMAGE, key, ())
        grey += bool((found.max(2) == found.min(2)).all())
        solarized += bool(np.array_equal(found, np.where(IMAGE < 128, IMAGE, 255 - IMAGE)))
    assert grey / 300 == pytest.approx(1 / 3, abs=0.09)
    assert solarized / 300 == pytest.approx(1 / 3, abs=0.09)


def test_no_policy_stops_at_posterize_to_no_bits() -> None:
    for policy in ("rand-m10-n3-p1-inc1", "rand-m20-mmax30-n3-p1-inc1", "rand-m0-n3-p1", "v0", "augmix-m10"):
        chain = Chain(ops(policy), PLACE)
        assert all(chain(IMAGE, key, ()).shape == IMAGE.shape for key in range(30))


def test_posterize_to_no_bits_is_black_and_otherwise_pillows() -> None:
    image = Image.fromarray(IMAGE)
    for bits in (0, -4):
        assert not np.asarray(posterize(image, bits, fillcolor=0)).any()
    for bits in (1, 4, 8):
        assert np.array_equal(np.asarray(posterize(image, bits)), IMAGE & ~np.uint8(2 ** (8 - bits) - 1))
