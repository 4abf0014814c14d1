"""A small image folder of 16-bit files that hold 12 bits, as microscopes and X-ray machines write them."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_deep_folder(root: Path, bits: int = 12) -> Path:
    """24 training and 9 validation images of 3 classes, told apart by a pattern; every fourth is a TIFF file."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 9)):
        for number in range(count):
            label = number % 3
            values = rng.integers(0, 2 ** (bits - 1), (40, 36 + number % 9)).astype(np.uint16)
            values[:: label + 2] += 2 ** (bits - 1) - 1
            path = root / split / f"class_{'abc'[label]}" / f"{number:03d}.{'png' if number % 4 else 'tif'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return root
