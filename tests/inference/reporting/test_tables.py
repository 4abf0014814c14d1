"""The tables of the page."""

from pathlib import Path

from dist_train.inference.reporting import tables
from tests.support.gathered import gathered, write_classification, write_numbers

PROBABILITIES = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25]]


def test_what_was_confused(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", PROBABILITIES, [0, 0, 0, 1], [], kept=3)
    run = gathered(tmp_path / "run", "classification", ["cat", "dog", "owl"])
    assert run.judged is not None
    matrix, pairs = tables.matrix(run, run.judged), tables.confused_pairs(run, run.judged)
    assert matrix is not None
    assert pairs is not None
    assert matrix.counts == [[1, 2, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix.shares[0] == [0.333, 0.667, 0]
    assert pairs.rows == [["cat", "dog", "2", "66.7 %"]]


def test_with_many_classes_there_are_pairs_and_no_matrix(tmp_path: Path) -> None:
    wide = [[*row, *[0.0] * 50] for row in PROBABILITIES]
    write_classification(tmp_path / "run", wide, [0, 0, 2, 1], [], kept=5)
    run = gathered(tmp_path / "run", "classification", [f"c{k}" for k in range(53)])
    assert run.judged is not None
    assert tables.matrix(run, run.judged) is None
    pairs, table = tables.confused_pairs(run, run.judged), tables.per_class(run, run.judged)
    assert pairs is not None
    assert table is not None
    assert [row[:3] for row in pairs.rows] == [["c0", "c1", "1"], ["c2", "c1", "1"]]
    assert (table.columns, len(table.rows), table.open_rows) == (
        ["class", "images", "recall", "precision", "f1"],
        53,
        30,
    )


def test_the_table_of_a_regression(tmp_path: Path) -> None:
    write_numbers(tmp_path / "run", [[1, 3], [2, 3]], [[1, 1], [2, 2]], [])
    run = gathered(tmp_path / "run", "regression", ["height", "width"])
    assert run.judged is not None
    table = tables.per_class(run, run.judged)
    assert table is not None
    assert [row[:2] for row in table.rows] == [["width", "1.5"], ["height", "0"]]
    assert (tables.matrix(run, run.judged), tables.confused_pairs(run, run.judged)) == (None, None)


def test_what_comes_first(tmp_path: Path) -> None:
    run = gathered(tmp_path / "run", "classification", ["x", "y"], data_wait=0.125, wall_s=3725.0)
    cards = {name: value for name, value, _ in tables.headline(run)}
    assert cards == {
        "best top1": "75",
        "last top1": "75",
        "status": "done",
        "waiting for data": "12.5 %",
        "time": "1 h 2 min",
    }
    assert ("model.name", "test_vit") in tables.changed_settings(run.config)
    assert set(tables.changed_settings(run.config)) < set(tables.all_settings(run.config))


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    run = gathered(tmp_path / "run", "classification", [], best=None, last=None)
    assert tables.scores(run) is None
    assert [name for name, _, _ in tables.headline(run)] == ["status", "time"]
