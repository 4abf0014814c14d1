"""Read the same images from a folder, tar, zip and Arrow files: images per second, and the first scan.

    pip install --target PEERS --no-deps webdataset braceexpand datasets dill multiprocess xxhash litdata lightning-utilities tifffile obstore
    PYTHONPATH=PEERS python -m benchmarks.shards [--images 2000] [--scanned 100000] [--json FILE]
    python -m benchmarks.shards --zip --images 300 [--json FILE]

Images per second: photographs of 500 x 375, opened in the order of an epoch and decoded to a crop of 224 on one pinned core, without
other work; all sides in turns. The files are in the page cache as the kernel reads them from a disk: pages of files that were just
written are smaller, the more so the smaller the blocks in which a program writes them. Then by two loader processes as in training,
four epochs a turn, all processes counted, the images cut at random and resized to 224. Beside other programs: benchmarks/shards_peers.
``pack``: from parquet files of the same photographs to tar archives that have been read back. The scan: files of 1,000 bytes in 100
classes, beside torchvision's ``ImageFolder`` (which looks at no file's size) and timm's reader of tar archives.

``--zip``: only a folder and zip archives, deflated ones by zlib and by libdeflate (package ``deflate``).
"""

import argparse
import importlib
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import measure
from benchmarks.measure import Row
from benchmarks.pipeline import write_photographs
from benchmarks.pipeline_peers import batches_of, config
from benchmarks.shards_peers import CROP, beside_peers, rate
from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.data.index import DataIndex, scan
from dist_train.data.packing.pack import MB, pack
from dist_train.data.shards import zip_members

IDLE_S = 1.0
"""Loader processes that have worked less than a twentieth of it have prepared all that they may."""

FORMS = {
    "folder": ("imagefolder", "in"),
    "tar": ("tar", "tar"),
    "zip, stored": ("zip", "stored"),
    "zip, deflated": ("zip", "deflated"),
    "Arrow": ("hf", "arrow"),
}
"""``data.format``, and the folder with the photographs in this form. A deflated zip is read by zlib."""

ZIPS = {form: FORMS[form] for form in ("folder", "zip, stored", "zip, deflated")} | {
    "zip, deflated, by libdeflate": ("zip", "deflated")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--images", type=int, default=2000, help="photographs that are read (2000)")
    parser.add_argument("--scanned", type=int, default=100_000, help="files that are scanned (100000; 0: none)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--zip", action="store_true", help="only a folder and zip archives, by zlib and by libdeflate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--scan", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scan:
        print(*scanned(args.scan[0], Path(args.scan[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        photos, forms = Path(folder) / "photos", ZIPS if args.zip else FORMS
        write_forms(photos, args.images)
        rows = [*by_processes(photos, forms, args.images, args.rounds), *reading(photos, forms, 4 * args.rounds)]
        if not args.zip:
            rows += beside_peers(photos, args.rounds, indices_of(photos, "tar", "Arrow"))
            rows.append(packing(photos))
            rows += scanning(Path(folder) / "many", args.scanned) if args.scanned else ()
    measure.print_table(rows)
    if args.json:
        measure.write_json(args.json, rows)


def data_of(root: Path, form: str) -> DataConfig:
    tree = {
        "run": {"name": "a"}, "model": {"name": "test_vit"}, "data": {"root": str(root), "format": form, "val_fraction": 0.01},
        "optim": {"lr": 0.1}, "train": {"global_batch": 2},
    }  # fmt: skip
    return parse_config(tree).data


def indices_of(folder: Path, *forms: str) -> dict[str, DataIndex]:
    """Return the photographs in some of ``FORMS``."""
    return {form: scan(data_of(folder / FORMS[form][1], FORMS[form][0])) for form in forms}


def write_forms(folder: Path, count: int) -> None:
    """Write ``count`` photographs in all of ``FORMS``."""
    write_photographs(folder, count, 375, 500, 95)
    (folder / "train").rename(folder / "in")
    pack(folder / "in", folder / "tar", 512 * MB)
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        (folder / name).mkdir()
        with zipfile.ZipFile(folder / name / "all.zip", "w", method) as archive:
            for path in sorted((folder / "in").rglob("*.jpg")):
                archive.write(path, path.relative_to(folder / "in"))
    table = table_of(folder / "in")
    (folder / "arrow" / "train").mkdir(parents=True)
    with pa.ipc.new_stream(folder / "arrow" / "train" / "data.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=100)
    (folder / "parquet").mkdir()
    pq.write_table(table, folder / "parquet" / "train.parquet", row_group_size=100)
    for path in folder.rglob("*.*"):
        read_from_disk(path)


def read_from_disk(path: Path) -> None:
    """Replace the pages of a file that has just been written by those that the kernel reads from the disk."""
    with path.open("rb") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(MB):
            pass


def table_of(folder: Path) -> Any:
    """Return the images of class folders as a table of Hugging Face ``datasets``."""
    files = sorted(folder.rglob("*.jpg"))
    rows = [{"image": {"bytes": path.read_bytes(), "path": path.name}, "label": path.parent.name} for path in files]
    return pa.Table.from_pylist(rows)


def inflate_by(form: str) -> None:
    """Read deflated zips in this process, and in loader processes that it starts later, as the form says."""
    package = importlib.import_module("deflate") if form.endswith("libdeflate") else None
    zip_members._libdeflate = lambda: package  # type: ignore[assignment]


def reading(folder: Path, forms: Mapping[str, tuple[str, str]], rounds: int) -> list[Row]:
    """Return images per second of CPU time from archives against the folder. The process stays on one core."""
    measure.pinned()
    indices = {form: scan(data_of(folder / place, kind)) for form, (kind, place) in forms.items()}
    sides: dict[str, Callable[[], float]] = {form: lambda form=form: rate_of(form, indices[form]) for form in forms}  # type: ignore[misc]
    return against_folder(CROP, measure.interleaved(sides, rounds))


def rate_of(form: str, index: DataIndex) -> float:
    inflate_by(form)
    return rate(index)


def by_processes(folder: Path, forms: Mapping[str, tuple[str, str]], count: int, rounds: int) -> list[Row]:
    """Return images per second of CPU time by two loader processes, from archives against the folder."""
    streams = {}
    for form, (kind, place) in forms.items():
        inflate_by(form)
        data = {"root": str(folder / place), "format": kind, "val_fraction": 0.01, "workers": 2, "pin_memory": False}
        streams[form] = batches_of(config(folder, data, crop="random_resized"), 224)
        per_cpu_second_of_all(streams[form], count // 4)  # to warm up
    sides = {form: lambda stream=stream: per_cpu_second_of_all(stream, 4 * count) for form, stream in streams.items()}  # type: ignore[misc]
    figures = measure.interleaved(sides, rounds)
    return against_folder("photographs resized to 224 by two loader processes", figures)


def per_cpu_second_of_all(sizes: Iterator[int], count: int) -> float:
    """Return images per second of CPU time of this process and its loader processes, by the sizes of batches.

    They have prepared as many images ahead before as after, when none of them works any more.
    """
    began, done = cpu_s_of_all(), 0
    while done < count:
        done += next(sizes)
    before, now = began, cpu_s_of_all()
    while now - before > IDLE_S / 20:
        time.sleep(IDLE_S)
        before, now = now, cpu_s_of_all()
    return done / (now - began)


def cpu_s_of_all() -> float:
    """Return the seconds of CPU time of this process and of its loader processes."""
    stats = [Path(f"/proc/{child.pid}/stat").read_text() for child in multiprocessing.active_children()]
    ticks = sum(int(word) for stat in stats for word in stat.rpartition(")")[2].split()[11:13])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def against_folder(what: str, figures: Mapping[str, list[float]]) -> list[Row]:
    """Return a row for each form of archive."""
    found = measure.medians(figures)
    ratios = {form: measure.ratio_of(figures, form, "folder") for form in [*figures][1:]}
    return [
        Row(f"{what}, {form}", "images/s", found[form], found["folder"], "folder", ratio, ">= 0.95x", ratio >= 0.95)
        for form, ratio in ratios.items()
    ]


def packing(folder: Path) -> Row:
    """Return how many photographs per second of CPU time ``pack`` brings from parquet files into archives."""
    count = len(list((folder / "in").rglob("*.jpg")))
    began = time.process_time()
    pack(folder / "parquet", folder / "packed", 512 * MB)
    figure = count / (time.process_time() - began)
    return Row("pack of photographs from parquet into tar, once", "images/s", figure, None, "", None)


def scanning(folder: Path, count: int) -> list[Row]:
    """Return CPU seconds of the first scan for a million files."""
    for number in range(count):
        path = folder / "in" / f"class_{number % 100:03d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    pack(folder / "in", folder / "tar", 512 * MB)
    places = {"imagefolder": "in", "torchvision": "in", "tar": "tar", "timm": "tar"}
    sides = {kind: lambda kind=kind: in_process(kind, folder / places[kind]) for kind in places}  # type: ignore[misc]
    figures = {kind: [side() for _ in range(3)] for kind, side in sides.items()}
    seconds = {kind: float(np.median([found[0] for found in runs])) * 1e6 / count for kind, runs in figures.items()}
    memory = {kind: float(np.median([found[1] for found in runs])) for kind, runs in figures.items()}
    what = f"scan of a million files (by proportion, of {count:,})"
    peers = {"imagefolder": "torchvision", "tar": "timm"}
    names = {"torchvision": "torchvision's ImageFolder", "timm": "timm's ReaderImageInTar"}
    rows = [
        Row(f"{what}, {ours}: CPU", "s", seconds[ours], seconds[peer], names[peer], seconds[ours] / seconds[peer])
        for ours, peer in peers.items()
    ]
    what = f"peak memory over that before a scan of {count:,}, tar"
    ratio = memory["tar"] / max(1.0, memory["timm"])
    return [*rows, Row(what, "MB", memory["tar"], memory["timm"], names["timm"], ratio)]


def in_process(kind: str, folder: Path) -> tuple[float, float]:
    """Return what ``scanned`` does in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.shards", "--scan", kind, str(folder)]
    cpu, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(cpu), float(memory)


def scanned(kind: str, folder: Path) -> tuple[float, float]:
    """Return CPU seconds and additional peak memory in MB of one scan."""
    from timm.data.readers.reader_image_in_tar import ReaderImageInTar
    from torchvision.datasets import ImageFolder

    sides = {
        "torchvision": lambda: ImageFolder(str(folder)),
        "timm": lambda: ReaderImageInTar(str(folder), cache_tarinfo=False),
        "tar": lambda: scan(data_of(folder, "tar")),
        "imagefolder": lambda: scan(data_of(folder, "imagefolder")),
    }
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    sides[kind]()
    return time.process_time() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3


if __name__ == "__main__":
    main()
