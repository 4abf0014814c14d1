"""Data set objects: torchvision's own sets by name, and what the user's ``package.module:callable`` returns."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Entry, Listing
from dist_train.data.formats.images import DatasetImages, GivenImages, digest_of_pixels, open_dataset
from dist_train.errors import ConfigError, DataError

TARGETS = ("targets", "labels", "_labels")
"""Where data set objects keep the targets of all samples."""


def data_set_objects(cfg: DataConfig) -> Listing:
    """Both splits of a data set object; with ``data.val_fraction`` only the training split is used.

    An object has ``len()``, ``object[i]`` that begins with an image, ``targets`` (or ``labels``) for all samples
    and, but for classes without names, ``classes``.
    """
    maker = cfg.format
    if cfg.format == "torchvision":
        if cfg.name is None:
            raise ConfigError("`data.name` is missing: torchvision's sets go by name, such as FashionMNIST")
        maker = f"torchvision:{cfg.name}"
    train = open_dataset(maker, cfg.root, "train")
    held_out = open_dataset(maker, cfg.root, "val") if cfg.val_fraction is None else None
    return _listing(cfg, DatasetImages(maker, cfg.root), train, held_out)


def given_data_sets(cfg: DataConfig, images: GivenImages) -> Listing:
    """Both splits of data sets given in code; the second may be None with ``data.val_fraction``."""
    if images.val is None and cfg.val_fraction is None:
        raise ConfigError("the data given has no validation set: give (train, val), or set `data.val_fraction`")
    return _listing(cfg, images, images.train, images.val)


def _listing(cfg: DataConfig, images: DatasetImages, train: Any, held_out: Any) -> Listing:
    targets = _targets(cfg, train, "train")
    classes = _classes(cfg, train, targets)
    val, content = None, digest_of_pixels(train)
    if held_out is not None:
        val = _entries(cfg, _targets(cfg, held_out, "val"), "val", len(classes))
        content += digest_of_pixels(held_out)
    return Listing(images, classes, _entries(cfg, targets, "train", len(classes)), val, f"{images.maker} {content}")


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
            f"{what} has `targets` of several lengths; they must be one class, or equally many numbers, each"
        ) from None
    if len(targets) != len(dataset):
        raise DataError(f"{what} has {len(dataset)} samples and {len(targets)} targets")
    if cfg.task == "classification":
        if targets.ndim != 1 or targets.dtype.kind not in "iu" or targets.min(initial=0) < 0:
            raise DataError(
                f"{what} has targets of type {targets.dtype} {list(targets.shape)}; classes are numbers from 0"
            )
        return targets
    targets = targets.reshape(len(targets), -1).astype(np.float64)
    if not (np.abs(targets) <= np.finfo(np.float32).max).all():  # not of NaN
        raise DataError(f"{what} has targets that are not finite numbers of 32 bits")
    if cfg.task == "multilabel" and not np.isin(targets, (0, 1)).all():
        raise DataError(f"{what} has targets other than 0 and 1; `data.task` (multilabel) wants one column a class")
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
    return [(f"{split}/{number}", 0, tuple(row)) for number, row in enumerate(targets.tolist())]
