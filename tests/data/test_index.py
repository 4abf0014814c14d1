"""What scan refuses, how it splits, and fingerprints."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dist_train.config.choice_table import Task
from dist_train.config.sections.data import DataConfig
from dist_train.data import index
from dist_train.data.formats.base import UNASKED, Entry, Listing
from dist_train.data.formats.images import FileImages
from dist_train.data.index import scan
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, names, picture


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
        scan(data_config(tmp_path, val_fraction=0.3))


def test_the_fingerprint_follows_content_and_not_place(image_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(image_folder, copy)
    original = scan(data_config(image_folder)).fingerprint
    assert scan(data_config(copy)).fingerprint == original
    image = copy / "train" / "class_a" / "000.png"
    moved = copy / "train" / "class_b" / "000.png"
    image.rename(moved)  # another label
    assert scan(data_config(copy)).fingerprint != original
    moved.rename(image)
    assert scan(data_config(copy)).fingerprint == original
    picture(image, (9, 9))  # another size in bytes
    assert scan(data_config(copy)).fingerprint != original


@pytest.fixture
def one_folder(tmp_path: Path) -> Path:
    for label, count in (("many", 40), ("some", 10), ("two", 2), ("one", 1)):
        for number in range(count):
            picture(tmp_path / label / f"{number:02d}.png")
    return tmp_path


def test_a_folder_is_split_by_class(one_folder: Path) -> None:
    index = scan(data_config(one_folder, val_fraction=0.2))
    assert not set(names(index.train)) & set(names(index.val))
    assert len(index.train) + len(index.val) == 53
    count = {name: int((index.val.labels == label).sum()) for label, name in enumerate(index.classes)}
    assert count == {"many": 8, "some": 2, "two": 1, "one": 0}
    again = scan(data_config(one_folder, val_fraction=0.2))
    assert (names(again.val), again.fingerprint) == (names(index.val), index.fingerprint)
    other = scan(data_config(one_folder, val_fraction=0.2, val_seed=1))
    assert names(other.val) != names(index.val)
    assert other.fingerprint != index.fingerprint


def test_a_new_image_moves_few_others(one_folder: Path) -> None:
    before = set(names(scan(data_config(one_folder, val_fraction=0.2)).val))
    picture(one_folder / "many" / "new.png")
    after = set(names(scan(data_config(one_folder, val_fraction=0.2)).val))
    assert len(before ^ after) <= 2


def test_names_sizes_and_targets_decide_the_fingerprint() -> None:
    """Runs of older versions resume: these are the digests of then."""
    entries: list[Entry] = [("a/\udcff.png", 3, 0), *((f"b/{number}.png", number, 1) for number in range(2500))]
    listing = Listing(FileImages("/data"), ["a", "b"], entries, entries[:2])
    assert scan(DataConfig(root="/data"), listing).fingerprint == (
        "ec3ab53499e1d76f0681c670ae8b5a532029b0beb10825573d6b311498c7cc90"
    )


@pytest.mark.parametrize(
    ("task", "targets", "texts"),
    [
        ("classification", [0, 1], ["a", "b"]),
        ("multilabel", [(), (0, 1)], ["(0.0, 0.0)", "(1.0, 1.0)"]),
        ("regression", [(0.0, 2.5), (-0.0, 2.5)], ["(0.0, 2.5)", "(-0.0, 2.5)"]),
    ],
)
def test_the_fingerprint_without_sizes(
    monkeypatch: pytest.MonkeyPatch, task: Task, targets: list[Any], texts: list[str]
) -> None:
    """Runs of older versions resume: blocks of equal targets, and of others, have the text of then."""
    monkeypatch.setattr(index, "ASKED_AT_ONCE", 0)
    kinds = [*[0] * 600, *[1] * 600, *[0, 1] * 300]
    entries: list[Entry] = [(f"a/{place:04}.png", UNASKED, targets[kind]) for place, kind in enumerate(kinds)]
    lines = [f"{name}\0{texts[kind]}\n" for (name, *_), kind in zip(entries, kinds, strict=True)]
    text = f"{task}\0\0{['a', 'b']}\n" + "".join(f"train\0{line}" for line in lines)
    text += "".join(f"val\0{line}" for line in lines[:3])
    found = scan(
        DataConfig(root="/", task=task), Listing(FileImages("/"), ["a", "b"], entries, entries[:3]), sized=False
    )
    assert found.fingerprint == hashlib.sha256(text.encode()).hexdigest() + index.NAMES_ONLY


def test_a_fraction_beside_a_validation_set(image_folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"`data.val_fraction` \(0.2\): .* has a validation set already; remove the key"
    ):
        scan(data_config(image_folder, val_fraction=0.2))


def test_a_validation_set_can_be_cut_short_evenly(image_folder: Path) -> None:
    whole, part = scan(data_config(image_folder)), scan(data_config(image_folder, max_val_images=5))
    places = [names(whole.val).index(name) for name in names(part.val)]
    assert places == [0, 4, 9, 13, 18]
    assert part.fingerprint != whole.fingerprint
    assert scan(data_config(image_folder, max_val_images=1000)).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"format": "imagefoldr"}, "`data.format` \\('imagefoldr'\\) must be one of imagefolder, .*did you mean imagefolder?"),
        ({"task": "regression"}, r"`data.format` \(imagefolder\) is not available for regression; use one of: csv"),
        ({"val_fraction": 1.5}, r"`data.val_fraction` \(1.5\) must be less than 1"),
        ({"csv": {"targets": []}}, r"`data.csv.targets` .* at least 1 item"),
    ],
)  # fmt: skip
def test_keys_that_are_wrong(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        data_config(tmp_path, **keys)
