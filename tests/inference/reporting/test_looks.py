"""Pictures of where a model looked."""

from pathlib import Path

import pytest

from dist_train.errors import DataError
from dist_train.inference.reporting.looks import looks
from tests.support.ranks import run_ranks


def found(path: Path, overrides: list[str], wanted: dict[str, int]) -> dict[str, str]:
    return looks(path, overrides, False, wanted)


def test_a_picture_for_each_image_that_is_there(path: Path, image_folder: Path) -> None:
    names = [str(file.relative_to(image_folder)) for file in sorted(image_folder.glob("val/*/*"))[:9]]
    # In a process of its own: it opens a pipeline.
    (pictures,) = run_ranks(1, found, path, [], dict.fromkeys([*names, "val/class_a/missing.png"], 1))
    assert sorted(pictures) == sorted(names)
    assert all(text.startswith("data:image/jpeg;base64,") for text in pictures.values())


def test_data_that_are_gone(path: Path) -> None:
    with pytest.raises(DataError, match="gone"):
        looks(path, ["data.root=gone"], False, {"x": 0})
