"""Formats in which the folder of an image tells its class: imagefolder and Tiny ImageNet."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Entry, Listing
from dist_train.data.formats.images import FileImages, file_size
from dist_train.errors import DataError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"
)  # fmt: skip
VALIDATION_NAMES = ("val", "valid", "validation", "test")


def image_folder(cfg: DataConfig) -> Listing:
    """``train/<class>/...`` and ``val/<class>/...``, as torchvision's ImageFolder reads them, but for what is hidden.

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
    if val is not None and (unknown := sorted(set(_subfolders(val)) - set(classes))):
        raise DataError(f"{val} has classes that {train} has not: {', '.join(unknown[:5])}")
    labels = {name: label for label, name in enumerate(classes)}
    entries = _labelled(train, root, labels)
    found = {label for _, _, label in entries}
    empty = [name for name, label in labels.items() if label not in found]
    if empty:
        raise DataError(
            f"{train} has class folders without images: {', '.join(empty[:5])}; remove them, or add images "
            f"({', '.join(IMAGE_SUFFIXES)})"
        )
    return Listing(FileImages(str(root)), classes, entries, None if val is None else _labelled(val, root, labels))


def image_classes(root: Path, classes: list[str]) -> Listing:
    """``<class>/...`` alone, of classes that are known; a class may be missing.

    Raises:
        DataError: there is no such folder, or it has other folders.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    if unknown := sorted(set(_subfolders(root)) - set(classes)):
        raise DataError(f"{root} has folders that are not classes of the run: {', '.join(unknown[:5])}")
    labels = {name: label for label, name in enumerate(classes)}
    return Listing(FileImages(str(root)), classes, _labelled(root, root, labels), None)


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
    for line in filter(str.strip, needed[1].read_text().splitlines()):
        name, wnid, *_ = (*line.split("\t"), "")
        if wnid not in labels:
            raise DataError(f"{needed[1]} names class {wnid}, which wnids.txt has not")
        if name not in sizes:
            raise DataError(f"{needed[1]} names {name}, which val/images has not")
        val.append((*sizes[name], labels[wnid]))
    return Listing(FileImages(str(root)), classes, train, sorted(val))


def existing_root(cfg: DataConfig) -> Path:
    """``data.root``.

    Raises:
        DataError: there is no such folder, or it may not be read.
    """
    root = Path(cfg.root)
    if not os.path.isdir(root):
        raise DataError(f"`data.root` ({cfg.root}) is not a directory; it must hold the images")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(
            f"`data.root` ({cfg.root}): {os.strerror(errno.EACCES)}; who runs this must be allowed to read it"
        )
    return root


def images_below(folder: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Every image below ``folder`` as (path relative to ``root``, size in bytes), sorted."""
    return ((name, file_size(str(root), name)) for name in names_below(folder, root))


def names_below(folder: Path, root: Path) -> Iterator[str]:
    """The path of every image below ``folder``, relative to ``root``, sorted; hidden ones are left out.

    Raises:
        DataError: a folder there cannot be read, or a link leads back to a folder that it lies in.
    """
    if not folder.is_dir():
        raise DataError(f"`data.root`: there is no folder {folder}")
    for directory, subfolders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in subfolders:
            _no_loop(os.path.join(directory, name))
        below = os.path.relpath(directory, root)
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield name if below == "." else os.path.join(below, name)


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}")


def _no_loop(folder: str) -> None:
    """Images below a link to a folder around it would be found again and again, and in other classes."""
    if os.path.islink(folder):
        for around in Path(os.path.abspath(folder)).parents:
            if os.path.samefile(folder, around):
                raise DataError(f"{folder} is a link to {around}, in which it lies itself; remove the link")


def _labelled(split: Path, root: Path, labels: dict[str, int]) -> list[Entry]:
    return [
        (path, size, labels[name]) for name in _subfolders(split) for path, size in images_below(split / name, root)
    ]


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None
