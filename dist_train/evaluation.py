"""Exact evaluation: every sample once, none padded, the same digits at any world size."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from dist_train.data.dataset import Batch
from dist_train.data.device import Normalise
from dist_train.data.loader import on_device
from dist_train.distributed import Dist
from dist_train.metrics import SampleScores
from dist_train.precision import Precision
from dist_train.preempt import StopRequest


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and the class that each validation image was taken for, in data-set order."""

    scores: dict[str, float]
    predicted_N: NDArray[np.int32]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: DataLoader[Batch],
    length: int,
    group: Dist,
    normalise: Normalise,
    precision: Precision,
    stop: StopRequest,
) -> Evaluation | None:
    """Score ``model``, in eval mode, on all ``length`` samples; every rank works on its own batches.

    Buffers must be the same on all ranks. The result is exact: batches are the same at any world size, and
    scores are summed in float64 in the order of the data set.

    Returns:
        The same on every rank; None if the ranks agreed to stop on the way.
    """
    model.eval()
    scores = SampleScores(length, group.device)
    batches = on_device(loader, group.device)
    batch_size = loader.batch_sampler.batch_size  # type: ignore[union-attr]
    for _ in range(-(-length // (batch_size * group.world_size))):
        if stop.agreed():
            return None
        batch = next(batches, None)
        if batch is not None:
            images, labels, indices = batch
            with precision.autocast():
                logits = model(normalise(images))
            scores.add(logits, labels, indices)
    return Evaluation(scores.read(group), scores.predicted_N)
