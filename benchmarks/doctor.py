"""What ``look --doctor`` finds of planted near duplicates, its false alarms, and its time for many images.

    python -m benchmarks.doctor --root FOLDER [--planted 900] [--many 100000]

FOLDER holds photos (.JPEG, .jpg, .png), which are taken for different ones: a pair among them counts as a false alarm, though it may be
a duplicate. Prints the tables in results/doctor.md.
"""

import argparse
import io
import random
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dist_train.data.doctor.near import near_pairs
from dist_train.data.doctor.signatures import small

Small = NDArray[np.uint8]


def encoded(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def copied(image: Image.Image, kind: str, rng: random.Random) -> Image.Image:
    width, height = image.size
    if kind == "encoded again, quality 40 to 80":
        return encoded(image, rng.choice([40, 60, 80]))
    if kind == "resized, 0.5 to 2":
        share = rng.choice([0.5, 0.75, 1.5, 2])
        return encoded(image.resize((round(width * share), round(height * share)), Image.Resampling.BICUBIC), 85)
    down, across = (rng.uniform(0.01, 0.0625) * side for side in (height, width))
    left, top = rng.uniform(0, across), rng.uniform(0, down)
    return encoded(image.crop((round(left), round(top), round(width - across + left), round(height - down + top))), 85)


KINDS = ("encoded again, quality 40 to 80", "resized, 0.5 to 2", "up to 1/16 of the sides cut off, anywhere")


def recall(paths: list[Path], planted: int) -> Small:
    """Print the table of planted copies. Return the small pictures of the originals."""
    rng, images = random.Random(0), [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    originals = [small(image) for image in images]
    chosen = rng.sample(range(len(images)), planted)
    kinds = [KINDS[number % len(KINDS)] for number in range(planted)]
    copies = [copied(Image.fromarray(images[place]), kind, rng) for place, kind in zip(chosen, kinds, strict=True)]
    everything = np.stack([*originals, *(small(np.asarray(copy)) for copy in copies)])
    pairs = {tuple(pair) for pair in near_pairs(everything).tolist()}
    print("| planted | found |\n|---|---|")
    for kind in KINDS:
        hits = [(place, len(images) + number) in pairs for number, place in enumerate(chosen) if kinds[number] == kind]
        print(f"| {kind} | {sum(hits)} of {len(hits)} |")
    alarms = {second for _, second in pairs if second < len(images)}
    print(
        f"\nFalse alarms among the {len(images):,} originals: {len(alarms)} images ({len(alarms) / len(images):.2%})."
    )
    return np.stack(originals)


def many(small_N: Small, count: int) -> None:
    """Print the time for many pictures: mixtures of two of the originals, turned and mirrored."""
    rng = np.random.default_rng(0)
    pictures = np.empty((count, *small_N.shape[1:]), np.uint8)
    for number in range(count):
        one, other = small_N[rng.integers(len(small_N), size=2)]
        pictures[number] = 0.7 * np.rot90(one, rng.integers(4)) + 0.3 * other
    began = time.perf_counter()
    pairs = near_pairs(pictures)
    print(f"\n{count:,} pictures: {time.perf_counter() - began:.0f} s for the search ({len(pairs):,} pairs).")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--planted", type=int, default=900)
    parser.add_argument("--many", type=int, default=100_000)
    args = parser.parse_args()
    suffixes = {".jpeg", ".jpg", ".png"}
    originals = recall(sorted(path for path in args.root.rglob("*") if path.suffix.lower() in suffixes), args.planted)
    many(originals, args.many)


if __name__ == "__main__":
    main()
