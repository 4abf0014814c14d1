"""What a data set on disk consists of: image paths, labels and class names, found by one scan."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_train.config import DataConfig
from dist_train.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
VALIDATION_NAMES = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Images and their labels, in the order of the paths.

    ``paths`` are bytes relative to the root, in one array: it is shared with loader processes for free, where
    a list of strings would be copied by reference counting.
    """

    paths: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class DataIndex:
    """A data set: two splits, the class names (a label is an index into them), and a fingerprint.

    The fingerprint is a SHA-256 over every image's split, path, size in bytes and label. It does not depend on
    where the folder is, nor on times.
    """

    root: Path
    classes: list[str]
    train: Split
    val: Split
    fingerprint: str


Entry = tuple[str, int, int]
"""Path relative to the root, size in bytes, label."""


def scan(cfg: DataConfig) -> DataIndex:
    """Read the folder once.

    Raises:
        DataError: the folder is not there, or is not laid out as ``data.format`` says.
    """
    root = Path(cfg.root)
    if not root.is_dir():
        raise DataError(f"`data.root` ({cfg.root}) is not a directory; it must hold the images")
    readers: dict[str, Callable[[Path], tuple[list[str], list[Entry], list[Entry]]]] = {
        "imagefolder": _image_folder,
        "tiny_imagenet": _tiny_imagenet,
    }
    classes, train, val = readers[cfg.format](root)
    for name, entries in (("training", train), ("validation", val)):
        if not entries:
            raise DataError(f"`data.root` ({cfg.root}) has no {name} images ({', '.join(IMAGE_SUFFIXES)})")
    digest = hashlib.sha256()
    for split, entries in (("train", train), ("val", val)):
        for path, size, label in entries:
            digest.update(f"{split}\0{path}\0{size}\0{classes[label]}\n".encode())
    return DataIndex(root, classes, _split(train), _split(val), digest.hexdigest())


def _split(entries: list[Entry]) -> Split:
    paths = np.array([os.fsencode(path) for path, _, _ in entries], dtype=np.bytes_)
    return Split(paths, np.array([label for _, _, label in entries], dtype=np.int64))


def _image_folder(root: Path) -> tuple[list[str], list[Entry], list[Entry]]:
    """``train/<class>/...`` and ``val/<class>/...``, as torchvision's ImageFolder reads them."""
    train = root / "train"
    if not train.is_dir():
        raise DataError(
            f"`data.root` ({root}) has no train/ folder; imagefolder expects train/<class>/ and val/<class>/"
        )
    val = next((root / name for name in VALIDATION_NAMES if (root / name).is_dir()), None)
    if val is None:
        raise DataError(
            f"`data.root` ({root}) has no validation folder; name it val/ (or {', '.join(VALIDATION_NAMES[1:])})"
        )
    classes = _subfolders(train)
    if not classes:
        raise DataError(f"{train} has no class folders; imagefolder expects train/<class>/")
    unknown = sorted(set(_subfolders(val)) - set(classes))
    if unknown:
        raise DataError(f"{val} has classes that {train} has not: {', '.join(unknown[:5])}")
    labels = {name: label for label, name in enumerate(classes)}
    return classes, _labelled(train, root, labels), _labelled(val, root, labels)


def _labelled(split: Path, root: Path, labels: dict[str, int]) -> list[Entry]:
    return [(path, size, labels[name]) for name in _subfolders(split) for path, size in _images(split / name, root)]


def _tiny_imagenet(root: Path) -> tuple[list[str], list[Entry], list[Entry]]:
    """The folder as it is downloaded: ``wnids.txt``, ``train/<wnid>/images/``, ``val/val_annotations.txt``."""
    needed = [root / "wnids.txt", root / "val" / "val_annotations.txt"]
    missing = [str(path.relative_to(root)) for path in needed if not path.is_file()]
    if missing:
        raise DataError(f"`data.root` ({root}) lacks {' and '.join(missing)}; is it the unpacked tiny-imagenet-200?")
    classes = sorted(needed[0].read_text().split())
    labels = {wnid: label for label, wnid in enumerate(classes)}
    train = [
        (path, size, label) for wnid, label in labels.items() for path, size in _images(root / "train" / wnid, root)
    ]
    sizes = {Path(path).name: (path, size) for path, size in _images(root / "val" / "images", root)}
    val = []
    for line in needed[1].read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        if wnid not in labels:
            raise DataError(f"{needed[1]} names class {wnid}, which wnids.txt has not")
        if name not in sizes:
            raise DataError(f"{needed[1]} names {name}, which val/images has not")
        val.append((*sizes[name], labels[wnid]))
    return classes, train, sorted(val)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Every image below ``folder`` as (path relative to ``root``, size in bytes), sorted."""
    if not folder.is_dir():
        raise DataError(f"`data.root`: there is no folder {folder}")
    for directory, subfolders, names in os.walk(folder, followlinks=True):
        subfolders.sort()
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                path = os.path.join(directory, name)
                yield os.path.relpath(path, root), os.stat(path).st_size
