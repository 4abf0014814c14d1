"""Folders of which each holds the images of one class, and what is suspicious about them."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dist_train.data.formats.base import IMAGE_SUFFIXES, Findings
from dist_train.data.formats.class_names import few, same_names
from dist_train.data.formats.walk import Surroundings, files_of, left_aside, names_below
from dist_train.data.stored.file_facts import file_size
from dist_train.data.stored.slow_disks import answers
from dist_train.system.progress import advance

SPLIT_WORD = r"(?:train|training|trainval|val|valid|validation|test|testing|eval|evaluation|holdout)"
FILLERS = ("set", "data", "dataset", "image", "images", "img", "imgs", "split")
SPLIT_NAME = re.compile(rf"({SPLIT_WORD})(?:{'|'.join(FILLERS)})?")

NOT_BY_HAND = ("@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin", "lost+found", "#snapshot", "@tmp")
"""Folders of network drives and archives, in lower case; their images are copies or thumbnails."""


CALLS = 20
"""Listing a folder of a thousand files takes as long as asking for the sizes of so many files."""


@dataclass(frozen=True)
class ClassFolder:
    """A class folder.

    Attributes:
        names: of its images: paths relative to the root.
        around: what else it holds.
        real: its path without links.
    """

    path: Path
    names: list[str]
    around: Surroundings
    real: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def depth(self) -> int:
        """Return how many folders lie between this one and its nearest images."""
        return min((len(Path(folder).parts) for folder in self.around.folders), default=0)


def class_folders(paths: Sequence[Path], root: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[ClassFolder]:
    """Read the names in class folders; where the disk answers slowly, in several folders at a time.

    Raises:
        DataError: see ``names_below``; or an image is not a file.
    """

    def listed(path: Path) -> ClassFolder:
        around = Surroundings(suffixes)
        names = list(names_below(path, root, around))
        for name in around.others:
            file_size(str(root), name)
        return ClassFolder(path, names, around, os.path.realpath(path))

    found: list[ClassFolder] = []
    for block in answers(listed, paths, CALLS):
        found += block
        advance(sum(len(folder.names) for folder in block))
    return found


def split_names(names: Sequence[str]) -> list[str]:
    """Return the names that are those of splits: `test`, `Train_images`, or a pair such as `seg_train` and `seg_test`."""
    pairs: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    found = set()
    for name in names:
        words = re.findall(r"[^\W\d_]+", name.casefold())
        splits = [match[1] for word in words if (match := SPLIT_NAME.fullmatch(word))]
        others = tuple(word for word in words if not SPLIT_NAME.fullmatch(word) and word not in FILLERS)
        if splits and not others:
            found.add(name)
        elif splits or (others == ("fold",) and not name.isalpha()):
            pairs[others][name] = " ".join(splits) or name
    for group in pairs.values():
        if len(set(group.values())) > 1:
            found |= group.keys()
    return [name for name in names if name in found]


def check_classes(split: Path, folders: Sequence[ClassFolder], findings: Findings) -> None:
    """Refuse class folders that are no classes, as far as names and depths tell; for classes that nobody has listed."""
    names = [folder.name for folder in folders]
    if named := split_names(names):
        findings.refuse(
            f"{split}: {few(named)}",
            "a folder with the name of a split would be a class: move it, name it in `data.test` if it is the test set, or "
            "list the classes in `data.classes`",
        )
    inner = {f"{folder.name}/{part}": None for folder in folders for part in _inner_splits(folder)}
    if inner:
        findings.refuse(
            f"{split}: {few(list(inner))}",
            "a split lies inside a class folder, so that its images would all be of one split; write "
            "<split>/<class>/..., or list the classes in `data.classes` to take them so",
        )
    depths = {folder.depth for folder in folders}
    deeper = [folder.name for folder in folders if folder.depth > min(depths) and folder.name not in named]
    if deeper:
        findings.refuse(
            f"{split}: {few(deeper)}",
            "the images of this class folder lie deeper than those of the others: is it a class? Move it, or list the "
            "classes in `data.classes`",
        )
    _note_level(split, folders, findings)


def _inner_splits(folder: ClassFolder) -> list[str]:
    parts = dict.fromkeys(part for inner in folder.around.folders for part in Path(inner).parts)
    return split_names(list(parts))


def _note_level(split: Path, folders: Sequence[ClassFolder], findings: Findings) -> None:
    """Note class folders that all hold the same subfolders, as if these were the classes."""
    inner = [{Path(place).parts[0] for place in folder.around.folders if place != "."} for folder in folders]
    common = set.intersection(*inner) if inner else set()
    if len(common) > 1 and all(folder.depth for folder in folders):
        findings.notes.append(
            f"every class folder of {split} holds the folders {few(sorted(common))}; if these are the classes, `data.root` is "
            "a folder too high"
        )


def check_contents(split: Path, folders: Sequence[ClassFolder], findings: Findings) -> None:
    """Refuse copies of images below class folders: folders of the system, and links to other classes."""
    for folder in folders:
        for place in folder.around.folders:
            odd = [part for part in (folder.name, *Path(place).parts) if part.lower() in NOT_BY_HAND]
            if odd:
                findings.refuse(
                    str(folder.path / place), f"images in a folder {odd[0]}, which no one filled by hand; remove it"
                )
    for names in same_names(folder.name for folder in folders):
        findings.refuse(
            f"{split}: {few(names)}",
            "these names look the same, but have other characters (Unicode NFC and NFD); give them one form",
        )
    _refuse_links(folders, findings)


def _refuse_links(folders: Sequence[ClassFolder], findings: Findings) -> None:
    """Refuse links that bring the images of one class into another."""
    places = [(folder.real, str(folder.path), folder) for folder in folders]
    places += [(target, place, folder) for folder in folders for place, target in folder.around.links]
    owners: dict[str, ClassFolder] = {}
    for target, _, folder in places:
        owners.setdefault(target, folder)
    for target, place, folder in places:
        around = (owners.get(parent) for parent in (target, *map(str, Path(target).parents)))
        other = next((owner for owner in around if owner is not None and owner is not folder), None)
        if other is not None:
            fault = f"leads to images of the class folder {other.path} too, and an image has one class; remove the link"
            findings.refuse(place, fault)


def note_left_aside(split: Path, folders: Sequence[ClassFolder], findings: Findings) -> None:
    """Note how many files of a split are not read, by suffix and by class."""
    aside = [folder for folder in folders if folder.around.left_aside]
    if aside:
        total = sum((folder.around.left_aside for folder in aside), Counter())
        classes = "1 class" if len(aside) == 1 else f"{len(aside)} classes"
        findings.notes.append(
            f"{_files(total)} in {classes} of {split} left aside ({_suffixes(total)}): {few([f.name for f in aside])}"
        )
    beside = files_of(split)
    total = left_aside(beside)
    images = sum(name.lower().endswith(IMAGE_SUFFIXES) for name in beside)
    if images:
        total["images"] = images
    if total:
        findings.notes.append(f"{_files(total)} beside the class folders of {split} left aside ({_suffixes(total)})")


def _files(count: "Counter[str]") -> str:
    return "1 file" if sum(count.values()) == 1 else f"{sum(count.values())} files"


def _suffixes(count: "Counter[str]") -> str:
    return ", ".join(f"{suffix or 'no suffix'}: {number}" for suffix, number in _most(count))


def _most(count: "Counter[str]") -> Iterator[tuple[str, int]]:
    yield from count.most_common(5)
    rest = sum(count.values()) - sum(number for _, number in count.most_common(5))
    if rest:
        yield ("others", rest)
