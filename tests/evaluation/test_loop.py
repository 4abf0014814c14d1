"""Evaluation is exact: every task gives the same digits at world sizes 1, 2 and 3."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.run.predictions import load_predictions
from dist_train.system.files import read_json
from tests.support.runs import changed, rows, train
from tests.support.tables import tabled

MULTILABEL = {"loss__name": "bce", "eval__metric": "map", "data__format": "csv", "data__task": "multilabel"}
REGRESSION = {"loss__name": "mse", "eval__metric": "rmse", "data__format": "csv", "data__task": "regression"}
TASKS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "classification": (
        {"eval__metrics": ["auroc", "top2", "ece", "tests.support.evaluations:spread"]},
        {"loss", "top1", "top5", "macro_f1", "auroc", "top2", "ece", "tests.support.evaluations:spread"},
    ),
    "multilabel": (MULTILABEL, {"loss", "map", "macro_f1"}),
    "regression": (
        {**REGRESSION, "data__csv": {"targets": ["red", "width"]}, "optim__lr": 0.01},
        {"loss", "mae", "rmse", "r2"},
    ),
}


def _again(run: str) -> dict[str, float]:
    """Evaluate a run's best weights on the ranks that this process belongs to."""
    from dist_train.distributed.group import joined
    from dist_train.evaluation import metrics as scores
    from dist_train.inference.evaluate_runs import Request, _evaluated
    from dist_train.run.saved_config import run_config

    computed: list[Any] = []
    real = scores._metrics
    scores._metrics = lambda *all_of_it: computed.append(all_of_it) or real(*all_of_it)  # type: ignore[func-returns-value]
    with joined(run_config(Path(run)).distributed) as group:
        asked = Request("best", [], "val", trust=False, several=False, folds=False)
        found = _evaluated(Path(run), asked, group, None)
    assert found is not None
    assert len(computed) == group.is_main, "one rank has all rows"
    return found.outcome.scores


@pytest.mark.parametrize("task", TASKS)
def test_the_same_digits_at_any_world_size(tree: dict[str, Any], image_folder: Path, tmp_path: Path, task: str) -> None:
    from tests.support.ranks import run_ranks

    keys, names = TASKS[task]
    root = image_folder if task == "classification" else tabled(image_folder, tmp_path / "tables", task)
    run = train(tree, 1, **{**keys, "data__root": str(root), "train__epochs": 1})
    (row,) = rows(run, "val")
    assert set(row) == {"step", "epoch", "split", *names}
    assert all(np.isfinite(row[name]) for name in names)
    expected = {name: row[name] for name in names}
    for world_size in (1, 2, 3):
        assert run_ranks(world_size, _again, str(run)) == [expected] * world_size


def test_multilabel_mixes_and_resumes(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    """Mixup of several labels trains, and its predictions are kept."""
    root = tabled(image_folder, tmp_path / "tables", "multilabel")
    run = train(tree, 2, **MULTILABEL, data__root=str(root), augment={"mixup": 0.8, "cutmix": 1.0})
    best = read_json(run / "result.json")["best"]
    assert best["map"] == max(row["map"] for row in rows(run, "val"))
    with np.load(run / "predictions.npz") as kept:
        assert kept["outputs"].shape == kept["targets"].shape == (23, 3)
        assert ((kept["outputs"] > 0) & (kept["outputs"] < 1)).all()
        assert int(kept["step"]) == best["step"]
    assert load_predictions(run / "predictions.npz") is None  # it is not of the kind that names one class an image


@pytest.mark.parametrize("metric", ["loss", "macro_f1"])
def test_best_and_early_stopping_follow_any_metric(tree: dict[str, Any], metric: str) -> None:
    run = train(
        changed(tree, optim__lr=0.5), 1, eval__metric=metric, train__epochs=12, train__early_stopping={"patience": 2}
    )
    values = [row[metric] for row in rows(run, "val")]
    result = read_json(run / "result.json")
    best = min(values) if metric == "loss" else max(values)
    assert result["best"][metric] == best
    place = values.index(best)
    assert len(values) == min(12, place + 3), "patience counts from the best"


def test_predictions_of_the_best_evaluation_are_kept(tree: dict[str, Any]) -> None:
    run = train(tree, 2)
    kept = load_predictions(run / "predictions.npz")
    best = read_json(run / "result.json")["best"]
    assert kept is not None
    assert kept.step == best["step"]
    assert len(kept.paths) == 23
    assert kept.paths[0] == "val/class_a/000.png"
    assert kept.likeliest is not None
    assert kept.likeliest.classes_NT.shape == (23, 3)
    assert kept.likeliest.classes_NT[:, 0].tolist() == kept.pred_N.tolist()
    assert np.allclose(kept.likeliest.probabilities_NT.sum(1, dtype=np.float32), 1, atol=2e-3)
    assert 100 * float((kept.pred_N == kept.label_N).mean()) == pytest.approx(best["top1"])
    classes = json.loads((run / "classes.json").read_text())
    assert [classes[label] for label in kept.label_N[[0, -1]]] == ["class_a", "class_c"]


def test_bad_images_are_skipped_alike_at_any_world_size(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path
) -> None:
    import shutil

    root = tmp_path / "spoilt"
    shutil.copytree(image_folder, root)
    for name in ("train/class_a/000.png", "train/class_b/001.jpg", "val/class_c/002.jpg"):
        (root / name).write_bytes((root / name).read_bytes()[:100])
    keys = {"data__root": str(root), "data__bad_images": "skip", "data__max_bad_share": 0.1, "augment__hflip": 0.0}
    keys["data__max_overlap"] = None  # the first 100 bytes of two files are the same JPEG header
    runs = [train(tree, world, **keys, run__name=f"w{world}", train__epochs=1) for world in (1, 2)]
    first, second = (rows(run, "val")[0] for run in runs)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-4)
    for run in runs:
        assert [entry["path"] for entry in read_json(run / "bad_images.json")] == [
            "train/class_a/000.png", "train/class_b/001.jpg", "val/class_c/002.jpg",
        ]  # fmt: skip
        kept = load_predictions(run / "predictions.npz")
        assert kept is not None
        assert "val/class_c/002.jpg" not in kept.paths
        assert len(kept.paths) == 22
