"""From a model's outputs to probabilities, and back, by task."""

import torch
from torch import Tensor

from dist_train.config.choice_table import Task


def activated(task: Task, logits_BK: Tensor) -> Tensor:
    """Return probabilities (softmax or sigmoid) float32 [B, K]; the outputs of a regression are left as they are."""
    logits_BK = logits_BK.float()
    if task == "classification":
        return logits_BK.softmax(1)
    return logits_BK.sigmoid() if task == "multilabel" else logits_BK


def inverted(task: Task, probabilities_BK: Tensor) -> Tensor:
    """Return outputs [B, K] that ``activated`` maps to these probabilities, in the same dtype."""
    if task == "classification":
        return probabilities_BK.clamp_min(torch.finfo(torch.float32).tiny).log()
    return probabilities_BK.logit(eps=1e-7) if task == "multilabel" else probabilities_BK


def mean_outputs(task: Task, each: list[Tensor]) -> Tensor:
    """Return outputs float32 [B, K] whose probabilities are the mean of those in ``each``, [B, K] probabilities.

    The mean of a regression is that of its numbers. It is computed in float64.
    """
    return inverted(task, torch.stack(each).double().mean(0).float())
