"""``data.format: tar`` and ``zip``: images in archives, in the layouts of a folder or of WebDataset."""

import os
from array import array
from collections.abc import Sequence

import numpy as np

from dist_train.config.choices import ARROW, TAR, ZIP
from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Entries, Findings, Listing, Only
from dist_train.data.formats.class_folders import split_names
from dist_train.data.formats.class_names import Labels, few
from dist_train.data.shards.archives import TRAIN, Contents, notes_on_aside, read_archives
from dist_train.data.shards.arrow_members import arrow_members
from dist_train.data.shards.members import FoundImages, MemberReader, walked
from dist_train.data.shards.places import Places
from dist_train.data.shards.shard_images import ShardImages
from dist_train.data.shards.tar_members import tar_members
from dist_train.data.shards.zip_members import zip_members
from dist_train.errors import ConfigError, DataError


def tar_shards(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read ``train*.tar`` and ``val*.tar``, or one archive with ``train/`` and ``val/`` in it; class folders or ``.cls`` files."""
    return _listing(cfg, only, TAR, tar_members)


def zip_shards(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read zip archives as ``tar_shards`` reads tar archives."""
    return _listing(cfg, only, ZIP, zip_members)


def arrow_tables(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read what ``save_to_disk`` of Hugging Face ``datasets`` has written, as ``tar_shards`` reads tar archives."""
    return _listing(cfg, only, ARROW, arrow_members)


def _listing(cfg: DataConfig, only: Only | None, endings: Sequence[str], reader: MemberReader) -> Listing:
    findings = Findings()
    found = read_archives(cfg, endings, reader, only.split if only else None)
    findings.notes += notes_on_aside(found)
    if only is not None:
        return _one_split(cfg, only, found, findings)
    train, val = _splits(cfg, found)
    classes = _classes(cfg, train, findings)
    unknown = sorted({*(val.class_numbers if val else ())} - {*train.class_numbers, *classes})
    if unknown and not cfg.classes:
        raise DataError(
            f"the validation archives of {cfg.root} have classes that the training archives do not have: {few(unknown)}"
        )
    images = _images(found, [train, *([val] if val else [])])
    held = None if val is None else _entries(val, classes, findings)
    return Listing(images, classes, _entries(train, classes, findings), held, findings=findings)


def _splits(cfg: DataConfig, found: Contents) -> tuple[FoundImages, FoundImages | None]:
    """Return the images of the training and the validation set; None if the latter is a part of the former."""
    train = found.images.get(TRAIN) or (found.images.get("") if cfg.draws_validation else None)
    val = found.images.get("val")
    if not train:
        raise DataError(
            f"the archives of `data.root` ({cfg.root}) have no training images{_besides(found)}; name them train*, put <class>/ into "
            "train/, or set `data.val_fraction` for archives with <class>/ alone"
        )
    if val is None and not cfg.draws_validation:
        raise DataError(
            f"`data.root` ({cfg.root}) has no validation archive; name it val*, or set `data.val_fraction` to take it from the "
            "training images"
        )
    return train, val


def _besides(found: Contents) -> str:
    """Return what the archives hold besides images, for an error message."""
    return "".join(f" ({told})" for told in notes_on_aside(found))


def _named(images: FoundImages) -> list[str]:
    """Return the names of the classes that the images have, numbers in their order."""
    names = images.class_numbers
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _classes(cfg: DataConfig, train: FoundImages, findings: Findings) -> list[str]:
    names = _named(train)
    if not cfg.classes:
        if named := split_names(names):
            findings.refuse(
                f"{cfg.root}: {few(named)}",
                "a folder with the name of a split would be a class: name the archive after it, or list the classes in `data.classes`",
            )
        return names
    present = set(_labels(cfg.classes, train).values())
    missing = [name for label, name in enumerate(cfg.classes) if label not in present]
    if missing:
        raise ConfigError(
            f"`data.classes` names {few(missing)}; the training archives of {cfg.root} have no image of it"
        )
    return list(cfg.classes)


def _labels(classes: Sequence[str], images: FoundImages) -> dict[str, int | None]:
    """Return the label of each class of the images: by its name, or by the number that a ``.cls`` file gives for a list of names."""
    if all(map(str.isdecimal, images.class_numbers)) and not any(map(str.isdecimal, classes)):
        return {name: int(name) if int(name) < len(classes) else None for name in images.class_numbers}
    labels = Labels(classes)
    return {name: labels.find(name) for name in images.class_numbers}


def _entries(images: FoundImages, classes: Sequence[str], findings: Findings) -> Entries:
    """Return the entries of the images of known classes, in the order of a folder of the same names."""
    label_of = _labels(classes, images)
    labels = images.labels(label_of)
    order = walked(images.names, labels)
    if len(order) < len(images):
        unknown = sorted(name for name, label in label_of.items() if label is None)
        findings.notes.append(
            f"{len(images) - len(order)} images in archives are of no class of the run: {few(unknown)}"
        )
    names = [images.names[place] for place in order.tolist()]
    sizes = array("q", np.frombuffer(images.sizes, np.int64)[order].tobytes())
    return Entries(names, labels[order].tolist(), sizes)


def _images(found: Contents, images: Sequence[FoundImages]) -> ShardImages:
    places = Places.of(images)
    if len(twice := places.twice()):
        where = sorted(found.shards[number].path for number in places.shards_of(twice[0]))
        names = [os.fsdecode(name) for name in twice]
        raise DataError(f"the archives {few(where)} hold two images with the name {few(names)}; rename or remove one")
    return ShardImages(found.root, tuple(found.shards), places)


def _one_split(cfg: DataConfig, only: Only, found: Contents, findings: Findings) -> Listing:
    """Read one split; with ``data.val_fraction`` or ``data.fold`` and no validation archive it is a part of the training images."""
    own = found.images.get(only.split)
    drawn = own is None and only.split == "val" and cfg.draws_validation
    images = own or (found.images.get(TRAIN) if drawn else None) or found.images.get("")
    if not images:
        raise DataError(
            f"the archives of `data.root` ({cfg.root}) have no {only.split} images{_besides(found)}; name one {only.split}*"
        )
    entries = _entries(images, only.classes, findings)
    opener = _images(found, [images])
    return Listing(opener, list(only.classes), entries if drawn else [], None if drawn else entries, findings=findings)
