"""Formats in which the folder of an image tells its class: imagefolder and Tiny ImageNet."""

import os
from collections.abc import Iterator
from pathlib import Path

from dist_train.config import DataConfig
from dist_train.data.images import FileImages
from dist_train.data.listing import Entry, Listing
from dist_train.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
VALIDATION_NAMES = ("val", "valid", "validation", "test")


def image_folder(cfg: DataConfig) -> Listing:
    """``train/<class>/...`` and ``val/<class>/...``, as torchvision's ImageFolder reads them.

    With ``data.val_fraction`` there is no validation folder, and the classes may stand directly in the root.
    """
    root = existing_root(cfg)
    train = root / "train"
    val = next((root / name for name in VALIDATION_NAMES if (root / name).is_dir()), None)
    if cfg.val_fraction is not None and not train.is_dir():
        train, val = root, None
    if not train.is_dir():
        raise DataError(
            f"`data.root` ({root}) has no train/ folder; imagefolder expects train/<class>/ and val/<class>/, "
            "or <class>/ and `data.val_fraction`"
        )
    if val is None and cfg.val_fraction is None:
        raise DataError(
            f"`data.root` ({root}) has no validation folder; name it val/ (or {', '.join(VALIDATION_NAMES[1:])}), "
            "or set `data.val_fraction` to take it from the training images"
        )
    classes = _subfolders(train)
    if not classes:
        raise DataError(f"{train} has no class folders; imagefolder expects train/<class>/")
    labels = {name: label for label, name in enumerate(classes)}
    if val is None:
        return Listing(FileImages(str(root)), classes, _labelled(train, root, labels), None)
    unknown = sorted(set(_subfolders(val)) - set(classes))
    if unknown:
        raise DataError(f"{val} has classes that {train} has not: {', '.join(unknown[:5])}")
    return Listing(FileImages(str(root)), classes, _labelled(train, root, labels), _labelled(val, root, labels))


def tiny_imagenet(cfg: DataConfig) -> Listing:
    """The folder as it is downloaded: ``wnids.txt``, ``train/<wnid>/images/``, ``val/val_annotations.txt``."""
    root = existing_root(cfg)
    needed = [root / "wnids.txt", root / "val" / "val_annotations.txt"]
    missing = [str(path.relative_to(root)) for path in needed if not path.is_file()]
    if missing:
        raise DataError(f"`data.root` ({root}) lacks {' and '.join(missing)}; is it the unpacked tiny-imagenet-200?")
    classes = sorted(needed[0].read_text().split())
    labels = {wnid: label for label, wnid in enumerate(classes)}
    train: list[Entry] = [
        (path, size, label)
        for wnid, label in labels.items()
        for path, size in images_below(root / "train" / wnid, root)
    ]
    sizes = {Path(path).name: (path, size) for path, size in images_below(root / "val" / "images", root)}
    val: list[Entry] = []
    for line in needed[1].read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        if wnid not in labels:
            raise DataError(f"{needed[1]} names class {wnid}, which wnids.txt has not")
        if name not in sizes:
            raise DataError(f"{needed[1]} names {name}, which val/images has not")
        val.append((*sizes[name], labels[wnid]))
    return Listing(FileImages(str(root)), classes, train, sorted(val))


def existing_root(cfg: DataConfig) -> Path:
    """``data.root``.

    Raises:
        DataError: there is no such folder.
    """
    root = Path(cfg.root)
    if not root.is_dir():
        raise DataError(f"`data.root` ({cfg.root}) is not a directory; it must hold the images")
    return root


def images_below(folder: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Every image below ``folder`` as (path relative to ``root``, size in bytes), sorted."""
    if not folder.is_dir():
        raise DataError(f"`data.root`: there is no folder {folder}")
    for directory, subfolders, names in os.walk(folder, followlinks=True):
        subfolders.sort()
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                path = os.path.join(directory, name)
                yield os.path.relpath(path, root), os.stat(path).st_size


def _labelled(split: Path, root: Path, labels: dict[str, int]) -> list[Entry]:
    return [
        (path, size, labels[name]) for name in _subfolders(split) for path, size in images_below(split / name, root)
    ]


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
