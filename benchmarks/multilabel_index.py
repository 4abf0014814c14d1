"""Seconds and peak memory of the scan of a large multilabel table, and of what a start makes of it.

    python -m benchmarks.multilabel_index [--images 1000000] [--labels 1000] [--columns]

Every path of the table is a file of its own name: folders that are links to one folder with a thousand small files. So the
scan asks the system for the size of each file, as it does for a data set. Prints a row of the table in results/multilabel_index.md;
to compare with another version, run it with that version on ``PYTHONPATH``.
"""

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dist_train.config.sections.data import CsvConfig, DataConfig
from dist_train.data.changed_files import save_listing
from dist_train.data.index import DataIndex, scan
from dist_train.data.stored.scan_file import StoredScan, read_scan, write_scan
from dist_train.data.stored.survey import surveyed

FILES_PER_FOLDER = 1000
LABELS_PER_IMAGE = 5
BATCHES, BATCH = 100, 256


def names_of(root: Path, images: int) -> Iterator[str]:
    """Make the files, and yield a path for each image."""
    (root / "real").mkdir()
    for number in range(FILES_PER_FOLDER):
        (root / "real" / f"{number:03}.jpg").write_bytes(b"\xff\xd8")
    for number in range(images):
        folder, place = divmod(number, FILES_PER_FOLDER)
        if not place:
            (root / f"part{folder:04}").symlink_to("real")
        yield f"part{folder:04}/{place:03}.jpg"


def write_table(root: Path, images: int, labels: list[str], columns: bool) -> None:
    """Write ``train.csv``: a column that holds all labels of an image, or a column for each label."""
    choose = random.Random(0)
    with open(root / "train.csv", "w") as table:
        table.write(f"path,{','.join(labels) if columns else 'label'}\n")
        for name in names_of(root, images):
            chosen = choose.sample(range(len(labels)), LABELS_PER_IMAGE)
            if columns:
                row = bytearray(b"0," * len(labels))
                for number in chosen:
                    row[2 * number] = ord("1")
                table.write(f"{name},{row[:-1].decode()}\n")
            else:
                table.write(f"{name},{'|'.join(labels[number] for number in chosen)}\n")


def config(root: Path, labels: list[str], columns: bool) -> DataConfig:
    csv = CsvConfig(targets=tuple(labels)) if columns else CsvConfig()
    return DataConfig(format="csv", task="multilabel", root=str(root), csv=csv, val_fraction=0.02)


def timed(what: Callable[[], Any]) -> tuple[Any, str]:
    """Return a result, and the seconds that it took: on the clock, and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = what()
    return found, f"{time.perf_counter() - wall:.1f} ({time.process_time() - cpu:.1f})"


def peak_gb() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}"


def read_batches(index: DataIndex) -> None:
    choose = random.Random(0)
    for _ in range(BATCHES):
        index.train.labels[[choose.randrange(len(index.train)) for _ in range(BATCH)]]


def measured(root: Path, cfg: DataConfig) -> list[str]:
    cells = [peak_gb()]
    with surveyed() as survey:
        index, seconds = timed(lambda: scan(cfg))
    cells += [seconds, peak_gb()]
    kept = StoredScan.of("benchmark", index, survey)
    for step in (
        lambda: write_scan(root / "scan", kept),
        lambda: read_scan(root / "scan"),
        lambda: save_listing(root / "listing", index),
        lambda: read_batches(index),
    ):
        cells.append(timed(step)[1])
    return [*cells, peak_gb(), f"{os.stat(root / 'scan').st_size / 2**20:.0f}", index.fingerprint[:12]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--columns", action="store_true", help="a column for each label")
    options = parser.parse_args()
    labels = [f"label{number:03}" for number in range(options.labels)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_table(root, options.images, labels, options.columns)
        cells = measured(root, config(root, labels, options.columns))
    load = os.getloadavg()[0]
    print("| " + " | ".join([f"{options.images:,}", "columns" if options.columns else "one column", *cells]) + " |")
    print(f"load {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
