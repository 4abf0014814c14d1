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

from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.packing.sources import FolderSource, Source
from dist_train.data.packing.table_source import TableSource, is_table_folder
from dist_train.data.shards.archives import SPLITS
from dist_train.data.shards.members import Aside
from dist_train.data.shards.tar_members import tar_members
from dist_train.errors import EXIT_DONE, ConfigError, DataError, DistTrainError
from dist_train.system.files import fsync_dir
from dist_train.system.program import Parser, program
from dist_train.system.progress import advance, shown
from dist_train.system.terminal import given_path, log_to_console, output_folder, positive, report, restored_log

PART = ".part"
MB = 1_000_000
TABLES = (".csv", ".tsv", ".txt")
OTHERS = "data"
"""Name of the archives of images that lie in no folder of a split."""


@dataclass(frozen=True)
class Planned:
    """An archive that is to be written: its path, and the names and sizes of its images."""

    path: Path
    images: tuple[tuple[str, int], ...]


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog=program("pack"),
        description="Write images as tar archives of about --shard-mb each, without compression. Names and bytes of a folder stay, so that "
        "`data.format=tar data.root=OUT` trains to the same weights as the folder. Call it again after an interruption: "
        "finished archives are checked and kept.",
    )
    made.add_argument(
        "source",
        metavar="SOURCE",
        type=given_path,
        help="a folder: <split>/<class>/... or <class>/...; a Hugging Face data set on disk: parquet files, or save_to_disk; or a "
        "CSV file as `data.format: csv` reads it",
    )
    made.add_argument(
        "out", metavar="OUT", type=output_folder, help="the folder of the archives; made if it is missing"
    )
    made.add_argument(
        "overrides",
        nargs="*",
        default=[],  # else argparse names it among the arguments that are required
        metavar="data.csv.KEY=VALUE",
        help="how to read a CSV file, such as data.csv.val=val.csv data.test=test.csv data.csv.path=image",
    )
    made.add_argument("--shard-mb", type=positive, default=512, metavar="MB", help="size of an archive in MB (512)")
    return made


def main(argv: Sequence[str]) -> int:
    """Write the archives. Return the exit code."""
    args = parser().parse_intermixed_args(argv)
    try:
        with restored_log():
            log_to_console(0)
            pack(args.source, args.out, args.shard_mb * MB, args.overrides)
        return EXIT_DONE
    except DistTrainError as error:
        return report(error)


def pack(origin: Path, out: Path, shard_bytes: int, overrides: Sequence[str] = ()) -> None:
    """Write the archives that are missing in ``out``, and check those that are there.

    Args:
        overrides: how to read a CSV file.

    Raises:
        ConfigError, DataError: no image was found, ``out`` holds other archives, or a file cannot be read or written.
    """
    source = _source(origin, overrides)
    with shown(f"reading {origin}", "images"):
        plan = list(_plan(source, out, shard_bytes))
    if source.left_aside:
        print(
            f"left aside: {source.left_aside} files or rows that are no images, have no label, or repeat an image",
            file=sys.stderr,
        )
    if not plan:
        raise DataError(f"{origin} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    _check_folders(origin, out, plan)
    kept = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        with shown(f"packing {origin}", "images", sum(len(planned.images) for planned in plan)):
            for planned in plan:
                kept += _is_there(planned) or _write(source, planned)
    except OSError as error:
        raise DataError(
            f"cannot write {error.filename or out}: {error.strerror}; finished archives stay, call it again"
        ) from None
    sizes = [size for planned in plan for _, size in planned.images]
    known = f", {kept} of them from before" if kept else ""
    print(
        f"{len(sizes):,} images ({_room(sum(sizes))}) in {len(plan)} archives{known}: data.format=tar data.root={out}"
    )


def _room(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _source(origin: Path, overrides: Sequence[str]) -> Source:
    if origin.is_file() and origin.suffix.lower() in TABLES:
        from dist_train.data.packing.csv_source import CsvSource  # imports torch, which folders do not need

        return CsvSource(origin, overrides)
    if overrides:
        raise ConfigError(f"{overrides[0]} says how to read a CSV file, and {origin} is none; remove it")
    if not origin.exists():
        raise DataError(f"{origin} does not exist")
    if not origin.is_dir():
        raise DataError(f"{origin} is neither a folder of images nor a CSV file ({', '.join(TABLES)})")
    return TableSource(origin) if is_table_folder(origin) else FolderSource(origin)


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


def _check_folders(origin: Path, out: Path, plan: Sequence[Planned]) -> None:
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(origin)):
        raise DataError(f"{out} lies in {origin}: choose a folder outside it")
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
    if [(member.name, member.size) for member in tar_members(str(planned.path), Aside())] != list(planned.images):
        raise DataError(
            f"{planned.path} has other images than its source has now, or another --shard-mb was given; remove it, or choose "
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
        for member in tar_members(str(path), Aside()):
            yield member.name, hashlib.blake2b(os.pread(file.fileno(), member.length, member.offset)).digest()
