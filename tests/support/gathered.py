"""Runs as ``report`` gathers them, made up."""

from pathlib import Path
from typing import Any

import numpy as np

from dist_train.config import parse_config
from dist_train.inference.reporting.gather import Gathered, gather
from dist_train.run.folder import RunDir
from dist_train.run.predictions import Likeliest, Predictions, pack_arrays, pack_predictions
from dist_train.run.result import Result, write_result
from dist_train.system.files import write_json

METRICS = {"classification": "top1", "multilabel": "map", "regression": "rmse"}
LOSSES = {"classification": "cross_entropy", "multilabel": "bce", "regression": "mse"}


def gathered(folder: Path, task: str, classes: list[str], **run: Any) -> Gathered:
    """Write ``classes.json`` and ``result.json`` beside the ``predictions.npz`` in a folder, and gather them."""
    folder.mkdir(exist_ok=True)
    tree = {
        "run": {"name": folder.name, "output_dir": str(folder.parent)},
        "model": {"name": "test_vit", "pretrained": False},
        "data": {"root": "images", "task": task, **({"format": "csv"} if task != "classification" else {})},
        "loss": {"name": LOSSES[task]},
        "optim": {"lr": 0.1},
        "train": {"epochs": 1, "global_batch": 4},
        "eval": {"metric": METRICS[task]},
    }
    write_json(RunDir(folder).classes, classes)
    best = {"step": 4, "loss": 0.5, METRICS[task]: 75.0}
    write_result(
        RunDir(folder), Result(**{"status": "done", "step": 4, "total_steps": 4, "best": best, "last": best, **run})
    )
    return gather(RunDir(folder), parse_config(tree))


def write_classification(folder: Path, probabilities_NK: Any, labels: list[int], paths: list[str], kept: int) -> None:
    """Write the predictions of a classifier, with the ``kept`` highest probabilities of each image."""
    probabilities = np.array(probabilities_NK, np.float32)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :kept]
    likeliest = Likeliest(order.astype(np.int32), np.take_along_axis(probabilities, order, axis=1).astype(np.float16))
    folder.mkdir(exist_ok=True)
    packed = pack_predictions(
        Predictions(4, order[:, 0].astype(np.int32), np.array(labels, np.int32), paths, likeliest)
    )
    RunDir(folder).predictions.write_bytes(packed)


def write_numbers(folder: Path, outputs: Any, targets: Any, paths: list[str]) -> None:
    """Write the predictions of a multilabel task or a regression."""
    folder.mkdir(exist_ok=True)
    numbers = {"outputs": np.array(outputs, np.float32), "targets": np.array(targets, np.float32)}
    RunDir(folder).predictions.write_bytes(pack_arrays(4, paths, **numbers))
