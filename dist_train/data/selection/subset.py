"""A part of the training images: ``data.train_fraction`` or ``data.shots``. The validation set stays as it is."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from dist_train.data.formats.base import Entries, Entry, Findings
from dist_train.data.formats.class_names import few
from dist_train.data.selection.draw import drawn

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig


def subset(cfg: "DataConfig", train: Sequence[Entry], classes: Sequence[str], findings: Findings) -> Sequence[Entry]:
    """Return the entries that the run trains on, in their order.

    Which images follows from ``data.val_seed`` and their names alone, and a larger part contains a smaller one. Each class has
    the same share; a class keeps at least one image. Multilabel and regression count as one class.
    """
    if cfg.train_fraction is None and cfg.shots is None:
        return train
    entries = Entries.of(train)
    wanted = drawn(cfg.val_seed, "subset", entries.names, entries.classes(), partial(_share, cfg))
    kept = entries.where(wanted.tobytes())
    if cfg.shots is not None:
        _note(cfg.shots, kept, classes, findings)
    return kept


def _share(cfg: "DataConfig", images: int) -> int:
    """Return how many images of a class the run trains on."""
    if cfg.train_fraction is None:
        assert cfg.shots is not None
        return cfg.shots
    return max(1, round(cfg.train_fraction * images))


def _note(shots: int, kept: Entries, classes: Sequence[str], findings: Findings) -> None:
    images = Counter(target for _, target in {*zip(kept.names, kept.targets, strict=True)})
    short = [classes[kind] for kind in dict.fromkeys(kept.targets) if isinstance(kind, int) and images[kind] < shots]
    if short:
        findings.notes.append(
            f"classes with fewer than `data.shots` ({shots}) training images, which keep all: {few(short)}"
        )
