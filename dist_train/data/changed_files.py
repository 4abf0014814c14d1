"""The list of a data set's images when a run began, kept in the run folder, and what has changed since."""

import gzip
import json
import zlib
from pathlib import Path

from dist_train.data.index import DataIndex
from dist_train.data.split import Split
from dist_train.system.files import atomic_write, open_regular

MOST_BYTES = 4 << 30
"""Of an unpacked listing: 14 million images with names of 250 characters."""
NAMED = 3
"""Files that a message names for each kind of change."""

Key = tuple[str, str]
"""Split, name."""


def save_listing(path: Path, index: DataIndex) -> None:
    """Write the names, sizes and targets of all images to ``path``, atomically; for rank 0."""
    lines = [json.dumps(index.classes)]
    for split, images in (("train", index.train), ("val", index.val)):
        names = map(images.name, range(len(images)))
        targets = _targets(images, index.classes)
        lines += [
            f"{split}\0{name}\0{size}\0{target}"
            for name, size, target in zip(names, images.sizes.tolist(), targets, strict=True)
        ]
    with atomic_write(path) as file:
        file.write(gzip.compress("\n".join(lines).encode(errors="surrogateescape"), compresslevel=1, mtime=0))


def changes_since(path: Path, index: DataIndex) -> str:
    """Return what distinguishes ``index`` from the data set listed at ``path``, for an error message."""
    try:
        with open_regular(path) as file, gzip.open(file) as unpacked:
            lines = unpacked.read(MOST_BYTES).decode(errors="surrogateescape").split("\n")
        classes = list(map(str, json.loads(lines[0])))
        then = {(split, name): (size, target) for split, name, size, target in (line.split("\0") for line in lines[1:])}
    except (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error):
        return "its files, sizes or labels have changed"
    now = _entries(index)
    kept = then.keys() & now.keys()
    kinds = {
        "added": _names(now.keys() - then.keys()),
        "removed": _names(then.keys() - now.keys()),
        "of another size": _names({key for key in kept if then[key][0] != now[key][0]}),
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
        targets = _targets(images, index.classes)
        for place, (size, target) in enumerate(zip(images.sizes.tolist(), targets, strict=True)):
            found[split, images.name(place)] = (str(size), target)
    return found


def _targets(images: Split, classes: list[str]) -> list[str]:
    if images.labels.ndim == 1:
        return [classes[label] for label in images.labels.tolist()]
    return [str(values) for values in images.labels.tolist()]


def _names(keys: set[Key]) -> list[str]:
    return [name for _, name in sorted(keys)]


def _few(count: int, kind: str, names: list[str]) -> str:
    more = ", ..." if count > NAMED else ""
    return f"{count} {'file' if count == 1 else 'files'} {kind} ({', '.join(names[:NAMED])}{more})"


def _short(classes: list[str]) -> str:
    return f"{', '.join(classes[:NAMED])}{', ...' if len(classes) > NAMED else ''} ({len(classes)})"
