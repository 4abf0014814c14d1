"""Which images the page shows."""

from pathlib import Path

from dist_train.inference.reporting.wrong import _of_labels, selections
from tests.support.gathered import gathered, write_classification, write_numbers

PROBABILITIES = [[0.75, 0.125, 0.125], [0.25, 0.5, 0.25], [0.875, 0.125, 0], [0.5, 0.375, 0.125]]


def test_confident_mistakes_then_doubtful_labels(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [0, 0, 2, 0], [], kept=3)
    run = gathered(tmp_path / "run", "classification", ["cat", "dog", "owl"])
    assert run.judged is not None
    mistakes, doubts = selections(run, run.judged, 2)
    assert [image.place for image in mistakes.images] == [2, 1]
    assert [image.place for image in doubts.images] == [3, 0]
    assert [image.output for image in mistakes.images] == [0, 1]
    assert mistakes.images[0].lines == ["cat 0.875", "label: owl 0.000", "then dog 0.125, owl 0.000"]


def test_a_label_that_is_not_among_the_likeliest(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [0, 0, 2, 0], [], kept=1)
    run = gathered(tmp_path / "run", "classification", ["cat", "dog", "owl"])
    assert run.judged is not None
    mistakes = selections(run, run.judged, 1)[0]
    assert mistakes.images[0].lines == ["cat 0.875", "label: owl below 0.875"]


def test_of_labels_that_were_not_kept_the_surest_come_first(tmp_path: Path) -> None:
    rows = [[0.5, 0.25, 0.25], [0.75, 0.125, 0.125], [0.625, 0.25, 0.125]]
    write_classification(tmp_path / "run", rows, [2, 2, 0], [], kept=2)
    run = gathered(tmp_path / "run", "classification", ["cat", "dog", "owl"])
    assert run.judged is not None
    assert [round(float(value), 3) for value in _of_labels(run.judged)] == [-0.75, -0.875, 0.625]


def test_without_mistakes_there_is_one_list(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [0, 1, 0, 0], [], kept=3)
    run = gathered(tmp_path / "run", "classification", ["cat", "dog", "owl"])
    assert run.judged is not None
    assert [group.title for group in selections(run, run.judged, 9)] == ["lowest probability of the label"]


def test_the_largest_errors_of_other_tasks(tmp_path: Path) -> None:
    write_numbers(tmp_path / "run", [[0.25, 0.75], [0.5, 0.25]], [[1, 1], [0, 0]], [])
    run = gathered(tmp_path / "run", "multilabel", ["sun", "rain"])
    assert run.judged is not None
    (group,) = selections(run, run.judged, 1)
    assert [(image.place, image.output, image.lines) for image in group.images] == [
        (0, 0, ["sun 0.250 (label: yes)", "rain 0.750 (label: yes)"])
    ]

    write_numbers(tmp_path / "run", [[1, 200], [3, 300], [2, 400]], [[1, 200], [1, 300], [3, 401]], [])
    run = gathered(tmp_path / "run", "regression", ["grade", "weight"])
    assert run.judged is not None
    (group,) = selections(run, run.judged, 2)
    assert [image.place for image in group.images] == [1, 2]
    assert group.images[0].lines[0] == "grade: 3, target 1"
