"""A small image folder that a tiny model can learn."""

from pathlib import Path

import numpy as np
from PIL import Image


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
