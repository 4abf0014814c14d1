"""What the readers of archives return: where the files in them lie; and the images among them, in columns."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        name: as the archive has it. It never becomes a path of this machine.
        offset, length: its bytes in the archive; ``length`` is that of the packed bytes where it is deflated.
        size: its bytes when it is read.
        deflated: its bytes are a raw deflate stream.
    """

    name: str
    offset: int
    length: int
    size: int
    deflated: bool = False


@dataclass
class Aside:
    """What is not read: the number of members by kind, such as links."""

    kinds: Counter[str] = field(default_factory=Counter)


MemberReader = Callable[[str, Aside], Iterator[Member]]
"""Yield the files in an archive in its own order; count in ``Aside`` what else it has. Raise ``DataError`` for an archive that is
damaged, or that has no place for each file."""


def is_inside(member: Member, archive_bytes: int) -> bool:
    """Return whether a member's bytes lie inside its archive: a header may say anything."""
    return 0 <= member.offset <= member.offset + member.length <= archive_bytes


@dataclass
class FoundImages:
    """Images of a split, in columns: an object for each would take 500 bytes, 7 GB for 14 million images.

    Attributes:
        names: in the index of the data set.
        class_numbers: the name of each class -> its number in ``classes``.
        classes: of each image.
        shards: the number of the archive of each image.
        offsets, lengths, sizes, deflated: see ``Member``.
    """

    names: list[str] = field(default_factory=list)
    class_numbers: dict[str, int] = field(default_factory=dict)
    classes: "array[int]" = field(default_factory=lambda: array("i"))
    shards: "array[int]" = field(default_factory=lambda: array("i"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    deflated: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, class_name: str, shard: int, member: Member) -> None:
        self.names.append(name)
        self.classes.append(self.class_numbers.setdefault(class_name, len(self.class_numbers)))
        self.shards.append(shard)
        self.offsets.append(member.offset)
        self.lengths.append(member.length)
        self.sizes.append(member.size)
        self.deflated.append(member.deflated)

    def labels(self, label_of: dict[str, int | None]) -> NDArray[np.int64]:
        """Return the label of each image, int64 [N]; -1 where its class has none."""
        own = [-1 if (label := label_of[name]) is None else label for name in self.class_numbers]
        return np.array(own, np.int64)[np.frombuffer(self.classes, np.int32)] if own else np.zeros(0, np.int64)


def walk_order(name: str) -> Sequence[tuple[bool, str]]:
    """Return the key by which names come in the order of a folder that is walked: files, then folders, each sorted."""
    *folders, last = name.split("/")
    return [*((True, part) for part in folders), (False, last)]


def walked(names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the names in the order of class folders: by label, then by ``walk_order``; none of labels below 0.

    One class after the other: the keys of all names at once would take more memory than the names.
    """
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]
    for places in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        own = [names[place] for place in places.tolist()]
        keys: Sequence[object] = own if _of_one_folder(own) else [*map(walk_order, own)]
        places[:] = places[sorted(range(len(own)), key=keys.__getitem__)]  # type: ignore[arg-type]
    return order


def _of_one_folder(names: Sequence[str]) -> bool:
    """Return whether all names lie directly in one folder, where the order of the names is that of the walk."""
    folder, slash, _ = (names[0] if names else "").rpartition("/")
    joined, start = "".join(f"\0{name}" for name in names), f"\0{folder}{slash}"
    return joined.count(start) == len(names) and joined.count("/") == start.count("/") * len(names)
