"""Small data sets on disk, and the data section that reads them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.data.split import Split


def data_config(root: Path, **keys: Any) -> DataConfig:
    """The data section as it comes out of a config file."""
    losses = {"multilabel": ("bce", "map"), "regression": ("mse", "rmse"), "classification": ("cross_entropy", "top1")}
    loss, metric = losses[keys.get("task", "classification")]
    tree = {
        "run": {"name": "a"},
        "model": {"name": "test_vit"},
        "data": {"root": str(root), **keys},
        "loss": {"name": loss},
        "eval": {"metric": metric},
        "optim": {"lr": 0.1},
        "train": {"global_batch": 2},
    }
    return parse_config(tree).data


def names(split: Split) -> list[str]:
    """The names of a split's images, in its order."""
    return [split.name(index) for index in range(len(split))]


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> None:
    """Write an image of one colour, and the folders above it. ``size``: width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path)


def make_fashion_mnist(root: Path) -> Path:
    """Write FashionMNIST in its own file format, with 12 training and 5 validation images; return ``root``."""
    rng = np.random.default_rng(0)
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = struct.pack(">HBBIII", 0, 8, 3, *images.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, count) + labels.tobytes())
    return root
