"""A CSV file as archives: its splits, labels and names; what is refused."""

from pathlib import Path

import pytest

from dist_train.data.index import evaluation_index, scan
from dist_train.data.packing.pack import MB, main, pack
from dist_train.errors import ConfigError, DataError
from tests.support.archives import image_bytes
from tests.support.data_roots import data_config, names


def tables(folder: Path, column: str = "path") -> Path:
    """Write images of three colours, and the tables of three splits."""
    (folder / "images").mkdir(parents=True)
    for number in range(6):
        (folder / "images" / f"{number}.png").write_bytes(image_bytes(number))
    lines = [f"images/{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(6)]
    for name, part in (("train", lines[:3]), ("val", lines[3:5]), ("test", lines[5:])):
        (folder / f"{name}.csv").write_text("\n".join([f"{column},label", *part]))
    return folder


def test_archives_have_the_images_and_labels_of_the_tables(tmp_path: Path) -> None:
    folder, out = tables(tmp_path / "in"), tmp_path / "out"
    assert main([str(folder / "train.csv"), str(out), "data.csv.val=val.csv", "data.test=test.csv"]) == 0
    table, found = scan(data_config(folder, format="csv")), scan(data_config(out, format="tar"))
    assert found.classes == table.classes == ["cat", "dog"]
    assert names(found.train) == ["train/cat/images/1.png", "train/dog/images/0.png", "train/dog/images/2.png"]
    for split in ("train", "val"):
        ours, theirs = found.split(split), table.split(split)  # type: ignore[arg-type]
        label_of = dict(zip(names(theirs), theirs.labels.tolist(), strict=True))
        for name, label in zip(names(ours), ours.labels.tolist(), strict=True):
            path = name.split("/", 2)[2]
            assert label == label_of[path]
            assert found.images.content(name) == (folder / path).read_bytes()  # type: ignore[attr-defined]
    test = evaluation_index(data_config(out, format="tar"), "test", found.classes)
    assert names(test.val) == ["test/cat/images/5.png"]


def test_a_table_alone_and_names_that_are_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tables(tmp_path / "in"), tmp_path / "out"
    (folder / "ids").write_bytes(image_bytes(9))
    outside = tmp_path / "images" / "0.png"
    outside.parent.mkdir()
    outside.write_bytes(image_bytes(8))
    rows = ["images/0.png;a", "images/0.png;a", "../images/0.png;a", "ids;.b", "images/1.png;.b"]
    (folder / "labels.csv").write_text("\n".join(["image;kind", *rows]))
    keys = ["data.csv.path=image", "data.csv.targets=[kind]", "data.csv.separator=;"]
    assert main([str(folder / "labels.csv"), str(out), *keys]) == 0
    found = scan(data_config(out, format="tar", val_fraction=0.5))
    assert sorted(names(found.train) + names(found.val)) == [
        "_b/ids.png", "_b/images/1.png", "a/images/0.png", "a/images/00000002-0.png",
    ]  # fmt: skip
    said = capsys.readouterr()
    assert "4 images" in said.out
    assert "left aside: 1 files or rows" in said.err
    assert "2 lines of labels.csv repeat an image" not in said.err


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["optim.lr=1"], "'optim.lr=1' says nothing about a CSV file; give data.csv."),
        (["data.csv.targets=[a, b]"], r"`data.csv.targets` \(a, b\): an archive has one class for each image"),
        (["data.csv.pth=a"], "`data.csv.pth` is not a key"),
        (["data.csv.path=image"], "has no column image"),
        (["data.csv.val=none.csv"], "none.csv"),
    ],
)
def test_what_is_refused(tmp_path: Path, keys: list[str], words: str) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        pack(tables(tmp_path / "in") / "train.csv", tmp_path / "out", MB, keys)


def test_keys_of_a_table_are_refused_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"says how to read a CSV file, and .* is none"):
        pack(tables(tmp_path / "in"), tmp_path / "out", MB, ["data.csv.path=image"])
    with pytest.raises(DataError, match="nowhere does not exist"):
        pack(tmp_path / "nowhere", tmp_path / "out", MB)
    with pytest.raises(DataError, match="neither a folder of images nor a CSV file"):
        pack(Path(__file__), tmp_path / "out", MB)
