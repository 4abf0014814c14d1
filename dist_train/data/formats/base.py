"""What the readers of data formats take and return."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, repeat
from typing import TYPE_CHECKING, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from dist_train.data.decoding.deep import DeepImage
from dist_train.data.decoding.picture import Picture
from dist_train.data.decoding.rules import DecodeRules

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"
)  # fmt: skip


ARRAYS = ".npy"
"""Listed besides the images where ``data.channels`` or ``data.bits`` is not the usual one: elsewhere it is often something else."""


def suffixes_of(cfg: "DataConfig") -> tuple[str, ...]:
    """Return the suffixes of the files that are images."""
    return IMAGE_SUFFIXES if (cfg.channels, cfg.bits) == (3, 8) else (*IMAGE_SUFFIXES, ARRAYS)


SUFFIX_OF = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
HEAD = 4
"""Bytes of a file that tell its kind."""


def with_suffix(name: str, head: Callable[[], bytes]) -> str:
    """Return the name with the suffix of an image, by which readers of archives know it.

    Args:
        head: returns the first bytes of the file; called where the name has no such suffix.
    """
    if name.lower().endswith((*IMAGE_SUFFIXES, ARRAYS)):
        return name
    found = head()
    return name + next((suffix for magic, suffix in SUFFIX_OF.items() if found.startswith(magic)), ".jpg")


class Images(Protocol):
    """Open an image by the name that the index gives it. Small: it travels to every rank and loader process."""

    @property
    def rules(self) -> DecodeRules: ...

    def open(self, name: str) -> Picture: ...

    def deep(self, name: str) -> DeepImage | None:
        """Return an image of more than 8 bits per channel with its values; None for all others."""
        ...

    def left_out(self, name: str) -> list[str]:
        """Return what the file of an image holds and its pixels do not show, such as further pages."""
        ...

    def with_rules(self, rules: DecodeRules) -> "Images":
        """Return the same images, to be decoded by other rules."""
        ...


Target = int | tuple[float, ...]
"""Index of the class; or the indices of the labels that the image has, ascending (multilabel); or one number for each output
(regression)."""

UNASKED = -1
"""The size of a file that nobody has asked for yet."""

FEW = 10
"""A part of so many entries, or a smaller one, is picked by places: a look at each entry takes longer."""

Entry = tuple[str, int, Target]
"""Name of the image, its size in bytes (``UNASKED`` for files, until ``index.scan`` asks), its target."""

Held = Literal["val", "test"]
"""The splits that a run can be evaluated on."""


@dataclass(frozen=True)
class Entries(Sequence[Entry]):
    """Entries in columns: each tuple of a list would take 80 bytes, 1.1 GB for 14 million images.

    Attributes:
        names, targets: one for each image.
        sizes: one for each image, or none where nobody has asked for them.
        draws: the number of each name that draws the validation set (``selection.held_out.draw_numbers``), where the reader has
            them already.
    """

    names: list[str]
    targets: list[Target]
    sizes: Sequence[int] = field(default_factory=list)
    draws: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Entries":
        """Return the entries in columns. All or none of them have a size."""
        if isinstance(entries, Entries):
            return entries
        asked = len(entries) > 0 and entries[0][1] != UNASKED
        sizes = [size for _, size, _ in entries] if asked else []
        return cls([name for name, _, _ in entries], [target for _, _, target in entries], sizes)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Entry]:
        return zip(self.names, self.sizes or repeat(UNASKED), self.targets, strict=False)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> "Entries": ...
    def __getitem__(self, place: int | slice) -> "Entry | Entries":
        if isinstance(place, slice):
            return Entries(self.names[place], self.targets[place], self.sizes[place])
        return self.names[place], self.sizes[place] if self.sizes else UNASKED, self.targets[place]

    def classes(self) -> NDArray[np.int64]:
        """Return the class of each entry, int64 [N]; 0 where there are no single classes."""
        single = len(self) > 0 and isinstance(self.targets[0], int)
        return np.array(self.targets, np.int64) if single else np.zeros(len(self), np.int64)

    def where(self, wanted: Iterable[int]) -> "Entries":
        """Return the entries that are wanted.

        Args:
            wanted: 1 or 0 for each entry.
        """
        kept = bytearray(wanted)
        if kept.count(1) < len(kept) // FEW:
            places = np.flatnonzero(np.frombuffer(kept, np.uint8)).tolist()
            sizes = array("q", map(self.sizes.__getitem__, places if self.sizes else []))
            return Entries([self.names[place] for place in places], [self.targets[place] for place in places], sizes)
        names, targets = [*compress(self.names, kept)], [*compress(self.targets, kept)]
        return Entries(names, targets, array("q", compress(self.sizes, kept)))


def class_of(entry: Entry) -> int:
    """Return the class of an entry; 0 where there are no single classes."""
    return entry[2] if isinstance(entry[2], int) else 0


@dataclass(frozen=True)
class Only:
    """A request for one split, labelled with the classes of a run; images of other classes are left aside."""

    split: Held
    classes: tuple[str, ...]


@dataclass
class Findings:
    """What a reader noticed about a data set.

    Attributes:
        notes: sentences about what a user should know. They stop nothing.
        faults: fault and its fix -> the places that have it. A run must not begin with a fault. A run that an older
            version began can be resumed: the data are read as that version read them.
    """

    notes: list[str] = field(default_factory=list)
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def refuse(self, place: str, fault: str) -> None:
        """Add a place, such as a line of a table, that has a fault."""
        self.faults[fault].append(place)

    def add(self, others: "Findings") -> None:
        """Add what another reading noticed."""
        self.notes += others.notes
        for fault, places in others.faults.items():
            self.faults[fault] += places

    def refusals(self) -> list[str]:
        """Return one sentence for each fault, with its first place and the number of the others."""
        return [
            f"{places[0]}{f' (and {len(places) - 1} more)' if len(places) > 1 else ''}: {fault}"
            for fault, places in self.faults.items()
        ]


@dataclass(frozen=True)
class Listing:
    """A data set as one format found it.

    Attributes:
        images: opens an image by its name.
        classes: names of the outputs.
        train, val: entries in an order that does not depend on the file system; in columns (``Entries``) where they may be
            millions. ``val`` is None without a validation set. Asked for ``Only`` one split, a reader returns it as
            ``val``, and ``train`` is empty.
        content: digest of the pixels of a set that is held in memory; empty for files.
        findings: what the reader noticed.
        columns: what a further column of the training table is for -> name of an image -> its text
            (``formats.tables.further``).
    """

    images: Images
    classes: list[str]
    train: Sequence[Entry]
    val: Sequence[Entry] | None
    content: str = ""
    findings: Findings = field(default_factory=Findings)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
