"""Tables: their columns, separators and tasks, and what is wrong with them."""

import csv
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.data.index import evaluation_index, scan
from dist_train.data.selection import held_out
from dist_train.errors import ConfigError, DataError
from dist_train.system.machine import second_core
from tests.support.data_roots import data_config, names, picture
from tests.support.photo_tables import GOOD, paths, written


def table(path: Path, *lines: tuple[str, ...], separator: str = ",") -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)


def test_a_table_of_classes(photos: Path) -> None:
    one, two, three, four = paths(0, 1, 2, 3)
    table(photos / "train.csv", ("path", "label", "who"), (two, "10", "x"), (one, "9", "y"), (three, "cat", "z"))
    table(photos / "val.csv", ("path", "label"), (four, "9"))
    index = scan(data_config(photos, format="csv"))
    assert index.classes == ["9", "10", "cat"]  # whole numbers by value, then names
    assert names(index.train) == [one, two, three]
    assert index.train.labels.tolist() == [0, 1, 2]
    assert index.val.labels.tolist() == [0]


def test_a_table_with_other_names_and_separators(photos: Path) -> None:
    one, two = paths(0, 1)
    table(photos / "all.tsv", ("file", "tags"), (one, "red;big"), (two, ""), separator="\t")
    keys = {"train": "all.tsv", "val": "all.tsv", "path": "file", "targets": ["tags"], "separator": "\t"}
    index = scan(data_config(photos, format="csv", task="multilabel", csv={**keys, "label_separator": ";"}))
    assert index.classes == ["big", "red"]
    assert index.train.labels[:].tolist() == [[1, 1], [0, 0]]
    assert index.train.labels[:].dtype == np.float32


def test_a_table_with_a_column_a_class(photos: Path) -> None:
    one, two = paths(0, 1)
    for name in ("train.csv", "val.csv"):
        table(photos / name, ("path", "sky", "sea"), (one, "1", "0"), (two, "0", "1.0"))
    index = scan(data_config(photos, format="csv", task="multilabel", csv={"targets": ["sea", "sky"]}))
    assert index.classes == ["sea", "sky"]
    assert index.train.labels[:].tolist() == [[0, 1], [1, 0]]


def test_a_table_of_numbers_split_by_seed(photos: Path) -> None:
    table(
        photos / "train.csv",
        ("path", "x", "y"),
        *((name, str(place), "-1e-1") for place, name in enumerate(paths(*range(6)))),
    )
    index = scan(data_config(photos, format="csv", task="regression", csv={"targets": ["x", "y"]}, val_fraction=0.34))
    assert (index.outputs, index.classes) == (2, ["x", "y"])
    assert (len(index.train), len(index.val)) == (4, 2)
    assert index.val.labels.shape == (2, 2)
    with pytest.raises(DataError, match=r"cannot read the table .*val.csv: .*`data.csv` names the tables"):
        scan(data_config(photos, format="csv", task="regression", csv={"targets": ["x", "y"]}))
    with pytest.raises(ConfigError, match=r"`data.csv.val` \(null\) leaves no validation set"):
        scan(data_config(photos, format="csv", task="regression", csv={"targets": ["x", "y"], "val": None}))


@pytest.mark.parametrize(
    ("header", "line", "task", "words"),
    [
        (("file", "label"), ("photos/0.png", "a"), "classification", r"train.csv has no column path; its first line, the header, names file, label"),
        (("path", "label", "label"), ("photos/0.png", "a", "b"), "classification", r"train.csv has two columns label; rename"),
        (("path",), ("photos/0.png",), "classification", r"has no column label; .* set `data.csv.path`"),
        (("path", "label"), ("photos/0.png",), "classification", r"train.csv line 2 has fewer columns than the header"),
        (("path", "label"), ("photos/0.png", ""), "classification", r"train.csv line 2 has no label"),
        (("path", "label"), ("photos/9.png", "a"), "classification", r"line 2: cannot read the image .*/photos/9.png: No such file or directory; paths are relative to"),
        (("path", "label"), ("", "a"), "classification", r"line 2: cannot read the image .*: it is not a file"),
        (("path", "label"), ("a\0.png", "a"), "classification", r"line 2: cannot read the image .*: embedded null byte"),
        (("path", "label"), ("photos/0.png", ""), "multilabel", r"column label of .*train.csv holds no label at all"),
        (("path", "label"), ("photos/0.png", "high"), "regression", r"line 2 has targets 'high', which are not all finite numbers"),
        (("path", "label"), ("photos/0.png", "nan"), "regression", r"line 2 has targets 'nan', which are not all finite"),
        (("path", "label"), ("photos/0.png", "1e39"), "regression", r"line 2 has targets '1e39', which .* numbers of 32 bits"),
    ],
)  # fmt: skip
def test_tables_that_are_wrong(photos: Path, header: Any, line: Any, task: str, words: str) -> None:
    table(photos / "train.csv", header, line)
    table(photos / "val.csv", ("path", "label"), ("photos/1.png", "1"))
    with pytest.raises(DataError, match=words):
        scan(data_config(photos, format="csv", task=task))


def test_tables_that_disagree(photos: Path) -> None:
    one, two = paths(0, 1)
    table(photos / "train.csv", ("path", "label"), (one, "a"))
    table(photos / "val.csv", ("path", "label"), (two, "b"))
    with pytest.raises(DataError, match=r"val.csv line 2 has class 'b', which the training table does not have"):
        scan(data_config(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"), (two, "a"), (two, "a"))
    with pytest.raises(DataError, match=r"val.csv line 3 names photos/1.png a second time, after .*val.csv line 2"):
        scan(data_config(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"), (two, "a"), (f"./{two}", "a"))
    with pytest.raises(DataError, match=r"val.csv line 3 names ./photos/1.png a second time, after .*val.csv line 2"):
        scan(data_config(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"))
    with pytest.raises(DataError, match=r"val.csv has a header and no lines"):
        scan(data_config(photos, format="csv"))
    table(photos / "train.csv", ("path", "p", "q"), (one, "1", "2"))
    with pytest.raises(DataError, match=r"with a column per class they must be 0 or 1"):
        scan(data_config(photos, format="csv", task="multilabel", csv={"targets": ["p", "q"], "val": "train.csv"}))
    with pytest.raises(ConfigError, match=r"names 2 columns, and one class per image needs one; set `data.task`"):
        scan(data_config(photos, format="csv", csv={"targets": ["p", "q"], "val": "train.csv"}))


# repeated lines


def test_repeated_lines_are_drawn_as_often_and_stay_together(photos: Path) -> None:
    cfg = written(photos, GOOD + "photos/0.png,a,x\n./photos/0.png,a,x\nphotos/1.png,b,x\n")
    index = scan(cfg)
    assert len(set(names(index.val))) == len(index.val) == 2, "each validation image counts once"
    assert not set(names(index.train)) & set(names(index.val)), "no image is on both sides"
    assert "3 lines of train.csv repeat an image; each line counts as an image" in index.notes
    for line in ("photos/0.png,b,x", "./photos/0.png,b,x"):
        with pytest.raises(DataError, match=r"line 8 names .*photos/0.png with another target than .*line 2; remove"):
            scan(written(photos, GOOD + line + "\n"))


@pytest.mark.parametrize("keys", [{"val_fraction": 0.3}, {"fold": "2/3"}])
@pytest.mark.parametrize("kind", ["sorted", "shuffled", "repeated", "odd", "excluded", "grouped"])
def test_two_processes_draw_the_images_that_one_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, keys: dict[str, Any]
) -> None:
    lines = [f"{place // 6}/{place}.png,{'ab'[place % 2]},{place // 2}" for place in range(24)]
    for line in lines:
        picture(tmp_path / line.partition(",")[0])
    lines += lines[3:9] if kind == "repeated" else []
    lines[5] = f"./{lines[5]}" if kind == "odd" else lines[5]
    if kind != "sorted":
        lines = lines[::-5] + lines[::-1]
        lines = list(dict.fromkeys(lines)) if kind != "repeated" else lines
    (tmp_path / "train.csv").write_text("\n".join(["path,label,who", *lines]))
    (tmp_path / "gone.csv").write_text("image\n0/3.png\n2/14.png\n")
    more = {"excluded": {"exclude": str(tmp_path / "gone.csv")}, "grouped": {"csv": {"group": "who"}}}.get(kind, {})
    cfg = data_config(tmp_path, format="csv", **keys, **more)
    alone = scan(cfg)
    hashed = []
    each = held_out.fold_in_each
    monkeypatch.setattr(held_out, "fold_in_each", lambda *given: hashed.append(len(given[2])) or each(*given))
    monkeypatch.setattr(second_core, "PAYS_FROM", 0)
    monkeypatch.setattr(second_core, "usable_cores", lambda: 2)
    halves = scan(cfg)
    assert (names(halves.val), names(halves.train)) == (names(alone.val), names(alone.train))
    assert halves.fingerprint == alone.fingerprint
    assert hashed[:1] == ([12] if kind in ("sorted", "shuffled", "excluded") else hashed[:1]), (
        "this process draws by a half"
    )


# labels and numbers


def test_labels_in_two_unicode_forms_are_refused(photos: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    text = GOOD.replace("photos/0.png,a", f"photos/0.png,{composed}").replace(
        "photos/1.png,b", f"photos/1.png,{decomposed}"
    )
    with pytest.raises(DataError, match=r"line 3: the label .* looks like that of line 2, but has other characters"):
        scan(written(photos, text))


def test_validation_labels_are_matched_in_any_unicode_form(photos: Path) -> None:
    (photos / "train.csv").write_text(f"path,label\nphotos/0.png,{unicodedata.normalize('NFD', 'é')}\nphotos/1.png,b\n")
    (photos / "val.csv").write_text(f"path,label\nphotos/2.png,{unicodedata.normalize('NFC', 'é')}\n")
    index = scan(data_config(photos, format="csv"))
    assert index.classes[index.val.labels[0]] == unicodedata.normalize("NFD", "é")


def test_labels_of_any_number_of_digits(photos: Path) -> None:
    text = GOOD.replace(",a,", f",{'9' * 5000},")
    assert scan(written(photos, text)).classes == ["9" * 5000, "b"]
    assert scan(written(photos, GOOD.replace(",a,", ",10,").replace(",b,", ",9,"))).classes == ["9", "10"]


def test_listed_classes(photos: Path) -> None:
    text = GOOD.replace(",a,", ",nan,")
    (photos / "train.csv").write_text(text)
    keys = {"format": "csv", "val_fraction": 0.4}
    assert scan(data_config(photos, **keys, classes=["nan", "b"])).classes == ["nan", "b"]
    with pytest.raises(DataError, match=r"line 3 has class 'b', which `data.classes` does not have"):
        scan(data_config(photos, **keys, classes=["nan"]))
    with pytest.raises(ConfigError, match=r"`data.classes` names c; no line of train.csv has this label"):
        scan(data_config(photos, **keys, classes=["nan", "b", "c"]))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"0,5"', r"line 2 has targets '0,5', .*; write a decimal point, not a comma"),
        ("9" * 5000, r"line 2 has targets '9{60}\.\.\.', which are not all finite"),
        ("1_000", r"line 2 \(and 2 more\): targets 1_000 are not plain numbers"),
        ("infinity", r"line 2 has targets 'infinity', which are not all finite"),
        ("0x10", r"line 2 has targets '0x10', which"),
        ("", r"line 2 has targets '', which"),
    ],
)
def test_numbers_that_are_none(photos: Path, value: str, words: str) -> None:
    (photos / "train.csv").write_text(GOOD.replace(",a,", f",{value},").replace(",b,", ",1e-3,"))
    with pytest.raises(DataError, match=words):
        scan(data_config(photos, format="csv", task="regression", val_fraction=0.4))


# one split, for an evaluation


def test_a_table_is_read_with_the_classes_of_the_run(photos: Path) -> None:
    written(photos, "path,label\nphotos/0.png,b\nphotos/1.png,d\nphotos/2.png,a\n", "held.csv")
    cfg = data_config(photos, format="csv", test="held.csv", csv={"val": "held.csv"})
    for index in (evaluation_index(cfg, "test", ["c", "a", "b"]), evaluation_index(cfg, "val", ["c", "a", "b"])):
        assert (names(index.val), index.val.labels.tolist()) == (paths(0, 2), [2, 1])
        assert index.notes == ("1 images of classes that the run does not know are left out: d",)
    with pytest.raises(ConfigError, match=r"`data.test` \(null\): set it to the table of the test set"):
        evaluation_index(data_config(photos, format="csv"), "test", ["a", "b"])
    with pytest.raises(DataError, match=r"has no test images of the classes x, y"):
        evaluation_index(cfg, "test", ["x", "y"])


def test_the_part_of_a_table_that_a_run_validated_on_is_read_again(photos: Path) -> None:
    cfg = written(photos, GOOD)
    assert names(evaluation_index(cfg, "val", ["b", "a"]).val) == names(scan(cfg).val)
