"""Measure how many images per second one core prepares: ours, timm's pipeline and the naive script.

    python -m benchmarks.pipeline [--root TINY_IMAGENET] [--json FILE] [--quick]

Three jobs: images of 64 px resized to 384 with RandAugment, photographs of 500 x 375 with a random crop of 224, and the same with
timm's recipe rand-m9-mstd0.5-inc1, by timm's own functions on both sides. The sides
take turns in one process on one pinned core; the figure is the median of the rounds. Time is the CPU time of the process,
which other programs disturb least. It includes everything until the batch is ready. Work on the device after that
(normalise, erase, mix) is not included for timm and for us; the naive script does it before.

The row ``augment.device`` is not a whole pipeline: it is only the CPU share of the loader, which reads the 64 px images and
draws the random numbers. The device does the rest, and that time is not included.

The photographs are cut from the two in scikit-learn (quality 95, about 100 KB). So are the 64 px images, unless ``--root``
names an unpacked Tiny ImageNet.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2 as transforms

from benchmarks import measure
from benchmarks import pipeline_peers as peers
from benchmarks.measure import Row
from dist_train.config import Config
from dist_train.config.ops.options import RandAugment
from dist_train.data.augment import on_cpu as augment
from dist_train.data.augment.draws import CODES, Drawer, magnitude, operation
from dist_train.data.augment.frame import Frame
from dist_train.data.augment.randaugment_cpu import operations
from dist_train.data.decoding.decode import open_picture
from dist_train.data.formats.walk import names_below

SMALL, FULL = "64 px to 384, RandAugment", "500 x 375 to a random crop of 224"
LIKE = f"{FULL}, timm's rand-m9-mstd0.5-inc1 on both sides"
DEVICE = "ours, augment.device (loader CPU share only)"
JOBS: dict[str, dict[str, peers.Side]] = {
    SMALL: {
        "naive": peers.naive_384,
        "timm": peers.timm_384,
        "ours, nearest": peers.ours_384("nearest"),
        "ours, bilinear": peers.ours_384("bilinear"),
        DEVICE: peers.ours_small,
    },
    FULL: {"naive": peers.naive_224, "timm": peers.timm_224, "ours": peers.ours_224},
    LIKE: {"timm": peers.timm_policy_224, "ours": peers.ours_policy_224},
}
TARGETS = {
    (SMALL, "ours, nearest"): {"naive": 2.5, "timm": 2.0},
    (SMALL, "ours, bilinear"): {"naive": 2.0, "timm": 1.5},
    (SMALL, DEVICE): {"timm": 50.0},
    (FULL, "ours"): {"timm": 1.9},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how many images per second one core prepares.")
    parser.add_argument("--root", type=Path, help="unpacked Tiny ImageNet, for the images of 64 px")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="check that it works; the figures are not meaningful")
    chosen = parser.parse_args()
    rows, more = run(chosen.quick, chosen.root)
    print(report(rows, more))
    if chosen.json:
        measure.write_json(chosen.json, rows, **more)


def run(quick: bool = False, root: Path | None = None) -> tuple[list[Row], dict[str, Any]]:
    """Measure all sides on one core. The process stays pinned to it.

    Returns:
        The rows of the table, and the rates and times from which they are computed.
    """
    measure.pinned(1)
    torch.set_num_threads(1)
    rounds, images = (2, 64) if quick else (9, 256)
    with tempfile.TemporaryDirectory() as folder:
        small, full = Path(folder, "small"), Path(folder, "full")
        if root is None:
            write_photographs(small, 64 if quick else 1024, 64, 64, quality=90)
        else:
            link_training_images(root, small, 2048)
        write_photographs(full, 32 if quick else 256, 375, 500, quality=95)
        figures = {
            SMALL: in_turns(JOBS[SMALL], small, rounds, images),
            FULL: in_turns(JOBS[FULL], full, rounds, images),
            LIKE: in_turns(JOBS[LIKE], full, rounds, images),
        }
        rates = {job: measure.medians(found) for job, found in figures.items()}
        parts = {
            SMALL: shares(peers.config(small, randaugment={}), 384, rates[SMALL]["ours, nearest"], images),
            FULL: shares(peers.config(full, crop="random_resized"), 224, rates[FULL]["ours"], images),
        }
    photographs = "scikit-learn's photographs"
    return rows_of(figures), {
        "images": f"Tiny ImageNet, {photographs}" if root else photographs,
        "quick": quick,
        "rounds": rounds,
        "images_per_cpu_second": rates,
        "ms_by_part": parts,
        "ms_by_operation": by_operation(10 if quick else 60),
    }


def in_turns(sides: dict[str, peers.Side], folder: Path, rounds: int, images: int) -> dict[str, list[float]]:
    """Return the images per CPU second of each side in each round."""
    streams = {name: side(folder) for name, side in sides.items()}
    for stream in streams.values():
        _rate(stream, 2 * peers.BATCH)  # to warm up
    return measure.interleaved({name: partial(_rate, stream, images) for name, stream in streams.items()}, rounds)


def _rate(stream: Iterator[int], images: int) -> float:
    began, done = time.process_time(), 0
    while done < images:
        done += next(stream)
    return done / (time.process_time() - began)


def rows_of(figures: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Return one row for each of our sides and each peer."""
    found = []
    for job, sides in figures.items():
        middle = measure.medians(sides)
        for name in sides.keys() - {"naive", "timm"}:
            for peer in (peer for peer in ("naive", "timm") if peer in sides):
                ratio, target = measure.ratio_of(sides, name, peer), TARGETS.get((job, name), {}).get(peer)
                found.append(
                    Row(
                        what=f"{job}: {name}",
                        unit="images/s per core",
                        ours=middle[name],
                        peer=middle[peer],
                        peer_name=peer,
                        ratio=ratio,
                        target=f">= {target}x" if target else "",
                        met=ratio >= target if target else None,
                    )
                )
    return sorted(found, key=lambda row: row.what)


def shares(cfg: Config, size: int, rate: float, images: int) -> dict[str, float]:
    """Return the milliseconds of CPU time per image of each part; the last part is the rest of the whole."""
    root = Path(cfg.data.root)
    paths = [root / name for name in names_below(root / "train", root)][:images]
    draw = Drawer(cfg.augment)
    boxes = [draw(number, *open_picture(path).size).box for number, path in enumerate(paths)]
    pixels = [open_picture(path).pixels(box) for path, box in zip(paths[:32], boxes, strict=False)]
    spent = {
        "read the file": _ms(lambda number: paths[number % len(paths)].read_bytes(), images),
        "decode": _ms(lambda n: open_picture(paths[n % len(paths)]).pixels(boxes[n % len(paths)]), images),
        "draw": _ms(lambda number: draw(number, *pixels[0].shape[:2]), images),
        "resize": _ms(lambda number: _resized(pixels[number % 32], boxes[number % 32], size), images),
    }
    spent["decode"] -= spent["read the file"]
    return {**spent, "flip, operations, batch": 1000 / rate - sum(spent.values())}


def by_operation(times: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of CPU time of each operation on an image of 384 px: torchvision's (PIL) and ours."""
    pixels = np.array(Image.fromarray(load_sample_images().images[0]).resize((384, 384)))
    target = np.empty_like(pixels)
    found: dict[str, dict[str, float]] = {}
    for mode in ("nearest", "bilinear"):
        cfg = RandAugment(interpolation=mode)
        theirs = transforms.RandAugment(interpolation=transforms.InterpolationMode(mode), fill=[0, 0, 0])
        ours = operations(cfg, 384, 384)
        for code in CODES:
            step, name = ours[code], operation(code)
            warps = name.startswith(("Shear", "Rotate", "Translate"))
            if step is None or code % 2 or (mode == "bilinear" and not warps):
                continue
            apply = partial(_by_torchvision, theirs, pixels, name, magnitude(code, cfg.magnitude, 384, 384))
            found[f"{name}, {mode}" if warps else name] = {
                "torchvision": _ms(lambda _, apply=apply: apply(), times),
                "ours": _ms(lambda _, step=step: step(pixels, target), times),
            }
    return found


def _by_torchvision(transform: Any, pixels: Any, name: str, amount: float) -> Any:
    amount = int(amount) if name == "Posterize" else amount
    image = transform._apply_image_or_video_transform(
        Image.fromarray(pixels), name, amount, transform.interpolation, transform._fill
    )
    return np.asarray(image)


def _resized(image: Any, box: Any, size: int) -> Any:
    if box is None:
        return augment.framed(image, Frame("center", (size, size), (size, size), interpolation="bilinear"))
    return augment.resized(image, size, size, "bilinear")


def _ms(work: Callable[[int], Any], times: int) -> float:
    for number in range(10):
        work(number)
    began = time.process_time()
    for number in range(times):
        work(number)
    return 1000 * (time.process_time() - began) / times


def write_photographs(root: Path, count: int, height: int, width: int, quality: int) -> None:
    """Cut ``count`` different parts of 500 x 375 out of two photographs, as two classes; save them as JPEG."""
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
    """Make an image folder of ``count`` training images of Tiny ImageNet, evenly from all classes."""
    paths = sorted((source / "train").glob("*/images/*.JPEG"))
    if not paths:
        raise SystemExit(f"--root ({source}) has no train/<wnid>/images/*.JPEG")
    for number, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
        for split in ("train", "val") if number < 2 else ("train",):
            place = root / split / "ab"[number % 2] / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())


def report(rows: list[Row], more: dict[str, Any]) -> str:
    lines = [measure.table(rows), ""]
    for job, parts in more["ms_by_part"].items():
        whole = sum(parts.values())
        lines.append(f"{job}: " + ", ".join(f"{part} {ms:.2f} ms ({ms / whole:.0%})" for part, ms in parts.items()))
    lines += ["", "| operation at 384 px | torchvision, ms | ours, ms |", "|---|---|---|"]
    for name, ms in more["ms_by_operation"].items():
        lines.append(f"| {name} | {ms['torchvision']:.2f} | {ms['ours']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
