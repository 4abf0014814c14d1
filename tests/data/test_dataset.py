"""Batches by key, and replacements of bad images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.augment.on_cpu import training_transform
from dist_train.data.bad_images import BadImages
from dist_train.data.dataset import ImageDataset, View
from dist_train.data.index import scan
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.system.files import read_json
from tests.support.runs import changed

ALONE = Dist.alone()


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """20 training and 5 validation images; the red channel is the number of the image times 10."""
    for split, count in (("train", 20), ("val", 5)):
        for number in range(count):
            path = tmp_path / "data" / split / "ab"[number % 2] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (10 * number, 0, 0)).save(path)
    return tmp_path / "data"


def spoil(root: Path, split: str, *numbers: int) -> None:
    for number in numbers:
        (root / split / "ab"[number % 2] / f"{number:02d}.png").write_text("not found")


def dataset(tree: dict[str, Any], root: Path, split: Any, **keys: Any) -> tuple[ImageDataset, BadImages]:
    cfg = parse_config(changed(tree, data__root=str(root), augment__hflip=0.0, **keys))
    index = scan(cfg.data)
    bad = BadImages(cfg.data, index)
    transform = training_transform(cfg.augment, (8, 8))
    dataset = ImageDataset(
        index.split(split), split, index.opener(split), {0: View(transform, (8, 8, 3))}, cfg.run.seed, bad.note
    )
    return dataset, bad


def numbers(batch: Any) -> list[int]:
    return [int(red) // 10 for red in batch[0][:, 0, 0, 0]]


def order(split: Any) -> list[int]:
    """The number of the image at each index: all of class a, then all of class b."""
    count = {"train": 20, "val": 5}[split]
    return [*range(0, count, 2), *range(1, count, 2)]


def test_a_batch_holds_the_images_of_its_keys(tree: dict[str, Any], coloured: Path) -> None:
    images, _ = dataset(tree, coloured, "train")
    keys = [(0, 3), (0, 15), (7, 0)]
    batch = images.__getitems__(keys)
    assert numbers(batch) == [order("train")[index] for _, index in keys]
    assert batch[1].tolist() == [0, 1, 0]
    assert batch[2].tolist() == [3, 15, 0]
    assert (batch[0].dtype, batch[0].shape) == (torch.uint8, (3, 8, 8, 3))


def test_a_sample_depends_on_seed_epoch_and_index_alone(tree: dict[str, Any], image_folder: Path) -> None:
    keys = {"augment": {"crop": "random_resized", "randaugment": {}, "hflip": 0.5}}
    images, _ = dataset(changed(tree, **keys), image_folder, "train")
    alone = images.__getitems__([(1, 5)])[0][0]
    torch.manual_seed(1)
    among_others = images.__getitems__([(1, 4), (0, 5), (1, 5)])[0]
    assert torch.equal(among_others[2], alone)
    assert not torch.equal(among_others[1], alone)
    other_seed, _ = dataset(changed(tree, **keys), image_folder, "train", run__seed=1)
    assert not torch.equal(other_seed.__getitems__([(1, 5)])[0][0], alone)


def test_a_bad_image_ends_the_run_by_default(tree: dict[str, Any], coloured: Path) -> None:
    spoil(coloured, "train", 4)
    images, _ = dataset(tree, coloured, "train")
    with pytest.raises(
        DataError, match=r"a/04.png: cannot identify .*; repair or remove it, or .*`data.bad_images=skip`"
    ):
        images.__getitems__([(0, 2)])


SKIP = {"data__bad_images": "skip", "data__max_bad_share": 0.2}


def test_a_bad_training_image_is_replaced_the_same_way_each_time(tree: dict[str, Any], coloured: Path) -> None:
    spoil(coloured, "train", 4)
    images, _ = dataset(tree, coloured, "train", **SKIP)
    batch = images.__getitems__([(0, 1), (0, 2), (0, 3)])
    taken = int(batch[2][1])
    assert taken != 2
    assert batch[2].tolist() == [1, taken, 3]
    assert numbers(batch)[1] == order("train")[taken]
    assert int(batch[1][1]) == order("train")[taken] % 2  # its own label, not that of the bad one
    again, _ = dataset(tree, coloured, "train", **SKIP)
    assert torch.equal(again.__getitems__([(0, 2)])[0][0], batch[0][1])
    by_epoch = {int(images.__getitems__([(epoch, 2)])[2]) for epoch in range(12)}
    assert len(by_epoch) > 3
    assert 2 not in by_epoch


def test_a_bad_validation_image_is_left_out(tree: dict[str, Any], coloured: Path) -> None:
    spoil(coloured, "val", 2)
    images, _ = dataset(tree, coloured, "val", **SKIP)
    batch = images.__getitems__([(0, index) for index in range(5)])
    assert batch[2].tolist() == [0, 5, 2, 3, 4]
    assert batch[0][1].max() == 0


def test_bad_images_are_counted_once_and_listed(tree: dict[str, Any], coloured: Path, tmp_path: Path) -> None:
    spoil(coloured, "train", 4, 7)
    spoil(coloured, "val", 0)
    images, bad = dataset(tree, coloured, "train", **SKIP)
    listed = tmp_path / "bad_images.json"
    assert bad.report(ALONE, listed) == 0
    assert not listed.exists()
    for epoch in range(3):
        images.__getitems__([(epoch, index) for index in range(20)])
    assert bad.report(ALONE, listed) == 2
    entries = read_json(listed)
    assert [(entry["split"], entry["path"]) for entry in entries] == [
        ("train", "train/a/04.png"),
        ("train", "train/b/07.png"),
    ]
    assert all("cannot identify image file" in entry["reason"] for entry in entries)
    # another attempt at the run, that meets another one
    validation, bad = dataset(tree, coloured, "val", **SKIP)
    validation.__getitems__([(0, 0)])
    assert bad.report(ALONE, listed) == 3
    assert [entry["path"] for entry in read_json(listed)][2] == "val/a/00.png"


def test_too_many_bad_images_are_an_error(tree: dict[str, Any], coloured: Path) -> None:
    spoil(coloured, "train", *range(0, 10, 2))
    images, _ = dataset(tree, coloured, "train", **SKIP)
    with pytest.raises(
        DataError,
        match=r"5 of 20 train images cannot be read, more than `data.max_bad_share` \(0.2\) allows; raise it, .*; the last: .*png",
    ):
        images.__getitems__([(0, index) for index in range(20)])


def test_a_missing_image_is_never_skipped(tree: dict[str, Any], coloured: Path) -> None:
    images, _ = dataset(tree, coloured, "train", **SKIP)
    (coloured / "train" / "a" / "04.png").unlink()
    with pytest.raises(DataError, match=r"cannot read the image .*a/04.png: No such file or directory"):
        images.__getitems__([(0, 2)])
