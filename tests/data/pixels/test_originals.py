"""Both splits in one sequence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.config import parse_config
from dist_train.data.index import scan
from dist_train.data.pixels.originals import Originals
from dist_train.data.split import SplitName
from dist_train.errors import DataError


def test_a_place_is_an_image_of_a_split(tree: dict[str, Any]) -> None:
    index = scan(parse_config(tree).data)
    originals = Originals(index)
    assert len(originals) == len(index.train) + len(index.val)
    splits: tuple[SplitName, ...] = ("train", "val")
    places = [originals.place(split, number) for split in splits for number in range(len(index.split(split)))]
    assert places == list(range(len(originals)))
    for place in (0, len(index.train) - 1, len(index.train), len(originals) - 1):
        split, number = originals.whose(place)
        assert originals.name(place) == index.split(split).name(number)
        assert np.array_equal(originals.pixels(place), index.opener(split)(number).pixels())


def test_the_first_good_training_image_gives_the_layout(tree: dict[str, Any], tmp_path: Path) -> None:
    index = scan(parse_config(tree).data)
    originals = Originals(index)
    name, layout = originals.first()
    assert name == index.train.name(0)
    assert layout.shape == (len(originals), *originals.pixels(0).shape)


def test_without_one_good_image_there_is_no_layout(tree: dict[str, Any], tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
            (tmp_path / "data" / split / name / "1.png").write_text("no image")
    tree["data"]["root"] = str(tmp_path / "data")
    with pytest.raises(DataError, match="none of the training images can be decoded"):
        Originals(scan(parse_config(tree).data)).first()
