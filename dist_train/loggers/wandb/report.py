"""Add to the W&B page of a finished run: per-class table, confusion matrix, report, a reference to the best weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import wandb

from dist_train.loggers.wandb.files import session_path
from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, confusion_KK, load_predictions
from dist_train.run.result import read_result
from dist_train.system.files import read_json, write_json

MAX_MATRIX_CLASSES = 50
"""W&B draws a K x K matrix and stops at 10,000 rows. With more classes we list only confusions that occurred."""
MAX_CONFUSIONS = 1000


def log_predictions(run: RunDir, live: Any) -> None:
    """Log the tables, from ``predictions.npz`` and ``classes.json``: once per best step."""
    predictions, names = load_predictions(run.predictions), read_json(run.classes, default=[])
    session = read_json(session_path(run), default={})
    place = "offline" if live.offline else "online"
    if predictions is None or not names or session.get("reported", {}).get(place) == predictions.step:
        return
    if max(predictions.label_N.max(initial=0), predictions.pred_N.max(initial=0)) >= len(names):
        return  # the file is of another data set
    per_class = _per_class(names, predictions)
    live.log({"val/per_class": wandb.Table(["class", "images", "accuracy", "precision"], per_class)})
    columns = ["label", "predicted", "images"]
    if len(names) <= MAX_MATRIX_CLASSES:
        matrix = confusion_KK(predictions, len(names)).tolist()
        cells = [[label, other, matrix[i][j]] for i, label in enumerate(names) for j, other in enumerate(names)]
        fields = {"Actual": "label", "Predicted": "predicted", "nPredictions": "images"}
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1", wandb.Table(columns, cells), fields, {"title": "validation"}
        )
        live.log({"val/confusion_matrix": chart})
    live.log({"val/confusions": wandb.Table(columns, _confusions(names, predictions))})
    reported = session.get("reported", {}) | {place: predictions.step}
    write_json(session_path(run), session | {"reported": reported})


def log_look(run: RunDir, live: Any) -> None:
    """Log the picture of ``log.images``, if there is one: once."""
    if run.look.exists():
        _once(run, live, "look", lambda: live.log({"data/look": wandb.Image(str(run.look))}))


def log_page(run: RunDir, live: Any) -> None:
    """Log the page of ``log.report``, which W&B shows in a panel: once."""
    config = read_json(session_path(run), default={}).get("config", {})
    if config.get("log", {}).get("report") and run.report.exists():
        _once(run, live, "report", lambda: live.log({"report": wandb.Html(str(run.report), inject=False)}))


def _once(run: RunDir, live: Any, what: str, log: Callable[[], None]) -> None:
    """Log something that no start of the run has logged to the same place."""
    session = read_json(session_path(run), default={})
    done = f"{'offline' if live.offline else 'online'} {what}"
    if not session.get("reported", {}).get(done):
        log()
        write_json(session_path(run), session | {"reported": session.get("reported", {}) | {done: True}})


def log_best_file(run: RunDir, live: Any) -> None:
    """Log the best weights as an artifact that refers to the run folder. The file is hashed, not uploaded."""
    if not run.best.exists():
        return
    artifact = wandb.Artifact(f"{live.id}-best", type="model", metadata=read_result(run).get("best") or {})
    artifact.add_reference(run.best.resolve().as_uri())
    live.log_artifact(artifact)


def _per_class(names: list[str], predictions: Predictions) -> list[list[Any]]:
    label_N, pred_N = predictions.label_N, predictions.pred_N
    counted = [label_N, pred_N, label_N[label_N == pred_N]]
    images_K, predicted_K, hits_K = (np.bincount(numbers, minlength=len(names)).tolist() for numbers in counted)
    return [
        [name, images, hits / images if images else None, hits / predicted if predicted else None]
        for name, images, predicted, hits in zip(names, images_K, predicted_K, hits_K, strict=True)
    ]


def _confusions(names: list[str], predictions: Predictions) -> list[list[Any]]:
    """Return [label, predicted, images] of the confusions that occurred, the most frequent first."""
    wrong_N = predictions.label_N != predictions.pred_N
    pairs = predictions.label_N[wrong_N].astype(np.int64) * len(names) + predictions.pred_N[wrong_N]
    found, count = np.unique(pairs, return_counts=True)
    most = np.argsort(-count, kind="stable")[:MAX_CONFUSIONS]
    return [
        [names[pair // len(names)], names[pair % len(names)], int(n)]
        for pair, n in zip(found[most], count[most], strict=True)
    ]
