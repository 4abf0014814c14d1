"""The command ``statistics``: lines for the config, of the pixels that an evaluation sees."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dist_train.data.report import channel_statistics
from tests.support.commands import call
from tests.support.runs import changed


def written(tree: dict[str, Any], folder: Path, **keys: Any) -> str:
    (folder / "c.yaml").write_text(yaml.safe_dump(changed(tree, **keys)))
    return str(folder / "c.yaml")


def test_help_takes_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from dist_train.cli import main; main(['statistics', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--max-images" in done.stdout, done.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_the_lines_are_those_of_all_training_pixels(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path, workers: int
) -> None:
    file = written(tree, tmp_path, data__image_size=[20, 24], augment={"crop": "squash"})
    code, out, _ = call(channel_statistics.main, "--config", file, f"data.workers={workers}", "eval.batch_size=7")
    assert code == 0
    assert out.startswith("# 60 training images, 20 x 24 px\n")
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((24, 20), Image.Resampling.BICUBIC)) / 255
        for path in sorted((image_folder / "train").rglob("*.*"))
    ]
    found = yaml.safe_load(out)["data"]
    assert np.allclose(found["mean"], np.mean(images, axis=(0, 1, 2)), atol=2e-3)
    assert np.allclose(found["std"], np.std(images, axis=(0, 1, 2)), atol=2e-3)


def test_other_channels_a_part_and_what_is_wrong(tree: dict[str, Any], tmp_path: Path) -> None:
    """The mean of five channels is not known before, and the command needs none."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for number in range(count):
            path = tmp_path / "images" / split / "ab"[number % 2] / f"{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rng.integers(0, 65536, (32, 32, 5), dtype=np.uint16))
    keys = {"data__root": str(tmp_path / "images"), "data__channels": 5, "data__bits": 16, "augment": {"crop": "pad"}}
    file = written(tree, tmp_path, **keys)
    code, out, _ = call(channel_statistics.main, "--config", file, "--max-images", "4")
    assert code == 0
    assert out.startswith("# 4 training images, 32 x 32 px\n")
    pixels = [np.load(path) / 65535 for path in sorted((tmp_path / "images" / "train").rglob("*.npy"))[::2]]
    assert np.allclose(yaml.safe_load(out)["data"]["mean"], np.mean(pixels, axis=(0, 1, 2)), rtol=1e-4)
    assert np.allclose(yaml.safe_load(out)["data"]["std"], np.std(pixels, axis=(0, 1, 2)), rtol=1e-4)
    code, _, err = call(channel_statistics.main, "--config", file, "data.channels=4")
    assert code == 2
    assert "`data.channels` is 4" in err
    assert not (tmp_path / "runs").exists()
