"""Write CSV tables for configs/multilabel.yaml and configs/regression.yaml, for the images that ``make demo`` unpacks.

    python -m benchmarks.tables

Multilabel: several words per image that describe the clothing, from its Fashion-MNIST class. Regression: two numbers
measured on the image, its mean brightness and the share of its pixels that the piece covers.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.demo import DEMO, prepare

IMAGES = DEMO / "fashion_mnist"

WORDS = {
    "t-shirt": "upper body|short sleeves",
    "trouser": "legs",
    "pullover": "upper body|long sleeves",
    "dress": "upper body|legs",
    "coat": "upper body|long sleeves|outdoors",
    "sandal": "feet|summer",
    "shirt": "upper body",
    "sneaker": "feet",
    "bag": "",
    "ankle-boot": "feet|outdoors",
}


def main() -> None:
    prepare()
    for split in ("train", "val"):
        paths = sorted((IMAGES / split).rglob("*.png"))
        names = [path.relative_to(IMAGES) for path in paths]
        write(f"{split}_words.csv", ("path", "words"), [(n, WORDS[n.parts[1]]) for n in names])
        write(f"{split}_numbers.csv", ("path", "brightness", "covered"), [(n, *measured(IMAGES / n)) for n in names])
    print(f"tables in {IMAGES}")


def measured(path: Path) -> tuple[str, str]:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L")) / 255
    return f"{pixels.mean():.4f}", f"{(pixels > 0.1).mean():.4f}"


def write(name: str, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with open(IMAGES / name, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
