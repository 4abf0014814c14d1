"""Data set objects: torchvision's by name and the user's own, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dist_train.data.index import evaluation_index, scan
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, make_fashion_mnist, names


def test_torchvisions_own_sets_by_name(tmp_path: Path) -> None:
    fashion = make_fashion_mnist(tmp_path)
    index = scan(data_config(fashion, format="torchvision", name="FashionMNIST"))
    assert (len(index.train), len(index.val), index.outputs) == (12, 5, 10)
    assert index.classes[0] == "T-shirt/top"
    assert index.train.labels.tolist() == [number % 10 for number in range(12)]
    image = index.images.open(index.val.name(3)).pixels()
    assert image.shape == (28, 28, 3)
    raw = (fashion / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16 + 3 * 784 :][:784]
    assert image[:, :, 0].tobytes() == raw


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
    index = scan(data_config(tmp_path, format=f"{__name__}:Numbered"))
    assert (len(index.train), len(index.val), index.classes) == (8, 4, ["dark", "light"])
    assert index.images.open(index.train.name(3)).pixels()[0, 0].tolist() == [13, 13, 13]
    split = scan(data_config(tmp_path, format=f"{__name__}:Numbered", val_fraction=0.25))
    assert (len(split.train), len(split.val)) == (6, 2)
    assert sorted(split.val.labels.tolist()) == [0, 1]
    numbers = scan(data_config(tmp_path, format=f"{__name__}:of_pairs", task="regression"))
    assert (numbers.classes, numbers.train.labels.shape) == (["dark", "light"], (8, 2))


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
        (f"{__name__}:of_lists", DataError, "has `targets` of several lengths; give each image one class"),
    ],
)
def test_data_set_objects_that_are_wrong(tmp_path: Path, form: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scan(data_config(tmp_path, format=form))


# one split, for an evaluation


def test_a_test_split_that_chooses_the_best_weights_is_told(tmp_path: Path) -> None:
    fashion = make_fashion_mnist(tmp_path)
    (note,) = [
        note
        for note in scan(data_config(fashion, format="torchvision", name="FashionMNIST")).notes
        if note.startswith("the validation set is the test split of FashionMNIST")
    ]
    assert "`data.val_fraction` takes the validation set from the training images" in note
    drawn = scan(data_config(fashion, format="torchvision", name="FashionMNIST", val_fraction=0.5))
    assert not any("test split" in note for note in drawn.notes)


def test_a_split_is_read_with_the_classes_of_the_run(tmp_path: Path) -> None:
    cfg = data_config(tmp_path, format=f"{__name__}:Numbered")
    index = evaluation_index(cfg, "test", ["light", "dark"])
    assert (names(index.val)[:2], index.val.labels.tolist()) == (["test/0", "test/1"], [1, 0, 1, 0])
    assert index.images.open("test/1").pixels()[0, 0].tolist() == [11, 11, 11]
    other = evaluation_index(cfg, "val", ["grey", "light"])
    assert (names(other.val), other.val.labels.tolist()) == (["val/1", "val/3"], [1, 1])
    assert other.notes == ("2 images of classes that the run does not know are left out: dark",)


def test_the_part_that_a_run_validated_on_is_read_again(tmp_path: Path) -> None:
    cfg = data_config(tmp_path, format=f"{__name__}:Numbered", val_fraction=0.25)
    assert names(evaluation_index(cfg, "val", ["dark", "light"]).val) == names(scan(cfg).val)


def of_two_splits(root: str, split: str) -> Numbered:
    return {"train": Numbered(root, "train"), "val": Numbered(root, "val")}[split]


def test_a_split_or_an_output_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"of_two_splits\) has no test set: called with .* and 'test', it raised KeyError"
    ):
        evaluation_index(data_config(tmp_path, format=f"{__name__}:of_two_splits"), "test", ["dark", "light"])
    numbers = data_config(tmp_path, format=f"{__name__}:of_pairs", task="regression")
    assert evaluation_index(numbers, "val", ["x", "y"]).val.labels.shape == (8, 2)
    with pytest.raises(DataError, match=r"the val split of .*:of_pairs has 2 outputs, not 3"):
        evaluation_index(numbers, "val", ["x", "y", "z"])
