"""A picture whose pixels are there already: its size, and parts of it."""

import numpy as np

from dist_train.data.decoding.picture import Decoded, part

IMAGE = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def test_the_size_is_height_and_width() -> None:
    assert Decoded(IMAGE).size == (5, 7)


def test_a_part_is_a_contiguous_array_of_its_own() -> None:
    top, left, height, width = box = (1, 2, 3, 4)
    for found in (part(IMAGE, box), Decoded(IMAGE).pixels(box)):
        assert found.shape == (height, width, 3)
        assert found[0, 0].tolist() == IMAGE[top, left].tolist()
        assert found[-1, -1].tolist() == IMAGE[top + height - 1, left + width - 1].tolist()
        assert found.flags.c_contiguous
        assert not np.shares_memory(found, IMAGE)
