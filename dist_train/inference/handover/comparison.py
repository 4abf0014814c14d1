"""Whether a file that was written computes the same as the model: both get the same made-up images."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dist_train.data.augment.frame import evaluation_frame
from dist_train.errors import DistTrainError
from dist_train.evaluation.calibration import Calibration

if TYPE_CHECKING:
    from dist_train.inference.open_run import OpenedRun

TOLERANCE = 1e-3
"""The largest allowed difference of an output, relative to the largest output; with float32 it is about 1e-6."""


def noise(run: "OpenedRun", images: int) -> Tensor:
    """Return a batch of made-up images for the model, float32 [B, C, H, W]."""
    shape = run.network.blank_shape(images, evaluation_frame(run.config, run.network).size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(images))


def calibrated(run: "OpenedRun") -> nn.Module:
    """Return the model of a run, with the temperature if one was fitted."""
    return run.model if run.calibration is None else _Calibrated(run.model, run.calibration).eval()


class _Calibrated(nn.Module):
    """A model whose outputs are divided by the temperature."""

    def __init__(self, module: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self._module, self._calibration = module, calibration

    def forward(self, images: Tensor) -> Tensor:
        return self._calibration.applied(self._module(images))


def compare(path: Path, expected: Tensor, found: Tensor, tolerance: float = TOLERANCE) -> None:
    """Print by how much outputs [B, K] differ.

    Raises:
        DistTrainError: by more than ``tolerance``, relative to the largest one.
    """
    difference = float((expected - found).abs().max())
    largest = float(expected.abs().max())
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, outputs differ by at most {difference:.2g} (the largest output is {largest:.3g})"
    )
    if not difference <= tolerance * max(1.0, largest):
        raise DistTrainError(
            f"{path} does not compute the same as the model: outputs differ by {difference:.2g}, and at most "
            f"{tolerance:g} of the largest output is allowed; do not use this file"
        )
