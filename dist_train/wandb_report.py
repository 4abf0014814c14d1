"""What a finished run adds to its W&B page: per-class table, confusion matrix, a reference to the best weights."""

from typing import Any

import wandb

from dist_train.files import read_json, write_json
from dist_train.predictions_file import confusion_KK, load_predictions
from dist_train.run_dir import RunDir, read_result
from dist_train.wandb_files import session_path

MAX_MATRIX_CLASSES = 50
"""W&B draws K x K rows and cuts at 10,000; beyond this only the confusions that happened are listed."""
MAX_CONFUSIONS = 1000


def log_predictions(run: RunDir, live: Any) -> None:
    """The tables, from ``predictions.npz`` and ``classes.json``: once for each step that was the best one."""
    predictions, names = load_predictions(run.predictions), read_json(run.classes)
    session = read_json(session_path(run), default={})
    place = "offline" if live.offline else "online"
    if predictions is None or not names or session.get("reported", {}).get(place) == predictions.step:
        return
    matrix = confusion_KK(predictions, len(names)).tolist()
    live.log({"val/per_class": wandb.Table(["class", "images", "accuracy", "precision"], _per_class(names, matrix))})
    cells = [[label, other, matrix[i][j]] for i, label in enumerate(names) for j, other in enumerate(names)]
    columns = ["label", "predicted", "images"]
    if len(names) <= MAX_MATRIX_CLASSES:
        fields = {"Actual": "label", "Predicted": "predicted", "nPredictions": "images"}
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1", wandb.Table(columns, cells), fields, {"title": "validation"}
        )
        live.log({"val/confusion_matrix": chart})
    wrong = sorted((cell for cell in cells if cell[2] and cell[0] != cell[1]), key=lambda cell: -cell[2])
    live.log({"val/confusions": wandb.Table(columns, wrong[:MAX_CONFUSIONS])})
    reported = session.get("reported", {}) | {place: predictions.step}
    write_json(session_path(run), session | {"reported": reported})


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
