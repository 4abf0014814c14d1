"""A config with most techniques on: what changes by seed, epoch, sample and step, and must resume."""

from typing import Any

EVERYTHING: dict[str, Any] = {
    "model": {
        "name": "test_vit",
        "pretrained": False,
        "freeze": "backbone",
        "unfreeze": {1: "blocks.*", 2: "*"},
        "drop_path": 0.1,
    },
    "augment": {
        "crop": "random_resized",
        "ops": ["three_augment", {"name": "rand-m9-mstd0.5-inc1", "p": 0.5}, {"name": "color_jitter", "hue": 0.1}],
        "repeats": 2,
        "erasing": 0.5,
        "erasing_fill": "noise",
        "mixup": 0.8,
        "cutmix": 1.0,
        "mix_mode": "elem",
        "mix_off_epoch": 2,
    },
    "loss": {"label_smoothing": 0.1, "class_balance": "effective_number"},
    "optim": {
        "name": "adamw",
        "lr_base": 0.02,
        "layer_decay": 0.8,
        "lr_scale": {"type:LayerNorm": 0.5},
        "weight_decay": 0.05,
    },
    "schedule": {"name": "wsd", "warmup_epochs": 0.5, "warmup_lr": 1e-5, "cooldown_epochs": 0.5},
    "train": {
        "epochs": 3,
        "global_batch": 16,
        "clip": {"mode": "agc", "value": 0.05},
        "ema": {"decay": 0.9, "warmup": True, "every": 2},
        "nonfinite": "skip",
    },
    "eval": {"metrics": ["balanced_accuracy", "ece"]},
    "log": {"every_steps": 1},
}
