"""Where pixels come from: files, and data set objects that every process opens for itself."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dist_train.data.decoding.picture import BadImage
from dist_train.data.formats.images import DatasetImages, FileImages, digest_of_pixels
from dist_train.data.index import DataIndex, scan
from dist_train.data.stored.file_facts import file_size
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, make_fashion_mnist, picture


def test_a_torchvision_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"does not hold FashionMNIST: .* On a machine with network run: python -c"
    ) as caught:
        scan(data_config(tmp_path, format="torchvision", name="FashionMNIST"))
    assert f"d('{tmp_path}', train=True, download=True); d('{tmp_path}', train=False, download=True)" in str(
        caught.value
    )
    with pytest.raises(ConfigError, match=r"`data.name` \(FashionMINST\) is not a data set of torchvision"):
        scan(data_config(tmp_path, format="torchvision", name="FashionMINST"))
    with pytest.raises(ConfigError, match=r"`data.name` is missing: torchvision finds a set by its name"):
        scan(data_config(tmp_path, format="torchvision"))


class Numbered:
    """What a data set object has beside images."""

    def __init__(self, root: str, split: str) -> None:
        self.root, self.targets = root, [0, 1]

    def __len__(self) -> int:
        return len(self.targets)


class Transformed(Numbered):
    """As with torchvision's ToTensor."""

    def __getitem__(self, number: int) -> Any:
        return torch.zeros(3, 6, 6), 0


class OfFiles(Numbered):
    """As torchvision's ImageFolder."""

    def __getitem__(self, number: int) -> Any:
        with Image.open(Path(self.root, f"{number}.png")) as image:
            return image.convert("RGB"), 0


def test_files_of_a_data_set_object_that_are_damaged_are_bad_images(tmp_path: Path) -> None:
    index = scan(data_config(tmp_path, format=f"{__name__}:OfFiles"))
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
    index = scan(data_config(tmp_path, format=f"{__name__}:Transformed"))
    with pytest.raises(
        DataError, match=r"image train/0 of .*:Transformed is a Tensor torch.float32 \[3, 6, 6\]; it must"
    ):
        index.images.open("train/0")


def test_an_index_is_small_enough_to_travel(tmp_path: Path) -> None:
    index = scan(data_config(make_fashion_mnist(tmp_path), format="torchvision", name="FashionMNIST"))
    copy: DataIndex = pickle.loads(pickle.dumps(index))
    assert len(pickle.dumps(index)) < 3000
    assert copy.images.open("train/0").pixels().tobytes() == index.images.open("train/0").pixels().tobytes()


def test_files_go_by_paths_below_the_root_or_absolute(tmp_path: Path) -> None:
    picture(tmp_path / "below" / "a.png", (5, 3))
    images = FileImages(str(tmp_path))
    for name in ("below/a.png", str(tmp_path / "below" / "a.png")):
        assert images.open(name).size == (3, 5)


class Grey:
    """Images as arrays: uint8 [H, W] for training, [H, W, 3] for validation; opened once by each process."""

    opened: list[str] = []

    def __init__(self, root: str, split: str) -> None:
        self.opened.append(split)
        self.shape = (4, 6) if split == "train" else (4, 6, 3)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return np.full(self.shape, number, dtype=np.uint8), 0


def test_arrays_are_images_and_a_set_is_opened_once(tmp_path: Path) -> None:
    Grey.opened.clear()
    images = DatasetImages(f"{__name__}:Grey", str(tmp_path))
    for name in ("train/7", "val/7", "train/9"):
        pixels = images.open(name).pixels()
        assert (pixels.shape, pixels.min(), pixels.max()) == ((4, 6, 3), int(name[-1]), int(name[-1]))
    assert Grey.opened == ["train", "val"]


def test_pixels_in_memory_have_a_digest(tmp_path: Path) -> None:
    class InMemory:
        data = np.arange(12, dtype=np.uint8).reshape(3, 4)

    first = digest_of_pixels(InMemory)
    assert digest_of_pixels(Numbered("", "train")) == "", "it holds none"
    InMemory.data = InMemory.data.T.copy().T
    assert digest_of_pixels(InMemory) == first, "whatever their order in memory"
    InMemory.data = InMemory.data + 1
    assert digest_of_pixels(InMemory) != first


def test_the_size_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert file_size(str(tmp_path), "a") == 5
    with pytest.raises(DataError, match=r"cannot read the image .*/b: No such file or directory$"):
        file_size(str(tmp_path), "b")
