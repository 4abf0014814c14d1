"""Features are read as images are: by the same keys, in the same order."""

import numpy as np
import torch

from dist_train.data.loader import on_device
from dist_train.data.loading.feature_set import FeatureSet, evaluation_features, training_features
from dist_train.data.sampler import EvaluationBatches
from dist_train.data.split import Split

SPLIT = Split(np.zeros(7, np.bytes_), np.arange(7) * 10)
FEATURES = FeatureSet(torch.arange(14.0).view(7, 2), SPLIT)
CPU = torch.device("cpu")


def test_batches_follow_the_sampler() -> None:
    keys = [(0, 3), (0, 1), (1, 6), (1, 0, 1)]
    batches = list(on_device(training_features(FEATURES, keys, 2, CPU), CPU))
    assert [batch[2].tolist() for batch in batches] == [[3, 1], [6, 0]]
    values, labels, _ = batches[1]
    assert (values.tolist(), labels.tolist()) == ([[12, 13], [0, 1]], [60, 0])


def test_each_rank_evaluates_its_batches() -> None:
    loader = evaluation_features(FEATURES, EvaluationBatches(7, 2, 1, 2), CPU)
    assert [batch[2].tolist() for batch in on_device(loader, CPU)] == [[2, 3], [6]]
    before = torch.get_rng_state()
    list(on_device(loader, CPU))
    assert torch.equal(before, torch.get_rng_state())
