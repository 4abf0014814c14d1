"""Time and memory of the scan of a table of millions of rows, as on two cores and on one, and of a start from the stored index.

    python -m benchmarks.scan_table [--rows 1280000 14000000]

The table is a real file, and its class folders are there, without images: the program makes up the list of each folder's files. All
other code is real. Each side runs once, in a process of its own; another process reads the memory of all its processes (PSS: a page
that two of them share counts once) a few times a second. Memory is what the peak rose by.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from benchmarks.memory import pss_bytes, tree_of
from benchmarks.scan import cost
from dist_train.config.sections.data import CsvConfig, DataConfig
from dist_train.data.formats.tables import paths
from dist_train.data.index import DataIndex, scan
from dist_train.data.stored.reuse import kept_or_scanned
from dist_train.system.machine import second_core

CLASSES = 1000
QUICK = 20_000
TWO, ONE, STORED = "scan, and store it", "scan by one process", "from the stored index"


def make_table(root: Path, rows: int) -> None:
    """Write a table in the order of its names, and make its folders, which stay empty."""
    (root / "run").mkdir()
    with open(root / "train.csv", "w") as table:
        table.write("path,label\n")
        for label in range(CLASSES):
            folder = f"train/n{label:08}"
            (root / folder).mkdir(parents=True)
            table.writelines(f"{name},n{label:08}\n" for name in names_in(f"{folder}/", rows))


def names_in(folder: str, rows: int) -> list[str]:
    base = folder.split("/")[-2]
    return [f"{folder}{base}_{number:08}.JPEG" for number in range(rows // CLASSES)]


def begun(side: str, root: Path, rows: int) -> DataIndex:
    cfg = DataConfig(format="csv", root=str(root), csv=CsvConfig(train="train.csv"), val_fraction=0.02)
    made_up = mock.patch.object(paths, "_plain_files", lambda _, folder, __: {*names_in(folder, rows)})
    cores = mock.patch.object(second_core, "usable_cores", return_value=1 if side == ONE else 2)
    with made_up, cores:
        if side == ONE:
            return scan(cfg, sized=False)
        return kept_or_scanned(cfg, root / "run" / "scan.bin", sized=False)


def one(side: str, root: Path, rows: int) -> dict[str, float]:
    """Print this process' memory, and return the cost of a side."""
    with tempfile.TemporaryDirectory() as folder:  # imports
        make_table(Path(folder), QUICK)
        begun(side, Path(folder), QUICK)
    print(pss_bytes(os.getpid()), flush=True)
    return cost(lambda: begun(side, root, rows))


def measured(side: str, root: Path, rows: int) -> None:
    """Measure a side in a process of its own, and print its row."""
    command = [sys.executable, "-m", "benchmarks.scan_table", "--side", side, "--root", str(root), "--rows", str(rows)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    before = peak = int(process.stdout.readline() or 0)
    while process.poll() is None:
        peak = max(peak, sum(map(pss_bytes, tree_of(process.pid))))
        time.sleep(0.05 if rows < 5_000_000 else 0.5)
    output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(process.returncode)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    rose = (peak - before) / 2**20
    row = (side, f"{rows:,}", f"{found['cpu']:.1f}", f"{found['wall']:.1f}", f"{found['mb']:.0f}", f"{rose:.0f}")
    print(f"| {' | '.join(row)} | {os.getloadavg()[0]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_280_000, 14_000_000])
    parser.add_argument("--side", choices=[TWO, ONE, STORED], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one(options.side, options.root, *options.rows)))
        return
    print("| | rows | CPU s | clock s | peak MB of the first process | peak MB of all processes | load |")
    print("|---|---|---|---|---|---|---|")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            make_table(Path(folder), rows)
            for side in (ONE, TWO, STORED):
                measured(side, Path(folder), rows)


if __name__ == "__main__":
    main()
