"""The archives of a data set, the split that each belongs to, and their images."""

import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.formats.base import Held, suffixes_of
from dist_train.data.formats.class_names import few
from dist_train.data.formats.folders import TEST_NAMES, VALIDATION_NAMES
from dist_train.data.formats.walk import existing_root, files_of, is_archive, subfolders_of
from dist_train.data.shards.files import read_at, version_of
from dist_train.data.shards.members import Aside, FoundImages, Member, MemberReader
from dist_train.data.shards.places import Shard
from dist_train.data.shards.remote.store import files_below
from dist_train.data.stored.survey import note
from dist_train.errors import DataError
from dist_train.system.progress import advance

TRAIN = "train"
SPLITS = {TRAIN: TRAIN, "training": TRAIN} | dict.fromkeys(VALIDATION_NAMES, "val") | dict.fromkeys(TEST_NAMES, "test")
WORD = re.compile(r"[^\W\d_]+")
CLASS_SUFFIX = ".cls"
MOST_LABEL_BYTES = 4096
COUNTED = 256
LONGEST_NAME = 4096
"""In characters, the longest path of Linux. The index of a data set reserves room for its longest name at every image."""

Image = tuple[list[str], Member]
"""The parts of an image's name, and the image."""


@dataclass
class Contents:
    """What the archives of a folder hold: images by split (``""``: of no split), and what is not read.

    Attributes:
        root: the folder, or its address.
    """

    root: str
    images: dict[str, FoundImages] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)
    aside: Aside = field(default_factory=Aside)
    suffixes: Counter[str] = field(default_factory=Counter)


def read_archives(cfg: DataConfig, endings: Sequence[str], reader: MemberReader, held: Held | None) -> Contents:
    """Read the tables of all archives below ``data.root``, or of the archive that it is.

    Args:
        endings: of the names of archives.
        held: read only what this split may be in; None: all but the archives of the test set.

    Raises:
        DataError: there is no archive, or one is damaged.
    """
    root, paths = _paths(cfg, endings)
    archives = [(path, split_of(path, cfg.test)) for path in paths]
    unread = {"test"} if held is None else {TRAIN if not cfg.draws_validation else None, *("val", "test")} - {held}
    read = [(path, split) for path, split in archives if split not in unread]
    if not read:
        raise DataError(
            f"`data.root` ({cfg.root}) holds no {' or '.join(endings[:1])} file that this needs; name them train*{endings[0]} and "
            f"val*{endings[0]}, put them into train/ and val/, or set `data.val_fraction`"
        )
    found = Contents(root)
    for path, split in read:
        _read_one(cfg, path, split, reader, found)
    return found


def split_of(path: str, test: str | None = None) -> str:
    """Return the split that the words of an archive's folder or name say; an empty string if they say none, or several.

    Such as val for ``val.tar``, ``valid/000.tar`` and ``flowers-validation-000.tar``.
    """
    folder, _, name = path.rpartition("/")
    for part in (folder, name.split(".")[0]):
        found = {SPLITS[word.lower()] for word in WORD.findall(part) if word.lower() in SPLITS}
        if part and part == test:
            return "test"
        if len(found) == 1:
            return found.pop()
    return ""


def _paths(cfg: DataConfig, endings: Sequence[str]) -> tuple[str, list[str]]:
    """Return the folder of the archives, and their paths relative to it."""
    if is_remote(cfg.root):
        note(cfg.root)
    if is_archive(cfg):
        folder, _, name = cfg.root.rpartition("/")
        return folder or ("/" if cfg.root.startswith("/") else "."), [name]
    if is_remote(cfg.root):
        return cfg.root.rstrip("/"), [
            path for path in files_below(cfg.root) if path.lower().endswith(tuple(endings)) and "/." not in f"/{path}"
        ]
    root = existing_root(cfg)
    folders = [("", root), *((f"{name}/", root / name) for name in subfolders_of(root))]
    paths = (f"{below}{name}" for below, folder in folders for name in files_of(folder))
    return str(root), [path for path in paths if path.lower().endswith(tuple(endings))]


def _read_one(cfg: DataConfig, path: str, split: str, reader: MemberReader, found: Contents) -> None:
    place = os.path.join(found.root, path)
    if not is_remote(place):
        note(place)
    number = len(found.shards)
    found.shards.append(Shard(path, *version_of(place)))
    images, labels = _sorted_out(cfg, place, reader, found)
    for parts, member in images if split else _without_wrapper(images):
        part, rest = _split_and_rest(parts, split, bool(labels))
        if labels:  # the same keys may come in each shard
            class_name = labels.get(_key(member.name))
            rest = [Path(path).name.split(".")[0], *rest]
        else:
            class_name = rest[0] if len(rest) > 1 else None
        if class_name is None:
            raise DataError(
                f"{place}: {member.name!r} has no class: write <class>/image for all, or, as WebDataset does, KEY.jpg and "
                f"KEY{CLASS_SUFFIX} with the class for all"
            )
        name = "/".join([part, *rest] if part else rest)
        if (images_of := found.images.get(part)) is None:
            images_of = found.images[part] = FoundImages()
        images_of.add(name, class_name, number, member)


def _split_and_rest(parts: list[str], split: str, labelled: bool) -> tuple[str, list[str]]:
    """Return the split of an image, and its name without it: an archive of a split may hold the folder of the split too."""
    named = SPLITS.get(parts[0].lower(), "")
    inside = named and split in ("", named) and len(parts) > (1 if labelled else 2)
    return (named, parts[1:]) if inside else (split, parts)


def _sorted_out(
    cfg: DataConfig, path: str, reader: MemberReader, found: Contents
) -> tuple[list[Image], dict[str, str]]:
    """Return the images of an archive with the parts of their names, and the labels of ``.cls`` files by key."""
    images: list[Image] = []
    labels: dict[str, str] = {}
    suffixes = suffixes_of(cfg)
    for member in _counted(reader(path, found.aside)):
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not parts or "\0" in member.name or ".." in parts:
            found.aside.kinds["names with .. or without a name"] += 1
        elif len(member.name) > LONGEST_NAME:
            found.aside.kinds[f"names of more than {LONGEST_NAME:,} characters"] += 1
        elif _is_hidden(member.name, parts):
            continue  # as in a folder
        elif parts[-1].lower().endswith(CLASS_SUFFIX):
            _add_label(path, member, labels)
        elif parts[-1].lower().endswith(suffixes):
            images.append((parts, member))
        else:
            found.suffixes[os.path.splitext(parts[-1])[1].lower() or "no suffix"] += 1
    return (_one_of_each(path, images, labels, found.aside) if labels else images), labels


def _counted(members: Iterator[Member]) -> Iterator[Member]:
    """Yield the members, and show how many they are: a call for each would take a tenth of the scan's time."""
    count = 0
    for count, member in enumerate(members, 1):
        if count % COUNTED == 0:
            advance(COUNTED)
        yield member
    advance(count % COUNTED)


def _is_hidden(name: str, parts: list[str]) -> bool:
    if name[0] != "." and "/." not in name and "__macosx" not in name.lower():
        return False  # the answer for nearly all names, in a third of the time
    return any(part.startswith(".") or part.upper() == "__MACOSX" for part in parts)


def _add_label(path: str, member: Member, labels: dict[str, str]) -> None:
    key = _key(member.name)
    if key in labels:
        raise DataError(
            f"{path}: two {CLASS_SUFFIX} files have the key {key!r}, which ends at the first dot of a file's name; rename or remove one"
        )
    labels[key] = _text(path, member)


def _one_of_each(path: str, images: list[Image], labels: Mapping[str, str], aside: Aside) -> list[Image]:
    """Return the image of each WebDataset sample: ``KEY.png``, where ``KEY.seg.png`` is another part of the sample."""
    samples: defaultdict[str, list[Image]] = defaultdict(list)
    for image in images:
        samples[_key(image[1].name)].append(image)
    kept: list[Image] = []
    for key, several in samples.items():
        plain = [image for image in several if len(several) == 1 or image[0][-1].count(".") == 1]
        if len(plain) != 1:
            raise DataError(
                f"{path}: the sample {key!r} has {len(several)} images: {few([member.name for _, member in several])}; write one of "
                "them as KEY.jpg"
            )
        kept += plain
    further = {
        "further images of a sample": len(images) - len(kept),
        "labels without an image": len(labels.keys() - samples),
    }
    aside.kinds.update({kind: number for kind, number in further.items() if number})
    return kept


def _without_wrapper(images: list[Image]) -> Iterator[Image]:
    """Leave out a folder around everything, such as ``flowers/`` in ``flowers/train/daisy/1.jpg``."""
    depth = 0
    while images and (first := images[0][0][depth]).lower() not in SPLITS:
        if any(len(parts) < depth + 3 or parts[depth] != first for parts, _ in images):
            break
        depth += 1
    return ((parts[depth:], member) for parts, member in images)


def _key(name: str) -> str:
    """Return the name up to the first dot of its last part: WebDataset's key of a sample."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".")[0]


def _text(path: str, member: Member) -> str:
    content, _ = read_at(path, member.offset, min(member.length, MOST_LABEL_BYTES))
    if member.deflated:
        content = _inflated(content)
    try:
        if text := content.decode().strip():
            return text
    except UnicodeDecodeError:
        pass
    raise DataError(f"{path}: {member.name!r} must hold a class as text")


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, MOST_LABEL_BYTES)
    except zlib.error:
        return b"\xff"  # no text


def notes_on_aside(found: Contents) -> list[str]:
    """Return sentences about what is not read."""
    kinds = [f"{number} {kind}" for kind, number in found.aside.kinds.items()]
    kinds += [f"{number} files {suffix}" for suffix, number in found.suffixes.most_common(5)]
    return [f"members of archives that are left aside: {', '.join(kinds)}"] if kinds else []
