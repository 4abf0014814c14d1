"""Data set objects: torchvision's sets by name, and what the user's ``package.module:callable`` returns."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Entry, Findings, Listing, Only
from dist_train.data.formats.class_names import Labels, few
from dist_train.data.formats.images import DatasetImages, GivenImages, digest_of_pixels
from dist_train.data.formats.tables.further import column_names
from dist_train.errors import ConfigError, DataError

TARGETS = ("targets", "labels", "_labels")
"""Where data set objects keep the targets of all samples."""

BLOCK = 4096
"""Samples whose targets are verified at once: dense float64 of a large multilabel set would fill the memory."""


def data_set_objects(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read both splits of a data set object; with ``data.val_fraction`` or ``data.fold`` the training split alone.

    An object has ``len()``, ``object[i]`` that begins with an image, ``targets`` (or ``labels``) for all samples
    and, unless its classes have no names, ``classes``.
    """
    maker = cfg.format
    if cfg.format == "torchvision":
        if cfg.name is None:
            raise ConfigError("`data.name` is missing: torchvision finds a set by its name, such as FashionMNIST")
        maker = f"torchvision:{cfg.name}"
    images = DatasetImages(maker, cfg.root)
    if only is not None:
        return _one_split(cfg, images, only)
    held_out = None if cfg.draws_validation else images.dataset("val")
    return _listing(cfg, images, images.dataset("train"), held_out)


def given_data_sets(cfg: DataConfig, images: GivenImages) -> Listing:
    """Read both splits of data sets given in code; the second may be None with ``data.val_fraction`` or ``data.fold``."""
    if images.val is None and not cfg.draws_validation:
        raise ConfigError("the data given has no validation set: give (train, val), or set `data.val_fraction`")
    if columns := column_names(cfg):
        listed = ", ".join(columns.values())
        raise ConfigError(
            f"`data.sampling`, `data.csv.weight` or `data.csv.group` names columns of a table ({listed}), and the data given has "
            "no table; remove the key"
        )
    return _listing(cfg, images, images.train, images.val)


def _listing(cfg: DataConfig, images: DatasetImages, train: Any, held_out: Any) -> Listing:
    targets = _targets(cfg, train, "train")
    classes = _classes(cfg, train, targets)
    val, content, findings = None, digest_of_pixels(train), Findings()
    if held_out is not None:
        val = _entries(cfg, _targets(cfg, held_out, "val"), "val", len(classes))
        content += digest_of_pixels(held_out)
        if cfg.format == "torchvision" and _is_test_split(held_out):
            findings.notes.append(
                f"the validation set is the test split of {cfg.name}, and weights chosen by it make its score too good; "
                "`data.val_fraction` takes the validation set from the training images"
            )
    entries = _entries(cfg, targets, "train", len(classes))
    return Listing(images, classes, entries, val, f"{images.maker} {content}", findings)


def _is_test_split(dataset: Any) -> bool:
    """Return whether this split of a torchvision set is its test split."""
    names = getattr(dataset, "split", None), getattr(dataset, "_split", None)
    return getattr(dataset, "train", None) is False or "test" in names


def _one_split(cfg: DataConfig, images: DatasetImages, only: Only) -> Listing:
    """Read one split; with ``data.val_fraction`` or ``data.fold`` the validation set is a part of the training split."""
    drawn = only.split == "val" and cfg.draws_validation
    split, findings = "train" if drawn else only.split, Findings()
    dataset = images.dataset(split)
    targets = _targets(cfg, dataset, split)
    classes = _classes(cfg, dataset, targets)
    entries = _entries(cfg, targets, split, len(classes))
    if cfg.task == "classification":
        entries = _relabelled(entries, classes, only, findings)
    elif len(classes) != len(only.classes):
        raise DataError(
            f"the {split} split of {cfg.name or cfg.format} has {len(classes)} outputs, not {len(only.classes)}"
        )
    content = f"{images.maker} {digest_of_pixels(dataset)}"
    train, val = (entries, None) if drawn else ([], entries)
    return Listing(images, list(only.classes), train, val, content, findings)


def _relabelled(entries: list[Entry], classes: list[str], only: Only, findings: Findings) -> list[Entry]:
    """Return the entries of the run's classes, by its labels, and note the names of the other classes."""
    labels = Labels(only.classes)
    label_of = [labels.find(name) for name in classes]
    found: list[Entry] = []
    unknown: set[str] = set()
    for name, size, target in entries:
        assert isinstance(target, int)
        label = label_of[target]
        if label is None:
            unknown.add(classes[target])
        else:
            found.append((name, size, label))
    if unknown:
        findings.notes.append(
            f"{len(entries) - len(found)} images of classes that the run does not know are left out: {few(sorted(unknown))}"
        )
    return found


def _targets(cfg: DataConfig, dataset: Any, split: str) -> NDArray[Any]:
    what = f"the {split} split of {cfg.name or cfg.format}"
    found = next((getattr(dataset, name) for name in TARGETS if getattr(dataset, name, None) is not None), None)
    if found is None or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{what} must have len(), [i] and `targets` for all samples; wrap it in a callable that adds them"
        )
    try:
        targets = np.asarray(found)
    except ValueError:
        raise DataError(
            f"{what} has `targets` of several lengths; give each image one class, or the same number of targets"
        ) from None
    if len(targets) != len(dataset):
        raise DataError(f"{what} has {len(dataset)} samples and {len(targets)} targets")
    if cfg.task == "classification":
        if targets.ndim != 1 or targets.dtype.kind not in "iu" or targets.min(initial=0) < 0:
            raise DataError(
                f"{what} has targets of type {targets.dtype} {list(targets.shape)}; classes are numbers from 0"
            )
        return targets
    targets = targets.reshape(len(targets), -1)
    for start in range(0, len(targets), BLOCK):
        block = targets[start : start + BLOCK].astype(np.float64)
        if not (np.abs(block) <= np.finfo(np.float32).max).all():  # NaN fails this comparison too
            raise DataError(f"{what} has targets that are not finite numbers of 32 bits")
        if cfg.task == "multilabel" and not np.isin(block, (0, 1)).all():
            raise DataError(
                f"{what} has targets other than 0 and 1; `data.task` (multilabel) needs one column per class"
            )
    return targets


def _classes(cfg: DataConfig, dataset: Any, targets: NDArray[Any]) -> list[str]:
    outputs = int(targets.max(initial=0)) + 1 if targets.ndim == 1 else targets.shape[1]
    names = [" / ".join(name) if isinstance(name, tuple) else str(name) for name in getattr(dataset, "classes", ())]
    if names and len(names) < outputs:
        raise DataError(f"{cfg.name or cfg.format} names {len(names)} classes, and its targets have {outputs}")
    return names or [str(number) for number in range(outputs)]


def _entries(cfg: DataConfig, targets: NDArray[Any], split: str, outputs: int) -> list[Entry]:
    if targets.ndim == 1:
        if targets.max(initial=0) >= outputs:
            raise DataError(f"the {split} split of {cfg.name or cfg.format} has class {targets.max()}, of {outputs}")
        return [(f"{split}/{number}", 0, int(target)) for number, target in enumerate(targets)]
    if targets.shape[1] != outputs:
        raise DataError(
            f"the {split} split of {cfg.name or cfg.format} has {targets.shape[1]} targets a sample, not {outputs}"
        )
    if cfg.task == "multilabel":
        rows = (np.flatnonzero(row.astype(np.float64)) for row in targets)
        return [(f"{split}/{number}", 0, tuple(labels.tolist())) for number, labels in enumerate(rows)]
    return [(f"{split}/{number}", 0, tuple(row)) for number, row in enumerate(targets.astype(np.float64).tolist())]
