"""What ``look`` shows of each kind of data."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.inference.looking.look import seen
from tests.support.images import make_array_folder
from tests.support.runs import changed


def test_lines_and_pictures(tree: dict[str, Any]) -> None:
    lines, drawn = seen(parse_config(tree), most=4, world_size=1)
    assert any(line.startswith("evaluation: an image is resized") and "32 x 32 px" in line for line in lines)
    assert any("sizes of 60 training images" in line for line in lines)
    assert (len(drawn.training.pictures), len(drawn.evaluation.captions)) == (4, 4)
    assert "mean" in drawn.title


def test_augment_device_needs_no_cache(tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(changed(tree, data__cache=str(tmp_path / "cache"), augment__device=True))
    lines, _ = seen(cfg, most=2, world_size=2)
    assert any("augment.device" in line for line in lines)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_tables(tree: dict[str, Any], image_folder: Path, tmp_path: Path, task: str) -> None:
    for split in ("train", "val"):
        rows = [
            f"{path.relative_to(image_folder)},{number % 2},{(number + 1) % 2}"
            for number, path in enumerate(sorted((image_folder / split).rglob("*.*")))
        ]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,one,two", *rows]))
    tables = {"train": str(tmp_path / "train.csv"), "val": str(tmp_path / "val.csv"), "targets": ["one", "two"]}
    tree["data"] |= {"format": "csv", "task": task, "csv": tables}
    chosen = {"multilabel": ("bce", "map"), "regression": ("mse", "mae")}[task]
    tree["loss"], tree["eval"]["metric"] = {"name": chosen[0]}, chosen[1]
    _, drawn = seen(parse_config(tree), most=4, world_size=1)
    assert "one" in " ".join(drawn.training.captions)


def test_many_channels(tree: dict[str, Any], tmp_path: Path) -> None:
    root = make_array_folder(tmp_path / "arrays", 5)
    data = {"root": str(root), "image_size": 32, "workers": 0, "channels": 5, "bits": 16}
    tree["data"] = {**data, "mean": [0.4] * 5, "std": [0.3] * 5}
    _, drawn = seen(parse_config(tree), most=4, world_size=1)
    assert drawn.training.pictures[0].shape == (32, 32, 3)
