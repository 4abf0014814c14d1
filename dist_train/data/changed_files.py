"""The list of a data set's images when a run began, kept in the run folder, and what has changed since."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat, zip_longest
from pathlib import Path

from dist_train.data.formats.base import UNASKED
from dist_train.data.index import DataIndex
from dist_train.data.label_sets import LabelSets
from dist_train.data.split import Split
from dist_train.system.files import atomic_write, open_regular

MOST_BYTES = 64 << 30
"""Of an unpacked listing, which is read line by line: 12 million images with 1,000 labels, of five characters each."""
LONGEST_LINE = 64 << 20
GZIP = 31
"""Of ``zlib``: a gzip file with the largest window."""
NAMED = 3
"""Files that a message names for each kind of change."""

ONES, WIDTH = re.compile("1"), len("0.0, ")
"""Of a row of labels, which reads ``[0.0, 1.0, 0.0]``."""

UNREADABLE = (OSError, EOFError, ValueError, TypeError, LookupError, RecursionError, StopIteration, zlib.error)
"""What a listing raises that is missing or damaged."""

Key = tuple[str, str]
"""Split, name."""


@dataclass
class Counts:
    """Images of a split: all, and of each class or label."""

    images: int = 0
    of_class: Counter[str] = field(default_factory=Counter)


def save_listing(path: Path, index: DataIndex) -> None:
    """Write the names, sizes and targets of all images to ``path``, atomically; for rank 0."""
    packed = zlib.compressobj(1, wbits=GZIP)
    with atomic_write(path) as file:
        for line in _listing(index):
            file.write(packed.compress(line))
        file.write(packed.flush())


def listed_counts(path: Path) -> dict[str, Counts]:
    """Return the number of images, by split; empty if the listing is missing or damaged."""
    try:
        with open_regular(path) as file, gzip.open(file) as unpacked:
            lines = _lines(unpacked)
            return _counted(lines, list(map(str, json.loads(next(lines)))))
    except UNREADABLE:
        return {}


def is_listed(path: Path, index: DataIndex) -> bool:
    """Return whether a listing names the images of ``index``, with their sizes and targets, in their order.

    True for a listing that cannot be read: it says nothing.
    """
    try:
        with open_regular(path) as file, gzip.open(file) as unpacked:
            lines = (line.rstrip(b"\n") for line in unpacked)
            return all(then == now.lstrip(b"\n") for then, now in zip_longest(lines, _listing(index)))
    except UNREADABLE:
        return True


def _counted(lines: Iterable[str], classes: list[str]) -> dict[str, Counts]:
    counts: dict[str, Counts] = {}
    known = set(classes)
    for line in lines:
        split, _, _, target = line.split("\0")
        found = counts.setdefault(split, Counts())
        found.images += 1
        row = (classes[match.start()] for match in ONES.finditer(target[1::WIDTH]))
        found.of_class.update([target] if target in known else row)
    return counts


def _listing(index: DataIndex) -> Iterator[bytes]:
    """Yield the lines of a listing, each with the line break before it."""
    yield json.dumps(index.classes).encode()
    for split, images in (("train", index.train), ("val", index.val)):
        targets = _targets(images, index.classes)
        for place, (size, target) in enumerate(zip(images.sizes.tolist(), targets, strict=True)):
            yield f"\n{split}\0{images.name(place)}\0{size}\0".encode(errors="surrogateescape") + target


def changes_since(path: Path, index: DataIndex) -> str:
    """Return what distinguishes ``index`` from the data set listed at ``path``, for an error message."""
    try:
        with open_regular(path) as file, gzip.open(file) as unpacked:
            lines = _lines(unpacked)
            classes = list(map(str, json.loads(next(lines))))
            then = _read(lines, classes, index.task == "multilabel")
    except UNREADABLE:
        return "its files, sizes or labels have changed"
    now = _entries(index)
    kept = then.keys() & now.keys()
    asked = index.has_sizes
    kinds = {
        "added": _names(now.keys() - then.keys()),
        "removed": _names(then.keys() - now.keys()),
        "of another size": _names({key for key in kept if asked and then[key][0] != now[key][0]}),
        "relabelled": [
            f"{name}: {then[split, name][1]} -> {now[split, name][1]}"
            for split, name in sorted(key for key in kept if then[key][1] != now[key][1])
        ],
    }
    found = [_few(len(names), kind, names) for kind, names in kinds.items() if names]
    if classes != index.classes:
        found.append(f"the classes were {_short(classes)} and are {_short(index.classes)}")
    return "; ".join(found) or "names, sizes and labels are the same, the content of its images is not"


def _entries(index: DataIndex) -> dict[Key, tuple[str, str]]:
    found: dict[Key, tuple[str, str]] = {}
    for split, images in (("train", index.train), ("val", index.val)):
        targets = _shown(images, index.classes)
        sizes = images.sizes.tolist() if images.has_sizes else repeat(UNASKED, len(images))
        for place, (size, target) in enumerate(zip(sizes, targets, strict=True)):
            found[split, images.name(place)] = (str(size), target)
    return found


def _lines(unpacked: gzip.GzipFile) -> Iterator[str]:
    """Yield the lines of a listing. Of a line that is too long a part is yielded, which cannot be read."""
    left = MOST_BYTES
    while line := unpacked.readline(min(left, LONGEST_LINE)):
        left -= len(line)
        yield line.decode(errors="surrogateescape").removesuffix("\n")
    if not left:
        raise ValueError(f"a listing of more than {MOST_BYTES} bytes")


def _read(lines: Iterable[str], classes: list[str], several: bool) -> dict[Key, tuple[str, str]]:
    """Return size and target of each image; ``several``: targets are rows of 0.0 and 1.0, and become names of labels."""
    found: dict[Key, tuple[str, str]] = {}
    for line in lines:
        split, name, size, target = line.split("\0")
        if several:
            target = _names_of((match.start() for match in ONES.finditer(target[1::WIDTH])), classes)
        found[split, name] = size, target
    return found


def _names_of(labels: Iterable[int], classes: list[str]) -> str:
    return ", ".join(classes[label] for label in labels) or "no label"


def _targets(images: Split, classes: list[str]) -> Iterable[bytes]:
    """Return the targets as a listing has them."""
    if isinstance(images.labels, LabelSets):
        return images.labels.texts(list)
    return (target.encode(errors="surrogateescape") for target in _shown(images, classes))


def _shown(images: Split, classes: list[str]) -> Iterable[str]:
    """Return the targets as a message has them."""
    if isinstance(images.labels, LabelSets):
        return (_names_of(labels, classes) for labels in images.labels.sets())
    if images.labels.ndim == 1:
        return (classes[label] for label in images.labels.tolist())
    return map(str, images.labels.tolist())


def _names(keys: set[Key]) -> list[str]:
    return [name for _, name in sorted(keys)]


def _few(count: int, kind: str, names: list[str]) -> str:
    more = ", ..." if count > NAMED else ""
    return f"{count} {'file' if count == 1 else 'files'} {kind} ({', '.join(names[:NAMED])}{more})"


def _short(classes: list[str]) -> str:
    return f"{', '.join(classes[:NAMED])}{', ...' if len(classes) > NAMED else ''} ({len(classes)})"
