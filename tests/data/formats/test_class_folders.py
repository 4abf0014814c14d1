"""Which names are those of splits, and what class folders hold."""

from collections import Counter
from pathlib import Path

import pytest

from dist_train.data.formats.class_folders import class_folders, split_names
from dist_train.data.stored import slow_disks
from dist_train.data.stored.survey import surveyed
from dist_train.system.progress import advanced


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["cat", "test", "Val"], ["test", "Val"]),
        (["train2017", "val2017", "annotations"], ["train2017", "val2017"]),
        (
            ["images_test", "test-set", "testset", "dataset_train"],
            ["images_test", "test-set", "testset", "dataset_train"],
        ),
        (["seg_train", "seg_test", "seg_pred"], ["seg_train", "seg_test"]),
        (["seg_train", "cat"], []),
        (["crash_test", "test_tube", "contest", "valley", "training_shoe"], []),
        (["fold_1", "fold_2"], ["fold_1", "fold_2"]),
        (["fold", "2019", "2020"], []),
        (["", "_", "1"], []),
    ],
)
def test_names_of_splits(names: list[str], splits: list[str]) -> None:
    assert split_names(names) == splits


@pytest.mark.parametrize("slow_s", [100, -1])
def test_class_folders_are_the_same_in_one_thread_and_in_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    monkeypatch.setattr(slow_disks, "SLOW_S", slow_s)
    paths = [tmp_path / "train" / f"class_{number:03}" for number in range(100)]
    for number, path in enumerate(paths):
        (path / "deep").mkdir(parents=True)
        for image in range(number % 4):
            (path / f"{image}.jpg").write_bytes(bytes(number))
            (path / "deep" / f"{image}.png").write_bytes(bytes(image))
        (path / "notes.txt").touch()
    with surveyed() as survey:
        found = class_folders(paths, tmp_path)
    assert [folder.path for folder in found] == paths
    for number, folder in enumerate(found):
        below, images = f"train/class_{number:03}", range(number % 4)
        expected = [f"{below}/{image}.jpg" for image in images]
        assert folder.names == expected + [f"{below}/deep/{image}.png" for image in images]
        assert folder.around.left_aside == Counter({".txt": 1})
        assert folder.around.folders == ([".", "deep"] if images else [])
    assert set(survey.places) == {str(place) for path in paths for place in (path, path / "deep")}
    assert survey.changed_ns == {}, "no file was asked for"


def test_folders_without_images_are_a_sign_of_life(tmp_path: Path) -> None:
    before = advanced()
    (folder,) = class_folders([tmp_path], tmp_path)
    assert folder.names == []
    assert advanced() > before
