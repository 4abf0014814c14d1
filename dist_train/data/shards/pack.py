"""The command ``pack``: write images as tar archives, which ``data.format: tar`` reads as it reads the folder of the same names."""

import argparse
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dist_train.data.formats.base import ARRAYS, IMAGE_SUFFIXES
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.walk import Surroundings, file_size, names_below
from dist_train.data.shards.archives import SPLITS
from dist_train.data.shards.members import Aside
from dist_train.data.shards.table_source import TableSource, is_table_folder
from dist_train.data.shards.tar_members import tar_members
from dist_train.errors import EXIT_DONE, DataError, DistTrainError
from dist_train.system.files import fsync_dir
from dist_train.system.program import program
from dist_train.system.progress import advance, shown
from dist_train.system.terminal import report

PART = ".part"
MB = 1_000_000
OTHERS = "data"
"""Name of the archives of images that lie in no folder of a split."""


class Source(Protocol):
    """Where the images come from.

    Attributes:
        left_aside: how many things ``images`` has left out.
    """

    left_aside: int

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield name, as in a folder, and size in bytes of each image, in the order in which they are read fast."""
        ...

    def read(self, name: str) -> bytes: ...


class FolderSource:
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.left_aside = 0
        self._files = FileImages(str(folder))

    def images(self) -> Iterator[tuple[str, int]]:
        root, around = self._files.root, Surroundings((*IMAGE_SUFFIXES, ARRAYS))
        yield from ((name, file_size(root, name)) for name in names_below(Path(root), Path(root), around))
        self.left_aside = sum(around.left_aside.values())

    def read(self, name: str) -> bytes:
        return self._files.content(name)


@dataclass(frozen=True)
class Planned:
    """An archive that is to be written: its path, and the names and sizes of its images."""

    path: Path
    images: tuple[tuple[str, int], ...]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=program("pack"),
        description="Write a folder of images as tar archives of about --shard-mb each, without compression. Names and bytes stay, so that "
        "`data.format=tar data.root=OUT` trains to the same weights as the folder. Call it again after an interruption: "
        "finished archives are checked and kept.",
    )
    made.add_argument(
        "folder",
        type=Path,
        help="<split>/<class>/... or <class>/...; or a Hugging Face data set on disk: parquet files, or save_to_disk",
    )
    made.add_argument("out", type=Path, help="the folder of the archives; made if it is missing")
    made.add_argument("--shard-mb", type=int, default=512, metavar="MB", help="size of an archive in MB (512)")
    return made


def main(argv: Sequence[str]) -> int:
    """Write the archives. Return the exit code."""
    args = parser().parse_args(argv)
    try:
        pack(args.folder, args.out, args.shard_mb * MB)
        return EXIT_DONE
    except DistTrainError as error:
        return report(error)


def pack(folder: Path, out: Path, shard_bytes: int) -> None:
    """Write the archives that are missing in ``out``, and check those that are there.

    Raises:
        DataError: there is no image, ``out`` holds other archives, or a file cannot be read or written.
    """
    if shard_bytes < MB:
        raise DataError(f"--shard-mb ({shard_bytes // MB}) must be at least 1")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory; it must hold the images")
    source: Source = TableSource(folder) if is_table_folder(folder) else FolderSource(folder)
    with shown(f"reading {folder}", "images"):
        plan = list(_plan(source, out, shard_bytes))
    if source.left_aside:
        print(f"left aside: {source.left_aside} files or rows that are no images, or have no label", file=sys.stderr)
    if not plan:
        raise DataError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    _check_folders(folder, out, plan)
    kept = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        with shown(f"packing {folder}", "images", sum(len(planned.images) for planned in plan)):
            for planned in plan:
                kept += _is_there(planned) or _write(source, planned)
    except OSError as error:
        raise DataError(
            f"cannot write {error.filename or out}: {error.strerror}; finished archives stay, call it again"
        ) from None
    sizes = [size for planned in plan for _, size in planned.images]
    known = f", {kept} of them from before" if kept else ""
    print(
        f"{len(sizes):,} images ({sum(sizes) / 1e9:.2f} GB) in {len(plan)} archives{known}: data.format=tar data.root={out}"
    )


def _plan(source: Source, out: Path, shard_bytes: int) -> Iterator[Planned]:
    """Yield the archives: a function of the names and sizes of the images and of ``shard_bytes``."""
    groups: dict[str, list[list[tuple[str, int]]]] = {}
    room: dict[str, int] = {}
    for name, size in source.images():
        split = SPLITS.get(name.split("/")[0], OTHERS) if name.count("/") > 1 else OTHERS
        if size > room.get(split, -1):
            groups.setdefault(split, []).append([])
            room[split] = shard_bytes
        groups[split][-1].append((name, size))
        room[split] -= size
    for split, lists in groups.items():
        for number, images in enumerate(lists):
            yield Planned(out / f"{split}-{number:05d}.tar", tuple(images))


def _check_folders(folder: Path, out: Path, plan: Sequence[Planned]) -> None:
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        raise DataError(f"{out} lies in {folder}: choose a folder outside it")
    others = sorted({path.name for path in out.glob("*.tar")} - {planned.path.name for planned in plan})
    if others:
        raise DataError(
            f"{out} holds other archives, which a training would read too ({others[0]}); choose an empty folder"
        )


def _is_there(planned: Planned) -> bool:
    """Return whether an archive was written before, with the same images.

    Raises:
        DataError: it has others.
    """
    if not planned.path.exists():
        return False
    if [(member.name, member.size) for member in tar_members(planned.path, Aside())] != list(planned.images):
        raise DataError(
            f"{planned.path} has other images than the folder has now, or another --shard-mb was given; remove it, or choose "
            "an empty folder"
        )
    advance(len(planned.images))
    return True


def _write(source: Source, planned: Planned) -> bool:
    """Write an archive, read it again, and give it its name. Return False: it was not there."""
    part = planned.path.with_name(planned.path.name + PART)
    with open(part, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            written = [_add(archive, source, name, size) for name, size in planned.images]
        file.flush()
        os.fsync(file.fileno())
    if list(_digests(part)) != written:
        raise DataError(f"{part} has other bytes than were written: is the disk damaged?")
    os.replace(part, planned.path)
    fsync_dir(planned.path.parent)
    return False


def _add(archive: tarfile.TarFile, source: Source, name: str, size: int) -> tuple[str, bytes]:
    """Add an image, and return its name and the digest of its bytes."""
    content = source.read(name)
    if len(content) != size:
        raise DataError(f"the image {name} changes while it is packed; call it again")
    header = tarfile.TarInfo(name)
    header.size = size
    archive.addfile(header, io.BytesIO(content))
    advance()
    return name, hashlib.blake2b(content).digest()


def _digests(path: Path) -> Iterator[tuple[str, bytes]]:
    with open(path, "rb") as file:
        for member in tar_members(path, Aside()):
            yield member.name, hashlib.blake2b(os.pread(file.fileno(), member.length, member.offset)).digest()
