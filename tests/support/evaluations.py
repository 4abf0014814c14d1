"""Evaluations of random outputs, as ranks would score them."""

from typing import Any

import numpy as np
import torch

from dist_train.config.sections.eval import EvalConfig
from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.evaluation.metric_functions.scored import Scored
from dist_train.evaluation.metrics import Evaluation, SampleScores, reported

ALONE = Dist.alone()
RNG = np.random.default_rng(0)


def evaluated(
    task: Any, logits: torch.Tensor, labels: torch.Tensor, left_out: int = 0, keep: bool = False, **keys: Any
) -> Evaluation:
    """Score by the metrics of ``EvalConfig(**keys)``, in shuffled batches of 7, as ranks would; the last ``left_out`` samples are bad images."""
    length = len(labels)
    split = Split(np.array([b"x"] * length), labels.numpy())
    keys.setdefault("metric", "loss")
    metrics = reported(EvalConfig(**keys), task)
    scores = SampleScores(split, task, logits.shape[1], ALONE.device, metrics, keep)
    places = np.arange(length)
    places[length - left_out :] = length
    order = RNG.permutation(length)
    for start in range(0, length, 7):
        batch = order[start : start + 7]
        outputs = logits[batch]
        scores.add(outputs, labels[batch], torch.from_numpy(places[batch]))
        outputs.fill_(torch.nan)  # as CUDA graphs, which use the memory of their outputs again
    return scores.read(ALONE)


def nine_classes() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of 9 classes; class 7 is never predicted, class 8 is not there at all."""
    labels = torch.from_numpy(RNG.integers(0, 8, 90))
    logits = torch.from_numpy(RNG.normal(size=(90, 9)).astype(np.float32))
    logits[torch.arange(90), labels] += 1.5
    logits[:, 7:] -= 20
    return logits, labels


def spread(found: Scored) -> float:
    """A metric of one's own: the standard deviation of all probabilities."""
    return float(found.all_outputs().std())
