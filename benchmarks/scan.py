"""CPU, wall time and memory of the index of many files, beside torchvision's ImageFolder, which asks for no file's size.

    python -m benchmarks.scan [--files 128000] [--classes 1000] [--rounds 3] [--latency-us 0] [--entries 0]

Makes empty files in class folders below a temporary folder, a table of them, and a tar and a zip archive. Each side runs in a
process of its own, in turn; the table has medians. ``--latency-us``: each call that looks at a file or opens a folder takes so much
longer, by a preloaded library (tests/support/slow_disk). ``--entries``: also what a rank needs for a stored index of so many images,
alone, and two ranks that share it.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dist_train.config.sections.data import CsvConfig, DataConfig
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex, scan
from dist_train.data.split import Split
from dist_train.data.stored.record import record
from dist_train.data.stored.reuse import kept_or_scanned
from dist_train.data.stored.scan_file import StoredScan, read_scan, write_scan
from dist_train.data.stored.shared_scan import shared
from dist_train.distributed.group import joined
from tests.support.ranks import run_ranks
from tests.support.slow_disk import slow_disk

MADE_BY_CSV = "table.csv"


def make_files(root: Path, files: int, classes: int) -> None:
    """Make ``train/<class>/<number>.jpg``, and a table of them."""
    with open(root / MADE_BY_CSV, "w") as table:
        table.write("path,label\n")
        for label in range(classes):
            folder = root / "train" / f"n{label:08}"
            folder.mkdir(parents=True)
            for number in range(files // classes):
                (folder / f"n{label:08}_{number:06}.JPEG").touch()
                table.write(f"train/n{label:08}/n{label:08}_{number:06}.JPEG,n{label:08}\n")


def make_archives(root: Path) -> None:
    """Make ``tar/all.tar`` and ``zip/all.zip`` with the same names as ``train``, and a byte in each file."""
    for kind in ("tar", "zip"):
        (root / kind).mkdir()
    names = sorted(path.relative_to(root / "train") for path in (root / "train").rglob("*.JPEG"))
    with tarfile.open(root / "tar" / "all.tar", "w") as tar, zipfile.ZipFile(root / "zip" / "all.zip", "w") as packed:
        for name in names:
            about = tarfile.TarInfo(str(name))
            about.size = 1
            tar.addfile(about, io.BytesIO(b"0"))
            packed.writestr(str(name), b"0")


def archive(root: Path, kind: str) -> DataIndex:
    return scan(DataConfig(format=kind, root=str(root / kind), val_fraction=0.02))


def floor(root: Path) -> int:
    """List the folders and ask for each file's size, and nothing else."""
    total = 0
    for entry in os.scandir(root / "train"):
        opened = os.open(entry.path, os.O_RDONLY)
        total += sum(os.stat(name, dir_fd=opened).st_size + 1 for name in os.listdir(opened))
        os.close(opened)
    return total


def folders(root: Path) -> DataConfig:
    return DataConfig(root=str(root), val_fraction=0.02)


def drawn(root: Path) -> DataIndex:
    return scan(folders(root), sized=False)


def ours(root: Path) -> DataIndex:
    """A training and a validation folder; the latter is that of ``few``, whose two classes are among those of the former."""
    (root / "val").symlink_to(root / "few" / "train")
    try:
        return scan(DataConfig(root=str(root)), sized=False)
    finally:
        (root / "val").unlink()


def peer(root: Path) -> Any:
    from torchvision.datasets import ImageFolder

    return ImageFolder(str(root / "train"))


def table(root: Path) -> DataIndex:
    return scan(
        DataConfig(format="csv", root=str(root), csv=CsvConfig(train=MADE_BY_CSV), val_fraction=0.02), sized=False
    )


def first_start(root: Path) -> DataIndex:
    (root / "run" / "scan.bin").unlink(missing_ok=True)
    return kept_or_scanned(folders(root), root / "run" / "scan.bin", sized=False)


def recorded(root: Path) -> bool:
    """The work of the process that asks for sizes and times while training begins, after ``first start``."""
    (root / "run" / "listing.gz").unlink(missing_ok=True)
    record(root / "run" / "scan.bin", root / "run" / "listing.gz")
    return True


def requeue(root: Path) -> DataIndex:
    return kept_or_scanned(folders(root), root / "run" / "scan.bin", sized=False)


def opened(root: Path) -> StoredScan | None:
    return read_scan(root / "run" / "entries.bin")


SIDES: dict[str, Callable[[Path], Any]] = {
    "ImageFolder": peer,
    "list and stat": floor,
    "folders": ours,
    "folders, validation set drawn": drawn,
    "table": table,
    "tar": partial(archive, kind="tar"),
    "zip": partial(archive, kind="zip"),
    "first start": first_start,
    "record": recorded,
    "requeue": requeue,
    "stored index": opened,
}


def store_entries(path: Path, entries: int) -> None:
    """Write a stored scan of ``entries`` images, which nobody has."""
    names = np.char.add(
        np.char.mod("n%08d/", np.arange(entries) // 1300), np.char.mod("%010d.JPEG", np.arange(entries))
    )
    labels, sizes = np.arange(entries) // 1300 % 1000, np.full(entries, 100_000)
    train, val = (
        Split(names[part].astype(np.bytes_), labels[part], sizes[part]) for part in (slice(1, None), slice(1))
    )
    index = DataIndex("/data", FileImages("/data"), "classification", list(map(str, range(1000))), train, val, "0" * 64)
    write_scan(path, StoredScan("benchmark", index, {}, {"train": train.sizes, "val": val.sizes}))


def shared_by_ranks(path: Path) -> dict[str, float]:
    """Return what a rank needs that maps a stored scan with the other ranks, among which its memory is divided."""
    with joined(DistributedConfig()) as group:
        before, wall, cpu = _own_mb(), time.perf_counter(), time.process_time()
        kept = shared(group, path, lambda place: read_scan(place, mapped=True))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        group.gather_objects(None)
        used = _own_mb() - before
        group.gather_objects(None)
        assert kept is not None
    return {"wall": wall, "cpu": cpu, "mb": used}


def _own_mb() -> float:
    """Return this process' memory, and its part of what it shares."""
    return _megabytes("smaps_rollup", "Pss")


def _megabytes(file: str, key: str) -> float:
    lines = (Path("/proc/self") / file).read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def one(side: str, root: Path) -> dict[str, float]:
    """Return the cost of a side, see ``cost``."""
    SIDES["ImageFolder"](root / "few"), drawn(root / "few")  # imports
    return cost(partial(SIDES[side], root))


def cost(work: Callable[[], Any]) -> dict[str, float]:
    """Return seconds on the clock and of CPU that a piece of work takes, and how far the peak of the memory rose, in MB."""
    before = _megabytes("status", "VmHWM")
    wall, cpu = time.perf_counter(), _cpu_s()
    kept = work()
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    assert kept is not None
    return {"wall": wall, "cpu": cpu, "mb": _megabytes("status", "VmHWM") - before}


def _cpu_s() -> float:
    """Return the CPU time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def measured(side: str, root: Path, slow: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scan", "--side", side, "--root", str(root)]
    done = subprocess.run(command, env=os.environ | slow, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _of_two_ranks(root: Path) -> dict[str, dict[str, float]]:
    found = run_ranks(2, shared_by_ranks, root / "run" / "entries.bin")
    return {f"rank {rank} of 2": figures for rank, figures in enumerate(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=128_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-us", type=int, default=0)
    parser.add_argument("--entries", type=int, default=0)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=[*SIDES][:-1])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one(options.side, options.root)))
        return
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as library:
        root = Path(folder)
        make_files(root, options.files, options.classes)
        for name in ("few", "run"):
            (root / name).mkdir()
        make_files(root / "few", 200, 2)
        if {"tar", "zip"} & {*options.sides}:
            make_archives(root)
        sides = [*options.sides]
        if options.entries:
            store_entries(root / "run" / "entries.bin", options.entries)
            sides.append("stored index")
        slow = slow_disk(Path(library), root, options.latency_us / 1e6).environment if options.latency_us else {}
        rounds = [{side: measured(side, root, slow) for side in sides} for _ in range(options.rounds)]
        if options.entries:
            for found, ranks in zip(rounds, (_of_two_ranks(root) for _ in rounds), strict=True):
                found |= ranks
            sides += ["rank 0 of 2", "rank 1 of 2"]
    print(
        f"{options.files:,} files, {options.entries:,} entries, {options.latency_us} us a call, load {os.getloadavg()}"
    )
    print("| | CPU s | wall s | peak MB |")
    for side in sides:
        wall, cpu, peak = (statistics.median(found[side][key] for found in rounds) for key in ("wall", "cpu", "mb"))
        print(f"| {side} | {cpu:.2f} | {wall:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
