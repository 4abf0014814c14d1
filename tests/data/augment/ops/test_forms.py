"""The forms in which operations take an image."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2

from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place, Sample, form_of
from dist_train.data.augment.ops.seeded import seeded_generators
from dist_train.seeding import fold_in
from tests.support.ops import Invert, Noise, ops

PLACE = Place(32, 32, (124, 116, 104), "bicubic")
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def applied(entry: Any, key: int) -> Any:
    return Chain(ops(entry), PLACE)(IMAGE, key, ())


@pytest.mark.parametrize(
    ("entry", "theirs"),
    [
        ({"name": "torchvision.transforms.v2:RandomAutocontrast", "p": 0.5}, v2.RandomAutocontrast(0.5)),
        ({"name": "torchvision.transforms.v2:RandomErasing", "p": 0.7, "value": 9}, v2.RandomErasing(0.7, value=9)),
        ({"name": "torchvision.transforms:AugMix", "severity": 5}, transforms.AugMix(5)),
        ({"name": "torchvision.transforms.v2:GaussianBlur", "kernel_size": 5}, v2.GaussianBlur(5)),
    ],
)
def test_a_transform_of_torchvision_gets_a_tensor_and_its_own_p(entry: Any, theirs: Any) -> None:
    for key in range(5):
        with seeded_generators(fold_in(key, "ops")):
            expected = theirs(torch.from_numpy(IMAGE).permute(2, 0, 1).contiguous())
        assert np.array_equal(applied(entry, key), expected.permute(1, 2, 0).numpy()), theirs


def test_a_class_without_p_is_applied_as_random_apply_does() -> None:
    entry = {"name": "torchvision.transforms.v2:ColorJitter", "brightness": 0.5, "hue": 0.2, "p": 0.4}
    theirs = v2.RandomApply([v2.ColorJitter(brightness=0.5, hue=0.2)], 0.4)
    for key in range(8):
        with seeded_generators(fold_in(key, "ops")):
            expected = theirs(torch.from_numpy(IMAGE).permute(2, 0, 1).contiguous())
        assert np.array_equal(applied(entry, key), expected.permute(1, 2, 0).numpy())


def test_a_subclass_of_a_library_has_its_form_and_others_get_an_array() -> None:
    assert np.array_equal(form_of(Invert(), 0)(IMAGE, Sample(0)), 255 - IMAGE)
    with seeded_generators(5):
        found = form_of(Noise(), 0)(IMAGE, Sample(7))
    with seeded_generators(5):
        generator = np.random.default_rng(fold_in(7, "own"))
        drawn = (generator.integers(9), random.randrange(9), np.random.randint(9), int(torch.randint(9, ())))
    assert np.array_equal(found, IMAGE + np.uint8(sum(drawn)))


@pytest.mark.parametrize(
    "name",
    ["GaussNoise", "CLAHE", "ElasticTransform", "RandomBrightnessContrast", "CoarseDropout", "HueSaturationValue"],
)
def test_a_transform_of_albumentations_is_seeded_by_sample(name: str) -> None:
    albumentations = pytest.importorskip("albumentations")
    entry = {"name": f"albumentations:{name}", "p": 0.8}
    theirs = getattr(albumentations, name)(p=0.8)
    found = [applied(entry, key) for key in range(6)]
    for key, image in enumerate(found):
        theirs.set_random_seed(fold_in(key, "op", 0) & 0xFFFFFFFF)
        with seeded_generators(fold_in(key, "ops")):
            assert np.array_equal(image, theirs(image=IMAGE)["image"])
    assert all(np.array_equal(applied(entry, key), image) for key, image in enumerate(found))


def test_an_option_that_albumentations_does_not_know_is_an_error() -> None:
    pytest.importorskip("albumentations")
    with pytest.raises(Exception, match=r"`augment.ops.0` \(albumentations:CLAHE\) does not take its `options`: .*foo"):
        applied({"name": "albumentations:CLAHE", "foo": 3}, 0)
