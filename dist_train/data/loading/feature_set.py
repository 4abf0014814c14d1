"""Features in place of images: a data set whose batches are read from memory."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dist_train.data.dataset import Batch
from dist_train.data.sampler import EvaluationBatches, SampleKey
from dist_train.data.split import Split


class FeatureSet(Dataset[Batch]):
    """The features of a split, float32 [N, D], and its labels. It is read as ``ImageDataset`` is."""

    def __init__(self, values_ND: Tensor, split: Split) -> None:
        self.values, self._split = values_ND, split

    def __len__(self) -> int:
        return len(self.values)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        indices = [index for _, index, *_ in keys]
        return self.values[indices], torch.from_numpy(self._split.labels[indices]), torch.tensor(indices)


def training_features(
    features: FeatureSet, sampler: Iterable[Any], micro_batch: int, device: torch.device
) -> DataLoader[Batch]:
    """Return a loader of micro-batches in the order of ``sampler``."""
    return DataLoader(features, batch_size=micro_batch, sampler=sampler, **_options(device))


def evaluation_features(features: FeatureSet, batches: EvaluationBatches, device: torch.device) -> DataLoader[Batch]:
    """Return a loader of the given batches."""
    return DataLoader(features, batch_sampler=batches, **_options(device))


def _options(device: torch.device) -> dict[str, Any]:
    # The loader draws a base seed from a generator when it starts; ours keeps the default one untouched.
    pin = device.type == "cuda"
    return {"collate_fn": _already_a_batch, "generator": torch.Generator(), "pin_memory": pin}


def _already_a_batch(batch: Any) -> Any:
    return batch
