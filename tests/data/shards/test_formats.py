"""Data sets in archives are those of the folder, to the weights."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dist_train.data.index import evaluation_index, scan
from dist_train.data.packing.pack import pack
from dist_train.errors import ConfigError, DataError
from tests.support.archives import files_below, image_bytes, tar_of, zip_of
from tests.support.data_roots import data_config, names
from tests.support.runs import changed, published, resumes_exactly, state_digest, train

PNG = image_bytes()
LABELS = {"0": 2, "1": 0, "2": 1, "3": 10}


def in_archives(images: Path, output: Path, kind: str) -> Path:
    """Return the same images in archives, of which the training set has several."""
    files = files_below(images)
    if kind == "packed":
        pack(images, output, 1_000_000)
        return output
    write, ending = (zip_of, ".zip") if kind.startswith("zip") else (tar_of, ".tar")
    options = {"method": zipfile.ZIP_DEFLATED} if kind == "zip deflated" else {}
    for number in range(3):
        part = {
            name.removeprefix("train/"): files[name]
            for name in sorted(files, reverse=True)[number::3]
            if "train/" in name
        }
        write(output / "train" / f"{number}{ending}", part, **options)  # type: ignore[operator]
    write(output / f"val{ending}", {name: files[name] for name in files if name.startswith("val/")})
    return output


@pytest.mark.parametrize("kind", ["packed", "tar", "zip", "zip deflated"])
def test_the_index_is_that_of_the_folder(image_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = scan(data_config(image_folder))
    found = scan(
        data_config(in_archives(image_folder, tmp_path / "out", kind), format="tar" if "zip" not in kind else "zip")
    )
    assert names(found.train) == names(folder.train)
    assert found.train.labels.tolist() == folder.train.labels.tolist()
    assert (found.classes, found.fingerprint) == (folder.classes, folder.fingerprint)


@pytest.mark.parametrize("kind", ["tar", "zip deflated"])
def test_a_run_ends_with_the_weights_of_the_folder(tree: dict[str, Any], tmp_path: Path, kind: str) -> None:
    tree = changed(tree, checkpoint__every_steps=2, checkpoint__keep=9, data__workers=1)
    run = train(changed(tree, run__name="folder"))
    root = in_archives(Path(tree["data"]["root"]), tmp_path / "out", kind)
    tree = changed(tree, data__format=kind[:3], data__root=str(root), run__name="archives")
    again = resumes_exactly(tree, 1, kept=1)
    assert state_digest(again) == state_digest(run)
    assert published(again)["best.safetensors"] == published(run)["best.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_it_does_at_several_ranks(tree: dict[str, Any], tmp_path: Path, kind: str, world_size: int) -> None:
    tree = changed(tree, checkpoint__every_steps=2, checkpoint__keep=9, data__workers=1)
    run = train(changed(tree, run__name="folder"), world_size)
    root = in_archives(Path(tree["data"]["root"]), tmp_path / "out", kind)
    tree = changed(tree, data__format=kind, data__root=str(root), run__name="archives")
    assert state_digest(resumes_exactly(tree, world_size, kept=1)) == state_digest(run)


def webdataset(root: Path, classes: dict[str, str]) -> Path:
    for number, split in enumerate(("train", "train", "val")):
        files = {}
        for key, label in classes.items():
            files |= {f"{key}.png": PNG, f"{key}.cls": label.encode(), f"{key}.json": b"{}"}
        tar_of(root / f"{split}-{number}.tar", files)
    return root


def test_numbers_in_cls_files_are_classes_in_their_order(tmp_path: Path) -> None:
    index = scan(data_config(webdataset(tmp_path, {str(n): str(n) for n in (10, 9, 2)}), format="tar"))
    assert index.classes == ["2", "9", "10"]
    assert names(index.train)[:2] == ["train/train-0/2.png", "train/train-1/2.png"]
    assert any("9 files .json" in note for note in index.notes)


def test_data_classes_names_the_numbers(tmp_path: Path) -> None:
    root = webdataset(tmp_path, {"x": "0", "y": "1", "z": "7"})
    index = scan(data_config(root, format="tar", classes=["rose", "daisy"]))
    assert index.classes == ["rose", "daisy"]
    assert index.train.labels.tolist() == [0, 0, 1, 1]
    assert any("2 images in archives are of no class of the run: 7" in note for note in index.notes)
    with pytest.raises(ConfigError, match=r"`data.classes` names c; the training archives"):
        scan(data_config(webdataset(tmp_path / "two", {"x": "0", "y": "1"}), format="tar", classes=["a", "b", "c"]))


def test_class_folders_alone_give_a_share_for_validation(image_folder: Path, tmp_path: Path) -> None:
    pack(image_folder / "train", tmp_path / "out", 1_000_000)
    folder = scan(data_config(image_folder / "train", val_fraction=0.2))
    cfg = data_config(tmp_path / "out", format="tar", val_fraction=0.2)
    found = scan(cfg)
    assert found.fingerprint == folder.fingerprint
    assert names(evaluation_index(cfg, "val", found.classes).val) == names(found.val)
    with pytest.raises(DataError, match="have no training images; name them train"):
        scan(data_config(tmp_path / "out", format="tar"))


def test_the_splits_must_have_the_same_classes(tmp_path: Path) -> None:
    tar_of(tmp_path / "train.tar", {"a/1.png": PNG, "b/1.png": PNG})
    with pytest.raises(DataError, match=r"has no validation archive; name it val\*, or set `data.val_fraction`"):
        scan(data_config(tmp_path, format="tar"))
    tar_of(tmp_path / "val.tar", {"a/2.png": PNG, "c/2.png": PNG})
    with pytest.raises(DataError, match="classes that the training archives do not have: c"):
        scan(data_config(tmp_path, format="tar"))


def test_a_split_as_a_class_is_refused(tmp_path: Path) -> None:
    tar_of(tmp_path / "data.tar", {f"{name}/1.png": PNG for name in ("cat", "dog", "test_images")})
    shutil.copy(tmp_path / "data.tar", tmp_path / "val.tar")
    with pytest.raises(
        DataError, match="a folder with the name of a split would be a class: name the archive after it"
    ):
        scan(data_config(tmp_path, format="tar", val_fraction=0.5))
