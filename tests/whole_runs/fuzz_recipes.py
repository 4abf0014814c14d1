"""The configs of the fuzz, by recipe, and what they need besides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dist_train.data.index import ASKED_AT_ONCE
from tests.support.everything import EVERYTHING
from tests.support.images import of_one_size
from tests.support.runs import changed, train
from tests.whole_runs.fuzz_faults import EVALUATE_EVERY, SAVE_EVERY

VIT: dict[str, Any] = {
    "model": {"name": "test_vit", "pretrained": False, "drop_path": 0.1},
    "augment__crop": "center",
    "loss": {"label_smoothing": 0.1},
    "train__nonfinite": "error",
}
CNN: dict[str, Any] = {
    "model": {
        "name": "test_efficientnet",
        "pretrained": False,
        "drop_path": 0.1,
        "channels_last": True,
        "sync_bn": True,
    },
    "augment__crop": "random_resized",
    "loss": {"name": "bce", "options": {"target_threshold": 0.2}, "class_balance": "balanced"},
    "train__nonfinite": "skip",
}
RECIPES: dict[str, dict[str, Any]] = {
    "techniques": EVERYTHING | {"train": EVERYTHING["train"] | {"epochs": 8, "micro_batch": 2}},
    "savings": CNN
    | {
        "data__image_size": 16,  # images are 40 pixels high: some crops are decoded at half of their size
        "data__fast_decode": True,
        "distributed__gradient_dtype": "bf16",
        "checkpoint__keep_best": {"top1": 2, "loss": 1},
        "log__profile": (3, 4),
    },
    "fsdp": VIT | {"distributed__strategy": "fsdp"},
    "cached": {
        "model": {"name": "test_vit", "pretrained": False, "freeze": "backbone"},
        "augment": {"crop": "squash", "hflip": 0},
        "train__cached_features": True,
    },
    "device": CNN | {"augment__device": True},
    "unfreeze": changed(VIT, model__freeze="backbone", model__unfreeze={2: "blocks.*", 4: "*"}),
    "distill": VIT,
    "names": VIT | {"train": {"epochs": 1, "max_steps": 24, "global_batch": 16, "micro_batch": 2, "ema": 0.9}},
}
"""Configs for all runs: most techniques of docs/techniques.md; what saves time and memory, with files besides the checkpoints;
weights that are divided among the ranks, each of which saves its part; a head on features that are computed once;
images from a cache, augmented on the device; layers that begin to train later; a teacher; so many files that a scan reads only
names, and their sizes are recorded while the run trains.
"""
TURNS: dict[str, tuple[Any, ...]] = {
    "fsdp": ("fsdp", "zero2", {"name": "fsdp", "cpu_offload": True}),
    "unfreeze": ("fsdp", "zero2"),
    "distill": ("fsdp", "zero2"),
}
"""By recipe, the values of ``distributed.strategy`` that its runs have by turns."""
ODD = (
    "OverflowingRarely", "WideStatisticsRarely", "OneRank", "Mask", "ReadsItsAverage", "ReadsStatistics", "CountsEvaluations", "Formats",
    "ExtraState", "Lazy", "NoAffine",
)  # fmt: skip
"""Models of ``tests.support.odd_models``; a third of the steps of the first two are skipped."""


def odd(name: str) -> dict[str, Any]:
    return CNN | {"model": {"name": f"tests.support.odd_models:{name}", "pretrained": False}}


def config(images: Path, output: Path, kind: Mapping[str, Any]) -> dict[str, Any]:
    """Three steps an epoch with everything on that is random; saves and evaluates often."""
    tree = {
        "run": {"name": "straight", "output_dir": str(output), "deterministic": True},
        "data": {"root": str(images), "image_size": 32, "workers": 0},
        "augment": {"randaugment": {}, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0},
        "optim": {"name": "adamw", "lr": 1e-3},
        "train": {"epochs": 8, "global_batch": 16, "micro_batch": 2, "ema": 0.9},
        "eval": {"batch_size": 8, "every_steps": EVALUATE_EVERY, "metrics": ["auroc"]},
        "checkpoint": {"every_steps": SAVE_EVERY, "keep": 3},
        "log": {"every_steps": 1, "tensorboard": False, "wandb": {"mode": "disabled"}},
        "distributed": {"timeout_s": 60},
    }
    return changed(tree, **kind)


def prepared(recipe: str, images: Path, output: Path) -> dict[str, Any]:
    """Make what a recipe needs besides its config. Return further keys of the config of every run.

    Args:
        images: the folder that all runs train on.
        output: a folder for other runs.
    """
    if recipe == "device":
        of_one_size(images)
    if recipe == "names":
        sources = sorted((images / "train").rglob("*.*"))
        for number in range(ASKED_AT_ONCE):
            source = sources[number % len(sources)]
            source.with_name(f"more-{number}{source.suffix}").hardlink_to(source)
    if recipe == "distill":
        teacher = train(config(images, output, CNN), run__name="teacher")
        return {"loss": {"label_smoothing": 0.1, "distill": {"teacher": str(teacher)}}}
    return {}
