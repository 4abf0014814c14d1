"""The figures of the page."""

import json
from pathlib import Path

import pytest

import dist_train.inference.reporting.figures as module
from dist_train.inference.reporting.figures import calibration, class_curves, scatters, training_curves
from tests.support.gathered import gathered, write_classification, write_numbers

PROBABILITIES = [[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.25]]


def test_curves_of_training(tmp_path: Path) -> None:
    rows = [
        {"step": 2, "split": "train", "loss": 1.0, "lr": 0.1, "odd": "text", "more": None},
        {"step": 4, "split": "train", "loss": float("nan"), "lr": 0.2, "odd": 1e300, "more": None},
        {"step": 4, "split": "val", "loss": 0.9, "top1": 50.0, "seconds": 1.0},
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    figures, no_room = training_curves(gathered(tmp_path / "run", "classification", ["x", "y"]))
    assert [figure.title for figure in figures] == ["loss", "validation", "lr"]
    assert all(figure.svg.startswith("<svg") for figure in figures)
    assert no_room == []


def test_columns_without_room_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FIGURES", 4)
    row = {"step": 2, "split": "train", "loss": 1.0, **{f"part{number}": number for number in range(4)}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(row))
    figures, no_room = training_curves(gathered(tmp_path / "run", "classification", ["x", "y"]))
    assert (len(figures), no_room) == (3, ["part2", "part3"])


def test_curves_of_classes_and_calibration(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [0, 1, 1, 0], [], kept=2)
    run = gathered(tmp_path / "run", "classification", ["_first", "second"])
    assert run.judged is not None
    curves = class_curves(run, run.judged)
    assert [figure.title for figure in curves] == ["precision and recall", "ROC"]
    assert all("_first" in figure.svg for figure in curves)
    found = calibration(run, run.judged)
    assert found is not None
    assert found.remark.startswith("expected calibration error 0 %")
    assert scatters(run, run.judged) == []


def test_without_all_probabilities_there_are_no_curves_of_classes(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [1, 1, 0, 1], [], kept=1)
    run = gathered(tmp_path / "run", "classification", ["x", "y"])
    assert run.judged is not None
    assert class_curves(run, run.judged) == []
    found = calibration(run, run.judged)
    assert found is not None
    assert found.remark.startswith("expected calibration error 75 %")


def test_a_multilabel_task(tmp_path: Path) -> None:
    write_numbers(tmp_path / "run", [[0.5, 0.5], [0.5, 0.5]], [[1, 0], [0, 0]], [])
    run = gathered(tmp_path / "run", "multilabel", ["sun", "rain"])
    assert run.judged is not None
    curves, found = class_curves(run, run.judged), calibration(run, run.judged)
    assert "the 1 of 2 classes" in curves[0].remark
    assert found is not None
    assert found.remark.startswith("expected calibration error 25 %")


def test_a_regression(tmp_path: Path) -> None:
    write_numbers(tmp_path / "run", [[1.0, 2.0]], [[1.0, 3.0]], [])
    run = gathered(tmp_path / "run", "regression", ["height", "width"])
    assert run.judged is not None
    assert [figure.title for figure in scatters(run, run.judged)] == ["height", "width"]
    assert (class_curves(run, run.judged), calibration(run, run.judged)) == ([], None)


def test_long_names_in_a_legend_keep_both_ends(tmp_path: Path) -> None:
    names = [f"{'the same beginning of ' * 3}number {k}" for k in range(2)]
    write_classification(tmp_path / "run", PROBABILITIES, [0, 1, 1, 0], [], kept=2)
    run = gathered(tmp_path / "run", "classification", names)
    assert run.judged is not None
    assert all(f"…g of number {k}" in class_curves(run, run.judged)[0].svg for k in range(2))
