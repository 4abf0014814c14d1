"""Images that archives hold, in columns: an object for each would take 500 bytes, 7 GB for 14 million images."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dist_train.data.shards.members import Member


@dataclass
class FoundImages:
    """Images of a split.

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
