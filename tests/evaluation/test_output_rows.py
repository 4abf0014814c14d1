"""Rows of all ranks, in the order of the samples."""

import pytest
import torch

from dist_train.distributed.group import Dist
from dist_train.evaluation import output_rows
from dist_train.evaluation.output_rows import OutputRows


@pytest.mark.parametrize("flush_bytes", [1, output_rows.FLUSH_BYTES])
def test_each_row_lies_at_its_sample(monkeypatch: pytest.MonkeyPatch, flush_bytes: int) -> None:
    monkeypatch.setattr(output_rows, "FLUSH_BYTES", flush_bytes)
    rows = OutputRows(3, 2, torch.device("cpu"))
    rows.add(torch.tensor([[5.0, 6.0], [1.0, 2.0]]), torch.tensor([2, 0]))
    rows.add(torch.tensor([[9.0, 9.0]]), torch.tensor([3]))  # of an image that cannot be read
    found = rows.of_all_ranks(Dist.alone())
    assert found is not None
    assert found.tolist() == [[1, 2], [0, 0], [5, 6]]
