"""Images per second that one core prepares: ours against timm's pipeline and against the naive script.

    python -m benchmarks.pipeline [--root TINY_IMAGENET] [--json FILE] [--quick]

Two jobs: images of 64 px resized to 384 with RandAugment, and photographs of 500 x 375 to a random crop of 224. The sides
take turns in one process on one pinned core, and the median of the rounds counts. Time is the CPU time of the process,
which other programs on the machine disturb least. Everything up to the finished batch is included; what follows on
the device (normalising, erasing, mixing) is left out for timm and for us, and is part of the naive script. With
``augment.device`` all but reading the small images and drawing is the device's work.

The photographs are cut from the two that scikit-learn carries (quality 95, about 100 KB), and so are the 64 px images,
unless ``--root`` names an unpacked Tiny ImageNet.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks import pipeline_peers as peers
from dist_train.config import Config
from dist_train.data import augment
from dist_train.data.decode import read_rgb
from dist_train.data.draws import Drawer
from dist_train.data.folders import images_below

RESULT = Path(__file__).parent / "results" / "pipeline.json"

SMALL, FULL = "64 px to 384, RandAugment", "500 x 375 to a random crop of 224"
JOBS: dict[str, dict[str, peers.Side]] = {
    SMALL: {
        "naive": peers.naive_384,
        "timm": peers.timm_384,
        "ours, nearest": peers.ours_384("nearest"),
        "ours, bilinear": peers.ours_384("bilinear"),
        "ours, augment.device": peers.ours_small,
    },
    FULL: {"naive": peers.naive_224, "timm": peers.timm_224, "ours": peers.ours_224},
}
TARGETS = {
    (SMALL, "ours, nearest"): {"naive": 2.5, "timm": 2.0},
    (SMALL, "ours, bilinear"): {"naive": 2.0, "timm": 1.5},
    (SMALL, "ours, augment.device"): {"timm": 50.0},
    (FULL, "ours"): {"timm": 1.9},
}
PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy", "simplejpeg", "opencv-python-headless")


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second that one core prepares.")
    parser.add_argument("--root", type=Path, help="an unpacked Tiny ImageNet for the images of 64 px")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result goes")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean little")
    chosen = parser.parse_args()
    result = run(chosen.quick, chosen.root)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def run(quick: bool = False, root: Path | None = None) -> dict[str, Any]:
    """Measure all sides on one core, and leave the process pinned to it."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    rounds, images = (2, 64) if quick else (9, 256)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small")
        if root is None:
            write_photographs(small, 1024 if not quick else 64, 64, 64, quality=90)
        else:
            link_training_images(root, small, 2048)
        full = Path(folder, "full")
        write_photographs(full, 256 if not quick else 32, 375, 500, quality=95)
        rates = {
            SMALL: measure(JOBS[SMALL], small, rounds, images),
            FULL: measure(JOBS[FULL], full, rounds, images),
        }
        parts = {
            SMALL: shares(peers.config(small, randaugment={}), 384, rates[SMALL]["ours, nearest"], images),
            FULL: shares(peers.config(full, crop="random_resized"), 224, rates[FULL]["ours"], images),
        }
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "hardware": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores, one used",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "command": " ".join(["python -m benchmarks.pipeline", *sys.argv[1:]]),
        "images": "Tiny ImageNet and scikit-learn's photographs" if root else "scikit-learn's photographs",
        "quick": quick,
        "rounds": rounds,
        "images_per_cpu_second": rates,
        "rows": rows(rates),
        "ms_by_part": parts,
    }


def measure(sides: dict[str, peers.Side], folder: Path, rounds: int, images: int) -> dict[str, float]:
    """Median images per CPU second of each side, the sides taking turns."""
    streams = {name: side(folder) for name, side in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, stream in streams.items():
            rate = _rate(stream, images if turn else peers.BATCH)
            if turn:  # the first one warms up
                found[name].append(rate)
    return {name: statistics.median(values) for name, values in found.items()}


def _rate(stream: Iterator[int], images: int) -> float:
    began, done = time.process_time(), 0
    while done < images:
        done += next(stream)
    return done / (time.process_time() - began)


def rows(rates: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What the table of ``make bench`` needs: one row for each ratio."""
    found = []
    for job, sides in rates.items():
        for name, rate in sides.items():
            for peer in ("naive", "timm"):
                if name not in ("naive", "timm"):
                    ratio = rate / sides[peer]
                    target = TARGETS.get((job, name), {}).get(peer)
                    found.append(
                        {"what": f"{job}: {name}", "ours": rate, "peer": f"{peer} {sides[peer]:.0f}", "ratio": ratio}
                        | {"unit": "images/s a core", "target": target, "met": target is None or ratio >= target}
                    )
    return found


def shares(cfg: Config, size: int, rate: float, images: int) -> dict[str, float]:
    """Milliseconds of CPU time an image, by part; ``operations`` is what the named parts leave of the whole."""
    root = Path(cfg.data.root)
    paths = [root / name for name, _ in images_below(root / "train", root)][:images]
    draw = Drawer(cfg.augment)
    pixels = [read_rgb(path) for path in paths[:32]]
    boxes = [draw(number, *image.shape[:2]).box for number, image in enumerate(pixels)]
    spent = {
        "read the file": _ms(lambda number: paths[number % len(paths)].read_bytes(), images),
        "decode": _ms(lambda number: read_rgb(paths[number % len(paths)]), images),
        "draw": _ms(lambda number: draw(number, *pixels[0].shape[:2]), images),
        "crop, resize": _ms(lambda number: _resized(pixels[number % 32], boxes[number % 32], size), images),
    }
    spent["decode"] -= spent["read the file"]
    return {**spent, "flip, operations, batch": 1000 / rate - sum(spent.values())}


def _resized(image: Any, box: Any, size: int) -> Any:
    if box is None:
        return augment.middle(image, size, size, "bilinear")
    return augment.resized(augment.part(image, box), size, size, "bilinear")


def _ms(work: Callable[[int], Any], times: int) -> float:
    for number in range(10):
        work(number)
    began = time.process_time()
    for number in range(times):
        work(number)
    return 1000 * (time.process_time() - began) / times


def write_photographs(root: Path, count: int, height: int, width: int, quality: int) -> None:
    """Cut ``count`` parts of 500 x 375 out of two photographs, each a little different, in two classes; save as JPEG."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        source = photographs[number % 2]
        top, left = rng.integers(source.shape[0] - 375), rng.integers(source.shape[1] - 500)
        part = source[top : top + 375, left : left + 500].astype(np.int16) + rng.integers(-8, 9, (375, 500, 3))
        image = Image.fromarray(part.clip(0, 255).astype(np.uint8)).resize((width, height))
        for split in ("train", "val") if number < 2 else ("train",):
            path = root / split / "ab"[number % 2] / f"{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=quality)


def link_training_images(source: Path, root: Path, count: int) -> None:
    """The first ``count`` training images of Tiny ImageNet as an image folder, evenly from all its classes."""
    paths = sorted((source / "train").glob("*/images/*.JPEG"))
    if not paths:
        raise SystemExit(f"--root ({source}) holds no train/<wnid>/images/*.JPEG")
    for number, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
        for split in ("train", "val") if number < 2 else ("train",):
            place = root / split / "ab"[number % 2] / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    return platform.processor()


def table(result: dict[str, Any]) -> str:
    lines = []
    for job, sides in result["images_per_cpu_second"].items():
        lines += [f"\n{job}", f"  {'':24}{'images/s':>10}{'vs naive':>10}{'vs timm':>10}"]
        for name, rate in sides.items():
            lines.append(f"  {name:24}{rate:10.0f}{rate / sides['naive']:10.2f}{rate / sides['timm']:10.2f}")
        parts = result["ms_by_part"][job]
        total = sum(parts.values())
        lines.append("  " + ", ".join(f"{part} {ms:.2f} ms ({ms / total:.0%})" for part, ms in parts.items()))
    missed = [row for row in result["rows"] if not row["met"]]
    lines += [f"below the target of {row['target']}: {row['what']}, {row['ratio']:.2f}" for row in missed]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
