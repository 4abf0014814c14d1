"""What every reader of a format returns."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import UNASKED, Entries, Entry, Listing, with_suffix
from dist_train.data.formats.csv_tables import csv_tables
from dist_train.data.formats.dataset_objects import data_set_objects
from dist_train.data.formats.folders import image_folder as read_image_folder
from tests.support.archives import image_bytes
from tests.support.data_roots import data_config, make_fashion_mnist
from tests.support.tables import tabled


def folder(images: Path, _tmp: Path) -> tuple[Callable[[DataConfig], Listing], DataConfig]:
    return read_image_folder, data_config(images)


def one_folder(images: Path, _tmp: Path) -> tuple[Callable[[DataConfig], Listing], DataConfig]:
    return read_image_folder, data_config(images / "train", val_fraction=0.2)


def multilabel_table(images: Path, tmp: Path) -> tuple[Callable[[DataConfig], Listing], DataConfig]:
    root = tabled(images, tmp / "tables", "multilabel")
    return csv_tables, data_config(root, format="csv", task="multilabel")


def regression_table(images: Path, tmp: Path) -> tuple[Callable[[DataConfig], Listing], DataConfig]:
    root = tabled(images, tmp / "tables", "regression")
    return csv_tables, data_config(root, format="csv", task="regression", csv={"targets": ["red", "width"]})


def objects(_images: Path, tmp: Path) -> tuple[Callable[[DataConfig], Listing], DataConfig]:
    return data_set_objects, data_config(make_fashion_mnist(tmp), format="torchvision", name="FashionMNIST")


@pytest.mark.parametrize("form", [folder, one_folder, multilabel_table, regression_table, objects])
def test_every_reader_keeps_to_the_listing(
    image_folder: Path, tmp_path: Path, form: Callable[[Path, Path], tuple[Callable[[DataConfig], Listing], DataConfig]]
) -> None:
    read, cfg = form(image_folder, tmp_path)
    listing = read(cfg)
    assert (listing.val is None) == (cfg.val_fraction is not None)
    assert read(cfg) == listing, "the same each time"
    travelled: Listing = pickle.loads(pickle.dumps(listing))
    entries = [*listing.train, *(listing.val or [])]
    assert len({name for name, _, _ in entries}) == len(entries), "each image once"
    for name, size, target in entries:
        if isinstance(target, tuple) and cfg.task == "multilabel":
            assert list(target) == sorted(set(target))
            assert set(target) <= set(range(len(listing.classes)))
        elif isinstance(target, tuple):
            assert len(target) == len(listing.classes)
            assert all(isinstance(value, float) for value in target)
        else:
            assert 0 <= target < len(listing.classes)
        assert size == UNASKED or read is data_set_objects, "scan asks"
        assert min(travelled.images.open(name).size) > 0


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_columns_are_the_entries(asked: bool, count: int) -> None:
    entries: list[Entry] = [(f"{place}.png", place if asked else UNASKED, (place % 3,)) for place in range(count)]
    columns = Entries.of(entries)
    assert Entries.of(columns) is columns
    assert [*columns] == [columns[place] for place in range(count)] == entries
    assert [columns[place] for place in range(-count, 0)] == entries
    assert bool(columns) == bool(entries)
    assert len(columns.sizes) == (count if asked else 0)
    assert columns == Entries.of(tuple(entries))
    for part in (slice(2, 5), slice(None, None, -2), slice(9, 20)):
        assert [*columns[part]] == entries[part]
    assert [*columns.where(place % 2 == 0 for place in range(count))] == entries[::2]
    many = Entries.of(entries * 10)
    few = [place for place in (3, 40) if place < len(many)]
    assert [*many.where(place in few for place in range(len(many)))] == [many[place] for place in few]
    assert columns.classes().tolist() == [0] * count
    assert Entries(["a", "b"], [3, 5]).classes().tolist() == [3, 5]
    with pytest.raises(IndexError):
        columns[count]


def test_a_file_without_the_suffix_of_an_image_gets_that_of_its_content() -> None:
    assert with_suffix("1.JPEG", lambda: b"") == "1.JPEG"
    assert with_suffix("1", lambda: image_bytes()) == "1.png"
    assert with_suffix("1.img", lambda: b"?") == "1.img.jpg"
