"""Transforms of the user's own: where they are applied, what they may draw, and what is refused."""

from typing import Any

import numpy as np
import pytest

from dist_train.config import parse_config
from dist_train.config.sections.augment import AugmentConfig
from dist_train.data.augment.own_transforms import own_transforms, with_own
from dist_train.data.decoding.picture import RGB, Decoded
from dist_train.errors import ConfigError
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, state_digest

HERE = "tests.data.augment.test_own_transforms"


class Add:
    """Add ``value``, or a random number below it."""

    def __init__(self, value: int, random: bool = False) -> None:
        self.value, self.random = value, random

    def __call__(self, image: RGB, random: np.random.Generator) -> RGB:
        return image + np.uint8(random.integers(self.value) if self.random else self.value)


class Double(Add):
    def __call__(self, image: RGB, random: np.random.Generator) -> RGB:
        return image * np.uint8(2)


class Grey(Add):
    def __call__(self, image: RGB, random: np.random.Generator) -> RGB:
        return np.asarray(image.mean(axis=2))


def augment(tree: dict[str, Any], *transforms: dict[str, Any], **keys: Any) -> AugmentConfig:
    return parse_config(changed(tree, augment__transforms=list(transforms), **keys)).augment


def applied(cfg: AugmentConfig, key: int) -> int:
    target = np.zeros((4, 4, 3), dtype=np.uint8)

    def fill(picture: Decoded, _key: int, target: RGB) -> None:
        target[...] = picture.pixels()

    with_own(fill, cfg, 4)(Decoded(np.full((4, 4, 3), 3, dtype=np.uint8)), key, target)  # type: ignore[arg-type]
    assert target.min() == target.max()
    return int(target[0, 0, 0])


def test_they_follow_the_others_in_their_order(tree: dict[str, Any]) -> None:
    add, double = {"name": f"{HERE}:Add", "options": {"value": 5}}, {"name": f"{HERE}:Double", "options": {"value": 0}}
    assert applied(augment(tree, add, double), key=0) == 16
    assert applied(augment(tree, double, add), key=0) == 11
    assert applied(augment(tree), key=0) == 3


def test_what_they_draw_follows_from_the_key_of_the_sample(tree: dict[str, Any]) -> None:
    cfg = augment(tree, {"name": f"{HERE}:Add", "options": {"value": 200, "random": True}})
    drawn = [applied(cfg, key) for key in range(8)]
    assert drawn == [applied(cfg, key) for key in range(8)]
    assert len(set(drawn)) > 4


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": f"{HERE}:Missing"}, f"`augment.transforms` ({HERE}:Missing): {HERE} has no Missing"),
        ({"name": f"{HERE}:Add"}, f"`augment.transforms` ({HERE}:Add) does not take its `options`: "),
        (
            {"name": f"{HERE}:Grey", "options": {"value": 0}},
            f"`augment.transforms` ({HERE}:Grey) returns float64 [4, 4]; it must return an array uint8 [4, 4, 3]",
        ),
    ],
)
def test_what_is_no_transform_is_named(tree: dict[str, Any], entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        own_transforms(augment(tree, entry), 4)
    assert str(error.value).startswith(words)


def test_they_are_refused_where_images_are_augmented_on_the_device(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"`augment.transforms` work on the CPU, and `augment.device` is true"):
        augment(tree, {"name": f"{HERE}:Add"}, augment__device=True)


def train(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def test_a_resume_is_exact(tree: dict[str, Any]) -> None:
    noise = [{"name": f"{HERE}:Add", "options": {"value": 200, "random": True}}]
    tree = changed(tree, augment__transforms=noise, schedule__name="constant", data__workers=1)
    digests = []
    for name, lengths in (("straight", [2]), ("resumed", [1, 2])):
        for epochs in lengths:
            run = changed(tree, run__name=name, train__epochs=epochs)
            assert run_ranks(1, train, run) == [0]
        digests.append(state_digest(folder(run)))
    assert digests[0] == digests[1]
