"""The cache of ``augment.device``: how fast ranks and their processes build it, and how long a start takes with it.

    python -m benchmarks.device_cache --folder FOLDER [--images 16000] [--side 224] [--rounds 3] [--out FILE]

Ranks are forked processes that know nothing of each other but the file, as those of two runs at once. "Start before" is what
versions before format 2 of the file did at every start: SHA-256 of all pixels, by one process. The images stay in FOLDER.
"""

import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.measure import circumstances, interleaved, markdown
from dist_train.config import parse_config
from dist_train.data.bad_images import BadImages
from dist_train.data.index import DataIndex, scan
from dist_train.data.pixels.cache import cache_path, open_cache
from dist_train.data.pixels.images import Cache
from dist_train.data.pixels.pixel_file import DIGEST_BYTES, Layout, end_of_file
from dist_train.data.pixels.pixel_file import opened as open_file
from dist_train.distributed.group import Dist
from dist_train.system.processes import leave_at_once

BUILDS = {"1 process": (1, 0), "1 rank of 2 processes": (1, 2), "2 ranks of 2 processes": (2, 2)}
"""Ranks, and ``data.workers``."""

BLOCK = 64 * 2**20


def write_images(folder: Path, count: int, side: int) -> None:
    """Write parts of two photographs as JPEG files of one size."""
    rng, photographs = np.random.default_rng(0), load_sample_images().images
    for number in range(count):
        path = folder / ("val" if number % 20 == 0 else "train") / "ab"[number // 20 % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph = photographs[number % 2]
        top, left = (rng.integers(size - side) for size in photograph.shape[:2])
        Image.fromarray(photograph[top : top + side, left : left + side]).save(path, quality=85)


def config(folder: Path, workers: int) -> Any:
    return parse_config(
        {
            "run": {"name": "cache"},
            "model": {"name": "test_vit"},
            "data": {"root": str(folder / "images"), "cache": str(folder / "cache"), "workers": workers},
            "augment": {"device": True},
            "optim": {"lr": 0.1},
            "train": {"global_batch": 8, "epochs": 1},
        }
    )


def opened(cfg: Any, index: DataIndex, group: Dist) -> Cache:
    return open_cache(cfg.data, index, group, BadImages(cfg.data, index).note)


def build(folder: Path, index: DataIndex, ranks: int, workers: int) -> float:
    """Build the cache; return images per second."""
    cfg = config(folder, workers)
    cache_path(cfg.data).unlink(missing_ok=True)
    os.sync()
    began, children = time.monotonic(), []
    for _ in range(ranks):
        child = os.fork()
        if child == 0:
            try:
                opened(cfg, index, Dist.alone())
            finally:
                leave_at_once(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return (len(index.train) + len(index.val)) / (time.monotonic() - began)


def start_before(folder: Path) -> float:
    """Return the seconds of SHA-256 of the whole file, whose pages are in memory."""
    began, digest = time.monotonic(), hashlib.sha256()
    with open(cache_path(config(folder, 0).data), "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return time.monotonic() - began


def start_now(folder: Path, index: DataIndex) -> float:
    began = time.monotonic()
    opened(config(folder, 0), index, Dist.alone())
    return time.monotonic() - began


def start_of_imagenet(folder: Path) -> float:
    """Return the seconds to open a file of 1,281,167 + 50,000 images: 200 GB, of which only the digests are written."""
    layout = Layout((1_331_167, 224, 224, 3))
    digests = np.random.default_rng(0).integers(1, 255, (layout.shape[0], DIGEST_BYTES), dtype=np.uint8)
    path = folder / "imagenet.pixels"
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.seek(layout.digests_at)
        file.write(digests.tobytes() + end_of_file(layout, "data", digests))
    began = time.monotonic()
    open_file(path, "data")
    seconds = time.monotonic() - began
    path.unlink()
    return seconds


def epoch(cache: Cache, count: int) -> float:
    """Read every training image; return microseconds of CPU time for each."""
    began, read = time.process_time(), cache.reader("train")
    for number in range(count):
        read(number).pixels()
    return (time.process_time() - began) / count * 1e6


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return the figures of each round."""
    index = scan(config(folder, 0).data)
    sides: dict[str, Callable[[], float]] = {
        name: lambda ranks=ranks, workers=workers: build(folder, index, ranks, workers)
        for name, (ranks, workers) in BUILDS.items()
    }
    figures = interleaved(sides, rounds)
    starts = {"start before": lambda: start_before(folder), "start now": lambda: start_now(folder, index)}
    figures |= interleaved(starts, rounds)
    figures["start with ImageNet now"] = [start_of_imagenet(folder) for _ in range(rounds)]
    for name in ("first epoch", "later epoch"):
        figures[name] = []
    for _ in range(rounds):
        cache = opened(config(folder, 0), index, Dist.alone())
        figures["first epoch"].append(epoch(cache, len(index.train)))
        figures["later epoch"].append(epoch(cache, len(index.train)))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a JSON file to which the figures are added")
    args = parser.parse_args()
    folder = args.folder / f"{args.images}-{args.side}"
    if not folder.exists():
        write_images(folder / "images", args.images, args.side)
    figures = measure(folder, args.rounds)
    rows = [
        [what, f"{statistics.median(values):.3g}", *(f"{value:.3g}" for value in values)]
        for what, values in figures.items()
    ]
    print(markdown(["", "median", *map(str, range(1, args.rounds + 1))], rows))
    if args.out:
        known = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.write_text(
            json.dumps(known | {f"{args.images} x {args.side} px": circumstances() | {"figures": figures}}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
