"""CSV tables for the images of the ``image_folder`` fixture."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def tabled(images: Path, folder: Path, task: str) -> Path:
    """A data root with links to the images, and tables for ``task``.

    Multilabel: ``label`` names the class, and ``wide`` where the image is wider than 40 pixels. Regression: ``red`` and
    ``width``, the mean of the red channel and the width, scaled to about 0..1.
    """
    folder.mkdir()
    (folder / "images").symlink_to(images)
    for split in ("train", "val"):
        with open(folder / f"{split}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label"] if task == "multilabel" else ["path", "red", "width"])
            for path in sorted((images / split).rglob("*.*")):
                table.writerow([f"images/{path.relative_to(images)}", *_targets(path, task)])
    return folder


def _targets(path: Path, task: str) -> list[str]:
    with Image.open(path) as image:
        if task == "multilabel":
            names = [path.parent.name] if path.parent.name != "class_c" else []
            return ["|".join([*names, *(["wide"] if image.width > 40 else [])])]
        return [f"{np.asarray(image)[:, :, 0].mean() / 255:.4f}", str((image.width - 36) / 9)]
