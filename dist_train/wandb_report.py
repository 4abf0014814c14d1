"""What a finished run adds to its W&B page: per-class table, confusion matrix, a reference to the best weights."""

from typing import Any

import wandb

from dist_train.files import read_json
from dist_train.predictions import confusion_KK, load_predictions
from dist_train.run_dir import RunDir, read_result

MAX_MATRIX_CLASSES = 50
"""W&B draws K x K rows and cuts at 10,000; beyond this only the confusions that happened are listed."""
MAX_CONFUSIONS = 1000


def log_predictions(run: RunDir, live: Any) -> None:
    """The tables, from ``predictions.npz`` and ``classes.json``; nothing if either is missing."""
    predictions, names = load_predictions(run.predictions), read_json(run.classes)
    if predictions is None or not names:
        return
    matrix = confusion_KK(predictions, len(names)).tolist()
    live.log(
        {"val/per_class": wandb.Table(["class", "images", "accuracy", "precision"], data=_per_class(names, matrix))}
    )
    pairs = [(names[i], names[j], n) for i, row in enumerate(matrix) for j, n in enumerate(row) if n]
    if len(names) <= MAX_MATRIX_CLASSES:
        wide = wandb.Table(
            ["label", "predicted", "images"],
            data=[[a, b, matrix[i][j]] for i, a in enumerate(names) for j, b in enumerate(names)],
        )
        fields = {"Actual": "label", "Predicted": "predicted", "nPredictions": "images"}
        live.log(
            {
                "val/confusion_matrix": wandb.plot_table(
                    "wandb/confusion_matrix/v1", wide, fields, {"title": "validation"}
                )
            }
        )
    wrong = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: -pair[2])[:MAX_CONFUSIONS]
    live.log({"val/confusions": wandb.Table(["label", "predicted", "images"], data=[list(pair) for pair in wrong])})


def log_best_file(run: RunDir, live: Any) -> None:
    """The best weights as an artifact that points at the run folder: the file is hashed, not copied."""
    if not run.best.exists():
        return
    artifact = wandb.Artifact(f"{live.id}-best", type="model", metadata=read_result(run).get("best") or {})
    artifact.add_reference(run.best.resolve().as_uri())
    live.log_artifact(artifact)


def _per_class(names: list[str], matrix: list[list[int]]) -> list[list[Any]]:
    rows = []
    for index, name in enumerate(names):
        images, predicted = sum(matrix[index]), sum(row[index] for row in matrix)
        hits = matrix[index][index]
        rows.append([name, images, hits / images if images else None, hits / predicted if predicted else None])
    return rows
