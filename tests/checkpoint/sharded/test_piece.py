"""Rows of a tensor, wherever they lie, are those of the tensor."""

import torch

from dist_train.checkpoint.sharded.piece import Rows


def test_any_rows_are_those_of_the_whole_tensor() -> None:
    whole = torch.arange(14.0).view(7, 2)
    edges, read = [0, 3, 3, 5, 7], list[int]()

    def reader(place: int) -> torch.Tensor:
        read.append(place)
        return whole[edges[place] : edges[place + 1]]

    rows = Rows((7, 2), [(edges[place], lambda place=place: reader(place)) for place in range(4)])  # type: ignore[misc]
    for begin in range(8):
        for end in range(begin, 8):
            assert torch.equal(rows.between(begin, end), whole[begin:end]), (begin, end)
    assert torch.equal(rows.whole(), whole)
    read.clear()
    rows.between(3, 5)
    assert read == [2], "a rank reads what it needs only"
