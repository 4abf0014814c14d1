"""Image folders for benchmarks, made on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image


def small_folder(folder: Path, images: int = 64, classes: int = 2, size: int = 64) -> Path:
    """``train`` and ``val`` of noise with a bright corner, as JPEG files; made once."""
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
