"""Make image folders for benchmarks."""

from pathlib import Path

import numpy as np
from PIL import Image


def small_folder(folder: Path, images: int = 64, classes: int = 2, size: int = 64) -> Path:
    """Write ``train`` and ``val`` folders of JPEG files (noise with a bright corner), unless they exist."""
    if folder.exists():
        return folder
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("val", max(classes, images // 4))):
        for number in range(count):
            label = number % classes
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            pixels[: size // 4, : size // 4] = 255 * label // max(1, classes - 1)
            path = folder / split / f"class{label:03d}" / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=90)
    return folder
