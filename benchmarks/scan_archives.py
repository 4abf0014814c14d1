"""CPU, wall time and memory of a fresh scan of tar archives, of millions of names, and of ``data.fold``.

    python -m benchmarks.scan_archives [--members 300000] [--made-up 500000 2000000] [--folder-names 14000000] [--fold-names 160000] [--quick]

``--members``: tar archives of so many images of one byte, in the system's memory, as this project and timm's reader of tar archives
scan them; beside Python's ``tarfile`` alone, and a reading of plain headers alone, which refuses nothing and follows no link.
webdataset is absent: it has no index. ``--made-up``: members that the program makes up in place of ``tar_members``; all code behind
that is real. Two numbers give the bytes of each further image. ``--folder-names``: the same with the names in class folders.
``--fold-names``: ``data.fold`` alone. 0 leaves a part out. Each side runs once, in a process of its own.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.scan import cost
from dist_train.config.sections.data import DataConfig
from dist_train.data import index
from dist_train.data.formats import class_folders
from dist_train.data.formats.base import Entries
from dist_train.data.index import DataIndex, scan
from dist_train.data.selection.held_out import held_out
from dist_train.data.shards import formats
from dist_train.data.shards.members import Aside, Member

OF_A_SHARD = 100_000
CLASSES = 1000
QUICK = 2000
BLOCK = tarfile.BLOCKSIZE


def name_of(number: int, images: int) -> str:
    """Return a name like those of ImageNet; each class has as many."""
    label = number * CLASSES // images
    return f"n{label:08}/n{label:08}_{number:08}.JPEG"


def shards_of(images: int) -> Iterator[tuple[str, range]]:
    """Yield the name of each archive, and the numbers of its images."""
    for start in range(0, images, OF_A_SHARD):
        yield f"train-{start // OF_A_SHARD:05}.tar", range(start, min(start + OF_A_SHARD, images))


def make_archives(root: Path, images: int) -> None:
    for shard, numbers in shards_of(images):
        with tarfile.open(root / shard, "w") as archive:
            for number in numbers:
                about = tarfile.TarInfo(name_of(number, images))
                about.size = 1
                archive.addfile(about, io.BytesIO(b"0"))


def make_names(root: Path, images: int) -> None:
    """Make the archives without content, and the class folders without images: the names are made up."""
    for shard, _ in shards_of(images):
        (root / shard).touch()
    for label in range(CLASSES):
        (root / "train" / f"n{label:08}").mkdir(parents=True)


def ours(root: Path, images: int) -> DataIndex:
    return scan(DataConfig(format="tar", root=str(root), val_fraction=0.02))


def timm(root: Path, images: int) -> Any:
    from timm.data.readers.reader_image_in_tar import ReaderImageInTar

    return ReaderImageInTar(str(root), cache_tarinfo=False)


def by_tarfile(root: Path, images: int) -> int:
    """Read the headers as ``tar_members`` does, and keep nothing."""
    count = 0
    for path in root.glob("*.tar"):
        with tarfile.open(path, "r:") as archive:
            while archive.next() is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                count += 1
    assert count == images
    return count


def plain_headers(root: Path, images: int) -> int:
    """Read name, place and size out of each header, check its sum, and keep nothing."""
    count = 0
    for path in root.glob("*.tar"):
        with open(path, "rb") as file:
            while (header := file.read(BLOCK)).strip(b"\0"):
                assert int(header[148:154], 8) == sum(header) - sum(header[148:156]) + 8 * ord(" ")
                Member(header[:100].rstrip(b"\0").decode(), file.tell(), size := int(header[124:135], 8), size)
                file.seek(-size // BLOCK * -BLOCK, os.SEEK_CUR)
                count += 1
    assert count == images
    return count


def made_up_members(root: Path, images: int) -> DataIndex:
    numbers_of = dict(shards_of(images))

    def members(path: str, aside: Aside) -> Iterator[Member]:
        for place, number in enumerate(numbers_of[Path(path).name]):
            size = 100_000 + number % 9973
            yield Member(name_of(number, images), place * 110_000, size, size)

    with mock.patch.object(formats, "tar_members", members):
        return ours(root, images)


def made_up_names(root: Path, images: int) -> DataIndex:
    def names_below(folder: Path, *_: object) -> list[str]:
        own = images // CLASSES
        return [f"train/{folder.name}/{folder.name}_{number:08}.JPEG" for number in range(own)]

    no_file = mock.patch.object(index, "ASKED_AT_ONCE", 0)  # no image has a size, however few they are
    with no_file, mock.patch.object(class_folders, "names_below", names_below):
        return scan(DataConfig(root=str(root), val_fraction=0.02), sized=False)


def fold(root: Path, images: int) -> Callable[[], Any]:
    """Return the draw alone: the names are made before it is measured."""
    names = [name_of(number, images) for number in range(images)]
    entries = Entries(names, [number * CLASSES // images for number in range(images)])
    return lambda: held_out(DataConfig(root=str(root), fold="1/5"), entries, {})


Side = Callable[[Path, int], Any]
Make = Callable[[Path, int], None]
ON_DISK: dict[str, Side] = {
    "tar": ours,
    "timm's ReaderImageInTar": timm,
    "tarfile alone": by_tarfile,
    "plain headers alone": plain_headers,
}
MEMBERS, NAMES, FOLD = "made-up members", "made-up names in folders", "data.fold"
MADE_UP: dict[str, Side] = {MEMBERS: made_up_members, NAMES: made_up_names}


def one(side: str, root: Path, images: int) -> dict[str, float]:
    """Return the cost of a side, see ``cost``."""
    with tempfile.TemporaryDirectory() as folder:  # imports
        (make_archives if side in ON_DISK else make_names)(Path(folder), QUICK)
        if side == FOLD:
            fold(Path(folder), QUICK)()
            return cost(fold(root, images))
        work = (ON_DISK | MADE_UP)[side]
        work(Path(folder), QUICK)
    return cost(lambda: work(root, images))


def measured(side: str, root: Path, images: int) -> None:
    """Measure a side in a process of its own, and print its row."""
    command = [sys.executable, "-m", "benchmarks.scan_archives", "--side", side, "--root", str(root)]
    done = subprocess.run([*command, "--images", str(images)], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    each, kept = found["cpu"] / images * 1e6, found["mb"] * 2**20 / images
    row = (side, f"{images:,}", f"{found['cpu']:.1f}", f"{found['wall']:.1f}", f"{each:.2f}", f"{found['mb']:.0f}")
    print(f"| {' | '.join(row)} | {kept:.0f} | {os.getloadavg()[0]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=300_000)
    parser.add_argument("--made-up", type=int, nargs="*", default=[500_000, 2_000_000])
    parser.add_argument("--folder-names", type=int, default=14_000_000)
    parser.add_argument("--fold-names", type=int, default=160_000)
    parser.add_argument("--quick", action="store_true", help="check that it works; the figures are not meaningful")
    parser.add_argument("--side", choices=[*ON_DISK, *MADE_UP, FOLD], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one(options.side, options.root, options.images)))
        return
    print("| | images | CPU s | clock s | CPU us an image | peak MB | bytes an image | load |")
    print("|---|---|---|---|---|---|---|---|")
    parts: list[tuple[list[str], Make, int]] = [([*ON_DISK], make_archives, options.members)]
    parts += [([MEMBERS], make_names, images) for images in options.made_up]
    parts += [([NAMES], make_names, options.folder_names), ([FOLD], make_names, options.fold_names)]
    for sides, make, wanted in parts:
        images = min(wanted, QUICK) if options.quick else wanted
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), images)
            for side in sides if images else ():
                measured(side, Path(folder), images)


if __name__ == "__main__":
    main()
