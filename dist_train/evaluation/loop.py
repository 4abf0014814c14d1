"""Exact evaluation: every sample is scored once, without padding; the result is bit-identical at any world size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from dist_train.data.loader import on_device
from dist_train.distributed.stop import StopRequest
from dist_train.evaluation.metrics import Evaluation, SampleScores
from dist_train.learning.precision import Precision

if TYPE_CHECKING:
    from dist_train.data.pipeline import DataPipeline


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: "DataPipeline",
    precision: Precision,
    stop: StopRequest,
    metrics: Sequence[str],
    keep: bool = False,
) -> Evaluation | None:
    """Score ``model``, in eval mode, on all validation samples of ``data``. Every rank must call it; each scores its own batches.

    The buffers of the model must be the same on all ranks. The result is exact: the batches are the same at any world
    size, and the scores are combined in the order of the data set.

    Args:
        metrics: the names of the metrics to compute: ``metrics.reported``.
        keep: keep the probabilities of all classes, for a classification task.

    Returns:
        The result (``outputs`` only on rank 0); None if the ranks agreed to stop during the evaluation.
    """
    model.eval()
    index, group, loader = data.index, data.group, data.validation
    length = len(index.val)
    scores = SampleScores(index.val, index.task, index.outputs, group.device, metrics, keep)
    batches = on_device(loader, group.device)
    batch_size = loader.batch_sampler.batch_size  # type: ignore[union-attr]
    stop.new_pace()
    for _ in range(-(-length // (batch_size * group.world_size))):
        if stop.agreed():
            return None
        batch = next(batches, None)
        if batch is not None:
            images, labels, indices = batch
            with precision.autocast():
                logits = model(data.normalise(images))
            scores.add(logits, labels, indices)
    stop.new_pace()
    return scores.read(group)
