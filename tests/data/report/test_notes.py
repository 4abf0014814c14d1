"""What looks wrong about classes and targets, and may be right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dist_train.data.index import scan
from dist_train.data.label_sets import LabelSets
from dist_train.data.report.notes import class_counts
from tests.support.data_roots import data_config
from tests.support.photo_tables import GOOD, paths, written


def test_labels_that_look_the_same_are_noted(photos: Path) -> None:
    rows = zip(paths(*range(6)), ("Cat", "cat", "01", "1", "1.0", "dog"), strict=True)
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    written(photos, "path,label\nphotos/0.png,dog\n", "val.csv")
    written(photos, text)
    notes = scan(data_config(photos, format="csv")).notes
    assert (
        notes[0]
        == "classes with almost the same name: '01' and '1' and '1.0', 'Cat' and 'cat'; if they are one class, give them one name"
    )
    assert notes[1].startswith("6 classes for 6 training images: is each image a class of its own?")


def test_targets_that_are_all_equal_or_become_so_are_told(photos: Path) -> None:
    def notes(values: Sequence[str]) -> tuple[str, ...]:
        lines = [f"{path},{value}" for path, value in zip(paths(*range(6)), values, strict=True)]
        (photos / "train.csv").write_text("path,label\n" + "\n".join(lines))
        return scan(data_config(photos, format="csv", task="regression", val_fraction=0.2)).notes

    assert notes(["0.5"] * 6) == ("all training targets of label are 0.5; is it the right column?",)
    assert "differ only beyond the 7 digits" in notes([f"170000000{number}" for number in range(6)])[0]
    assert notes(["+1", "-.5", "2.", "1E5", "1e-05", "0"]) == ()


def test_another_separator_of_labels_is_told(photos: Path) -> None:
    (photos / "train.csv").write_text(GOOD.replace(",a,", ",red;big,").replace(",b,", ",red;small,"))
    (note,) = scan(data_config(photos, format="csv", task="multilabel", val_fraction=0.4)).notes
    assert note.startswith(
        "most labels hold ';' (red;big, red;small); if it separates labels, set `data.csv.label_separator`"
    )


def test_names_that_may_stand_for_a_missing_label(photos: Path) -> None:
    (note,) = scan(written(photos, GOOD.replace(",a,", ",none,"))).notes
    assert note == "a class is called none; if that stands for a missing label, remove these images"
    assert scan(written(photos, GOOD)).notes == ()


def test_counts_of_classes_and_of_labels() -> None:
    assert class_counts(4, np.array([2, 0, 2])).tolist() == [1, 0, 2, 0]
    assert class_counts(3, LabelSets.of([[0, 2], [2]], 3)).tolist() == [1, 0, 2]
