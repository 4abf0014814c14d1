"""``data.format: tiny_imagenet``: the folder as it is downloaded, nothing moved."""

from pathlib import Path

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import UNASKED, Entry, Findings, Listing, Only
from dist_train.data.formats.class_folders import class_folders, note_left_aside
from dist_train.data.formats.class_names import Labels, few
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.walk import existing_root, subfolders_of
from dist_train.data.stored.survey import note
from dist_train.errors import ConfigError, DataError


def tiny_imagenet(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read ``wnids.txt``, ``train/<wnid>/images/`` and ``val/val_annotations.txt``."""
    root, findings = existing_root(cfg), Findings()
    ids, annotations = root / "wnids.txt", root / "val" / "val_annotations.txt"
    missing = [str(path.relative_to(root)) for path in (ids, annotations) if not path.is_file()]
    if missing:
        raise DataError(f"`data.root` ({root}) lacks {' and '.join(missing)}; is it the unpacked tiny-imagenet-200?")
    if only is not None and only.split == "test":
        raise ConfigError("`data.format` (tiny_imagenet) has no labels for its test images; evaluate on the split val")
    classes = list(only.classes) if only else sorted(_text(ids).split())
    repeated = sorted({wnid for wnid in classes if classes.count(wnid) > 1})
    if repeated:
        raise DataError(f"{ids} names {few(repeated)} twice; remove one of the lines")
    train = [] if only else _training(root, classes, findings)
    return Listing(
        FileImages(str(root)), classes, train, _validation(root, annotations, classes, findings), findings=findings
    )


def _training(root: Path, classes: list[str], findings: Findings) -> list[Entry]:
    folders = class_folders([root / "train" / wnid for wnid in classes], root)
    labels = Labels(classes)
    unread = [name for name in subfolders_of(root / "train") if labels.find(name) is None]
    if unread:
        findings.notes.append(f"folders of {root / 'train'} that wnids.txt does not name are left aside: {few(unread)}")
    note_left_aside(root / "train", folders, findings)
    return [(name, UNASKED, label) for label, folder in enumerate(folders) for name in folder.names]


def _validation(root: Path, annotations: Path, classes: list[str], findings: Findings) -> list[Entry]:
    labels = {wnid: label for label, wnid in enumerate(classes)}
    (folder,) = class_folders([root / "val" / "images"], root)
    images = {Path(path).name: path for path in folder.names}
    found: list[Entry] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(annotations).split("\n"), start=1):
        if not line.strip():
            continue
        name, wnid, *_ = (*line.rstrip("\r").split("\t"), "")
        where = f"{annotations} line {number}"
        if wnid not in labels:
            raise DataError(f"{where} names class {wnid}, which wnids.txt does not have")
        if name not in images:
            raise DataError(f"{where} names {name}, which val/images does not have")
        if lines.setdefault(name, number) != number:
            findings.refuse(where, f"{name} was named before; remove one of the lines")
        found.append((images[name], UNASKED, labels[wnid]))
    unnamed = sorted(images.keys() - lines.keys())
    if unnamed:
        findings.notes.append(
            f"{len(unnamed)} images of val/images that {annotations.name} does not name are left aside"
        )
    return sorted(found)


def _text(path: Path) -> str:
    note(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
