"""Short runs that together use most features of a GPU, for test_gpu.py and test_fake_cuda.py."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.runs import changed

VIT = {"name": "test_vit", "pretrained": False, "options": {"depth": 2}, "drop_path": 0.1, "head": {"dropout": 0.1}}
RESNET = {"name": "test_resnet", "pretrained": False, "drop_path": 0.1, "channels_last": True}
MIXED = {"erasing": 1.0, "erasing_fill": "mean", "mixup": 0.8, "cutmix": 1.0}
DEVICE = {"device": True, "randaugment": {"num_ops": 3}, "erasing": 1.0, "erasing_fill": "colour"}

RUNS: dict[str, dict[str, Any]] = {
    "amp_bf16, accumulated": {
        "model": VIT,
        "augment": {**MIXED, "mix_mode": "elem"},
        "optim": {"name": "adamw", "lr": 1e-3, "layer_decay": 0.7},
        "loss": {"label_smoothing": 0.1, "class_weights": {"class_a": 2.0}},
        "train": {"precision": "amp_bf16", "ema": 0.9, "clip_grad": 1.0, "micro_batch": 10, "nonfinite": "skip"},
    },
    "amp_fp16, channels last": {
        "model": RESNET,
        "augment": {"erasing": 1.0, "erasing_fill": "noise"},
        "optim": {"name": "sgd", "lr": 0.1, "nesterov": True},
        "train": {"precision": "amp_fp16", "ema": 0.9, "clip_grad": 1.0},
    },
    "fp16, augmented on the GPU": {
        "model": VIT,
        "augment": {**DEVICE, "crop": "random_resized", "interpolation": "bilinear"},
        "optim": {"name": "adam", "lr": 1e-3},
        "train": {"precision": "fp16"},
    },
    "fp32, an optimizer of timm's, unfrozen later": {
        "model": {**RESNET, "freeze": "backbone", "unfreeze_epoch": 1},
        "loss": {"name": "focal", "l1": 1e-4},
        "optim": {"name": "lamb", "lr": 1e-3},
        "train": {"precision": "fp32", "epochs": 2},
    },
}


def short_run(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Two steps an epoch, a checkpoint after each, images of one size."""
    rng = np.random.default_rng(0)
    for number in range(66):
        path = folder / "images" / ("val" if number >= 60 else "train") / f"class_{'abc'[number % 3]}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)
    data = {"root": str(folder / "images"), "cache": str(folder / "cache")}
    tree = changed(tree, **{f"data__{key}": value for key, value in data.items()})
    return changed(tree, train={"epochs": 1, "global_batch": 30}, checkpoint={"every_steps": 1}, log__every_steps=100)


def configured(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """The config of one of ``RUNS``."""
    tree = changed(tree, **{key: value for key, value in RUNS[name].items() if key != "train"})
    return changed(tree, **{f"train__{key}": value for key, value in RUNS[name]["train"].items()})
