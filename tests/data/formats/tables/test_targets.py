"""Targets of whole columns, and of the rows that the columns leave over."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.data.formats.base import Findings
from dist_train.data.formats.tables.targets import of_known_classes, targets_of
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config
from tests.support.photo_tables import in_columns

E_ACUTE, E_AND_ACUTE = "\u00e9", "e\u0301"

PATHS = [f"{number}.png" for number in range(6)]


def config(tmp_path: Path, **keys: Any) -> Any:
    return data_config(tmp_path, format="csv", **keys)


def test_classes_are_sorted_and_a_column_becomes_their_indices(tmp_path: Path) -> None:
    table = in_columns(PATHS, ["10", "2", "01", "2", "01", "10"])
    targets = targets_of(config(tmp_path), table, Findings())
    assert targets.names == ["01", "2", "10"]
    assert targets.column(table) == ([2, 1, 0, 1, 0, 2], [])


def test_texts_without_a_class_are_left_to_the_rows(tmp_path: Path) -> None:
    targets = targets_of(config(tmp_path), in_columns(PATHS[:2], ["cat", E_ACUTE]), Findings())
    val = in_columns(PATHS, ["cat", "dog", E_AND_ACUTE, "", "dog", "cat"])
    found, left = targets.column(val)
    assert found == [0, None, 1, None, None, 0]
    assert left == [1, 3, 4]
    with pytest.raises(DataError, match=r"t.csv line 3 has class 'dog', which the training table does not have"):
        targets.of(val.row(1))
    with pytest.raises(DataError, match=r"t.csv line 5 has no label"):
        targets.of(val.row(3))


def test_several_labels_in_one_text(tmp_path: Path) -> None:
    cfg = config(tmp_path, task="multilabel", csv={"label_separator": "|"})
    table = in_columns(PATHS, ["b|a", "", " c | a |", "b|b", "|", "b|a"])
    targets = targets_of(cfg, table, Findings())
    assert targets.names == ["a", "b", "c"]
    assert targets.column(table) == ([(0, 1), (), (0, 2), (1,), (), (0, 1)], [])


def test_a_column_per_label(tmp_path: Path) -> None:
    cfg = config(tmp_path, task="multilabel", csv={"targets": ["x", "y"]})
    table = in_columns(PATHS[:3])
    table.labels = [(0,), (), (0, 1)]
    targets = targets_of(cfg, table, Findings())
    assert targets.names == ["x", "y"]
    assert targets.column(table) == ([(0,), (), (0, 1)], [])
    assert targets.of(table.row(2)) == (0, 1)


def test_numbers_that_are_not_plain_are_left_to_the_rows(tmp_path: Path) -> None:
    cfg = config(tmp_path, task="regression", csv={"targets": ["x", "y"]})
    table, findings = in_columns(PATHS[:3], ["1", "1_0", "2"], ["0.5", "3", "inf"]), Findings()
    targets = targets_of(cfg, table, findings)
    assert targets.column(table) == ([(1.0, 0.5), None, None], [1, 2])
    assert not findings.refusals()
    assert targets.of(table.row(1)) == (10.0, 3.0)
    assert "t.csv line 3" in findings.refusals()[0]
    with pytest.raises(DataError, match=r"t.csv line 4 has targets '2', 'inf'"):
        targets.of(table.row(2))


def test_each_line_with_a_missing_value_is_refused_unless_it_is_a_listed_class(tmp_path: Path) -> None:
    table, findings = in_columns(PATHS[:4], ["a", "NaN", "b", "NaN"]), Findings()
    assert targets_of(config(tmp_path), table, findings).names == ["NaN", "a", "b"]
    (refused,) = findings.refusals()
    assert "t.csv line 3 (and 1 more): the label 'NaN' stands for a missing value" in refused
    findings = Findings()
    assert targets_of(config(tmp_path, classes=["NaN", "b", "a"]), table, findings).names == ["NaN", "b", "a"]
    assert not findings.refusals()


def test_a_class_in_two_unicode_forms_is_refused_with_both_lines(tmp_path: Path) -> None:
    findings = Findings()
    targets_of(config(tmp_path), in_columns(PATHS[:4], [E_ACUTE, "a", E_AND_ACUTE, E_ACUTE]), findings)
    (refused,) = findings.refusals()
    assert "t.csv line 4: the label" in refused
    assert "that of line 2" in refused

    cfg, findings = config(tmp_path, task="multilabel", csv={"label_separator": "|"}), Findings()
    texts = ["a", f"a|{E_ACUTE}", f"{E_ACUTE}|b", f"b|{E_AND_ACUTE}", E_AND_ACUTE]
    targets_of(cfg, in_columns(PATHS[:5], texts), findings)
    (refused,) = findings.refusals()
    assert "t.csv line 5: the label" in refused
    assert "that of line 3" in refused


def test_a_training_table_without_labels_names_the_first_such_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t.csv line 4 has no label"):
        targets_of(config(tmp_path), in_columns(PATHS[:4], ["a", "b", "", ""]), Findings())
    cfg = config(tmp_path, task="multilabel", csv={"label_separator": "|"})
    with pytest.raises(DataError, match=r"column label of t.csv holds no label at all"):
        targets_of(cfg, in_columns(PATHS[:2], ["", "|"]), Findings())
    with pytest.raises(ConfigError, match=r"`data.classes` names z; no line of train.csv has this label"):
        targets_of(config(tmp_path, classes=["a", "z"]), in_columns(PATHS[:1], ["a"]), Findings())


def test_images_of_classes_that_the_run_does_not_know_are_left_out_and_counted() -> None:
    table = in_columns(PATHS, ["a", "10", E_AND_ACUTE, "2", "10", "a"], further=["123456"])
    findings = Findings()
    kept = of_known_classes(table, ["a", E_ACUTE], findings)
    assert [kept.row(place).line for place in range(len(kept))] == [2, 4, 7]
    assert (kept.paths, kept.fields, kept.further) == (
        ["0.png", "2.png", "5.png"], [["a", E_AND_ACUTE, "a"]], [["1", "3", "6"]],
    )  # fmt: skip
    assert findings.notes == ["3 images of classes that the run does not know are left out: 2, 10"]
    assert of_known_classes(kept, ["a", E_ACUTE], Findings()) is kept
