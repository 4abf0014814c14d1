"""``data.format: imagefolder``: the folder of an image is its class."""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Entries, Findings, Listing, Only, suffixes_of
from dist_train.data.formats.class_folders import (
    ClassFolder,
    check_classes,
    check_contents,
    class_folders,
    note_left_aside,
)
from dist_train.data.formats.class_names import Labels, composed, few
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.walk import existing_root, subfolders_of
from dist_train.errors import ConfigError, DataError
from dist_train.system.machine.memory import uncollected

VALIDATION_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test", "testing")


@uncollected()
def image_folder(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read ``train/<class>/...`` and ``val/<class>/...``, as torchvision's ImageFolder does, without hidden files.

    With ``data.val_fraction`` or ``data.fold`` only training images are read, and the class folders may lie directly in the root.
    """
    root, findings = existing_root(cfg), Findings()
    if only is not None:
        return _one_split(cfg, root, only, findings)
    train, val_folder = _places(cfg, root, findings)
    folders = _training_folders(cfg, train, root, findings)
    classes = list(cfg.classes or (folder.name for folder in folders))
    labels = Labels(classes)
    held_out = None
    if val_folder is not None:
        unknown = [name for name in subfolders_of(val_folder) if labels.find(name) is None]
        if unknown and not cfg.classes:
            raise DataError(f"{val_folder} has classes that {train} does not have: {few(unknown)}")
        held_out = _of_known_classes(cfg, val_folder, root, labels, findings)
    return Listing(FileImages(str(root)), classes, _entries(folders, labels), held_out, findings=findings)


def _places(cfg: DataConfig, root: Path, findings: Findings) -> tuple[Path, Path | None]:
    """Return the folders of the training and the validation set; None if the latter is a part of the former."""
    train = root / "train"
    if cfg.draws_validation and not train.is_dir():
        return root, None
    if not train.is_dir():
        raise DataError(
            f"`data.root` ({root}) has no train/ folder, but {few(subfolders_of(root)) or 'no folder at all'}; imagefolder "
            "expects train/<class>/ and val/<class>/, or <class>/ and `data.val_fraction`"
        )
    found = [root / name for name in VALIDATION_NAMES if (root / name).is_dir()]
    if len(found) > 1:
        findings.notes.append(f"the validation set is {found[0]}; {few([path.name for path in found[1:]])} is not read")
    unread = sorted({*subfolders_of(root)} - {"train", *VALIDATION_NAMES, *TEST_NAMES, cfg.test})
    if unread:
        findings.notes.append(f"folders of `data.root` that are not read: {few(unread)}")
    if found or cfg.draws_validation:
        return train, found[0] if found else None
    return train, _test_as_validation(root, findings)


def _test_as_validation(root: Path, findings: Findings) -> Path:
    """Return the folder ``test``: version 0.1.0 took it for the validation set where there was no other."""
    test = root / "test"
    if not test.is_dir():
        raise DataError(
            f"`data.root` ({root}) has no validation folder; name it val/ (or {', '.join(VALIDATION_NAMES[1:])}), "
            "or set `data.val_fraction` to take it from the training images"
        )
    findings.refuse(
        str(test),
        "there is no validation folder, and weights chosen by a test set make its score too good; set "
        "`data.val_fraction` to take the validation set from the training images, or rename test/ to val/",
    )
    return test


def _training_folders(cfg: DataConfig, train: Path, root: Path, findings: Findings) -> list[ClassFolder]:
    """Return the class folders of the training set."""
    names = [name for name in subfolders_of(train) if train != root or name != cfg.test]
    if not names:
        raise DataError(f"{train} has no class folders; imagefolder expects train/<class>/")
    if cfg.classes:
        names = _listed(cfg.classes, names, train, findings)
    folders = class_folders([train / name for name in names], root, suffixes_of(cfg))
    empty = [folder.name for folder in folders if not folder.names]
    if empty:
        raise DataError(
            f"{train} has class folders without images: {few(empty)}; remove them, add images "
            f"({', '.join(suffixes_of(cfg))}), or list the classes in `data.classes`"
        )
    if not cfg.classes:
        check_classes(train, folders, findings)
    check_contents(train, folders, findings)
    note_left_aside(train, folders, findings)
    return folders


def _listed(classes: Sequence[str], names: list[str], train: Path, findings: Findings) -> list[str]:
    """Return the folders that ``data.classes`` names."""
    labels = Labels(classes)
    missing = sorted({composed(name) for name in classes} - {composed(name) for name in names})
    if missing:
        raise ConfigError(f"`data.classes` names {few(missing)}; {train} has no such folder")
    aside = [name for name in names if labels.find(name) is None]
    if aside:
        findings.notes.append(f"folders of {train} that `data.classes` does not name are left aside: {few(aside)}")
    return [name for name in names if labels.find(name) is not None]


def _entries(folders: Sequence[ClassFolder], labels: Labels) -> Entries:
    names = [*chain.from_iterable(folder.names for folder in folders)]
    return Entries(names, [*chain.from_iterable(_targets(folder, labels) for folder in folders)])


def _targets(folder: ClassFolder, labels: Labels) -> Iterator[int]:
    label = labels.find(folder.name)
    assert label is not None
    return repeat(label, len(folder.names))


def _one_split(cfg: DataConfig, root: Path, only: Only, findings: Findings) -> Listing:
    """Read one split; with ``data.val_fraction`` or ``data.fold`` and no validation folder it is a part of the training images."""
    place = _place_of(cfg, root, only)
    drawn = only.split == "val" and cfg.draws_validation and place.name not in VALIDATION_NAMES
    entries = _of_known_classes(cfg, place, root, Labels(only.classes), findings)
    present = set(entries.targets)
    missing = [name for label, name in enumerate(only.classes) if label not in present]
    if missing:
        findings.notes.append(f"{place} has no images of these classes of the run: {few(missing)}")
    images, classes = FileImages(str(root)), list(only.classes)
    return Listing(images, classes, entries if drawn else [], None if drawn else entries, findings=findings)


def _place_of(cfg: DataConfig, root: Path, only: Only) -> Path:
    """Return the folder of a split that a run is evaluated on; it may be the root itself."""
    if only.split == "val":
        names = [*VALIDATION_NAMES, "train" if cfg.draws_validation else "test"]
    else:
        names = [cfg.test] if cfg.test else [*TEST_NAMES]
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is not None:
        return found
    labels = Labels(only.classes)
    if any(labels.find(name) is not None for name in subfolders_of(root)):
        return root
    raise DataError(
        f"`data.root` ({root}) has no {only.split} folder ({' or '.join(names)}), and no folder of a class of the run "
        f"({few(only.classes)}); write <split>/<class>/... or <class>/..."
        + ("; `data.test` names the folder of the test set" if only.split == "test" else "")
    )


def _of_known_classes(cfg: DataConfig, place: Path, root: Path, labels: Labels, findings: Findings) -> Entries:
    """Return the entries of a split, and note the classes that are not among ``labels``."""
    names = subfolders_of(place)
    unknown = [name for name in names if labels.find(name) is None]
    if unknown:
        findings.notes.append(f"folders of {place} that are no class of the run are left aside: {few(unknown)}")
    known = [place / name for name in names if labels.find(name) is not None]
    folders = class_folders(known, root, suffixes_of(cfg))
    check_contents(place, folders, findings)
    note_left_aside(place, folders, findings)
    return _entries(folders, labels)
