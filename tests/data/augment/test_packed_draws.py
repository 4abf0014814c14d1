"""Draws as tensors: one row per sample, and the samples sorted by what happens to them."""

from dist_train.data.augment.draws import Draws
from dist_train.data.augment.packed_draws import BOX, FLIP, OPERATIONS, packed

DRAWS = [Draws((1, 2, 3, 4), True, (5, 0)), Draws(None, False, (2, 9)), Draws((0, 0, 9, 9), False, (7, 4))]


def test_each_sample_has_its_row() -> None:
    table, _ = packed(DRAWS)
    assert table[:, BOX].tolist() == [[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 9, 9]]
    assert table[:, FLIP].tolist() == [1, 0, 0]
    assert table[:, OPERATIONS].tolist() == [[5, 0], [2, 9], [7, 4]]


def test_rows_sort_the_samples_by_flip_and_by_each_operation() -> None:
    _, rows = packed(DRAWS)
    assert rows.tolist() == [[1, 2, 0], [1, 0, 2], [0, 2, 1]]
