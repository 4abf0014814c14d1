"""What a run can be evaluated on: its own images, a folder, a data set; the digits do not change."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dist_train.errors import ConfigError, DataError
from dist_train.inference.load_run import load_run
from dist_train.inference.score import data_of_run
from dist_train.run.folder import RunDir
from dist_train.system.files import read_json, write_json
from tests.support.pictures import NAMES, Pictures


def test_an_evaluation_gives_the_digits_of_the_run(
    path: Path, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    assert run.evaluate(part)["top1"] == pytest.approx(recall), "images of other classes are left out"
    assert "that are no class of the run are left aside: other" in caplog.text
    assert "has no images of these classes of the run: class_a, class_c" in caplog.text
    with pytest.raises(DataError, match=r"has no val folder .*, and no folder of a class of the run"):
        (tmp_path / "none").mkdir()
        run.evaluate(tmp_path / "none")


def test_an_evaluation_takes_a_data_set(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    for classes in (NAMES, []):
        scores = run.evaluate(Pictures(image_folder / "val", classes))
        assert scores == pytest.approx(run.evaluate())
    with pytest.raises(
        ConfigError, match=r"the data has other classes than .*: it has x, y, z; it lacks class_a, class_b, class_c"
    ):
        run.evaluate(Pictures(image_folder / "val", ["x", "y", "z"]))


@pytest.mark.parametrize(("given", "says"), [({"given.data": "shop:Photos"}, True), ({"given.model": "a:B"}, False)])
def test_missing_data_of_a_run_of_objects_says_so(tmp_path: Path, given: dict[str, str], says: bool) -> None:
    folder = RunDir(tmp_path).checkpoints / "step_00000003"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"config": given})
    with pytest.raises(DataError) as raised, data_of_run(RunDir(tmp_path)):
        raise DataError("no folder")
    assert ("trained on data sets from Python code (shop:Photos): pass one" in str(raised.value)) == says
    assert str(raised.value).startswith("no folder")
