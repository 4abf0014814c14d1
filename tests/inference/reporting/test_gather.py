"""What a run folder says."""

import json
from pathlib import Path

import numpy as np

from tests.support.gathered import gathered, write_classification, write_numbers

PROBABILITIES = [[0.125, 0.75, 0.125], [0.5, 0.25, 0.25]]


def test_all_probabilities_come_in_the_order_of_classes(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [1, 2], ["a.png", "b.png"], kept=3)
    run = gathered(tmp_path / "run", "classification", ["x", "y", "z"])
    assert run.judged is not None
    assert np.array_equal(run.judged.outputs, np.array(PROBABILITIES, np.float32))
    assert (run.judged.labels.tolist(), run.judged.paths, run.missing) == ([1, 2], ["a.png", "b.png"], [])


def test_with_the_likeliest_classes_only_the_page_says_what_it_lacks(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [1, 2], [], kept=2)
    run = gathered(tmp_path / "run", "classification", ["x", "y", "z"])
    assert run.judged is not None
    assert run.judged.outputs is None
    assert run.judged.likeliest is not None
    assert ["likeliest classes only" in sentence for sentence in run.missing] == [True]


def test_numbers(tmp_path: Path) -> None:
    write_numbers(tmp_path / "run", [[1.5], [2]], [[1], [2]], ["a", "b"])
    run = gathered(tmp_path / "run", "regression", ["age"])
    assert run.judged is not None
    assert (run.judged.labels.tolist(), run.judged.step) == ([[1.0], [2.0]], 4)


def test_predictions_that_are_missing_or_of_other_classes_are_said(tmp_path: Path) -> None:
    assert "has no predictions.npz" in gathered(tmp_path / "run", "classification", ["x", "y"]).missing[0]
    write_classification(tmp_path / "run", PROBABILITIES, [1, 2], [], kept=3)
    for task, classes in (("classification", ["x", "y"]), ("regression", ["x"])):
        run = gathered(tmp_path / "run", task, classes)
        assert run.judged is None
        assert "damaged, or of other classes" in run.missing[0]


def test_a_step_that_was_trained_again_counts_once(tmp_path: Path) -> None:
    rows = [{"step": step, "split": "train", "loss": loss} for step, loss in ((2, 1.0), (4, 0.8), (2, 0.9))]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = gathered(tmp_path / "run", "classification", ["x", "y"])
    assert [(row["step"], row["loss"]) for row in run.rows["train"]] == [(2, 0.9), (4, 0.8)]


def test_rows_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    run = gathered(tmp_path / "run", "classification", ["x", "y"])
    assert run.rows == {}
    assert "metrics.jsonl cannot be read" in run.missing[-1]
