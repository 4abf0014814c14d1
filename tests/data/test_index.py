"""What scan finds, what it refuses, and fingerprints."""

import csv
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.data.decoding.picture import BadImage
from dist_train.data.index import DataIndex, Split, scan
from dist_train.errors import ConfigError, DataError


def data(root: Path, **keys: Any) -> DataConfig:
    """The data section as it comes out of a config file."""
    losses = {"multilabel": ("bce", "map"), "regression": ("mse", "rmse"), "classification": ("cross_entropy", "top1")}
    loss, metric = losses[keys.get("task", "classification")]
    tree = {
        "run": {"name": "a"},
        "model": {"name": "test_vit"},
        "data": {"root": str(root), **keys},
        "loss": {"name": loss},
        "eval": {"metric": metric},
        "optim": {"lr": 0.1},
        "train": {"global_batch": 2},
    }
    return parse_config(tree).data


def names(split: Split) -> list[str]:
    return [split.name(index) for index in range(len(split))]


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path)


def table(path: Path, *lines: tuple[str, ...], separator: str = ",") -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images for tables to name."""
    for number in range(6):
        picture(tmp_path / "photos" / f"{number}.png", (8 + number, 8))
    return tmp_path


def paths(*numbers: int) -> list[str]:
    return [f"photos/{number}.png" for number in numbers]


# imagefolder


def test_an_image_folder_is_read_in_the_order_of_names(image_folder: Path) -> None:
    index = scan(data(image_folder))
    assert index.classes == ["class_a", "class_b", "class_c"]
    assert (index.task, index.outputs) == ("classification", 3)
    assert (len(index.train), len(index.val)) == (60, 23)
    assert names(index.train) == sorted(names(index.train))
    assert index.train.labels.dtype == np.int64
    for name, label in zip(names(index.train), index.train.labels, strict=True):
        assert f"class_{'abc'[label]}/" in name
    assert index.images.open(index.train.name(0)).pixels().shape[2] == 3


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["photos/1.png", "photos/2.png"], r"holds a single class \(photos\).*a folder too high"),
        (["a/1.png", "b/1.png"], r"`data.val_fraction` \(0.3\): no class .* has the two images"),
    ],
)
def test_a_folder_with_nothing_to_learn_or_to_validate_on(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match=words):
        scan(data(tmp_path, val_fraction=0.3))


def test_the_fingerprint_follows_content_and_not_place(image_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(image_folder, copy)
    original = scan(data(image_folder)).fingerprint
    assert scan(data(copy)).fingerprint == original
    image = copy / "train" / "class_a" / "000.png"
    moved = copy / "train" / "class_b" / "000.png"
    image.rename(moved)  # another label
    assert scan(data(copy)).fingerprint != original
    moved.rename(image)
    assert scan(data(copy)).fingerprint == original
    picture(image, (9, 9))  # another size in bytes
    assert scan(data(copy)).fingerprint != original


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`data.root` \(.*nowhere\) is not a directory; it must hold the images"):
        scan(data(tmp_path / "nowhere"))


def test_an_image_folder_without_its_parts(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"has no train/ folder; imagefolder expects train/<class>/ and val/<class>/"):
        scan(data(tmp_path))
    picture(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(DataError, match=r"has no validation folder; name it val/ .* or set `data.val_fraction`"):
        scan(data(tmp_path))
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"has no validation images"):
        scan(data(tmp_path))
    picture(tmp_path / "val" / "b" / "1.png")
    with pytest.raises(DataError, match=r"val has classes that .*train has not: b"):
        scan(data(tmp_path))
    shutil.rmtree(tmp_path / "train" / "a")
    with pytest.raises(DataError, match=r"has no class folders"):
        scan(data(tmp_path))


# one folder split by seed


@pytest.fixture
def one_folder(tmp_path: Path) -> Path:
    for label, count in (("many", 40), ("some", 10), ("two", 2), ("one", 1)):
        for number in range(count):
            picture(tmp_path / label / f"{number:02d}.png")
    return tmp_path


def test_a_folder_is_split_by_class(one_folder: Path) -> None:
    index = scan(data(one_folder, val_fraction=0.2))
    assert not set(names(index.train)) & set(names(index.val))
    assert len(index.train) + len(index.val) == 53
    count = {name: int((index.val.labels == label).sum()) for label, name in enumerate(index.classes)}
    assert count == {"many": 8, "some": 2, "two": 1, "one": 0}
    again = scan(data(one_folder, val_fraction=0.2))
    assert (names(again.val), again.fingerprint) == (names(index.val), index.fingerprint)
    other = scan(data(one_folder, val_fraction=0.2, val_seed=1))
    assert names(other.val) != names(index.val)
    assert other.fingerprint != index.fingerprint


def test_a_new_image_moves_few_others(one_folder: Path) -> None:
    before = set(names(scan(data(one_folder, val_fraction=0.2)).val))
    picture(one_folder / "many" / "new.png")
    after = set(names(scan(data(one_folder, val_fraction=0.2)).val))
    assert len(before ^ after) <= 2


def test_a_fraction_beside_a_validation_set(image_folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"`data.val_fraction` \(0.2\): .* has a validation set already; remove the key"
    ):
        scan(data(image_folder, val_fraction=0.2))


# tiny_imagenet


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    for wnid in ("n01", "n02"):
        for number in range(2):
            picture(tmp_path / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
    for number in range(2):
        picture(tmp_path / "val" / "images" / f"val_{number}.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn01\t0\t0\t1\t1\nval_0.JPEG\tn02\t0\t0\t1\t1\n")
    return tmp_path


def test_tiny_imagenet_as_it_is_downloaded(tiny: Path) -> None:
    index = scan(data(tiny, format="tiny_imagenet"))
    assert index.classes == ["n01", "n02"]
    assert names(index.val) == ["val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    assert index.val.labels.tolist() == [1, 0]
    assert index.train.labels.tolist() == [0, 0, 1, 1]


def test_tiny_imagenet_with_gaps(tiny: Path) -> None:
    annotations = tiny / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text + "val_9.JPEG\tn01\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"names val_9.JPEG, which val/images has not"):
        scan(data(tiny, format="tiny_imagenet"))
    annotations.write_text(text + "\n")
    assert len(scan(data(tiny, format="tiny_imagenet")).val) == 2
    annotations.write_text(text + "val_1.JPEG n01")
    with pytest.raises(DataError, match=r"names class , which wnids.txt has not"):
        scan(data(tiny, format="tiny_imagenet"))
    annotations.write_text(text.replace("n01", "n77"))
    with pytest.raises(DataError, match=r"names class n77, which wnids.txt has not"):
        scan(data(tiny, format="tiny_imagenet"))
    annotations.unlink()
    with pytest.raises(DataError, match=r"lacks val/val_annotations.txt; is it the unpacked tiny-imagenet-200?"):
        scan(data(tiny, format="tiny_imagenet"))


# csv


def test_a_table_of_classes(photos: Path) -> None:
    one, two, three, four = paths(0, 1, 2, 3)
    table(photos / "train.csv", ("path", "label", "who"), (two, "10", "x"), (one, "9", "y"), (three, "cat", "z"))
    table(photos / "val.csv", ("path", "label"), (four, "9"))
    index = scan(data(photos, format="csv"))
    assert index.classes == ["9", "10", "cat"]  # whole numbers by value, then names
    assert names(index.train) == [one, two, three]
    assert index.train.labels.tolist() == [0, 1, 2]
    assert index.val.labels.tolist() == [0]


def test_a_table_with_other_names_and_separators(photos: Path) -> None:
    one, two = paths(0, 1)
    table(photos / "all.tsv", ("file", "tags"), (one, "red;big"), (two, ""), separator="\t")
    keys = {"train": "all.tsv", "val": "all.tsv", "path": "file", "targets": ["tags"], "separator": "\t"}
    index = scan(data(photos, format="csv", task="multilabel", csv={**keys, "label_separator": ";"}))
    assert index.classes == ["big", "red"]
    assert index.train.labels.tolist() == [[1, 1], [0, 0]]
    assert index.train.labels.dtype == np.float32


def test_a_table_with_a_column_a_class(photos: Path) -> None:
    one, two = paths(0, 1)
    for name in ("train.csv", "val.csv"):
        table(photos / name, ("path", "sky", "sea"), (one, "1", "0"), (two, "0", "1.0"))
    index = scan(data(photos, format="csv", task="multilabel", csv={"targets": ["sea", "sky"]}))
    assert index.classes == ["sea", "sky"]
    assert index.train.labels.tolist() == [[0, 1], [1, 0]]


def test_a_table_of_numbers_split_by_seed(photos: Path) -> None:
    table(
        photos / "train.csv",
        ("path", "x", "y"),
        *((name, str(place), "-1e-1") for place, name in enumerate(paths(*range(6)))),
    )
    index = scan(data(photos, format="csv", task="regression", csv={"targets": ["x", "y"]}, val_fraction=0.34))
    assert (index.outputs, index.classes) == (2, ["x", "y"])
    assert (len(index.train), len(index.val)) == (4, 2)
    assert index.val.labels.shape == (2, 2)
    with pytest.raises(DataError, match=r"cannot read the table .*val.csv: .*`data.csv` names the tables"):
        scan(data(photos, format="csv", task="regression", csv={"targets": ["x", "y"]}))
    with pytest.raises(ConfigError, match=r"`data.csv.val` \(null\) leaves no validation set"):
        scan(data(photos, format="csv", task="regression", csv={"targets": ["x", "y"], "val": None}))


@pytest.mark.parametrize(
    ("header", "line", "task", "words"),
    [
        (("file", "label"), ("photos/0.png", "a"), "classification", r"train.csv has no column path; its first line names file, label"),
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
        scan(data(photos, format="csv", task=task))


def test_tables_that_disagree(photos: Path) -> None:
    one, two = paths(0, 1)
    table(photos / "train.csv", ("path", "label"), (one, "a"))
    table(photos / "val.csv", ("path", "label"), (two, "b"))
    with pytest.raises(DataError, match=r"val.csv line 2 has class 'b', which the training table has not"):
        scan(data(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"), (two, "a"), (two, "a"))
    with pytest.raises(DataError, match=r"val.csv line 3 names photos/1.png a second time, after .*val.csv line 2"):
        scan(data(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"), (two, "a"), (f"./{two}", "a"))
    with pytest.raises(DataError, match=r"val.csv line 3 names ./photos/1.png a second time, after .*val.csv line 2"):
        scan(data(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"))
    with pytest.raises(DataError, match=r"val.csv has a header and no lines"):
        scan(data(photos, format="csv"))
    table(photos / "train.csv", ("path", "p", "q"), (one, "1", "2"))
    with pytest.raises(DataError, match=r"with a column a class they must be 0 or 1"):
        scan(data(photos, format="csv", task="multilabel", csv={"targets": ["p", "q"], "val": "train.csv"}))
    with pytest.raises(ConfigError, match=r"names 2 columns, and one class an image needs one; set `data.task`"):
        scan(data(photos, format="csv", csv={"targets": ["p", "q"], "val": "train.csv"}))


# data set objects


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """FashionMNIST in its own file format, with few images."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = struct.pack(">HBBIII", 0, 8, 3, *images.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, count) + labels.tobytes())
    return tmp_path


def test_torchvisions_own_sets_by_name(fashion: Path) -> None:
    index = scan(data(fashion, format="torchvision", name="FashionMNIST"))
    assert (len(index.train), len(index.val), index.outputs) == (12, 5, 10)
    assert index.classes[0] == "T-shirt/top"
    assert index.train.labels.tolist() == [number % 10 for number in range(12)]
    image = index.images.open(index.val.name(3)).pixels()
    assert image.shape == (28, 28, 3)
    raw = (fashion / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16 + 3 * 784 :][:784]
    assert image[:, :, 0].tobytes() == raw


def test_a_torchvision_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"does not hold FashionMNIST: .* On a machine with network run: python -c"
    ) as caught:
        scan(data(tmp_path, format="torchvision", name="FashionMNIST"))
    assert f"d('{tmp_path}', train=True, download=True); d('{tmp_path}', train=False, download=True)" in str(
        caught.value
    )
    with pytest.raises(ConfigError, match=r"`data.name` \(FashionMINST\) is no data set of torchvision's"):
        scan(data(tmp_path, format="torchvision", name="FashionMINST"))
    with pytest.raises(ConfigError, match=r"`data.name` is missing: torchvision's sets go by name"):
        scan(data(tmp_path, format="torchvision"))


class Numbered:
    """A data set object of eight grey squares."""

    def __init__(self, root: str, split: str, targets: Any = None) -> None:
        self.targets = [0, 1] * (4 if split == "train" else 2) if targets is None else targets
        self.classes = ("dark", "light")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.new("L", (6, 6), 10 + number), self.targets[number]


def of_pairs(root: str, split: str) -> Numbered:
    return Numbered(root, split, [[0.5, number] for number in range(8)])


def without_targets(root: str, split: str) -> list[int]:
    return [1, 2]


def of_floats(root: str, split: str) -> Numbered:
    return Numbered(root, split, [0.5, 1.5])


def of_lists(root: str, split: str) -> Numbered:
    return Numbered(root, split, [[1], [0, 1]])


def test_the_users_own_data_set_object(tmp_path: Path) -> None:
    index = scan(data(tmp_path, format=f"{__name__}:Numbered"))
    assert (len(index.train), len(index.val), index.classes) == (8, 4, ["dark", "light"])
    assert index.images.open(index.train.name(3)).pixels()[0, 0].tolist() == [13, 13, 13]
    split = scan(data(tmp_path, format=f"{__name__}:Numbered", val_fraction=0.25))
    assert (len(split.train), len(split.val)) == (6, 2)
    assert sorted(split.val.labels.tolist()) == [0, 1]
    numbers = scan(data(tmp_path, format=f"{__name__}:of_pairs", task="regression"))
    assert (numbers.classes, numbers.train.labels.shape) == (["dark", "light"], (8, 2))


class Transformed(Numbered):
    """As with torchvision's ToTensor."""

    def __getitem__(self, number: int) -> Any:
        return torch.zeros(3, 6, 6), 0


class OfFiles(Numbered):
    """As torchvision's ImageFolder."""

    def __init__(self, root: str, split: str) -> None:
        super().__init__(root, split)
        self.root = root

    def __getitem__(self, number: int) -> Any:
        with Image.open(Path(self.root, f"{number}.png")) as image:
            return image.convert("RGB"), 0


def test_files_of_a_data_set_object_that_are_damaged_are_bad_images(tmp_path: Path) -> None:
    index = scan(data(tmp_path, format=f"{__name__}:OfFiles"))
    picture(tmp_path / "0.png", (64, 64))
    assert index.images.open("train/0").pixels().shape == (64, 64, 3)
    content = (tmp_path / "0.png").read_bytes()
    for damaged in (b"not found", content[:60], content[:40] + bytes(20) + content[60:]):
        (tmp_path / "0.png").write_bytes(damaged)
        with pytest.raises(BadImage, match=r"cannot read image train/0 of .*:OfFiles: "):
            index.images.open("train/0")
    with pytest.raises(DataError, match=r"cannot read image train/1 of .*:OfFiles: .*No such file") as caught:
        index.images.open("train/1")
    assert not isinstance(caught.value, BadImage)


def test_images_that_are_no_images_are_told(tmp_path: Path) -> None:
    index = scan(data(tmp_path, format=f"{__name__}:Transformed"))
    with pytest.raises(
        DataError, match=r"image train/0 of .*:Transformed is a Tensor torch.float32 \[3, 6, 6\]; it must"
    ):
        index.images.open("train/0")


@pytest.mark.parametrize(
    ("form", "error", "words"),
    [
        (
            "no_such_module:f",
            ConfigError,
            r"`data.format` \(no_such_module:f\): there is no module no_such_module; start from",
        ),
        (f"{__name__}:nothing", ConfigError, r"`data.format` \(.*:nothing\): .* has no nothing"),
        (f"{__name__}:without_targets", DataError, r"must have len\(\), \[i\] and `targets` for all samples"),
        (f"{__name__}:of_floats", DataError, "has targets of type float64"),
        (f"{__name__}:of_lists", DataError, "has `targets` of several lengths; they must be one class, or"),
    ],
)
def test_data_set_objects_that_are_wrong(tmp_path: Path, form: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scan(data(tmp_path, format=form))


def test_an_index_is_small_enough_to_travel(fashion: Path) -> None:
    import pickle

    index = scan(data(fashion, format="torchvision", name="FashionMNIST"))
    copy: DataIndex = pickle.loads(pickle.dumps(index))
    assert len(pickle.dumps(index)) < 3000
    assert copy.images.open("train/0").pixels().tobytes() == index.images.open("train/0").pixels().tobytes()


# what goes with what


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"format": "imagefoldr"}, "`data.format`: 'imagefoldr' must be one of imagefolder, .*did you mean imagefolder?"),
        ({"task": "regression"}, r"`data.task` \(regression\): `data.format` \(imagefolder\) knows one class an image; use csv"),
        ({"val_fraction": 1.5}, r"`data.val_fraction` \(1.5\) must be less than 1"),
        ({"csv": {"targets": []}}, r"`data.csv.targets` .* at least 1 item"),
    ],
)  # fmt: skip
def test_keys_that_are_wrong(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        data(tmp_path, **keys)
