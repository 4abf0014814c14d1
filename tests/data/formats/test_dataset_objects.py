"""Data set objects: torchvision's by name and the user's own, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dist_train.data.index import scan
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, make_fashion_mnist


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
        (f"{__name__}:of_lists", DataError, "has `targets` of several lengths; they must be one class, or"),
    ],
)
def test_data_set_objects_that_are_wrong(tmp_path: Path, form: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scan(data_config(tmp_path, format=form))
