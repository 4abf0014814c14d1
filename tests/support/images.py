"""A small image folder that a tiny model can learn."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_array_folder(root: Path, channels: int) -> Path:
    """24 training and 7 validation arrays of 2 classes, uint16 [H, W, C] in ``.npy`` files."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 7)):
        for number in range(count):
            values = rng.integers(0, 65536, (36 + number % 5, 40, channels), dtype=np.uint16)
            values[:, :, 0] //= 1 + 3 * (number % 2)
            path = root / split / f"class_{'ab'[number % 2]}" / f"{number:03d}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    return root


def make_image_folder(root: Path) -> Path:
    """60 training and 23 validation images of 3 classes, told apart by their colour and a pattern; some are JPEGs."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 23)):
        for number in range(count):
            label = number % 3
            pixels = rng.integers(0, 120, (40, 36 + number % 9, 3), dtype=np.uint8)
            pixels[:: label + 2, :, label] += 130
            path = root / split / f"class_{'abc'[label]}" / f"{number:03d}.{'jpg' if number % 4 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def of_one_size(root: Path, side: int = 40) -> Path:
    """Resize all images of a folder to ``side`` x ``side`` pixels, as ``augment.device`` needs them."""
    for path in root.rglob("*.*"):
        Image.open(path).resize((side, side)).save(path)
    return root
