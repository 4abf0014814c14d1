"""A part of the training images: ``data.train_fraction`` or ``data.shots``. The validation set stays as it is."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dist_train.data.formats.base import Entries, Entry, Findings, class_of
from dist_train.data.formats.class_names import few
from dist_train.seeding import fold_in

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig


def subset(cfg: "DataConfig", train: Sequence[Entry], classes: Sequence[str], findings: Findings) -> Sequence[Entry]:
    """Return the entries that the run trains on, in their order.

    Which images follows from ``data.val_seed`` and their names alone, and a larger part contains a smaller one. Each class has
    the same share; a class keeps at least one image. Multilabel and regression count as one class.
    """
    if cfg.train_fraction is None and cfg.shots is None:
        return train
    names: defaultdict[int, set[str]] = defaultdict(set)
    for entry in train:
        names[class_of(entry)].add(entry[0])
    kept: set[str] = set()
    for group in names.values():
        most = max(1, round(cfg.train_fraction * len(group))) if cfg.train_fraction else cfg.shots
        kept.update(sorted(group, key=lambda name: fold_in(cfg.val_seed, "subset", name))[:most])
    _note(cfg, {classes[kind]: len(group) for kind, group in names.items()}, findings)
    return Entries.of(train).where(name in kept for name, _, _ in train)


def _note(cfg: "DataConfig", images: dict[str, int], findings: Findings) -> None:
    short = [name for name, count in images.items() if count < (cfg.shots or 0)]
    if short:
        findings.notes.append(
            f"classes with fewer than `data.shots` ({cfg.shots}) training images, which keep all: {few(short)}"
        )
