"""Near duplicates, found without comparing all pairs."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dist_train.data.doctor import near
from dist_train.data.doctor.near import crowded, near_pairs
from dist_train.data.doctor.signatures import small
from tests.support.textures import texture

Pixels = NDArray[np.uint8]


def resized(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def test_copies_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    originals = [texture(rng) for _ in range(300)]
    copies = [*(resized(image, 48) for image in originals[:40]), *(image[3:, :61] for image in originals[40:80])]
    copies += [np.clip(image.astype(int) + 12, 0, 255).astype(np.uint8) for image in originals[80:100]]
    pairs = near_pairs(np.stack([small(image) for image in (*originals, *copies)])).tolist()
    planted = {(number, 300 + number) for number in range(100)}
    found = {tuple(pair) for pair in pairs}
    assert len(found & planted) >= 97
    assert len(found - planted) <= 2


def test_pictures_that_say_too_little_and_sets_that_are_too_small() -> None:
    flat = np.full((3, 32, 32), 7, np.uint8)
    assert near_pairs(flat).shape == (0, 2)
    assert near_pairs(flat[:0]).shape == (0, 2)
    assert (crowded(flat), crowded(flat[:0])) == (0, 0)


def test_images_that_look_alike_are_counted_where_not_all_are_compared() -> None:
    picture = small(texture(np.random.default_rng(1)))
    many = np.repeat(picture[None], near.MOST_IN_A_BUCKET + 1, axis=0)
    assert crowded(many) == near.MOST_IN_A_BUCKET + 1
    assert crowded(many[1:]) == 0
