"""Cross-validation: the score over all folds, each image judged by the run that did not train on it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from dist_train.config.sections.data import DataConfig
from dist_train.data.index import DataIndex
from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.evaluation.activation import inverted
from dist_train.evaluation.metrics import Evaluation, SampleScores

NOT_OF_THE_FOLDS = {
    "root", "fold", "train_fraction", "shots", "sampling", "max_val_images", "image_size", "mean", "std", "workers",
    "prefetch", "timeout_s", "pin_memory", "persistent_workers", "cache", "bad_images", "max_bad_share", "max_overlap",
}  # fmt: skip
"""Keys of ``data`` that do not decide which images a fold has. Another root must have the same images: see ``united``."""


def are_folds(configs: Sequence[DataConfig]) -> bool:
    """Return whether runs were trained on different folds.

    Raises:
        ConfigError: some of them are no folds, are the same fold, or are folds of other data.
    """
    folds = [cfg.fold for cfg in configs]
    if len(set(folds)) == 1:
        return False
    twice = next((fold for fold in folds if folds.count(fold) > 1), None)
    if None in folds or twice is not None or len({cfg.fold_of[1] for cfg in configs}) > 1:
        listed = ", ".join(str(fold) for fold in folds)
        raise ConfigError(
            f"`data.fold` of the runs is {listed}: an out-of-fold score needs each fold of one number of folds once"
        )
    shared = [cfg.model_dump(exclude=NOT_OF_THE_FOLDS) for cfg in configs]
    other = next((key for keys in shared for key in keys if keys[key] != shared[0][key]), None)
    if other is not None:
        raise ConfigError(
            f"`data.{other}` differs between the runs, so they are not folds of the same images; evaluate them separately"
        )
    return True


def name_of(configs: Sequence[DataConfig]) -> str:
    """Return what the score over these folds is called; it says which are missing."""
    numbers, folds = sorted(cfg.fold_of[0] + 1 for cfg in configs), configs[0].fold_of[1]
    if len(numbers) == folds:
        return f"out of fold, all {folds} folds"
    return f"out of fold, folds {', '.join(map(str, numbers))} of {folds}"


def united(parts: Sequence[tuple[Evaluation, DataIndex]], metrics: Sequence[str]) -> tuple[Evaluation, DataIndex]:
    """Return the evaluation of the images of all folds by their own runs, and an index whose ``val`` has all of them.

    Raises:
        ConfigError: an image is in two folds: the data have changed between the runs.
    """
    first = parts[0][1]
    val = _joined([index.val for _, index in parts])
    if len(np.unique(val.paths)) < len(val):
        raise ConfigError("an image is in two folds: the data have changed since one of the runs; train that run again")
    scores = SampleScores(val, first.task, first.outputs, torch.device("cpu"), metrics)
    before = 0
    for outcome, index in parts:
        assert outcome.outputs is not None
        places = torch.from_numpy(outcome.counted).nonzero().flatten() + before
        scores.add(inverted(first.task, outcome.outputs), outcome.labels, places)
        before += len(index.val)
    return scores.read(Dist.alone()), replace(first, val=val)


def _joined(splits: Sequence[Split]) -> Split:
    paths, labels, sizes = (
        np.concatenate([getattr(split, name) for split in splits]) for name in ("paths", "labels", "sizes")
    )
    return Split(paths, labels, sizes)
