"""The outputs of a written file beside those of the model."""

from pathlib import Path

import pytest
import torch

from dist_train.errors import DistTrainError
from dist_train.inference.handover.comparison import compare


def test_a_file_that_computes_something_else_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    good = torch.ones(2, 3)
    compare(file, good, good + 1e-5)
    for bad in (good + 0.1, good * torch.nan):
        with pytest.raises(
            DistTrainError, match=r"model.onnx does not compute the same as the model: outputs differ by"
        ):
            compare(file, good, bad)
