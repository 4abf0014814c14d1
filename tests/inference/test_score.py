"""What a run can be evaluated on: its own images, a folder, a data set; the digits do not change."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dist_train.errors import ConfigError, DataError
from dist_train.inference.load_run import load_run
from dist_train.system.files import read_json
from tests.support.pictures import NAMES, Pictures


def test_an_evaluation_gives_the_digits_of_the_run(path: Path, image_folder: Path, tmp_path: Path) -> None:
    run, best = load_run(path, device="cpu"), read_json(path / "result.json")["best"]
    expected = {name: best[name] for name in ("loss", "top1", "top5", "macro_f1")}
    assert run.evaluate() == expected
    assert run.evaluate(image_folder) == expected, "a folder as `data.format` wants it"
    assert run.evaluate(str(image_folder / "val")) == expected, "a folder of classes"
    part = tmp_path / "part"
    shutil.copytree(image_folder / "val" / "class_b", part / "class_b")
    recall = 100 * np.mean([one.label == "class_b" for one in run.predict(part)])
    assert run.evaluate(part)["top1"] == pytest.approx(recall)
    (part / "other").mkdir()
    with pytest.raises(DataError, match="has folders that are not classes of the run: other"):
        run.evaluate(part)
    with pytest.raises(DataError, match="has no images"):
        (tmp_path / "none").mkdir()
        run.evaluate(tmp_path / "none")


def test_an_evaluation_takes_a_data_set(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    for classes in (NAMES, []):
        scores = run.evaluate(Pictures(image_folder / "val", classes))
        assert scores == pytest.approx(run.evaluate())
    with pytest.raises(ConfigError, match="learnt other classes than"):
        run.evaluate(Pictures(image_folder / "val", ["x", "y", "z"]))
