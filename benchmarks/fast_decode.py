"""What `data.fast_decode` buys for large photographs, and what it costs in pixels. One core, CPU time.

    python -m benchmarks.fast_decode [--images 24] [--rounds 9] [--out benchmarks/results/fast_decode.md]

The photographs are the two of scikit-learn (640 x 427), enlarged with a little noise, quality 90. Each is read, cropped at random as
`augment.crop: random_resized` does, and resized to 224 px, with the same crops on both sides.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.measure import circumstances, interleaved, markdown
from dist_train.config.schema import AugmentConfig
from dist_train.data.augment.on_cpu import training_transform
from dist_train.data.decoding.decode import open_picture
from dist_train.data.decoding.rules import DecodeRules

WIDTHS = (500, 1600, 4000)
SIDE = 224
RULES = {"whole": DecodeRules(), "fast": DecodeRules(fast=True)}


def write_photographs(folder: Path, count: int, width: int) -> list[Path]:
    """Write parts of two photographs, enlarged to ``width`` x 3/4 of it."""
    rng, photographs = np.random.default_rng(0), load_sample_images().images
    paths = []
    for number in range(count):
        source = photographs[number % 2]
        top, left = rng.integers(source.shape[0] - 375), rng.integers(source.shape[1] - 500)
        large = Image.fromarray(source[top : top + 375, left : left + 500]).resize(
            (width, width * 3 // 4), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(large).astype(np.int16) + rng.integers(-4, 5, (width * 3 // 4, width, 3))
        paths.append(folder / f"{width}-{number}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def sides(paths: list[Path]) -> dict[str, Callable[[], np.ndarray]]:
    """Return for each set of rules what makes the batch [N, 224, 224, 3] of all photographs."""
    transform = training_transform(AugmentConfig(crop="random_resized", hflip=0.0), (SIDE, SIDE))

    def batch(rules: DecodeRules) -> np.ndarray:
        pixels = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
        for key, path in enumerate(paths):
            transform(open_picture(path, rules), key, pixels[key])
        return pixels

    return {name: lambda rules=rules: batch(rules) for name, rules in RULES.items()}


def measure(paths: list[Path], rounds: int) -> list[str]:
    """Return one row of the table."""
    makers = sides(paths)

    def timed(make: Callable[[], np.ndarray]) -> float:
        began = time.process_time()
        make()
        return (time.process_time() - began) / len(paths)

    seconds = interleaved({name: lambda make=make: timed(make) for name, make in makers.items()}, rounds)
    whole, fast = (statistics.median(seconds[name]) for name in RULES)
    ratio = statistics.median(a / b for a, b in zip(seconds["whole"], seconds["fast"], strict=True))
    difference = np.abs(makers["whole"]().astype(int) - makers["fast"]().astype(int)).mean()
    size = sum(path.stat().st_size for path in paths) / len(paths) / 1000
    with Image.open(paths[0]) as image:
        pixels = f"{image.width} x {image.height}"
    return [pixels, f"{size:.0f}", f"{1 / whole:.0f}", f"{1 / fast:.0f}", f"{ratio:.2f}x", f"{difference:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fast_decode.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for width in WIDTHS:
            rows.append(measure(write_photographs(Path(folder), args.images, width), args.rounds))
            print(*rows[-1], flush=True)
    table = markdown(["pixels", "KB", "whole, images/s", "fast, images/s", "ratio", "mean difference, of 255"], rows)
    facts = circumstances()
    args.out.write_text(
        f"# `data.fast_decode`\n\n`{facts['command']}`, {facts['date']}, one of {facts['hardware']}. A random crop resized to {SIDE} px; images per "
        f"second of CPU time of one core, medians of {args.rounds} interleaved rounds of {args.images} images.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
