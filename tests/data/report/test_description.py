"""What --check says of a data set."""

from pathlib import Path

from dist_train.data.index import scan
from dist_train.data.report.description import describe
from tests.support.data_roots import data_config, picture
from tests.support.photo_tables import GOOD, paths, written


def test_classes_with_their_counts_and_what_looks_wrong(photos: Path) -> None:
    index = scan(written(photos, GOOD + "photos/0.png,a,x\n"))
    first, second, note = describe(index)
    assert first == f"data: {len(index.train)} training and 2 validation images of 2 classes"
    train = [int((index.train.labels == label).sum()) for label in (0, 1)]
    assert second == f"classes (training + validation images): a {train[0]} + 1, b {train[1]} + 1"
    assert note.startswith("note: 1 lines of train.csv repeat an image")


def test_of_many_classes_the_smallest_and_the_largest(tmp_path: Path) -> None:
    for label in range(13):
        for number in range(2 + label):
            picture(tmp_path / f"class{label:02d}" / f"{number}.png")
    text = describe(scan(data_config(tmp_path, val_fraction=0.1)))[1]
    assert text.startswith(
        "classes (training + validation images): smallest class00 1 + 1, class01 2 + 1, class02 3 + 1; largest"
    )
    assert text.endswith("class12 13 + 1")


def test_labels_and_numbers(photos: Path) -> None:
    (photos / "train.csv").write_text(GOOD.replace(",a,", ",red|big,").replace(",b,", ",big,"))
    cfg = data_config(photos, format="csv", task="multilabel", val_fraction=0.4)
    assert describe(scan(cfg))[1].startswith("labels (training + validation images): big 4 + 2, red ")
    lines = [f"{path},{number}" for number, path in enumerate(paths(*range(6)))]
    (photos / "train.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    (photos / "val.csv").write_text("path,label\n" + lines[0])
    cfg = data_config(photos, format="csv", task="regression")
    assert describe(scan(cfg))[:2] == [
        "data: 6 training and 1 validation images of 1 targets",
        "targets (least to greatest of training): label 0 to 5",
    ]
